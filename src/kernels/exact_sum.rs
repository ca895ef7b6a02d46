//! Sums of floats that do not depend on the order: exact inside, rounded once at the end.

/// Bits of a limb that hold a digit; the rest of its 64 take up the carries of additions.
const DIGIT: u32 = 32;
/// Limbs that reach from the smallest bit of a double, 2⁻¹⁰⁷⁴, to 2¹⁰²⁴ and over the carries of 2⁶⁴ additions.
const LIMBS: usize = 70;
/// Additions before the carries must be taken on: a limb takes less than 2³² at a time.
const BEFORE_CARRY: u32 = 1 << 30;

/// A sum of doubles as one long number in fixed point (Neal 2015, "Fast exact summation using small and large
/// superaccumulators"). Threads may add in any order and merge in any order: the sum is the same to the last bit.
#[derive(Debug, Clone)]
pub struct ExactSum {
    /// Digits in base 2³², the lowest first, each with a sign of its own until carries are taken on.
    limbs: [i64; LIMBS],
    since_carry: u32,
    /// Sum of what is not finite: it decides alone, and in no order.
    odd: f64,
}

impl Default for ExactSum {
    fn default() -> Self {
        Self { limbs: [0; LIMBS], since_carry: 0, odd: 0.0 }
    }
}

impl ExactSum {
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            self.odd += value;
            return;
        }
        let bits = value.to_bits();
        let exponent = (bits >> 52) as u32 & 0x7ff;
        let fraction = bits & ((1 << 52) - 1);
        // A subnormal has no hidden bit, and the exponent of the smallest normal.
        let mantissa = if exponent == 0 { fraction } else { fraction | (1 << 52) };
        let shift = exponent.max(1) - 1;
        let wide = u128::from(mantissa) << (shift % DIGIT);
        let sign = if value.is_sign_negative() { -1 } else { 1 };
        let first = (shift / DIGIT) as usize;
        for (place, limb) in self.limbs[first..first + 3].iter_mut().enumerate() {
            let digit = (wide >> (DIGIT * place as u32)) as u32;
            *limb += sign * i64::from(digit);
        }
        self.since_carry += 1;
        if self.since_carry == BEFORE_CARRY {
            self.carry();
        }
    }

    /// Adds `a × b` without rounding it, unless it is too large or too small for a double.
    pub fn add_product(&mut self, a: f64, b: f64) {
        let high = a * b;
        self.add(high);
        if high.is_finite() {
            // What the product lost by rounding is a double itself (Dekker 1971).
            self.add(a.mul_add(b, -high));
        }
    }

    pub fn merge(&mut self, other: &Self) {
        let mut other = other.clone();
        other.carry();
        self.carry();
        self.limbs.iter_mut().zip(other.limbs).for_each(|(limb, other)| *limb += other);
        self.odd += other.odd;
        self.carry();
    }

    /// The sum, within half a unit of the last place or a hair over it.
    pub fn value(&self) -> f64 {
        if self.odd != 0.0 {
            return self.odd;
        }
        let mut carried = self.clone();
        carried.carry();
        let negative = carried.limbs[LIMBS - 1] < 0;
        if negative {
            carried.limbs.iter_mut().for_each(|limb| *limb = -*limb);
            carried.carry();
        }
        let Some(top) = carried.limbs.iter().rposition(|limb| *limb != 0) else { return 0.0 };
        // Four digits hold over 96 bits, more than a double can tell.
        let lowest = top.saturating_sub(3);
        let wide = carried.limbs[lowest..=top].iter().rev().fold(0u128, |sum, limb| (sum << DIGIT) | *limb as u128);
        let value = scaled(wide as f64, DIGIT as i32 * lowest as i32 - 1074);
        if negative { -value } else { value }
    }

    /// The sum as doubles that add up to it, the largest first: what is left of it after each is rounded away.
    pub fn parts(&self) -> [f64; 3] {
        let mut left = self.clone();
        std::array::from_fn(|_| {
            let part = left.value();
            left.add(-part);
            part
        })
    }

    /// As numbers that [`ExactSum::from_words`] reads.
    pub fn to_words(&self) -> impl Iterator<Item = u64> {
        let mut carried = self.clone();
        carried.carry();
        carried.limbs.into_iter().map(|limb| limb as u64).chain([self.odd.to_bits()])
    }

    pub fn from_words(words: &mut impl Iterator<Item = u64>) -> Option<Self> {
        let mut sum = Self::default();
        for limb in &mut sum.limbs {
            *limb = words.next()? as i64;
        }
        sum.odd = f64::from_bits(words.next()?);
        Some(sum)
    }

    /// Leaves in each limb but the last a digit from 0 to 2³² − 1.
    fn carry(&mut self) {
        let mut over = 0;
        for limb in &mut self.limbs[..LIMBS - 1] {
            let whole = *limb + over;
            over = whole >> DIGIT;
            *limb = whole - (over << DIGIT);
        }
        self.limbs[LIMBS - 1] += over;
        self.since_carry = 0;
    }
}

