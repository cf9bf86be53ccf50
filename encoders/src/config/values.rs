//! Values of options, each of the type that an architecture expects.

use serde_json::{Value, json};
use torch_ext::ops::dropout::MAX_RATE;

use crate::config::Config;
use crate::error::{Error, Result};

impl Config {
    /// [`Config::count`], or transformers' default where it is absent.
    ///
    /// # Errors
    /// It is something else.
    pub fn count_or(&self, option: &str, default: i64) -> Result<i64> {
        if self.options.contains_key(option) { self.count(option) } else { Ok(default) }
    }

    /// [`Config::number`], or transformers' default where it is absent.
    ///
    /// # Errors
    /// It is something else.
    pub fn number_or(&self, option: &str, default: f64) -> Result<f64> {
        if self.options.contains_key(option) { self.number(option) } else { Ok(default) }
    }

    /// A rate of dropout whose factor 1 / (1 - p) is finite, or transformers' default where it is absent.
    ///
    /// # Errors
    /// It is something else.
    pub fn rate_or(&self, option: &str, default: f64) -> Result<f64> {
        let rate = self.number_or(option, default)?;
        let expected = || "a number from 0 to 65535/65536".into();
        if rate <= MAX_RATE { Ok(rate) } else { Err(self.wrong(option, expected(), &json!(rate))) }
    }

    /// [`Config::rate_or`], or `None` where it is absent or null.
    ///
    /// # Errors
    /// It is something else.
    pub fn rate_or_none(&self, option: &str) -> Result<Option<f64>> {
        self.given(option).map(|_| self.rate_or(option, 0.0)).transpose()
    }

    /// A whole number above 0.
    ///
    /// # Errors
    /// It is missing or something else.
    pub fn count(&self, option: &str) -> Result<i64> {
        let value = self.require(option)?;
        value.as_i64().filter(|n| *n > 0).ok_or_else(|| self.wrong(option, "a whole number above 0".into(), value))
    }

    /// A number from 0 on.
    ///
    /// # Errors
    /// It is missing or something else.
    pub fn number(&self, option: &str) -> Result<f64> {
        let value = self.require(option)?;
        value.as_f64().filter(|n| *n >= 0.0).ok_or_else(|| self.wrong(option, "a number from 0 on".into(), value))
    }

    /// [`Config::number`], or `None` where it is absent or null.
    ///
    /// # Errors
    /// It is something else.
    pub fn number_or_none(&self, option: &str) -> Result<Option<f64>> {
        self.given(option).map(|_| self.number(option)).transpose()
    }

    /// A whole number.
    ///
    /// # Errors
    /// It is missing or something else.
    pub fn integer(&self, option: &str) -> Result<i64> {
        let value = self.require(option)?;
        value.as_i64().ok_or_else(|| self.wrong(option, "a whole number".into(), value))
    }

    /// [`Config::integer`], or transformers' default where it is absent.
    ///
    /// # Errors
    /// It is something else.
    pub fn integer_or(&self, option: &str, default: i64) -> Result<i64> {
        if self.options.contains_key(option) { self.integer(option) } else { Ok(default) }
    }

    /// [`Config::integer`], or `None` where it is absent or null.
    ///
    /// # Errors
    /// It is something else.
    pub fn integer_or_none(&self, option: &str) -> Result<Option<i64>> {
        self.given(option).map(|_| self.integer(option)).transpose()
    }

    /// True or false, or transformers' default where it is absent.
    ///
    /// # Errors
    /// It is something else.
    pub fn flag_or(&self, option: &str, default: bool) -> Result<bool> {
        let Some(value) = self.options.get(option) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.wrong(option, "true or false".into(), value))
    }

    /// One of `names`, the first of them where it is absent.
    ///
    /// # Errors
    /// It is something else.
    pub fn choice(&self, option: &str, names: &[&'static str]) -> Result<&'static str> {
        let Some(value) = self.options.get(option) else { return Ok(names.first().copied().unwrap_or_default()) };
        let found = names.iter().copied().find(|name| value == name);
        found.ok_or_else(|| self.wrong(option, names.join(" or "), value))
    }

    /// The value of an option that is there and not null.
    pub fn given(&self, option: &str) -> Option<&Value> {
        self.options.get(option).filter(|value| !value.is_null())
    }

    /// Whether an option is there and null.
    pub fn is_null(&self, option: &str) -> bool {
        self.options.get(option).is_some_and(Value::is_null)
    }

    /// An option that must be there.
    ///
    /// # Errors
    /// It is missing.
    pub fn require(&self, option: &str) -> Result<&Value> {
        self.options.get(option).ok_or_else(|| Error::Unreadable {
            path: self.path.clone(),
            reason: format!("it has no {option}, which has no default"),
            help: "add it as the model was trained",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_rate_that_keeps_nothing_is_refused() {
        let rate = |rate: &str| {
            let text = format!("{{\"model_type\": \"bert\", \"hidden_dropout_prob\": {rate}}}");
            Config::parse(&text, Path::new("config.json")).unwrap().rate_or("hidden_dropout_prob", 0.1)
        };
        assert_eq!(rate("0.9999847412109375").unwrap(), MAX_RATE);
        for wrong in ["0.999993", "1.0", "1"] {
            let said = rate(wrong).unwrap_err().to_string();
            assert!(said.contains("hidden_dropout_prob") && said.contains("65535/65536"), "{said}");
        }
    }
}
