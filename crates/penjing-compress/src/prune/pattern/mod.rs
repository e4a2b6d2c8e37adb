//! Patterns: which sets of weights may go together, so that a kernel can skip them.

mod block;
mod nm;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use block::Block;
pub use nm::NOfM;

use super::{Layer, PruneError, Scope, Sparsity, keep_largest, select};

/// The shape that zeros have. In text: `unstructured`, `2:4`, `4x1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pattern {
    /// Any weight may go.
    #[default]
    Unstructured,
    /// N weights of every M stay.
    NOfM(NOfM),
    /// Rectangles of weights go as a whole.
    Block(Block),
}

impl Pattern {
    /// The sparsity that the pattern fixes by itself, if it does.
    pub fn sparsity(self) -> Option<Sparsity> {
        match self {
            Pattern::NOfM(group) => Some(group.sparsity()),
            Pattern::Unstructured | Pattern::Block(_) => None,
        }
    }

    /// For each layer, which weights stay; weights go where the (non-negative) scores are smallest. Of equal scores the first go.
    ///
    /// `sparsity` counts weights or blocks, within `scope`; an N:M pattern knows both itself. A layer that is no matrix stays whole
    /// under a pattern that is laid out on one.
    pub fn masks(self, layers: &[Layer<'_>], scores: &[Vec<f32>], sparsity: Sparsity, scope: Scope) -> Vec<Vec<bool>> {
        match self {
            Pattern::Unstructured => unstructured(layers, scores, sparsity, scope),
            Pattern::NOfM(group) => layers
                .iter()
                .zip(scores)
                .map(|(layer, scores)| match &layer.matrix {
                    Some(matrix) => group.mask(matrix, scores),
                    None => vec![true; scores.len()],
                })
                .collect(),
            Pattern::Block(block) => block.masks(layers, scores, sparsity, scope),
        }
    }

    /// What the pattern leaves whole in a layer, for the record; `None` where it covers all.
    pub fn left_whole(self, layer: &Layer<'_>) -> Option<String> {
        match (self, &layer.matrix) {
            (Pattern::Unstructured, _) => None,
            (Pattern::NOfM(_) | Pattern::Block(_), None) => {
                Some(format!("`{}` stays whole: the graph changes its form before it is used, so that it has no rows", layer.name))
            }
            (Pattern::NOfM(group), Some(matrix)) => group.rest(matrix).map(|rest| format!("`{}`: {rest}", layer.name)),
            (Pattern::Block(_), Some(_)) => None,
        }
    }
}

fn unstructured(layers: &[Layer<'_>], scores: &[Vec<f32>], sparsity: Sparsity, scope: Scope) -> Vec<Vec<bool>> {
    let one_row = |layer: &Layer<'_>, scores: &Vec<f32>| match &layer.matrix {
        Some(matrix) if scope == Scope::Row => (matrix.gather(scores), matrix.rows()),
        Some(_) | None => (scores.clone(), 1),
    };
    let units: Vec<(Vec<f32>, usize)> = match scope {
        Scope::Row => layers.iter().zip(scores).map(|(layer, scores)| one_row(layer, scores)).collect(),
        // Without a copy: scores are as large as the network.
        Scope::Global | Scope::Layer => return choose(scores.iter().map(|s| (&s[..], 1)).collect(), sparsity, scope),
    };
    let keep = choose(units.iter().map(|(scores, rows)| (&scores[..], *rows)).collect(), sparsity, scope);
    let in_place = |(layer, keep): (&Layer<'_>, Vec<bool>)| match &layer.matrix {
        Some(matrix) => {
            let mut mask = vec![true; keep.len()];
            matrix.scatter(&keep, &mut mask);
            mask
        }
        None => keep,
    };
    layers.iter().zip(keep).map(in_place).collect()
}

/// For each layer, which of its units (weights or blocks, row by row, with their number of rows) stay.
fn choose(layers: Vec<(&[f32], usize)>, sparsity: Sparsity, scope: Scope) -> Vec<Vec<bool>> {
    match scope {
        Scope::Global => {
            let scores: Vec<&[f32]> = layers.iter().map(|(scores, _)| *scores).collect();
            keep_largest(&scores, sparsity.count(scores.iter().map(|s| s.len()).sum()))
        }
        Scope::Layer => layers.iter().flat_map(|(scores, _)| keep_largest(&[scores], sparsity.count(scores.len()))).collect(),
        Scope::Row => layers
            .iter()
            .map(|(scores, rows)| {
                let row = (scores.len() / (*rows).max(1)).max(1);
                scores.chunks(row).flat_map(|row| select::keep_largest_few(row, sparsity.count(row.len()))).collect()
            })
            .collect(),
    }
}

impl FromStr for Pattern {
    type Err = PruneError;

