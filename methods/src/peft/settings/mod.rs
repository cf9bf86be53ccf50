//! `adapter_config.json` of LORA and ADALORA, typed, and what follows from it for a module: whether it is adapted, with
//! which rank and which factor. The rules are PEFT 0.21's (`tuners_utils.check_target_module_exists`,
//! `other.get_pattern_key`, `LoraLayer.update_layer`, `AdaLoraLayer.update_layer`).

use crate::adapter::bias::Bias;
use crate::peft::pattern::Pattern;

mod read;
mod typed;

/// Failures are told without the file's path.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// Names of modules, or an expression for them.
pub(crate) enum Names {
    Expression(Pattern),
    List(Vec<String>),
    AllLinear,
}

/// A configuration that is supported.
pub(crate) struct Settings {
    pub is_adalora: bool,
    pub lora_bias: bool,
    pub use_dora: bool,
    /// Whether A and B are trained beside what is left of the weight without its principal components.
    pub is_pissa: bool,
    /// Whether a factor that the file lacks adds nothing: B or E start at zero.
    pub starts_at_zero: bool,
    pub modules_to_save: Vec<String>,
    pub targets: Names,
    /// Dropout of the branches' inputs in training.
    pub lora_dropout: f64,
    /// Biases that were trained.
    pub bias: Bias,
    r: i64,
    alpha: f64,
    rslora: bool,
    exclude: Option<Names>,
    saved: Vec<Pattern>,
    layers: Option<Vec<i64>>,
    layer_patterns: Vec<Pattern>,
    ranks: Vec<(Pattern, i64)>,
    alphas: Vec<(Pattern, f64)>,
    /// AdaLoRA's: by module.
    masked: Vec<(String, i64)>,
}

impl Settings {
    /// Whether PEFT adapts the module of this name; `is_linear` as `all-linear` means it.
    ///
    /// # Errors
    /// An expression that cannot be followed.
    pub fn is_target(&self, name: &str, is_linear: bool) -> Result<bool> {
        let is_excluded = match &self.exclude {
            Some(Names::Expression(pattern)) => pattern.matches(name)?,
            Some(Names::List(names)) => is_named(names, name),
            _ => false,
        };
        if is_excluded || any(&self.saved, name)? {
            return Ok(false);
        }
        match &self.targets {
            Names::AllLinear => Ok(is_linear),
            Names::Expression(pattern) => pattern.matches(name),
            Names::List(names) if names.iter().any(|known| known == name) => Ok(true),
            Names::List(names) => Ok(is_named(names, name) && self.is_in_layers(name)?),
        }
    }

    fn is_in_layers(&self, name: &str) -> Result<bool> {
        let Some(layers) = &self.layers else { return Ok(true) };
        for pattern in &self.layer_patterns {
            if let Some(layer) = pattern.index(name)? {
                return Ok(layers.contains(&layer));
            }
        }
        Ok(false)
    }

    /// Rank of a module's factors in the file.
    ///
    /// # Errors
    /// An expression that cannot be followed.
    pub fn rank(&self, name: &str) -> Result<i64> {
        if let Some((_, rank)) = self.masked.iter().find(|(module, _)| module == name) {
            return Ok(*rank);
        }
        Ok(first(&self.ranks, name)?.unwrap_or(self.r))
    }

    /// Factor of `B A`: `α/r`, `α/sqrt(r)` with `use_rslora`; for AdaLoRA `α/(init_r + 1e-5)`, whose rank in the file
    /// can be smaller, and whose α is the rank where it is not above 0 (spec §2.1, §2.9).
    ///
    /// # Errors
    /// An expression that cannot be followed.
    pub fn scale(&self, name: &str) -> Result<f64> {
        let rank = self.rank(name)? as f64;
        if self.is_adalora {
            let alpha = if self.alpha > 0.0 { self.alpha } else { rank };
            return Ok(alpha / (self.r as f64 + 1e-5));
        }
        let alpha = first(&self.alphas, name)?.unwrap_or(self.alpha);
        Ok(if self.rslora { alpha / rank.sqrt() } else { alpha / rank })
    }

    /// Modules that AdaLoRA's `rank_pattern` names.
    pub fn masked(&self) -> impl Iterator<Item = &str> {
        self.masked.iter().map(|(module, _)| module.as_str())
    }
}

