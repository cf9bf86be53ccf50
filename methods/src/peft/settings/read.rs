//! Reads and checks a configuration.

use serde::Deserialize;
use serde_json::Value;

use crate::adapter::bias::Bias;
use crate::peft::config::PeftConfig;
use crate::peft::fields;
use crate::peft::pattern::Pattern;
use crate::peft::settings::typed::Fields;
use crate::peft::settings::{Names, Result, Settings};

/// Values of `task_type` that PEFT takes for an encoder.
const TASKS: [&str; 4] = ["SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION"];
/// Names that PEFT adds to `modules_to_save` for a classifier.
const CLASSIFIERS: [&str; 2] = ["classifier", "score"];

impl Settings {
    /// Reads the configuration of an adapter for a model type.
    ///
    /// # Errors
    /// A field that is not supported, or of the wrong type.
    pub fn read(config: &PeftConfig, is_adalora: bool, model_type: &str) -> Result<Self> {
        fields::check(&config.0, is_adalora)?;
        let fields = Fields(&config.0);
        let task = fields.set("task_type");
        if task.is_some_and(|task| !TASKS.iter().any(|known| task == known)) {
            return fields.wrong("task_type", &format!("null or one of {}", TASKS.join(", ")));
        }
        let bias = match fields.get("bias") {
            None => Bias::None,
            Some(value) => match Bias::deserialize(value) {
                Ok(bias) => bias,
                Err(_) => return fields.wrong("bias", "\"none\", \"all\" or \"lora_only\""),
            },
        };
        let (lora_bias, use_dora) = (!is_adalora && fields.flag("lora_bias")?, fields.flag("use_dora")?);
        if lora_bias && use_dora {
            return Err("lora_bias and use_dora are both true, which PEFT does not allow".into());
        }
        let is_pissa = !is_adalora && fields.get("init_lora_weights").is_some_and(|init| init == PISSA);
        if is_pissa && use_dora {
            return Err("init_lora_weights \"pissa\" with use_dora is not supported".into());
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
            lora_bias,
            use_dora,
            is_pissa,
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
            lora_dropout: fields.number("lora_dropout", 0.0)?,
            bias,
            rslora: !is_adalora && fields.flag("use_rslora")?,
            exclude: fields.modules("exclude_modules")?,
            layers,
            layer_patterns,
            ranks,
            alphas,
            masked: if is_adalora { masked(&fields)? } else { Vec::new() },
        })
    }
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

/// Start that takes the principal components off the backbone's weights.
const PISSA: &str = "pissa";

/// Whether a factor that the file lacks adds nothing. Start values that take something from the backbone's own weights
/// are refused but for PiSSA's: the file does not hold the rest of those weights.
fn starts_at_zero(fields: &Fields, is_adalora: bool) -> Result<bool> {
    let expected = "true, false, \"gaussian\", \"pissa\", \"eva\", \"orthogonal\", \"lora_ga\" or \"mica\"";
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
    if text != PISSA && ["pissa", "corda", "olora", "loftq"].iter().any(|start| lower.starts_with(start)) {
        return Err(format!("init_lora_weights is {text}, which changes the backbone and is not supported"));
    }
    match text.as_str() {
        PISSA => Ok(true),
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
