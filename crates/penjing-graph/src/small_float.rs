//! Floats of 4 and 8 bits: the number of each code, and the code of each number (`Cast`-25 of ONNX).

use crate::DataType;

/// What the codes of a float with a sign, an exponent and a fraction stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmallFloat {
    exponent: u32,
    fraction: u32,
    bias: i32,
    beyond: Beyond,
}

/// How a format says what is no finite number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beyond {
    /// The largest exponent holds infinity and NaN, as in IEEE 754.
    Exponent,
    /// The largest code is NaN; there is no infinity.
    LargestCode,
    /// The code that negative zero would have is NaN; there is no infinity.
    NegativeZero,
    /// There is nothing but finite numbers.
    Nothing,
}

impl SmallFloat {
    /// The format of a type; `None` where it is none of these.
    pub const fn of(dtype: DataType) -> Option<SmallFloat> {
        let (exponent, fraction, bias, beyond) = match dtype {
            DataType::Float8E4M3Fn => (4, 3, 7, Beyond::LargestCode),
            DataType::Float8E4M3Fnuz => (4, 3, 8, Beyond::NegativeZero),
            DataType::Float8E5M2 => (5, 2, 15, Beyond::Exponent),
            DataType::Float8E5M2Fnuz => (5, 2, 16, Beyond::NegativeZero),
            DataType::Float4E2M1 => (2, 1, 1, Beyond::Nothing),
            _ => return None,
        };
        Some(SmallFloat { exponent, fraction, bias, beyond })
    }

    /// The largest number.
    pub fn largest(self) -> f32 {
        self.decode(self.largest_code() as u8)
    }

    fn sign(self) -> u32 {
        1 << (self.exponent + self.fraction)
    }

    fn largest_code(self) -> u32 {
        match self.beyond {
            Beyond::Exponent => self.infinity() - 1,
            Beyond::LargestCode => self.sign() - 2,
            Beyond::NegativeZero | Beyond::Nothing => self.sign() - 1,
        }
    }

    /// The code of infinity where [`Beyond::Exponent`] holds; larger ones are NaN.
    fn infinity(self) -> u32 {
        ((1 << self.exponent) - 1) << self.fraction
    }

    /// The number of a code; bits beyond those of the format do not count.
    pub fn decode(self, code: u8) -> f32 {
        let (sign, code) = (u32::from(code) & self.sign(), u32::from(code) & (self.sign() - 1));
        let negative = sign != 0;
        let size = match self.beyond {
            Beyond::NegativeZero if negative && code == 0 => f32::NAN,
            Beyond::Exponent if code == self.infinity() => f32::INFINITY,
            Beyond::Exponent | Beyond::LargestCode if code > self.largest_code() => f32::NAN,
            Beyond::Exponent | Beyond::LargestCode | Beyond::NegativeZero | Beyond::Nothing => {
                let (exponent, fraction) = (code >> self.fraction, code & ((1 << self.fraction) - 1));
                // Below the first normal number the leading one is missing.
                let steps = if exponent == 0 { fraction } else { fraction + (1 << self.fraction) };
                steps as f32 * power_of_two(exponent.max(1) as i32 - self.bias - self.fraction as i32)
            }
        };
        if negative { -size } else { size }
    }

    /// The code of the nearest number, of the even one of two that are as near. What is too large, infinity too, becomes the
    /// largest number if it is to `saturate`, else infinity or NaN; NaN stays NaN. A format that has neither takes the largest
    /// number, and negative zero for NaN.
    pub fn encode(self, x: f32, saturate: bool) -> u8 {
        let code = if x.is_nan() { self.nan() } else { self.size_code(x.abs(), saturate) };
        let unsigned = self.beyond == Beyond::NegativeZero && (code == 0 || code == self.sign());
        (if x.is_sign_negative() && !unsigned { code | self.sign() } else { code }) as u8
    }

    fn nan(self) -> u32 {
        match self.beyond {
            Beyond::Exponent => self.infinity() | 1 << (self.fraction - 1),
            Beyond::LargestCode => self.sign() - 1,
            Beyond::NegativeZero => self.sign(),
            // As the reference of ONNX has it: the number that is told apart from all that are meant.
            Beyond::Nothing => self.sign(),
        }
    }

