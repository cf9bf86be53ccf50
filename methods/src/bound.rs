//! Bounds of the numbers among a method's options.

use std::ops::RangeInclusive;

use torch_ext::ops::dropout::MAX_RATE;

/// Largest rank or width: far above what a checkpoint of the paper's size holds, and below what would exhaust memory.
const MAX_RANK: i64 = 1024;

/// A number and where it must lie.
pub(crate) struct Bound {
    option: &'static str,
    got: String,
    expected: String,
    holds: bool,
}

impl Bound {
    /// A rank or width: 1 to [`MAX_RANK`].
    pub(crate) fn rank(option: &'static str, value: i64) -> Self {
        let holds = (1..=MAX_RANK).contains(&value);
        Bound { option, got: value.to_string(), expected: format!("1 to {MAX_RANK}"), holds }
    }

    /// A finite number above 0.
    pub(crate) fn above_zero(option: &'static str, value: f64) -> Self {
        Bound::number(option, value, value > 0.0, "a finite number above 0")
    }

    /// A finite number, 0 or more.
    pub(crate) fn zero_or_more(option: &'static str, value: f64) -> Self {
        Bound::number(option, value, value >= 0.0, "a finite number, 0 or more")
    }

    /// A share: 0 to below 1.
    pub(crate) fn share(option: &'static str, value: f64) -> Self {
        Bound::number(option, value, (0.0..1.0).contains(&value), "0 to below 1")
    }

    /// A rate of dropout, whose factor 1 / (1 - p) is finite.
    pub(crate) fn dropout(option: &'static str, value: f64) -> Self {
        let expected = "0 to 65535/65536 (numbers of 16 bits choose what is dropped)";
        Bound::number(option, value, (0.0..=MAX_RATE).contains(&value), expected)
    }

    /// A count of 1 or more.
    pub(crate) fn count(option: &'static str, value: usize) -> Self {
        Bound { option, got: value.to_string(), expected: "1 or more".into(), holds: value >= 1 }
    }

    /// A whole number in a range.
    pub(crate) fn whole(option: &'static str, value: i64, range: RangeInclusive<i64>, expected: &str) -> Self {
        Bound { option, got: value.to_string(), expected: expected.into(), holds: range.contains(&value) }
    }

    /// An option that another one is needed for.
    pub(crate) fn needs(option: &'static str, value: f64, holds: bool, other: &str) -> Self {
        Bound { option, got: value.to_string(), expected: format!("nothing without `{other}`"), holds }
    }

    /// The same bound with an explanation behind what is expected.
    pub(crate) fn or(mut self, note: &str) -> Self {
        self.expected += &format!(" ({note})");
        self
    }

    /// Word on a number that is out of its bound.
    pub(crate) fn violation(&self) -> Option<String> {
        let Bound { option, got, expected, holds } = self;
        (!holds).then(|| format!("`{option}` is {got}, expected {expected}"))
    }

    fn number(option: &'static str, value: f64, holds: bool, expected: &str) -> Self {
        Bound { option, got: value.to_string(), expected: expected.into(), holds: holds && value.is_finite() }
    }
}

/// Whether an option is at its default and so stays out of a run's id: it came after the option's method.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