    fn from_str(text: &str) -> Result<Pattern, PruneError> {
        let pair = |separator| {
            let (a, b) = text.split_once(separator)?;
            Some((a.parse::<usize>().ok()?, b.parse::<usize>().ok()?))
        };
        let unknown = || PruneError::UnknownPattern(text.into());
        match (text, pair(':'), pair('x')) {
            ("unstructured", _, _) => Ok(Pattern::Unstructured),
            (_, Some((kept, of)), _) => NOfM::new(kept, of).map(Pattern::NOfM).ok_or_else(unknown),
            (_, _, Some((rows, columns))) => Block::new(rows, columns).map(Pattern::Block).ok_or_else(unknown),
            (_, None, None) => Err(unknown()),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Unstructured => f.write_str("unstructured"),
            Pattern::NOfM(group) => group.fmt(f),
            Pattern::Block(block) => block.fmt(f),
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = PruneError;

    fn try_from(text: String) -> Result<Pattern, PruneError> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::testing::layer;
    use proptest::prelude::*;

    #[test]
    fn names_by_hand() {
        for name in ["unstructured", "2:4", "4:8", "1:16", "4x1", "1x4", "32x32"] {
            assert_eq!(name.parse::<Pattern>().expect(name).to_string(), name);
        }
        for name in ["4:2", "0:4", "4:4", "0x4", "2:", "x", "blocks", "2:4:8", "1x1"] {
            assert!(name.parse::<Pattern>().is_err(), "{name}");
        }
        assert_eq!("2:4".parse::<Pattern>().expect("2:4").sparsity(), Some(Sparsity(0.5)));
    }

    #[test]
    fn each_row_by_itself() {
        // Half of each row goes, however large its weights are; [K, N] = [2, 2]: rows are (1, 3) and (20, 10).
        let layer = layer(2, 2, &[1.0, 20.0, 3.0, 10.0]);
        let keep = Pattern::Unstructured.masks(&[layer.layer()], &[vec![1.0, 20.0, 3.0, 10.0]], Sparsity(0.5), Scope::Row);
        assert_eq!(keep, [vec![false, true, true, false]]);
    }

    proptest! {
        /// What each pattern promises holds for every size, ragged ones included.
        #[test]
        fn the_pattern_holds_exactly(
            (inputs, outputs) in (1usize..20, 1usize..12),
            seed in any::<u64>(),
            fraction in 0.0f64..=1.0,
            scope in prop_oneof![Just(Scope::Global), Just(Scope::Layer), Just(Scope::Row)],
            name in prop_oneof![Just("unstructured"), Just("2:4"), Just("4:8"), Just("1:3"), Just("4x1"), Just("1x4"), Just("3x2")],
        ) {
            let values: Vec<f32> = (0..inputs * outputs).map(|i| ((seed as usize).wrapping_mul(i + 7) % 13) as f32 - 6.0).collect();
            let built = layer(inputs, outputs, &values);
            let scores: Vec<f32> = values.iter().map(|v| v.abs()).collect();
            let pattern: Pattern = name.parse().expect(name);
            let sparsity = Sparsity(fraction);
            let keep = pattern.masks(&[built.layer()], &[scores], sparsity, scope).remove(0);
            prop_assert_eq!(keep.len(), values.len());
            let matrix = built.layer().matrix.expect("a matrix");
            let rows = matrix.gather(&keep);
            match pattern {
                Pattern::Unstructured => {
                    let expected = match scope {
                        Scope::Global | Scope::Layer => sparsity.count(values.len()),
                        Scope::Row => outputs * sparsity.count(inputs),
                    };
                    prop_assert_eq!(keep.iter().filter(|k| !**k).count(), expected);
                }
                Pattern::NOfM(group) => {
                    for row in rows.chunks(inputs) {
                        let (whole, rest) = row.as_chunks::<1>().0.split_at(inputs / group.of() * group.of());
                        for group_of in whole.chunks(group.of()) {
                            prop_assert_eq!(group_of.iter().filter(|k| k[0]).count(), group.kept());
                        }
                        prop_assert!(rest.iter().all(|k| k[0]));
                    }
                }
                Pattern::Block(block) => {
                    let (high, wide) = block.size();
                    let at = |r: usize, c: usize| rows[r * inputs + c];
                    let mut gone = 0;
                    for r in (0..outputs).step_by(high) {
                        for c in (0..inputs).step_by(wide) {
                            let cells = (r..outputs.min(r + high)).flat_map(|r| (c..inputs.min(c + wide)).map(move |c| (r, c)));
                            prop_assert!(cells.clone().all(|(i, j)| at(i, j) == at(r, c)), "a block is cut apart");
                            gone += usize::from(!at(r, c));
                        }
                    }
                    let (down, across) = (outputs.div_ceil(high), inputs.div_ceil(wide));
                    let expected = match scope {
                        Scope::Global | Scope::Layer => sparsity.count(down * across),
                        Scope::Row => down * sparsity.count(across),
                    };
                    prop_assert_eq!(gone, expected);
                }
            }
        }
    }
}
