//! PEFT's regular expressions over module names, which are Python's.

use fancy_regex::Regex;

/// A compiled expression that must match from a name's beginning.
pub(crate) struct Pattern(Regex);

impl Pattern {
    /// `re.match(f"^(?:{expression})", …)`.
    ///
    /// # Errors
    /// An expression that does not parse, or that means something else in Python.
    pub fn prefix(expression: &str) -> Result<Self, String> {
        if let Some(odd) = odd(expression) {
            return Err(format!("the regular expression {expression:?} has {odd}, which is not supported"));
        }
        let regex = Regex::new(&format!("^(?:{expression})"));
        regex.map(Pattern).map_err(|e| format!("the regular expression {expression:?} is not supported: {e}"))
    }

    /// `re.fullmatch(expression, …)`.
    ///
    /// # Errors
    /// As [`Pattern::prefix`].
    pub fn full(expression: &str) -> Result<Self, String> {
        // A group of its own, so that the end belongs to every alternative.
        Pattern::prefix(&format!("(?:{expression})$"))
    }

    /// Whether a name matches.
    ///
    /// # Errors
    /// An expression that goes back without end.
    pub fn matches(&self, name: &str) -> Result<bool, String> {
        self.0.is_match(name).map_err(|e| format!("the regular expression {:?}: {e}", self.0.as_str()))
    }

    /// The group `idx` as a number, where the expression matches.
    ///
    /// # Errors
    /// As [`Pattern::matches`].
    pub fn index(&self, name: &str) -> Result<Option<i64>, String> {
        let found = self.0.captures(name).map_err(|e| format!("the regular expression {:?}: {e}", self.0.as_str()))?;
        Ok(found.and_then(|found| found.name("idx")?.as_str().parse().ok()))
    }
}

/// Syntax that Python reads otherwise: sets of sets within brackets, and escapes that it does not have.
fn odd(expression: &str) -> Option<String> {
    if let Some(found) = ["&&", "~~", "[[", "[^["].iter().find(|part| expression.contains(**part)) {
        return Some((*found).into());
    }
    let mut characters = expression.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            continue;
        }
        let escaped = characters.next()?;
        if escaped.is_ascii_alphabetic() && !"AbBdDsSwWnrtfva".contains(escaped) {
            return Some(format!("\\{escaped}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(expression: &str, name: &str) -> bool {
        Pattern::full(expression).unwrap().matches(name).unwrap()
    }

    /// LayerObserver line as `bool(re.fullmatch(expression, name))` of Python 3.11.
    #[test]
    fn expressions_match_as_in_python() {
        let name = "bert.encoder.layer.10.attention.self.query";
        for (expression, matches) in [
            (r".*layer\.1\d\..*query", true),
            ("query", false),
            ("query|.*query", true),
            (r"(?!.*value).*(query|value)", true),
            (r"(?!.*query).*(query|value)", false),
            (r".*layer\.(\d)0\.attention\.(?P<of>self|output)\.query", true),
            (r"^bert\..*$", true),
            (r"bert\.(?i:ENCODER)\..*", true),
            (r".*\.(?:key|value)", false),
            (r".*[qk]uery", true),
        ] {
            assert_eq!(full(expression, name), matches, "{expression}");
        }
    }

    #[test]
    fn what_is_not_pythons_is_refused() {
        for expression in [r"\p{L}+", "[[:alpha:]]+", "[a&&b]", "(", r"\K"] {
            assert!(Pattern::full(expression).is_err(), "{expression}");
        }
        let endless = Pattern::full(r"(?=(a+)+$)(a|aa)+\1x").unwrap();
        assert!(endless.matches(&"a".repeat(60)).is_err() || !endless.matches(&"a".repeat(60)).unwrap());
    }
}
