//! A backbone with an adapter folded in, as a plain checkpoint that transformers loads.

use std::path::Path;

use encoders::{Encoder, HeadParam};
use methods::export::{Exported, safetensors_bytes};
use serde_json::{Map, Value, json};
use tch::Tensor;

use crate::error::{Error, Result};
use crate::store::write_atomically;

/// The head's tensors by their name, in the encoder's order: the adapter's, or the checkpoint's own pre-trained ones.
///
/// # Errors
/// One that neither has, or of another shape than the task's.
pub fn head(exported: &Exported, encoder: &dyn Encoder, outputs: i64, adapter: &Path) -> Result<Vec<(String, Tensor)>> {
    let tensor = |param: HeadParam| {
        let own = param.is_pretrained.then_some(&param.init);
        let known = exported.tensors.get(&param.name).or(own).ok_or_else(|| {
            Error::Input(format!(
                "{} has no {}, and neither has the backbone: without it no result can be had again; save the adapter with \
                 modules_to_save = [\"pooler\", \"classifier\"]",
                adapter.display(),
                param.name
            ))
        })?;
        if known.size() != param.init.size() {
            return Err(Error::Input(format!(
                "{}: {} is {:?}, expected {:?}; is it an adapter of another task or backbone?",
                adapter.display(),
                param.name,
                known.size(),
                param.init.size()
            )));
        }
        Ok((param.name, known.shallow_clone()))
    };
    encoder.head(outputs, 0).params.into_iter().map(tensor).collect()
}

/// Writes `config.json`, `model.safetensors` and the tokenizer's files of the backbone to `out`; the weights come last.
/// `from` are the directories of backbone and adapter.
///
/// # Errors
/// An adapter that cannot be merged; a file that cannot be read or written; the backbone's own directory as `out`.
pub fn write(exported: &Exported, encoder: &dyn Encoder, from: (&Path, &Path), out: &Path) -> Result<()> {
    let (backbone, adapter) = from;
    if out.canonicalize().ok().is_some_and(|out| backbone.canonicalize().is_ok_and(|backbone| backbone == out)) {
        return Err(Error::Usage(format!("{} is the backbone itself; give another directory", out.display())));
    }
    let classifier =
        exported.tensors.iter().filter(|(name, _)| name.starts_with("classifier.") && name.ends_with(".bias"));
    let outputs = classifier.filter_map(|(_, bias)| bias.size().first().copied()).min();
    let outputs =
        outputs.ok_or_else(|| Error::Input("the adapter has no classifier, so there is nothing to merge".into()))?;
    let mut merged = exported.merged(encoder)?;
    merged.extend(head(exported, encoder, outputs, adapter)?);
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
    for stale in ["dtype", "num_labels", "_num_labels", "finetuning_task"] {
        config.remove(stale);
    }
    config.insert("architectures".into(), json!([format!("{class}ForSequenceClassification")]));
    config.insert("id2label".into(), Value::Object(by_id));
    config.insert("label2id".into(), Value::Object(by_label));
    config.insert("problem_type".into(), json!(problem));
    config.insert("torch_dtype".into(), json!("float32"));
    config
}
