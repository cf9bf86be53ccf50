//! Fields of a configuration with their types.

use serde_json::{Map, Value};

use crate::peft::pattern::Pattern;
use crate::peft::settings::{Names, Result};

/// Fields with their types.
pub(crate) struct Fields<'a>(pub &'a Map<String, Value>);

impl Fields<'_> {
    pub fn wrong<T>(&self, name: &str, expected: &str) -> Result<T> {
        Err(format!("{name} is {}, expected {expected}", self.0.get(name).unwrap_or(&Value::Null)))
    }

    /// The value of a field that is there.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The value of a field that is there and not null.
    pub fn set(&self, name: &str) -> Option<&Value> {
        self.get(name).filter(|value| !value.is_null())
    }

    pub fn flag(&self, name: &str) -> Result<bool> {
        match self.set(name) {
            None => Ok(false),
            Some(Value::Bool(on)) => Ok(*on),
            Some(_) => self.wrong(name, "true or false"),
        }
    }

    pub fn rank(&self, name: &str, default: i64, least: i64) -> Result<i64> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let rank = value.as_i64().filter(|rank| *rank >= least);
        rank.map_or_else(|| self.wrong(name, &format!("a whole number from {least} on")), Ok)
    }

    pub fn number(&self, name: &str, default: f64) -> Result<f64> {
        let Some(value) = self.get(name) else { return Ok(default) };
        value.as_f64().map_or_else(|| self.wrong(name, "a number"), Ok)
    }

    pub fn names(&self, name: &str) -> Result<Option<Vec<String>>> {
        let Some(value) = self.set(name) else { return Ok(None) };
        let texts = value.as_array().map(|list| list.iter().map(|item| item.as_str().map(str::to_string)).collect());
        texts.flatten().map_or_else(|| self.wrong(name, "a list of names"), |names| Ok(Some(names)))
    }

    /// Names in a list, or an expression.
    pub fn modules(&self, name: &str) -> Result<Option<Names>> {
        match self.set(name) {
            Some(Value::String(text)) => {
                Pattern::full(text).map(|pattern| Some(Names::Expression(pattern))).map_err(|e| format!("{name}: {e}"))
            }
            _ => Ok(self.names(name)?.map(Names::List)),
        }
    }

    pub fn patterns<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<(Pattern, T)>> {
        let Some(value) = self.set(name) else { return Ok(Vec::new()) };
        let Some(patterns) = value.as_object() else { return self.wrong(name, "an object") };
        let one = |(key, value): (&String, &Value)| {
            let pattern = Pattern::prefix(&format!(r"(.*\.)?({key})$")).map_err(|e| format!("{name}: {e}"))?;
            let value = read(value).ok_or_else(|| format!("{name} gives {key:?} {value}, expected {expected}"))?;
            Ok((pattern, value))
        };
        patterns.iter().map(one).collect()
    }
}
