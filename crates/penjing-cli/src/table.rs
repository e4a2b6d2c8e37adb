//! Results in columns, on stdout.

use std::io::Write;

use anyhow::{Context, Result};

/// Prints text and a line end on stdout.
pub(crate) fn print(text: &str) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").context("cannot write to stdout")
}

/// Rows under a head, the first column to the left, the others to the right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let cells = cells.iter().zip(&widths).enumerate();
        let cells = cells.map(|(i, (cell, width))| if i == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    let rows = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    std::iter::once(line(head.to_vec())).chain(rows).collect::<Vec<_>>().join("\n")
}

/// 1066749 as `1,066,749`.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_in_threes() {
        assert_eq!([0, 999, 1000, 1_066_749].map(grouped), ["0", "999", "1,000", "1,066,749"]);
    }

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["conv".to_string(), "12".into()], vec!["f".into(), "3".into()]];
        assert_eq!(table(&["layer", "n"], &rows), "layer   n\nconv   12\nf       3");
    }
}