/// A name that is in the list or ends with one of it after a dot.
fn is_named(names: &[String], name: &str) -> bool {
    names
        .iter()
        .any(|known| name.strip_suffix(known.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

fn any(patterns: &[Pattern], name: &str) -> Result<bool> {
    patterns.iter().try_fold(false, |found, pattern| Ok(found || pattern.matches(name)?))
}

/// The value of the first pattern that matches.
fn first<T: Copy>(patterns: &[(Pattern, T)], name: &str) -> Result<Option<T>> {
    for (pattern, value) in patterns {
        if pattern.matches(name)? {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peft::config::PeftConfig;

    fn read(fields: &str, is_adalora: bool) -> Result<Settings> {
        let config = serde_json::from_str(&format!("{{{fields}}}")).unwrap();
        Settings::read(&PeftConfig(config), is_adalora, "bert")
    }

    fn settings(extra: &str) -> Result<Settings> {
        read(extra, false)
    }

    const QUERY: &str = "bert.encoder.layer.1.attention.self.query";

    #[test]
    fn what_is_left_out_is_pefts_own() {
        let plain = settings("").unwrap();
        assert_eq!((plain.rank(QUERY).unwrap(), plain.scale(QUERY).unwrap()), (8, 1.0));
        assert!(plain.is_target(QUERY, true).unwrap());
        assert!(!plain.is_target("bert.encoder.layer.1.attention.self.key", true).unwrap());
    }

    #[test]
    fn patterns_are_expressions_and_the_first_counts() {
        let ranked = settings(
            r#""r": 4, "rank_pattern": {"layer\\.0.*": 2, ".*layer\\.[12].*": 3, "query": 6},
            "alpha_pattern": {"self.query": 12}"#,
        )
        .unwrap();
        assert_eq!((ranked.rank(QUERY).unwrap(), ranked.scale(QUERY).unwrap()), (3, 4.0));
        let rooted = settings(r#""r": 4, "rank_pattern": {"^encoder.*query": 2}"#).unwrap();
        assert_eq!(rooted.rank(QUERY).unwrap(), 4);
    }

    #[test]
    fn layers_and_exclusions_choose_among_targets() {
        let chosen = |extra: &str| settings(extra).unwrap().is_target(QUERY, true).unwrap();
        for (extra, is_target) in [
            (r#""target_modules": ["query"], "layers_to_transform": [1]"#, true),
            (r#""target_modules": ["query"], "layers_to_transform": 0"#, false),
            (r#""target_modules": ["query"], "layers_to_transform": 1, "layers_pattern": "layer""#, true),
            (r#""target_modules": ["query"], "layers_to_transform": 1, "layers_pattern": ["h"]"#, false),
            (r#""target_modules": ["query"], "layers_to_transform": []"#, true),
            (r#""target_modules": "all-linear", "exclude_modules": ["query"]"#, false),
            (r#""target_modules": "ALL-LINEAR""#, true),
            (r#""target_modules": ["query"], "exclude_modules": ".*\\.0\\..*""#, true),
            (r#""target_modules": ["query"], "modules_to_save": ["self"]"#, false),
            (r#""target_modules": ["uery"]"#, false),
            (r#""target_modules": "query""#, false),
        ] {
            assert_eq!(chosen(extra), is_target, "{extra}");
        }
    }

    #[test]
    fn wrong_types_and_values_are_errors() {
        for extra in [
            r#""r": "8""#,
            r#""r": 8.5"#,
            r#""r": 0"#,
            r#""r": null"#,
            r#""lora_alpha": "16""#,
            r#""lora_alpha": null"#,
            r#""use_rslora": "yes""#,
            r#""target_modules": 3"#,
            r#""target_modules": [1]"#,
            r#""target_modules": "(""#,
            r#""modules_to_save": "classifier""#,
            r#""rank_pattern": {"query": 0}"#,
            r#""rank_pattern": {"query": "4"}"#,
            r#""rank_pattern": [4]"#,
            r#""alpha_pattern": {"query": [1]}"#,
            r#""layers_to_transform": "1""#,
            r#""layers_pattern": "layer""#,
            r#""target_modules": "query", "layers_to_transform": 1"#,
            r#""task_type": "seq_cls""#,
            r#""bias": "lora""#,
            r#""bias": null"#,
            r#""init_lora_weights": "OLoRA""#,
            r#""init_lora_weights": "pissa_niter_4""#,
            r#""init_lora_weights": "PiSSA""#,
            r#""init_lora_weights": "something""#,
            r#""init_lora_weights": 1"#,
        ] {
            let field = extra.split('"').nth(1).unwrap();
            let message = settings(extra).err().unwrap_or_else(|| panic!("{extra} is taken"));
            assert!(message.contains(field) || message.contains("layers_to_transform"), "{extra}: {message}");
        }
    }

    #[test]
    fn adalora_is_as_peft_treats_it() {
        let read = |extra: &str| read(&format!(r#""init_r": 6, {extra}"#), true).unwrap();
        let plain = read(r#""lora_alpha": 3, "alpha_pattern": {"query": 60}, "use_rslora": true, "r": 2"#);
        assert_eq!(plain.scale(QUERY).unwrap(), 3.0 / (6.0 + 1e-5));
        let masked = read(&format!(r#""lora_alpha": 0, "rank_pattern": {{"{QUERY}.lora_E": [true, false, true]}}"#));
        assert_eq!((masked.rank(QUERY).unwrap(), masked.scale(QUERY).unwrap()), (2, 2.0 / (6.0 + 1e-5)));
        assert_eq!(masked.scale("bert.encoder.layer.0.attention.self.query").unwrap(), 6.0 / (6.0 + 1e-5));
    }
}