/// `value × 2^power`, in two steps where one would leave the range of the exponent.
fn scaled(value: f64, power: i32) -> f64 {
    let half = power / 2;
    value * 2f64.powi(half) * 2f64.powi(power - half)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(values: &[f64]) -> f64 {
        let mut sum = ExactSum::default();
        values.iter().for_each(|value| sum.add(*value));
        sum.value()
    }

    #[test]
    fn nothing_is_lost() {
        assert_eq!(sum(&[]), 0.0);
        assert_eq!(sum(&[1e300, 1.0, -1e300]), 1.0);
        assert_eq!(sum(&[1e16, 1.0, 1.0]), 1e16 + 2.0);
        assert_eq!(sum(&[0.1; 10]), 1.0);
        assert_eq!(sum(&[f64::MIN_POSITIVE, -5e-324]), f64::MIN_POSITIVE - 5e-324);
        assert_eq!(sum(&[-3.5, 1.25]), -2.25);
        assert_eq!(sum(&[f64::MAX, f64::MAX, -f64::MAX]), f64::MAX);
    }

    #[test]
    fn what_is_not_finite_decides() {
        assert_eq!(sum(&[1.0, f64::INFINITY]), f64::INFINITY);
        assert!(sum(&[f64::INFINITY, 1.0, f64::NEG_INFINITY]).is_nan());
    }

    #[test]
    fn products_are_exact() {
        let mut sum = ExactSum::default();
        let odd = 1.0 + f64::EPSILON;
        sum.add_product(odd, odd);
        sum.add_product(-1.0, 1.0 + 2.0 * f64::EPSILON);
        assert_eq!(sum.value(), f64::EPSILON * f64::EPSILON);
    }

    proptest! {
        /// The reference: whole numbers, summed as such.
        #[test]
        fn sums_are_those_of_whole_numbers(values in prop::collection::vec(any::<i32>(), 0..200), power in -300i32..200) {
            let scale = 2f64.powi(power);
            let floats: Vec<f64> = values.iter().map(|value| f64::from(*value) * scale).collect();
            let expected: i64 = values.iter().map(|value| i64::from(*value)).sum();
            prop_assert_eq!(sum(&floats), expected as f64 * scale);
        }

        #[test]
        fn no_order_matters(
            mut values in prop::collection::vec(any::<f64>().prop_filter("finite", |value| value.is_finite()), 0..60),
            at in 0usize..60,
        ) {
            let expected = sum(&values).to_bits();
            let (left, right) = values.split_at(at.min(values.len()));
            let mut merged = ExactSum::default();
            for part in [right, left] {
                let mut one = ExactSum::default();
                part.iter().for_each(|value| one.add(*value));
                let words: Vec<u64> = one.to_words().collect();
                merged.merge(&ExactSum::from_words(&mut words.into_iter()).unwrap());
            }
            prop_assert_eq!(merged.value().to_bits(), expected);
            values.sort_by(f64::total_cmp);
            prop_assert_eq!(sum(&values).to_bits(), expected);
        }
    }
}