    /// The code of a number that is not negative.
    fn size_code(self, x: f32, saturate: bool) -> u32 {
        let too_large = match self.beyond {
            Beyond::Exponent if !saturate => self.infinity(),
            Beyond::LargestCode | Beyond::NegativeZero if !saturate => self.nan(),
            Beyond::Exponent | Beyond::LargestCode | Beyond::NegativeZero | Beyond::Nothing => self.largest_code(),
        };
        if x.is_infinite() {
            return too_large;
        }
        let lowest = 1 - self.bias;
        let exponent = ((x.to_bits() >> 23) as i32 - 127).max(lowest);
        let steps = (x * power_of_two(self.fraction as i32 - exponent)).round_ties_even() as u32;
        // A fraction that is rounded up to two carries over into the exponent, whose codes follow each other.
        let code = (((exponent - lowest) as u32) << self.fraction) + steps;
        if code > self.largest_code() { too_large } else { code }
    }
}

/// 2ⁿ for −126 ≤ n ≤ 127.
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

/// The number that an octet of an 8-bit float or a code of the 4-bit float stands for, powers of two (`float8e8m0`) included;
/// `None` for other types.
pub fn decode(dtype: DataType, code: u8) -> Option<f32> {
    match dtype {
        DataType::Float8E8M0 if code == u8::MAX => Some(f32::NAN),
        // 2⁻¹²⁷ is below the first normal number.
        DataType::Float8E8M0 if code == 0 => Some(0.5 * power_of_two(-126)),
        DataType::Float8E8M0 => Some(power_of_two(i32::from(code) - 127)),
        _ => SmallFloat::of(dtype).map(|format| format.decode(code)),
    }
}

/// The code of a number, see [`SmallFloat::encode`]; a power of two (`float8e8m0`) is the next that is not smaller. `None` for
/// other types.
pub fn encode(dtype: DataType, x: f32, saturate: bool) -> Option<u8> {
    match dtype {
        DataType::Float8E8M0 => Some(power_code(x.abs(), saturate)),
        _ => SmallFloat::of(dtype).map(|format| format.encode(x, saturate)),
    }
}

