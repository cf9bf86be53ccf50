//! Numbers as they are printed: digits and decimals, nothing rounded.

use std::fmt;

/// Most decimals that a printed value may have.
const MOST_DECIMALS: u32 = 6;
/// Most digits before the decimals.
const MOST_DIGITS: usize = 9;

/// A printed decimal number: `units / 10^decimals`. `95.30` and `95.3` are two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal {
    /// The digits as one whole number, with its sign.
    pub units: i64,
    /// Digits behind the point.
    pub decimals: u32,
}

impl Decimal {
    /// Reads `-12.30`; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
        let (whole, rest) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let decimals = u32::try_from(rest.len()).ok().filter(|decimals| *decimals <= MOST_DECIMALS)?;
        let is_number = !whole.is_empty() && whole.len() <= MOST_DIGITS && all_digits(whole) && all_digits(rest);
        let units: i64 = is_number.then(|| format!("{whole}{rest}").parse().ok()).flatten()?;
        Some(Decimal { units: sign * units, decimals })
    }

    /// How many units make 1.
    pub fn scale(self) -> i64 {
        10i64.pow(self.decimals)
    }

    /// The number.
    pub fn value(self) -> f64 {
        self.units as f64 / self.scale() as f64
    }

    /// Half of the last printed digit: the most that rounding changed.
    pub fn half_unit(self) -> f64 {
        0.5 / self.scale() as f64
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:.*}", self.decimals as usize, self.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_kept_as_printed() {
        for text in ["95.30", "87.4", "100", "-0.5", "0.00"] {
            assert_eq!(Decimal::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Decimal::parse("95.30"), Some(Decimal { units: 9530, decimals: 2 }));
        assert_eq!(Decimal::parse("-0.5").unwrap().value(), -0.5);
    }

    #[test]
    fn anything_else_is_no_number() {
        for text in ["", ".", ".5", "-", "1e2", "87,36", "87.36 ", "+1", "1.2.3", "0.1234567", "1234567890", "nan"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }
}
