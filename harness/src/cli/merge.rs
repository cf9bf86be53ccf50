//! A backbone with an adapter folded in, as a plain checkpoint that transformers loads.

use std::path::Path;

use encoders::checkpoint::write::classifier_config;
use encoders::{Config, Encoder, HeadParam};
use methods::peft::files::safetensors_bytes;
use methods::peft::format::TrainedAdapter;
use serde_json::{Map, Value};
use tch::Tensor;

use crate::error::{Error, Result};
use crate::store::files::write_atomically;

/// Files of a repository that change nothing of a checkpoint.
const HARMLESS: [&str; 4] = ["README.md", "LICENSE", ".gitattributes", ".gitignore"];

/// The head's tensors by their name, in the encoder's order: the adapter's, or the checkpoint's own pre-trained ones.
///
/// # Errors
/// One that neither has, or of another shape than the task's.
pub fn head(
    trained: &dyn TrainedAdapter,
    encoder: &dyn Encoder,
    outputs: i64,
    adapter: &Path,
) -> Result<Vec<(String, Tensor)>> {
    let tensor = |param: HeadParam| {
        let own = param.is_pretrained.then_some(&param.init);
        let known = trained.tensors().get(&param.name).or(own).ok_or_else(|| {
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
    encoder.new_head(outputs, 0).params.into_iter().map(tensor).collect()
}

/// Writes `config.json`, `model.safetensors` and the tokenizer's files of the backbone to `out`; the weights come last.
/// Tokenizer files of an earlier save are removed, and other files there are refused.
/// `from` are the directories of backbone and adapter.
///
/// # Errors
/// An adapter that cannot be merged; a file that cannot be read or written; the backbone's own directory as `out`.
pub fn write(trained: &dyn TrainedAdapter, encoder: &dyn Encoder, from: (&Path, &Path), out: &Path) -> Result<()> {
    let (backbone, adapter) = from;
    if out.canonicalize().ok().is_some_and(|out| backbone.canonicalize().is_ok_and(|backbone| backbone == out)) {
        return Err(Error::Usage(format!("{} is the backbone itself; give another directory", out.display())));
    }
    no_strangers(out)?;
    let is_classifier = |name: &str| name.starts_with("classifier.") && name.ends_with(".bias");
    let classifier = trained.tensors().iter().filter(|(name, _)| is_classifier(name));
    let outputs = classifier.filter_map(|(_, bias)| bias.size().first().copied()).min();
    let outputs =
        outputs.ok_or_else(|| Error::Input("the adapter has no classifier, so there is nothing to merge".into()))?;
    let mut merged = trained.merged(encoder)?;
    merged.extend(head(trained, encoder, outputs, adapter)?);
    let path = backbone.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(|e| Error::input(&path, e))?;
    let config: Map<String, Value> = serde_json::from_str(&text).map_err(|e| Error::damaged(&path, e))?;
    let architecture = encoders::registry::find(&Config::parse(&text, &path)?)?.architecture;
    let config = format!("{:#}\n", Value::Object(classifier_config(config, architecture, outputs)));
    write_atomically(&out.join("config.json"), config.as_bytes())?;
    for file in tokenizer_files() {
        let (from, to) = (backbone.join(file), out.join(file));
        if from.is_file() {
            let bytes = std::fs::read(&from).map_err(|e| Error::input(&from, e))?;
            write_atomically(&to, &bytes)?;
        } else if to.is_file() {
            // An earlier save's: it would decide the ids of this one.
            std::fs::remove_file(&to).map_err(|e| Error::output(&to, e))?;
        }
    }
    write_atomically(&out.join("model.safetensors"), &safetensors_bytes(&merged)?)
}

fn tokenizer_files() -> impl Iterator<Item = &'static str> {
    datasets::tokenizer::FILES.into_iter().chain(datasets::tokenizer::OPTION_FILES)
}

/// Refuses a directory that holds what no earlier merge wrote: it may change what the checkpoint is.
fn no_strangers(out: &Path) -> Result<()> {
    let known = |name: &str| tokenizer_files().chain(["config.json", "model.safetensors"]).any(|known| known == name);
    for entry in std::fs::read_dir(out).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !known(&name) && !HARMLESS.contains(&&*name) && !name.ends_with(".partial") {
            return Err(Error::Usage(format!(
                "{} holds {name}, which no merge wrote and which may change the checkpoint; give an empty directory",
                out.display()
            )));
        }
    }
    Ok(())
}
