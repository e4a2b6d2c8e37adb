//! Times of what is run in turn, and their medians.

use std::time::{Duration, Instant};

use penjing_exec::train::statistics::Interval;
use serde::{Deserialize, Serialize};

/// Rounds at most.
const ROUNDS: usize = 201;
const LEAST_ROUNDS: usize = 11;
/// How long rounds may take together, for a result and for a candidate.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);
pub(crate) const SHORT_PATIENCE: Duration = Duration::from_secs(1);
/// Rounds before those that count.
const WARM_UP: usize = 3;

/// A median with its 95 % interval, from order statistics.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Median {
    /// The median.
    pub median: f64,
    /// Its 95 % interval.
    pub interval: Interval,
}

impl Median {
    /// The median, and the 95 % interval that order statistics give it: ranks n/2 ± 1.96·√n/2.
    ///
    /// # Panics
    /// Without a value, which is a mistake of the caller.
    pub(crate) fn of(mut values: Vec<f64>) -> Median {
        values.sort_by(f64::total_cmp);
        let n = values.len() as f64;
        let rank = |r: f64| values[(r.max(0.0) as usize).min(values.len() - 1)];
        let half = 1.96 * n.sqrt() / 2.0;
        let [low, high] = [((n - 1.0) / 2.0 - half).floor(), ((n - 1.0) / 2.0 + half).ceil()];
        Median { median: rank((n - 1.0) / 2.0), interval: Interval { low: rank(low), high: rank(high) } }
    }

    /// `numerator` divided by each of them: a time becomes a rate.
    pub(crate) fn under(self, numerator: f64) -> Median {
        let Interval { low, high } = self.interval;
        Median { median: numerator / self.median, interval: Interval { low: numerator / high, high: numerator / low } }
    }
}

/// Something that can be run again and again.
pub(crate) type Run<'a, E> = Box<dyn FnMut() -> Result<(), E> + 'a>;

/// Milliseconds that each of `runs` took in each round; in a round each is run once. The machine's mood thus meets all alike.
pub(crate) fn in_turn<E>(runs: &mut [Run<'_, E>], patience: Duration) -> Result<Vec<Vec<f64>>, E> {
    let mut times = vec![vec![]; runs.len()];
    for _ in 0..WARM_UP {
        runs.iter_mut().try_for_each(|run| run())?;
    }
    let start = Instant::now();
    while times[0].len() < ROUNDS && (times[0].len() < LEAST_ROUNDS || start.elapsed() < patience) {
        for (run, times) in runs.iter_mut().zip(&mut times) {
            times.push(milliseconds(run)?);
        }
    }
    Ok(times)
}

/// How long something takes.
pub(crate) fn milliseconds<E>(run: impl FnOnce() -> Result<(), E>) -> Result<f64, E> {
    let start = Instant::now();
    run().map(|()| start.elapsed().as_secs_f64() * 1e3)
}

/// How many times as fast the second of two is, round by round.
pub(crate) fn speed_up(first: &[f64], second: &[f64]) -> Median {
    Median::of(first.iter().zip(second).map(|(a, b)| a / b).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_its_interval_by_hand() {
        // Of 25 values the middle one is the 13th; 1.96 · 5 / 2 = 4.9 ranks around it, so the 8th and the 18th.
        let of_25 = Median::of((1..=25).rev().map(f64::from).collect());
        assert_eq!(of_25, Median { median: 13.0, interval: Interval { low: 8.0, high: 18.0 } });
        assert_eq!(Median::of(vec![3.0]), Median { median: 3.0, interval: Interval { low: 3.0, high: 3.0 } });
        // 936 a second at 13, 52 at 18, 117 at 8.
        assert_eq!(of_25.under(936.0), Median { median: 72.0, interval: Interval { low: 52.0, high: 117.0 } });
        assert_eq!(speed_up(&[2.0, 8.0, 6.0], &[1.0, 2.0, 2.0]).median, 3.0);
    }

    #[test]
    fn all_are_run_equally_often_in_turn() {
        let order = std::cell::RefCell::new(vec![]);
        let run = |name: char| -> Run<'_, ()> {
            let order = &order;
            Box::new(move || {
                order.borrow_mut().push(name);
                Ok(())
            })
        };
        let times = in_turn(&mut [run('a'), run('b')], PATIENCE).expect("nothing fails");
        assert_eq!((times[0].len(), times[1].len()), (ROUNDS, ROUNDS));
        let order = order.into_inner();
        assert!(order.chunks(2).all(|round| round == ['a', 'b']) && order.len() == 2 * (ROUNDS + WARM_UP));
        assert_eq!(in_turn(&mut [Box::new(|| Err("broken")) as Run<'_, &str>], PATIENCE), Err("broken"));
    }
}
