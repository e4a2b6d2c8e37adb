//! How near outputs are to another model's, for people.

use penjing_exec::train::Similarity;

/// One line for one output.
pub(crate) fn similarity_line(similarity: &Similarity) -> String {
    let Similarity { output, cosine, sqnr, largest_difference, relative_difference, agreement } = similarity;
    if *largest_difference == 0.0 {
        return format!("output `{output}`: nothing differs");
    }
    let percent = |fraction: f64| 100.0 * fraction;
    let agreement = agreement.map_or(String::new(), |same| {
        let interval = same.interval();
        let (share, low, high) = (percent(same.value()), percent(interval.low), percent(interval.high));
        format!(", the same class for {share:.2} % (95 % interval {low:.2} to {high:.2})")
    });
    format!(
        "output `{output}`: mean cosine {cosine:.6}, SQNR {sqnr:.1} dB, largest difference {largest_difference:.3e} ({:.2} % of the largest \
         element){agreement}",
        percent(*relative_difference)
    )
}

#[cfg(test)]
mod tests {
    use penjing_exec::train::statistics::Proportion;

    use super::*;

    #[test]
    fn what_differs_is_said_in_numbers() {
        let same = Similarity {
            output: "y".into(),
            cosine: 1.0,
            sqnr: f64::INFINITY,
            largest_difference: 0.0,
            relative_difference: 0.0,
            agreement: Some(Proportion { successes: 4, trials: 4 }),
        };
        assert_eq!(similarity_line(&same), "output `y`: nothing differs");
        let near = Similarity { cosine: 0.98, sqnr: 20.04, largest_difference: 0.5, relative_difference: 0.1, agreement: None, ..same };
        assert_eq!(
            similarity_line(&near),
            "output `y`: mean cosine 0.980000, SQNR 20.0 dB, largest difference 5.000e-1 (10.00 % of the largest element)"
        );
        let classes = similarity_line(&Similarity { agreement: Some(Proportion { successes: 81, trials: 263 }), ..near });
        assert!(classes.ends_with(", the same class for 30.80 % (95 % interval 25.53 to 36.62)"), "{classes}");
    }
}
