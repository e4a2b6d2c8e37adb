//! Dimensions that may be symbols: `3`, `N`, `4*N`, or unknown.

use std::fmt;
use std::sync::Arc;

/// One dimension of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dim {
    /// A number known before the model runs.
    Fixed(usize),
    /// `factor` times each of `symbols` (sorted, at least one, factor at least 1).
    Symbolic {
        /// The known factor.
        factor: usize,
        /// Names of the unknown ones, sorted; one may stand twice.
        symbols: Vec<Arc<str>>,
    },
    /// Nothing is known.
    Unknown,
}

impl Dim {
    /// The dimension called `name`; an empty name is unknown.
    pub fn symbol(name: &str) -> Dim {
        if name.is_empty() { Dim::Unknown } else { Dim::Symbolic { factor: 1, symbols: vec![name.into()] } }
    }

    /// The number, where it is known.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Dim::Fixed(n) => Some(*n),
            Dim::Symbolic { .. } | Dim::Unknown => None,
        }
    }

    /// Product; unknown on overflow.
    #[must_use]
    pub fn times(&self, other: &Dim) -> Dim {
        match (self, other) {
            (Dim::Fixed(0), _) | (_, Dim::Fixed(0)) => Dim::Fixed(0),
            (Dim::Fixed(a), Dim::Fixed(b)) => a.checked_mul(*b).map_or(Dim::Unknown, Dim::Fixed),
            (Dim::Fixed(n), Dim::Symbolic { factor, symbols }) | (Dim::Symbolic { factor, symbols }, Dim::Fixed(n)) => {
                factor.checked_mul(*n).map_or(Dim::Unknown, |factor| Dim::Symbolic { factor, symbols: symbols.clone() })
            }
            (Dim::Symbolic { factor: f, symbols: a }, Dim::Symbolic { factor: g, symbols: b }) => {
                let mut symbols: Vec<_> = a.iter().chain(b).cloned().collect();
                symbols.sort();
                f.checked_mul(*g).map_or(Dim::Unknown, |factor| Dim::Symbolic { factor, symbols })
            }
            (Dim::Unknown, _) | (_, Dim::Unknown) => Dim::Unknown,
        }
    }

    /// Sum; unknown where it is neither a number nor a multiple of the same symbols.
    #[must_use]
    pub fn plus(&self, other: &Dim) -> Dim {
        match (self, other) {
            (Dim::Fixed(0), dim) | (dim, Dim::Fixed(0)) => dim.clone(),
            (Dim::Fixed(a), Dim::Fixed(b)) => a.checked_add(*b).map_or(Dim::Unknown, Dim::Fixed),
            (Dim::Symbolic { factor: f, symbols: a }, Dim::Symbolic { factor: g, symbols: b }) if a == b => {
                f.checked_add(*g).map_or(Dim::Unknown, |factor| Dim::Symbolic { factor, symbols: a.clone() })
            }
            (Dim::Fixed(_) | Dim::Symbolic { .. } | Dim::Unknown, _) => Dim::Unknown,
        }
    }

    /// Difference; unknown where it is negative, or neither a number nor a multiple of the same symbols.
    #[must_use]
    pub fn minus(&self, other: &Dim) -> Dim {
        match (self, other) {
            (dim, Dim::Fixed(0)) => dim.clone(),
            (Dim::Fixed(a), Dim::Fixed(b)) => a.checked_sub(*b).map_or(Dim::Unknown, Dim::Fixed),
            (Dim::Symbolic { factor: f, symbols: a }, Dim::Symbolic { factor: g, symbols: b }) if a == b => match f.checked_sub(*g) {
                Some(0) => Dim::Fixed(0),
                Some(factor) => Dim::Symbolic { factor, symbols: a.clone() },
                None => Dim::Unknown,
            },
            (Dim::Fixed(_) | Dim::Symbolic { .. } | Dim::Unknown, _) => Dim::Unknown,
        }
    }

    /// Exact quotient; unknown where it does not come out even or cannot be told.
    #[must_use]
    pub fn divided_by(&self, other: &Dim) -> Dim {
        let (factor, mut symbols) = match self {
            Dim::Fixed(n) => (*n, vec![]),
            Dim::Symbolic { factor, symbols } => (*factor, symbols.clone()),
            Dim::Unknown => return Dim::Unknown,
        };
        let (by, divisors) = match other {
            Dim::Fixed(n) => (*n, &[][..]),
            Dim::Symbolic { factor, symbols } => (*factor, &symbols[..]),
            Dim::Unknown => return Dim::Unknown,
        };
        if by == 0 || factor % by != 0 {
            return Dim::Unknown;
        }
        for divisor in divisors {
            match symbols.iter().position(|s| s == divisor) {
                Some(i) => drop(symbols.remove(i)),
                None => return Dim::Unknown,
            }
        }
        let factor = factor / by;
        if symbols.is_empty() || factor == 0 { Dim::Fixed(factor) } else { Dim::Symbolic { factor, symbols } }
    }

    /// Whether both may be the same number: `false` only where both are known and differ.
    pub fn compatible(&self, other: &Dim) -> bool {
        match (self.fixed(), other.fixed()) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        }
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Dim {
        Dim::Fixed(n)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(n) => write!(f, "{n}"),
            Dim::Symbolic { factor: 1, symbols } => write!(f, "{}", symbols.join("*")),
            Dim::Symbolic { factor, symbols } => write!(f, "{factor}*{}", symbols.join("*")),
            Dim::Unknown => write!(f, "?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_quotients_of_symbols() {
        let n = Dim::symbol("N");
        let volume = n.times(&16.into()).times(&25.into());
        assert_eq!(volume.to_string(), "400*N");
        assert_eq!(volume.divided_by(&400.into()), n);
        assert_eq!(volume.divided_by(&n), Dim::Fixed(400));
        assert_eq!(volume.divided_by(&Dim::symbol("M")), Dim::Unknown);
        assert_eq!(Dim::Fixed(7).divided_by(&2.into()), Dim::Unknown);
        assert_eq!(Dim::Fixed(usize::MAX).times(&2.into()), Dim::Unknown);
    }

    #[test]
    fn sums_and_differences_of_symbols() {
        let n = Dim::symbol("N");
        assert_eq!(n.plus(&n).to_string(), "2*N");
        assert_eq!(n.plus(&n).minus(&n), n);
        assert_eq!(n.minus(&n), Dim::Fixed(0));
        assert_eq!(n.plus(&0.into()), n);
        assert_eq!(n.plus(&1.into()), Dim::Unknown);
        assert_eq!(n.plus(&Dim::symbol("M")), Dim::Unknown);
        assert_eq!(Dim::Fixed(3).minus(&4.into()), Dim::Unknown);
        assert_eq!(Dim::Fixed(usize::MAX).plus(&1.into()), Dim::Unknown);
    }
}
