//! A backbone with an adapter folded in, as a plain checkpoint that transformers loads.

use std::path::Path;

use encoders::Encoder;
use methods::export::{Exported, safetensors_bytes};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::store::write_atomically;

/// Writes `config.json`, `model.safetensors` and the tokenizer's files of `backbone` to `out`; the weights come last.
///
/// # Errors
/// An adapter that cannot be merged; a file that cannot be read or written.
pub fn write(exported: &Exported, encoder: &dyn Encoder, backbone: &Path, out: &Path) -> Result<()> {
    let merged = exported.merged(encoder.weights())?;
    let classifier = merged.iter().filter(|(name, _)| name.starts_with("classifier.") && name.ends_with(".bias"));
    let outputs = classifier.map(|(_, bias)| bias.size()[0]).min();
    let outputs =
        outputs.ok_or_else(|| Error::Input("the adapter has no classifier, so there is nothing to merge".into()))?;
    let path = backbone.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(|e| Error::input(&path, e))?;
    let config: Map<String, Value> = serde_json::from_str(&text).map_err(|e| Error::damaged(&path, e))?;
    let config = format!("{:#}\n", Value::Object(with_head(config, outputs)));
    write_atomically(&out.join("config.json"), config.as_bytes())?;
    for file in datasets::tokenizer::FILES.into_iter().chain(["tokenizer_config.json", "special_tokens_map.json"]) {
        let path = backbone.join(file);
        if path.is_file() {
            let bytes = std::fs::read(&path).map_err(|e| Error::input(&path, e))?;
            write_atomically(&out.join(file), &bytes)?;
        }
    }
    write_atomically(&out.join("model.safetensors"), &safetensors_bytes(&merged)?)
}

/// The configuration of the sequence classifier with so many outputs.
fn with_head(mut config: Map<String, Value>, outputs: i64) -> Map<String, Value> {
    let class = match config.get("model_type").and_then(Value::as_str) {
        Some("deberta-v2") => "DebertaV2",
        Some("roberta") => "Roberta",
        _ => "Bert",
    };
    let labels = (0..outputs).map(|id| format!("LABEL_{id}"));
    let by_id: Map<String, Value> =
        labels.clone().enumerate().map(|(id, label)| (id.to_string(), json!(label))).collect();
    let by_label: Map<String, Value> = labels.enumerate().map(|(id, label)| (label, json!(id))).collect();
    let problem = if outputs == 1 { "regression" } else { "single_label_classification" };
    config.insert("architectures".into(), json!([format!("{class}ForSequenceClassification")]));
    config.insert("id2label".into(), Value::Object(by_id));
    config.insert("label2id".into(), Value::Object(by_label));
    config.insert("problem_type".into(), json!(problem));
    config.insert("torch_dtype".into(), json!("float32"));
    config
}
