use super::Observer;
use crate::quant::{QuantError, Range, Scheme};

/// The exponential moving average of each batch's ends, from the first batch on: outliers of few batches fade. Depends on the order of
/// the batches. Jacob et al. 2018, §3.1.
#[derive(Clone, Copy, Debug)]
pub struct MovingAverage {
    momentum: f64,
    average: Option<(f64, f64)>,
}

impl MovingAverage {
    /// An average that keeps `momentum` of what it was with each batch, 0 ≤ momentum < 1; other numbers are taken as the nearest of
    /// these.
    pub fn new(momentum: f64) -> MovingAverage {
        MovingAverage { momentum: momentum.max(0.0).min(1.0f64.next_down()), average: None }
    }
}

impl Default for MovingAverage {
    /// Momentum 0.9.
    fn default() -> MovingAverage {
        MovingAverage::new(0.9)
    }
}

impl Observer for MovingAverage {
    fn observe(&mut self, values: &[f32]) -> Result<(), QuantError> {
        let Some(batch) = Range::of(values)? else { return Ok(()) };
        let (min, max) = (f64::from(batch.min), f64::from(batch.max));
        let (old_min, old_max) = self.average.unwrap_or((min, max));
        self.average = Some((old_min + (1.0 - self.momentum) * (min - old_min), old_max + (1.0 - self.momentum) * (max - old_max)));
        Ok(())
    }

    fn range(&self, _: &Scheme) -> Option<Range> {
        self.average.map(|(min, max)| Range { min: min as f32, max: max as f32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::observers::tests::per_tensor;
    use crate::quant::{Number, Symmetry};

    #[test]
    fn three_batches_by_hand() {
        let mut observer = MovingAverage::new(0.5);
        for batch in [[-1.0, 4.0], [-2.0, 8.0], [0.0, 2.0]] {
            observer.observe(&batch).expect("finite");
        }
        // −1 → −1.5 → −0.75 and 4 → 6 → 4.
        assert_eq!(observer.range(&per_tensor(Number::Int8, Symmetry::Symmetric)), Some(Range { min: -0.75, max: 4.0 }));
    }
}
