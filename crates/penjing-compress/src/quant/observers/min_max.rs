use super::Observer;
use crate::quant::{QuantError, Range, Scheme};

/// Everything that was seen: nothing is cut, and one outlier coarsens all else.
#[derive(Clone, Copy, Debug, Default)]
pub struct MinMax {
    seen: Option<Range>,
}

impl Observer for MinMax {
    fn observe(&mut self, values: &[f32]) -> Result<(), QuantError> {
        let batch = Range::of(values)?;
        self.seen = self.seen.into_iter().chain(batch).reduce(Range::union);
        Ok(())
    }

    fn range(&self, _: &Scheme) -> Option<Range> {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::observers::tests::per_tensor;
    use crate::quant::{Number, Symmetry};

    #[test]
    fn batches_by_hand() {
        let mut observer = MinMax::default();
        observer.observe(&[1.0, 2.0]).expect("finite");
        observer.observe(&[-0.5]).expect("finite");
        assert_eq!(observer.range(&per_tensor(Number::Int8, Symmetry::Symmetric)), Some(Range { min: -0.5, max: 2.0 }));
    }
}
