//! Where the project's own files lie: recipes, baselines, cached backbones.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Backbones by name, below the project's directory.
pub const BACKBONES: &str = ".cache/backbones";

/// The project's directory: `RANKBENCH_HOME`, else the one the binary was built in (`target/release/rankbench` lies two
/// folders below it), else the current one.
pub fn dir() -> PathBuf {
    if let Some(home) = std::env::var_os("RANKBENCH_HOME") {
        return PathBuf::from(home);
    }
    let built_in = std::env::current_exe().ok().and_then(|exe| {
        exe.ancestors().skip(1).take(4).find(|dir| dir.join("recipes").is_dir()).map(Path::to_path_buf)
    });
    built_in.unwrap_or_else(|| PathBuf::from("."))
}

/// The directory of a backbone: the path itself, or the cached one of that name.
///
/// # Errors
/// Neither is there; the message says how to get one.
pub fn backbone(name: &str) -> Result<PathBuf> {
    let given = Path::new(name);
    let cached = dir().join(BACKBONES).join(name.rsplit('/').next().unwrap_or(name));
    if let Some(found) = [given, &cached].into_iter().find(|path| path.is_dir()) {
        return Ok(found.to_path_buf());
    }
    Err(Error::Input(format!(
        "backbone '{name}' is not here: neither {} nor {} is a directory. Downloads from the Hub and the DeBERTaV3 and \
         RoBERTa encoders are not built yet. Run with another backbone: `--backbone MiniLM-L6-H384` (which `./justw setup` \
         fetches) or `--backbone DIR`, a BERT checkpoint with config.json, model.safetensors and tokenizer.json or vocab.txt",
        given.display(),
        cached.display()
    )))
}
