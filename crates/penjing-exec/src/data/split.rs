//! Which samples train, which choose, which judge.

use std::collections::BTreeMap;
use std::path::Path;

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::random::{Purpose, random};
use crate::ExecError;

/// A part of a data set. What is decided on one is never reported on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// Weights are fitted to it.
    Train,
    /// Choices are made on it.
    Validation,
    /// Results are reported on it; nothing that makes a choice reads it.
    Test,
}

/// How samples are shared out where the set does not do so itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SplitOptions {
    /// Seeds the draw.
    pub seed: u64,
    /// Fraction of the samples not set apart by the set itself that validate, 0 ≤ v < 1.
    pub validation: f64,
    /// Fraction that tests, 0 ≤ t ≤ 1, where the set has no test samples of its own.
    pub test: f64,
}

impl Default for SplitOptions {
    /// 80/10/10, or 90/10 beside a test set; seed 0.
    fn default() -> SplitOptions {
        SplitOptions { seed: 0, validation: 0.1, test: 0.1 }
    }
}

impl SplitOptions {
    /// Every sample that the set does not set apart itself is a test sample: for a set that only measures.
    pub fn all_test() -> SplitOptions {
        SplitOptions { seed: 0, validation: 0.0, test: 1.0 }
    }
}

/// How many samples a format itself gives to each part; they stand in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) train: usize,
    pub(super) validation: usize,
    pub(super) test: usize,
}

impl Parts {
    /// A set that does not share out its samples.
    pub(super) fn pool(samples: usize) -> Parts {
        Parts { train: samples, validation: 0, test: 0 }
    }
}

/// The samples of each part, in order, and how it came to be.
#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) train: Vec<usize>,
    pub(super) validation: Vec<usize>,
    pub(super) test: Vec<usize>,
    pub(super) how: String,
}

/// Shares out the samples. A set's own test samples are the test split. Its own validation samples validate; where it has no test
/// samples beside them (ImageNet's habit) they are its test split. What is missing is drawn from the rest, class by class.
pub(super) fn assign(parts: Parts, labels: Option<&[u32]>, options: &SplitOptions, path: &Path) -> Result<Assignment, ExecError> {
    if !(0.0..1.0).contains(&options.validation) || !(0.0..=1.0).contains(&options.test) || options.validation + options.test > 1.0 {
        return Err(ExecError::Option(format!(
            "cannot validate on {} and test on {} of the samples (hint: fractions from 0 to 1 that leave some to train on, e.g. 0.1 and 0.1)",
            options.validation, options.test
        )));
    }
    let mut how = vec![];
    let mut train: Vec<usize> = (0..parts.train).collect();
    let mut own_validation: Vec<usize> = (parts.train..parts.train + parts.validation).collect();
    let mut test: Vec<usize> = (parts.train + parts.validation..parts.train + parts.validation + parts.test).collect();
    if !test.is_empty() {
        how.push("test: the set's own".to_string());
    } else if !own_validation.is_empty() {
        test = std::mem::take(&mut own_validation);
        how.push("test: the set's own validation samples, as it has no others".into());
    }
    let by_class = if labels.is_some() { ", class by class" } else { "" };
    let mut draw = |name: &str, purpose: Purpose, fraction: f64| -> Result<Vec<usize>, ExecError> {
        let count = share(parts.train, fraction);
        if count > train.len() || (count == train.len() && fraction < 1.0) {
            return Err(ExecError::data(path, format!("{} samples are too few to share out (hint: test on all of them)", parts.train)));
        }
        how.push(format!("{name}: {} % drawn{by_class} with seed {}", percent(fraction), options.seed));
        let (drawn, rest) = stratified(&train, labels, count, options.seed, purpose);
        train = rest;
        Ok(drawn)
    };
    if test.is_empty() && options.test > 0.0 {
        test = draw("test", Purpose::TestSplit, options.test)?;
    }
    let validation = match own_validation.is_empty() {
        true if options.validation > 0.0 => draw("validation", Purpose::ValidationSplit, options.validation)?,
        true => vec![],
        false => own_validation,
    };
    Ok(Assignment { train, validation, test, how: how.join("; ") })
}

/// The nearest whole number of samples, at least one.
fn share(samples: usize, fraction: f64) -> usize {
    ((samples as f64 * fraction).round() as usize).max(1)
}

fn percent(fraction: f64) -> f64 {
    (fraction * 1e6).round() / 1e4
}

