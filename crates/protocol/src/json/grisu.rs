//! Digits of doubles by the Grisu2 algorithm (Loitsch, 2010), as RapidJSON 1.1 uses it.
//!
//! Its digits always read back to the same double, but are not always the fewest and closest that
//! do. Triton's clients see exactly these (1e22 as a float ends in 9 where 8 is closer), so no
//! better algorithm will do.

/// Digits of a double and the power of ten of the last one.
pub(super) struct Digits {
    buffer: [u8; 20],
    len: usize,
    pub(super) exponent: i32,
}

impl Digits {
    /// Of a positive, finite number.
    pub(super) fn of(value: f64) -> Self {
        let (lower, exact, upper) = boundaries(value);
        let (power, exponent) = cached_power(upper.exponent);
        let (exact, mut upper, mut lower) =
            (exact.times(power), upper.times(power), lower.times(power));
        // The products may be off by one: stay inside.
        lower.fraction += 1;
        upper.fraction -= 1;
        let mut digits = Self { buffer: [0; 20], len: 0, exponent };
        digits.generate(exact, upper, upper.fraction - lower.fraction);
        digits
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// Writes digits of `upper` until what is left is less than `delta`.
    fn generate(&mut self, exact: Float, upper: Float, mut delta: u64) {
        let shift = upper.exponent.unsigned_abs();
        let one = 1u64 << shift;
        let distance = upper.fraction - exact.fraction;
        let (mut whole, mut fraction) = (upper.fraction >> shift, upper.fraction & (one - 1));
        let mut places = if whole == 0 { 0 } else { whole.ilog10() + 1 };
        while places > 0 {
            places -= 1;
            let unit = 10u64.pow(places);
            self.push(whole / unit);
            whole %= unit;
            let rest = (whole << shift) + fraction;
            if rest <= delta {
                self.exponent += places as i32;
                return self.round(delta, rest, unit << shift, distance);
            }
        }
        let mut below = 0;
        loop {
            fraction *= 10;
            delta = delta.wrapping_mul(10);
            self.push(fraction >> shift);
            fraction &= one - 1;
            below += 1;
            if fraction < delta {
                self.exponent -= below as i32;
                // RapidJSON 1.1 gives up on the last digit after so many places.
                let scale = if below < 9 { 10u64.pow(below) } else { 0 };
                return self.round(delta, fraction, one, distance.wrapping_mul(scale));
            }
        }
    }

    fn push(&mut self, digit: u64) {
        if (digit > 0 || self.len > 0) && self.len < self.buffer.len() {
            self.buffer[self.len] = b'0' + digit as u8;
            self.len += 1;
        }
    }

    /// Lowers the last digit while that brings the digits closer to the exact number.
    fn round(&mut self, delta: u64, mut rest: u64, unit: u64, distance: u64) {
        let Some(last) = self.buffer[..self.len].last_mut() else { return };
        while rest < distance
            && delta - rest >= unit
            && (rest + unit < distance || distance - rest > rest + unit - distance)
        {
            *last -= 1;
            rest += unit;
        }
    }
}

/// `fraction` × 2^`exponent`
#[derive(Clone, Copy)]
struct Float {
    fraction: u64,
    exponent: i32,
}

impl Float {
    fn normalized(self) -> Self {
        let shift = self.fraction.leading_zeros();
        Self { fraction: self.fraction << shift, exponent: self.exponent - shift as i32 }
    }