/// n + 127 of the smallest 2ⁿ ≥ x, for −127 ≤ n ≤ 127; the largest code is NaN.
fn power_code(x: f32, saturate: bool) -> u8 {
    let (exponent, fraction) = (x.to_bits() >> 23, x.to_bits() & 0x7f_ffff);
    // Below the first normal number, 2⁻¹²⁷ is half of the fraction's range.
    let is_above = if exponent == 0 { fraction > 1 << 22 } else { fraction > 0 };
    match exponent + u32::from(is_above) {
        code if code < u32::from(u8::MAX) => code as u8,
        _ if x.is_nan() || !saturate => u8::MAX,
        _ => u8::MAX - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [DataType; 5] =
        [DataType::Float8E4M3Fn, DataType::Float8E4M3Fnuz, DataType::Float8E5M2, DataType::Float8E5M2Fnuz, DataType::Float4E2M1];

    fn format(dtype: DataType) -> SmallFloat {
        SmallFloat::of(dtype).expect("a small float")
    }

    #[test]
    fn largest_numbers() {
        assert_eq!(ALL.map(|dtype| format(dtype).largest()), [448.0, 240.0, 57344.0, 57344.0, 6.0]);
    }

    #[test]
    fn every_number_of_four_bits() {
        let numbers: Vec<f32> = (0..16).map(|code| format(DataType::Float4E2M1).decode(code)).collect();
        let positive = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        assert_eq!(numbers, [positive, positive.map(|n| -n)].concat());
    }

    #[test]
    fn halves_go_to_the_even_code() {
        let e4m3 = format(DataType::Float8E4M3Fn);
        // Between 16 and 32 numbers are 2 apart: 16 is 0x58, 18 is 0x59, 20 is 0x5a.
        let codes = [16.0, 17.0, 17.1, 19.0, 20.0, -17.0].map(|x| e4m3.encode(x, true));
        assert_eq!(codes, [0x58, 0x58, 0x59, 0x5a, 0x5a, 0xd8]);
        // The smallest is 2⁻⁹; half of it is as near to zero, which is even.
        assert_eq!([0.5f32, 0.51, 1.5].map(|steps| e4m3.encode(steps * 2f32.powi(-9), true)), [0, 1, 2]);
    }

    #[test]
    fn beyond_the_largest_number() {
        let codes = |dtype, saturate| [f32::INFINITY, 1e9, -1e9, f32::NEG_INFINITY].map(|x| format(dtype).encode(x, saturate));
        assert_eq!(codes(DataType::Float8E4M3Fn, true), [0x7e, 0x7e, 0xfe, 0xfe]);
        assert_eq!(codes(DataType::Float8E4M3Fn, false), [0x7f, 0x7f, 0xff, 0xff]); // NaN
        assert_eq!(codes(DataType::Float8E4M3Fnuz, true), [0x7f, 0x7f, 0xff, 0xff]);
        assert_eq!(codes(DataType::Float8E4M3Fnuz, false), [0x80; 4]); // NaN
        assert_eq!(codes(DataType::Float8E5M2, true), [0x7b, 0x7b, 0xfb, 0xfb]);
        assert_eq!(codes(DataType::Float8E5M2, false), [0x7c, 0x7c, 0xfc, 0xfc]); // infinity
        assert_eq!(codes(DataType::Float8E5M2Fnuz, true), [0x7f, 0x7f, 0xff, 0xff]);
        assert_eq!(codes(DataType::Float4E2M1, false), [0x7, 0x7, 0xf, 0xf]);
        // 464 is as near to 448 as to 480, which would be the next, and 448 is even; what is above is too large.
        let e4m3 = format(DataType::Float8E4M3Fn);
        assert_eq!([464.0, 464.1].map(|x| e4m3.encode(x, false)), [0x7e, 0x7f]);
    }

    #[test]
    fn zeros_and_what_is_not_a_number() {
        let codes = |dtype| [0.0, -0.0, f32::NAN, -f32::NAN].map(|x| format(dtype).encode(x, true));
        assert_eq!(codes(DataType::Float8E4M3Fn), [0, 0x80, 0x7f, 0xff]);
        assert_eq!(codes(DataType::Float8E5M2), [0, 0x80, 0x7e, 0xfe]);
        assert_eq!(codes(DataType::Float8E4M3Fnuz), [0, 0, 0x80, 0x80]);
        assert_eq!(codes(DataType::Float8E5M2Fnuz), [0, 0, 0x80, 0x80]);
        assert_eq!(codes(DataType::Float4E2M1), [0, 8, 8, 8]);
        assert_eq!(format(DataType::Float8E4M3Fnuz).encode(-1e-9, true), 0);
    }

    #[test]
    fn every_code_is_the_code_of_its_number() {
        for format in ALL.map(format) {
            for code in 0..2 * format.sign() {
                let number = format.decode(code as u8);
                let again = format.encode(number, false);
                if number.is_nan() {
                    assert!(format.decode(again).is_nan(), "{format:?} {code:#x}");
                } else {
                    assert_eq!(u32::from(again), code, "{format:?} {number}");
                }
            }
        }
    }

    #[test]
    fn powers_of_two() {
        let decoded = [0, 1, 127, 128, 254, 255].map(|code| decode(DataType::Float8E8M0, code).unwrap_or_default());
        assert_eq!(decoded[..5], [2f32.powi(-126) / 2.0, 2f32.powi(-126), 1.0, 2.0, 2f32.powi(127)]);
        assert!(decoded[5].is_nan());
        let encoded =
            |saturate| [0.0, 0.125, 0.126, 1.1, 2.0, f32::MAX, f32::INFINITY, f32::NAN].map(|x| encode(DataType::Float8E8M0, x, saturate));
        assert_eq!(encoded(true), [0, 124, 125, 128, 128, 254, 254, 255].map(Some));
        assert_eq!(encoded(false), [0, 124, 125, 128, 128, 255, 255, 255].map(Some));
        assert!((0..255).all(|code| decode(DataType::Float8E8M0, code).and_then(|x| encode(DataType::Float8E8M0, x, true)) == Some(code)));
        assert_eq!(decode(DataType::Float, 0), None);
    }
}