/// Draws `count` of `pool` so that each class gives its share, largest remainders first (Hamilton's method). Both parts stay sorted.
fn stratified(pool: &[usize], labels: Option<&[u32]>, count: usize, seed: u64, purpose: Purpose) -> (Vec<usize>, Vec<usize>) {
    let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for &index in pool {
        classes.entry(labels.map_or(0, |l| l[index])).or_default().push(index);
    }
    let exact = |members: usize| (members as u128 * count as u128, pool.len().max(1) as u128);
    let mut quotas: BTreeMap<u32, usize> = BTreeMap::new();
    let mut remainders = vec![];
    for (&class, members) in &classes {
        let (product, size) = exact(members.len());
        quotas.insert(class, (product / size) as usize);
        remainders.push((product % size, class));
    }
    // Equal remainders go to the lower class, so that a rerun draws the same.
    remainders.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let left = count - quotas.values().sum::<usize>();
    for (_, class) in remainders.into_iter().take(left) {
        *quotas.entry(class).or_default() += 1;
    }
    let (mut drawn, mut rest) = (vec![], vec![]);
    for (class, mut members) in classes {
        members.shuffle(&mut random(seed, 0, u64::from(class), purpose));
        let (first, others) = members.split_at(quotas[&class]);
        drawn.extend_from_slice(first);
        rest.extend_from_slice(others);
    }
    drawn.sort_unstable();
    rest.sort_unstable();
    (drawn, rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(parts: Parts, labels: Option<&[u32]>, options: SplitOptions) -> Result<Assignment, ExecError> {
        assign(parts, labels, &options, Path::new("set"))
    }

    #[test]
    fn each_class_gives_its_tenth() -> Result<(), ExecError> {
        let labels: Vec<u32> = (0..100).map(|i| u32::from(i >= 60)).collect(); // 60 of class 0, 40 of class 1
        let a = split(Parts::pool(100), Some(&labels), SplitOptions::default())?;
        let of = |part: &[usize], class| part.iter().filter(|i| labels[**i] == class).count();
        assert_eq!([of(&a.train, 0), of(&a.validation, 0), of(&a.test, 0)], [48, 6, 6]);
        assert_eq!([of(&a.train, 1), of(&a.validation, 1), of(&a.test, 1)], [32, 4, 4]);
        Ok(())
    }

    #[test]
    fn own_parts_are_kept() -> Result<(), ExecError> {
        let a = split(Parts { train: 20, validation: 0, test: 3 }, None, SplitOptions::default())?;
        assert_eq!((a.train.len(), a.validation.len(), a.test), (18, 2, vec![20, 21, 22]));
        let a = split(Parts { train: 20, validation: 4, test: 3 }, None, SplitOptions::default())?;
        assert_eq!((a.train.len(), a.validation, a.test), (20, vec![20, 21, 22, 23], vec![24, 25, 26]));
        let a = split(Parts { train: 20, validation: 4, test: 0 }, None, SplitOptions::default())?;
        assert_eq!((a.train.len(), a.validation.len(), a.test), (18, 2, vec![20, 21, 22, 23]));
        Ok(())
    }

    #[test]
    fn all_may_test_and_too_few_cannot_be_shared() -> Result<(), ExecError> {
        let a = split(Parts::pool(3), None, SplitOptions::all_test())?;
        assert_eq!((a.train.len(), a.validation.len(), a.test.len()), (0, 0, 3));
        assert!(split(Parts::pool(2), None, SplitOptions::default()).is_err());
        assert!(split(Parts::pool(100), None, SplitOptions { test: 10.0, ..SplitOptions::default() }).is_err());
        assert!(split(Parts::pool(100), None, SplitOptions { validation: f64::NAN, ..SplitOptions::default() }).is_err());
        Ok(())
    }

    proptest! {
        #[test]
        fn every_sample_stands_in_exactly_one_part(
            labels in prop::collection::vec(0u32..5, 10..200), seed: u64, validation in 0.0..0.4, test in 0.0..0.4, own in 0usize..9,
        ) {
            let parts = Parts { train: labels.len() - own, validation: 0, test: own };
            let options = SplitOptions { seed, validation, test };
            if let Ok(a) = split(parts, Some(&labels), options) {
                let mut all = [a.train.clone(), a.validation.clone(), a.test.clone()].concat();
                all.sort_unstable();
                prop_assert_eq!(all, (0..labels.len()).collect::<Vec<_>>());
                let again = split(parts, Some(&labels), options).map(|b| (b.train, b.validation, b.test));
                prop_assert_eq!(again.ok(), Some((a.train, a.validation, a.test)));
            }
        }
    }
}