    /// The upper half of the product, rounded.
    fn times(self, other: Self) -> Self {
        let product = u128::from(self.fraction) * u128::from(other.fraction);
        let fraction = (product >> 64) as u64 + (product as u64 >> 63);
        Self { fraction, exponent: self.exponent + other.exponent + 64 }
    }
}

/// The number itself between the two up to which digits are read as it, all normalized.
fn boundaries(value: f64) -> (Float, Float, Float) {
    const HIDDEN: u64 = 1 << 52;
    let bits = value.to_bits();
    let (biased, stored) = ((bits >> 52 & 0x7ff) as i32, bits & (HIDDEN - 1));
    let exact = if biased == 0 {
        Float { fraction: stored, exponent: -1074 }
    } else {
        Float { fraction: stored | HIDDEN, exponent: biased - 1075 }
    };
    let upper =
        Float { fraction: (exact.fraction << 1) + 1, exponent: exact.exponent - 1 }.normalized();
    // Below a power of two the doubles are twice as close.
    let lower = if exact.fraction == HIDDEN {
        Float { fraction: (exact.fraction << 2) - 1, exponent: exact.exponent - 2 }
    } else {
        Float { fraction: (exact.fraction << 1) - 1, exponent: exact.exponent - 1 }
    };
    let fraction = lower.fraction << (lower.exponent - upper.exponent);
    (Float { fraction, exponent: upper.exponent }, exact.normalized(), upper)
}

/// A power of ten that brings a number with the given binary exponent near to 2^-60, and the
/// decimal exponent that this takes away.
fn cached_power(exponent: i32) -> (Float, i32) {
    let needed = f64::from(-61 - exponent) * std::f64::consts::LOG10_2 + 347.0;
    let index = (needed.ceil() as usize >> 3) + 1;
    let decimal = FIRST_POWER + 8 * index as i32;
    // log2(10) is 217706 / 2^16, closely enough for all of them.
    let exponent = ((decimal * 217_706) >> 16) - 63;
    (Float { fraction: POWERS[index], exponent }, -decimal)
}

const FIRST_POWER: i32 = -348;

/// 10^-348, 10^-340, … 10^340, rounded to 64 bits of which the first is set.
#[rustfmt::skip]
const POWERS: [u64; 87] = [
    0xfa8fd5a0081c0288, 0xbaaee17fa23ebf76, 0x8b16fb203055ac76, 0xcf42894a5dce35ea,
    0x9a6bb0aa55653b2d, 0xe61acf033d1a45df, 0xab70fe17c79ac6ca, 0xff77b1fcbebcdc4f,
    0xbe5691ef416bd60c, 0x8dd01fad907ffc3c, 0xd3515c2831559a83, 0x9d71ac8fada6c9b5,
    0xea9c227723ee8bcb, 0xaecc49914078536d, 0x823c12795db6ce57, 0xc21094364dfb5637,
    0x9096ea6f3848984f, 0xd77485cb25823ac7, 0xa086cfcd97bf97f4, 0xef340a98172aace5,
    0xb23867fb2a35b28e, 0x84c8d4dfd2c63f3b, 0xc5dd44271ad3cdba, 0x936b9fcebb25c996,
    0xdbac6c247d62a584, 0xa3ab66580d5fdaf6, 0xf3e2f893dec3f126, 0xb5b5ada8aaff80b8,
    0x87625f056c7c4a8b, 0xc9bcff6034c13053, 0x964e858c91ba2655, 0xdff9772470297ebd,
    0xa6dfbd9fb8e5b88f, 0xf8a95fcf88747d94, 0xb94470938fa89bcf, 0x8a08f0f8bf0f156b,
    0xcdb02555653131b6, 0x993fe2c6d07b7fac, 0xe45c10c42a2b3b06, 0xaa242499697392d3,
    0xfd87b5f28300ca0e, 0xbce5086492111aeb, 0x8cbccc096f5088cc, 0xd1b71758e219652c,
    0x9c40000000000000, 0xe8d4a51000000000, 0xad78ebc5ac620000, 0x813f3978f8940984,
    0xc097ce7bc90715b3, 0x8f7e32ce7bea5c70, 0xd5d238a4abe98068, 0x9f4f2726179a2245,
    0xed63a231d4c4fb27, 0xb0de65388cc8ada8, 0x83c7088e1aab65db, 0xc45d1df942711d9a,
    0x924d692ca61be758, 0xda01ee641a708dea, 0xa26da3999aef774a, 0xf209787bb47d6b85,
    0xb454e4a179dd1877, 0x865b86925b9bc5c2, 0xc83553c5c8965d3d, 0x952ab45cfa97a0b3,
    0xde469fbd99a05fe3, 0xa59bc234db398c25, 0xf6c69a72a3989f5c, 0xb7dcbf5354e9bece,
    0x88fcf317f22241e2, 0xcc20ce9bd35c78a5, 0x98165af37b2153df, 0xe2a0b5dc971f303a,
    0xa8d9d1535ce3b396, 0xfb9b7cd9a4a7443c, 0xbb764c4ca7a44410, 0x8bab8eefb6409c1a,
    0xd01fef10a657842c, 0x9b10a4e5e9913129, 0xe7109bfba19c0c9d, 0xac2820d9623bf429,
    0x80444b5e7aa7cf85, 0xbf21e44003acdd2d, 0x8e679c2f5e44ff8f, 0xd433179d9c8cb841,
    0x9e19db92b4e31ba9, 0xeb96bf6ebadf77d9, 0xaf87023b9bf0ee6b,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(value: f64) -> (String, i32) {
        let digits = Digits::of(value);
        (String::from_utf8(digits.as_bytes().to_vec()).unwrap(), digits.exponent)
    }

    #[test]
    fn known_digits() {
        assert_eq!(digits(1.0), ("1".into(), 0));
        assert_eq!(digits(5e-324), ("5".into(), -324));
        assert_eq!(digits(f64::MAX), ("17976931348623157".into(), 292));
        assert_eq!(digits(f64::from(1e22f32)), ("9999999778196309".into(), 6));
        assert_eq!(digits(f64::MIN_POSITIVE), ("22250738585072014".into(), -324));
    }

    #[test]
    fn digits_read_back_to_the_same_double() {
        // A walk over all exponents and arbitrary fractions.
        let mut bits = 0x0123_4567_89ab_cdefu64;
        for _ in 0..200_000 {
            bits = bits
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let value = f64::from_bits(bits >> 1);
            if !value.is_finite() || value == 0.0 {
                continue;
            }
            let (digits, exponent) = digits(value);
            let back: f64 = format!("{digits}e{exponent}").parse().unwrap();
            assert_eq!(back, value, "{digits}e{exponent}");
        }
    }
}
