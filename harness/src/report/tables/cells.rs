//! Texts of cells that several tables have.

/// Text of a number that is not there.
pub const ABSENT: &str = "–";

/// A parameter count: `1.327M`, `84.5k`, `912`.
pub fn count(value: f64) -> String {
    if value >= 1e6 {
        format!("{:.3}M", value / 1e6)
    } else if value >= 1e3 {
        format!("{:.1}k", value / 1e3)
    } else {
        format!("{value:.0}")
    }
}

/// A parameter count that may be missing.
pub fn count_or_absent(value: Option<f64>) -> String {
    value.map_or(ABSENT.into(), count)
}

/// A number with so many decimals.
pub fn fixed(value: Option<f64>, digits: usize) -> String {
    value.map_or(ABSENT.into(), |value| format!("{value:.digits$}"))
}

/// Mean and spread of a score: `91.99 ± 0.10`, without the spread of a single seed.
pub fn spread(mean: Option<f64>, std: Option<f64>) -> String {
    mean.map_or(ABSENT.into(), |mean| format!("{mean:.2}{}", std.map_or(String::new(), |std| format!(" ± {std:.2}"))))
}

/// Peak memory in words: `1,602 allocated, 1,680 reserved`, or the resident set.
pub fn peak_memory([allocated, reserved, resident]: [Option<f64>; 3]) -> String {
    match (allocated, reserved, resident) {
        (Some(allocated), Some(reserved), _) => format!("{allocated:.0} allocated, {reserved:.0} reserved"),
        (_, _, Some(resident)) => format!("{resident:.0} resident"),
        _ => ABSENT.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_numbers() {
        assert_eq!([1_327_104.0, 84_480.0, 912.4].map(count), ["1.327M", "84.5k", "912"]);
        assert_eq!(
            (count_or_absent(None), fixed(None, 2), fixed(Some(1.005), 1)),
            ("–".into(), "–".into(), "1.0".into())
        );
    }

    #[test]
    fn memory_of_a_gpu_before_that_of_the_process() {
        assert_eq!(peak_memory([Some(1.4), Some(2.6), Some(3.0)]), "1 allocated, 3 reserved");
        assert_eq!(peak_memory([None, None, Some(3.0)]), "3 resident");
        assert_eq!(peak_memory([Some(1.0), None, None]), "–");
    }
}
