//! Every field of PEFT 0.21's `PeftConfig`, `LoraConfig` and `AdaLoraConfig`, and what is done with it.

use serde_json::{Map, Value};

/// Treatment of a field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// It decides what the adapter computes, and does so here.
    Honoured,
    /// It changes nothing once an adapter is loaded: training, start values that the file replaces, names.
    Irrelevant,
    /// It changes what is computed and is not supported: it must be switched off.
    Refused,
}

use Use::{Honoured, Irrelevant, Refused};

/// Name, and its use for LORA and for ADALORA.
pub(crate) const FIELDS: &[(&str, Use, Use)] = &[
    // PeftConfigMixin and PeftConfig.
    ("task_type", Honoured, Honoured),
    ("peft_type", Honoured, Honoured),
    ("auto_mapping", Irrelevant, Irrelevant),
    ("peft_version", Irrelevant, Irrelevant),
    ("base_model_name_or_path", Irrelevant, Irrelevant),
    ("revision", Irrelevant, Irrelevant),
    ("inference_mode", Irrelevant, Irrelevant),
    // LoraConfig.
    ("r", Honoured, Irrelevant),
    ("target_modules", Honoured, Honoured),
    ("exclude_modules", Honoured, Honoured),
    ("lora_alpha", Honoured, Honoured),
    ("lora_dropout", Honoured, Honoured),
    // PEFT sets it to false for every torch.nn.Linear.
    ("fan_in_fan_out", Irrelevant, Irrelevant),
    ("bias", Honoured, Honoured),
    ("use_rslora", Honoured, Irrelevant),
    ("modules_to_save", Honoured, Honoured),
    ("init_lora_weights", Honoured, Irrelevant),
    ("layers_to_transform", Honoured, Honoured),
    ("layers_pattern", Honoured, Honoured),
    ("rank_pattern", Honoured, Honoured),
    ("alpha_pattern", Honoured, Irrelevant),
    ("megatron_config", Refused, Refused),
    ("megatron_core", Irrelevant, Irrelevant),
    ("trainable_token_indices", Refused, Refused),
    // Without init_lora_weights "loftq" PEFT drops it; AdaLoRA refuses it.
    ("loftq_config", Irrelevant, Refused),
    ("eva_config", Irrelevant, Irrelevant),
    ("corda_config", Irrelevant, Irrelevant),
    ("lora_ga_config", Irrelevant, Irrelevant),
    ("use_dora", Honoured, Refused),
    ("velora_config", Refused, Refused),
    ("alora_invocation_tokens", Refused, Refused),
    ("use_qalora", Refused, Refused),
    ("qalora_group_size", Irrelevant, Irrelevant),
    ("monteclora_config", Refused, Refused),
    ("layer_replication", Refused, Refused),
    // PEFT ignores it in a file.
    ("runtime_config", Irrelevant, Irrelevant),
    ("lora_bias", Honoured, Irrelevant),
    ("target_parameters", Refused, Refused),
    ("use_bdlora", Refused, Refused),
    ("arrow_config", Refused, Refused),
    ("kasa_config", Refused, Refused),
    // No weights are tied in a sequence classifier.
    ("ensure_weight_tying", Irrelevant, Irrelevant),
    // AdaLoraConfig; in a file of LORA they are unknown.
    ("target_r", Refused, Irrelevant),
    ("init_r", Refused, Honoured),
    ("tinit", Refused, Irrelevant),
    ("tfinal", Refused, Irrelevant),
    ("deltaT", Refused, Irrelevant),
    ("beta1", Refused, Irrelevant),
    ("beta2", Refused, Irrelevant),
    ("orth_reg_weight", Refused, Irrelevant),
    ("total_step", Refused, Irrelevant),
    // Of versions before 0.3.
    ("merge_weights", Irrelevant, Irrelevant),
];

/// Refuses what is not supported and what nobody knows, unless it is switched off.
///
/// # Errors
/// The first such field.
pub(crate) fn check(config: &Map<String, Value>, is_adalora: bool) -> Result<(), String> {
    for (name, value) in config {
        let known = FIELDS.iter().find(|(field, ..)| field == name);
        match known.map(|&(_, lora, adalora)| if is_adalora { adalora } else { lora }) {
            Some(Honoured | Irrelevant) => {}
            Some(Refused) if is_left_out(name, value) => {}
            None if is_off(value) => {}
            Some(Refused) => {
                return Err(format!("{name} is {value}, which is not supported; use an adapter without it"));
            }
            None => {
                return Err(format!(
                    "{name} is {value}, a field that neither PEFT 0.21 nor this program knows; remove it if it changes nothing"
                ));
            }
        }
    }
    Ok(())
}

/// Whether a value is that of a field that is not used. An empty object is one with every default, and so is used.
fn is_left_out(name: &str, value: &Value) -> bool {
    let may_be_empty = ["loftq_config", "megatron_config"].contains(&name);
    matches!(value, Value::Null | Value::Bool(false))
        || value.as_array().is_some_and(Vec::is_empty)
        || may_be_empty && is_off(value)
}

/// Whether a value switches an unknown field off.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(name: &str, value: &str, is_adalora: bool) -> Result<(), String> {
        let config = serde_json::from_str(&format!(r#"{{"{name}": {value}}}"#)).unwrap();
        check(&config, is_adalora)
    }

    #[test]
    fn what_is_not_supported_must_be_switched_off() {
        for &(name, lora, adalora) in FIELDS {
            for (use_, is_adalora) in [(lora, false), (adalora, true)] {
                for off in ["null", "false", "[]"] {
                    checked(name, off, is_adalora).unwrap();
                }
                let empty = if ["loftq_config", "megatron_config"].contains(&name) { "true" } else { "{}" };
                for on in ["true", "[1]", r#"{"a": 1}"#, "\"x\"", "3", empty] {
                    let found = checked(name, on, is_adalora);
                    assert_eq!(found.is_err(), use_ == Refused, "{name} {on}: {found:?}");
                }
            }
        }
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        checked("enable_lora", "null", false).unwrap();
        assert!(checked("enable_lora", "[true, false]", false).unwrap_err().contains("enable_lora"));
    }

    #[test]
    fn no_field_stands_twice() {
        let mut names: Vec<_> = FIELDS.iter().map(|(name, ..)| name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), FIELDS.len());
    }
}
