//! `adapter_config.json` of LORA and ADALORA, typed, and what follows from it for a module: whether it is adapted, with which
//! rank and which factor. The rules are PEFT 0.21's (`tuners_utils.check_target_module_exists`, `other.get_pattern_key`,
//! `LoraLayer.update_layer`, `AdaLoraLayer.update_layer`).

use serde_json::{Map, Value};

use crate::peft::fields;
use crate::peft::pattern::Pattern;

type Result<T> = std::result::Result<T, String>;

/// Values of `task_type` that PEFT takes for an encoder.
const TASKS: [&str; 4] = ["SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION"];
/// Names that PEFT adds to `modules_to_save` for a classifier.
const CLASSIFIERS: [&str; 2] = ["classifier", "score"];

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
    /// Whether a factor that the file lacks adds nothing: B or E start at zero.
    pub starts_at_zero: bool,
    pub modules_to_save: Vec<String>,
    pub targets: Names,
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

/// Fields with their types.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn wrong<T>(&self, name: &str, expected: &str) -> Result<T> {
        Err(format!("{name} is {}, expected {expected}", self.0.get(name).unwrap_or(&Value::Null)))
    }

    /// The value of a field that is there.
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The value of a field that is there and not null.
    fn set(&self, name: &str) -> Option<&Value> {
        self.get(name).filter(|value| !value.is_null())
    }

    fn flag(&self, name: &str) -> Result<bool> {
        match self.set(name) {
            None => Ok(false),
            Some(Value::Bool(on)) => Ok(*on),
            Some(_) => self.wrong(name, "true or false"),
        }
    }

    fn rank(&self, name: &str, default: i64, least: i64) -> Result<i64> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let rank = value.as_i64().filter(|rank| *rank >= least);
        rank.map_or_else(|| self.wrong(name, &format!("a whole number from {least} on")), Ok)
    }

    fn number(&self, name: &str, default: f64) -> Result<f64> {
        let Some(value) = self.get(name) else { return Ok(default) };
        value.as_f64().map_or_else(|| self.wrong(name, "a number"), Ok)
    }

    fn names(&self, name: &str) -> Result<Option<Vec<String>>> {
        let Some(value) = self.set(name) else { return Ok(None) };
        let texts = value.as_array().map(|list| list.iter().map(|item| item.as_str().map(str::to_string)).collect());
        texts.flatten().map_or_else(|| self.wrong(name, "a list of names"), |names| Ok(Some(names)))
    }

    /// Names in a list, or an expression.
    fn modules(&self, name: &str) -> Result<Option<Names>> {
        match self.set(name) {
            Some(Value::String(text)) => {
                Pattern::full(text).map(|pattern| Some(Names::Expression(pattern))).map_err(|e| format!("{name}: {e}"))
            }
            _ => Ok(self.names(name)?.map(Names::List)),
        }
    }

    fn patterns<T>(&self, name: &str, expected: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Vec<(Pattern, T)>> {
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

impl Settings {
    /// Reads a configuration of a model type.
    ///
    /// # Errors
    /// A field that is not supported, or of the wrong type.
    pub fn read(config: &Map<String, Value>, model_type: &str) -> Result<Self> {
        let is_adalora = config.get("peft_type").is_some_and(|kind| kind == "ADALORA");
        fields::check(config, is_adalora)?;
        let fields = Fields(config);
        let task = fields.set("task_type");
        if task.is_some_and(|task| !TASKS.iter().any(|known| task == known)) {
            return fields.wrong("task_type", &format!("null or one of {}", TASKS.join(", ")));
        }
        match fields.get("bias") {
            None => {}
            Some(Value::String(bias)) if ["none", "all", "lora_only"].contains(&bias.as_str()) => {}
            Some(_) => return fields.wrong("bias", "\"none\", \"all\" or \"lora_only\""),
        }
        let starts_at_zero = starts_at_zero(&fields, is_adalora)?;
        let mut modules_to_save = fields.names("modules_to_save")?.unwrap_or_default();
        if task.is_some_and(|task| task == "SEQ_CLS" || task == "TOKEN_CLS") {
            modules_to_save.extend(CLASSIFIERS.map(str::to_string));
        }
        let saved = |name: &String| Pattern::prefix(&format!(r"(^|.*\.){name}($|\..*)"));
        let targets = match fields.set("target_modules") {
            None => Names::List(default_targets(model_type, is_adalora)?),
            Some(Value::String(text)) if text.to_lowercase() == "all-linear" => Names::AllLinear,
            Some(_) => fields.modules("target_modules")?.unwrap_or(Names::List(Vec::new())),
        };
        let (layers, layer_patterns) = layers(&fields)?;
        let ranks = if is_adalora {
            Vec::new()
        } else {
            fields.patterns("rank_pattern", "a rank from 1 on", |rank| rank.as_i64().filter(|rank| *rank > 0))?
        };
        // AdaLoRA looks them up, and goes on without them.
        let alpha = |alpha: &Value| if is_adalora { Some(0.0) } else { alpha.as_f64() };
        let alphas = fields.patterns("alpha_pattern", "a number", alpha)?;
        Ok(Settings {
            is_adalora,
            lora_bias: !is_adalora && fields.flag("lora_bias")?,
            starts_at_zero,
            saved: modules_to_save
                .iter()
                .map(saved)
                .collect::<Result<_>>()
                .map_err(|e| format!("modules_to_save: {e}"))?,
            modules_to_save,
            targets,
            r: if is_adalora { fields.rank("init_r", 12, 0)? } else { fields.rank("r", 8, 1)? },
            alpha: fields.number("lora_alpha", 8.0)?,
            rslora: !is_adalora && fields.flag("use_rslora")?,
            exclude: fields.modules("exclude_modules")?,
            layers,
            layer_patterns,
            ranks,
            alphas,
            masked: if is_adalora { masked(&fields)? } else { Vec::new() },
        })
    }

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

/// PEFT's own choice where `target_modules` is left out.
fn default_targets(model_type: &str, is_adalora: bool) -> Result<Vec<String>> {
    let names: &[&str] = match (model_type, is_adalora) {
        ("bert", _) | ("roberta" | "electra", false) => &["query", "value"],
        ("roberta", true) => &["query", "key", "value", "dense"],
        ("deberta", false) => &["query_proj", "value_proj"],
        ("deberta", true) => &["query_proj", "key_proj", "value_proj", "dense"],
        _ => return Err("target_modules is left out; name the adapted modules".into()),
    };
    Ok(names.iter().map(|name| (*name).to_string()).collect())
}

/// Start values that take something from the backbone's own weights are refused: the file does not hold what is left of those.
fn starts_at_zero(fields: &Fields, is_adalora: bool) -> Result<bool> {
    let expected = "true, false, \"gaussian\", \"eva\", \"orthogonal\", \"lora_ga\" or \"mica\"";
    let init = fields.get("init_lora_weights");
    if is_adalora {
        if init.is_some_and(|init| init == "loftq") {
            return fields.wrong("init_lora_weights", "a start that leaves the backbone as it is");
        }
        return Ok(!matches!(init, Some(Value::Null | Value::Bool(false))));
    }
    let Some(Value::String(text)) = init else {
        return match init {
            None | Some(Value::Bool(true)) => Ok(true),
            Some(Value::Null | Value::Bool(false)) => Ok(false),
            Some(_) => fields.wrong("init_lora_weights", expected),
        };
    };
    let lower = text.to_lowercase();
    if ["pissa", "corda", "olora", "loftq"].iter().any(|start| lower.starts_with(start)) {
        return Err(format!("init_lora_weights is {text}, which changes the backbone and is not supported"));
    }
    match text.as_str() {
        "" | "orthogonal" => Ok(false),
        "eva" | "lora_ga" | "mica" => Ok(true),
        _ if lower == "gaussian" => Ok(true),
        _ => fields.wrong("init_lora_weights", expected),
    }
}

/// `layers_to_transform` and `layers_pattern`.
fn layers(fields: &Fields) -> Result<(Option<Vec<i64>>, Vec<Pattern>)> {
    let layers = match fields.set("layers_to_transform") {
        None => None,
        Some(Value::Array(list)) => {
            let numbers: Option<Vec<i64>> = list.iter().map(Value::as_i64).collect();
            Some(numbers.map_or_else(|| fields.wrong("layers_to_transform", "whole numbers"), Ok)?)
        }
        Some(value) => Some(vec![
            value.as_i64().map_or_else(|| fields.wrong("layers_to_transform", "a whole number or several"), Ok)?,
        ]),
    };
    let patterns = match fields.set("layers_pattern") {
        None => Vec::new(),
        Some(Value::String(text)) if text.is_empty() => Vec::new(),
        Some(Value::String(text)) => vec![text.clone()],
        Some(_) => fields.names("layers_pattern")?.unwrap_or_default(),
    };
    let is_expression = matches!(fields.set("target_modules"), Some(Value::String(_)));
    if is_expression && (layers.is_some() || fields.set("layers_pattern").is_some()) {
        return Err("layers_to_transform and layers_pattern cannot be used when target_modules is one text".into());
    }
    if !patterns.is_empty() && layers.is_none() {
        return Err("layers_pattern is given without layers_to_transform".into());
    }
    let pattern = |text: &String| Pattern::prefix(&format!(r"(?:^|.*?\.){text}\.(?P<idx>\d+)\."));
    let compiled = if patterns.is_empty() {
        vec![Pattern::prefix(r".*?\.[^.]*\.(?P<idx>\d+)\.")?]
    } else {
        patterns.iter().map(pattern).collect::<Result<_>>().map_err(|e| format!("layers_pattern: {e}"))?
    };
    Ok((layers.filter(|layers| !layers.is_empty()), compiled))
}

/// The rank that is left of each module that AdaLoRA's `rank_pattern` names: the entries of its mask that are set.
fn masked(fields: &Fields) -> Result<Vec<(String, i64)>> {
    let Some(value) = fields.set("rank_pattern") else { return Ok(Vec::new()) };
    let Some(masks) = value.as_object() else { return fields.wrong("rank_pattern", "an object of masks") };
    let one = |(key, mask): (&String, &Value)| {
        let mask: Option<Vec<bool>> = mask.as_array().and_then(|mask| mask.iter().map(Value::as_bool).collect());
        let mask = mask.ok_or_else(|| format!("rank_pattern gives {key:?} no mask of true and false"))?;
        let parts: Vec<&str> = key.split('.').collect();
        let names = parts.len().saturating_sub(if key.contains("default") { 2 } else { 1 });
        Ok((parts[..names].join("."), mask.iter().filter(|kept| **kept).count() as i64))
    };
    masks.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(extra: &str) -> Result<Settings> {
        let text = format!(r#"{{"peft_type": "LORA"{}{extra}}}"#, if extra.is_empty() { "" } else { ", " });
        Settings::read(&serde_json::from_str(&text).unwrap(), "bert")
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
        let read = |extra: &str| {
            let text = format!(r#"{{"peft_type": "ADALORA", "init_r": 6, {extra}}}"#);
            Settings::read(&serde_json::from_str(&text).unwrap(), "bert").unwrap()
        };
        let plain = read(r#""lora_alpha": 3, "alpha_pattern": {"query": 60}, "use_rslora": true, "r": 2"#);
        assert_eq!(plain.scale(QUERY).unwrap(), 3.0 / (6.0 + 1e-5));
        let masked = read(&format!(r#""lora_alpha": 0, "rank_pattern": {{"{QUERY}.lora_E": [true, false, true]}}"#));
        assert_eq!((masked.rank(QUERY).unwrap(), masked.scale(QUERY).unwrap()), (2, 2.0 / (6.0 + 1e-5)));
        assert_eq!(masked.scale("bert.encoder.layer.0.attention.self.query").unwrap(), 6.0 / (6.0 + 1e-5));
    }
}
