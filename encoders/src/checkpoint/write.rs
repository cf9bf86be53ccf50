//! Configuration of a sequence classifier, as transformers writes it.

use serde_json::{Map, Value, json};

/// Options of the read checkpoint that do not hold for the written one.
const STALE: [&str; 4] = ["dtype", "num_labels", "_num_labels", "finetuning_task"];

/// The backbone's configuration with a head of `num_labels` outputs; `architecture` is
/// [`crate::encoder::EncoderEntry::architecture`].
pub fn classifier_config(mut config: Map<String, Value>, architecture: &str, num_labels: i64) -> Map<String, Value> {
    let labels = (0..num_labels).map(|id| format!("LABEL_{id}"));
    let by_id: Map<String, Value> =
        labels.clone().enumerate().map(|(id, label)| (id.to_string(), json!(label))).collect();
    let by_label: Map<String, Value> = labels.enumerate().map(|(id, label)| (label, json!(id))).collect();
    let problem = if num_labels == 1 { "regression" } else { "single_label_classification" };
    for option in STALE {
        config.remove(option);
    }
    config.insert("architectures".into(), json!([architecture]));
    config.insert("id2label".into(), Value::Object(by_id));
    config.insert("label2id".into(), Value::Object(by_label));
    config.insert("problem_type".into(), json!(problem));
    config.insert("torch_dtype".into(), json!("float32"));
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_replaces_the_options_of_another() {
        let config = json!({"model_type": "bert", "num_labels": 7, "id2label": {"0": "x"}, "dtype": "bfloat16"});
        let config = classifier_config(config.as_object().cloned().unwrap_or_default(), "BertForX", 2);
        assert_eq!(config["architectures"], json!(["BertForX"]));
        assert_eq!(config["id2label"], json!({"0": "LABEL_0", "1": "LABEL_1"}));
        assert_eq!(config["label2id"], json!({"LABEL_0": 0, "LABEL_1": 1}));
        assert_eq!(config["model_type"], "bert");
        assert!(!config.contains_key("num_labels") && !config.contains_key("dtype"));
        let regression = classifier_config(Map::new(), "BertForX", 1);
        assert_eq!(regression["problem_type"], "regression");
    }
}
