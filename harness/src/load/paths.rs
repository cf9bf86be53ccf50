//! Where the project's own files lie: recipes, baselines, cached backbones.

use std::path::{Path, PathBuf};

use datasets::hub::{Hub, is_plain, is_repository};

use crate::env::output;
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

/// The program as a job starts it: `RANKBENCH_PROGRAM`, which the launchers of a wheel and of a bundle set to themselves, since the
/// binary behind them does not find libtorch alone; else this binary.
///
/// # Errors
/// The system does not say where it is.
pub fn program() -> Result<PathBuf> {
    if let Some(launcher) = std::env::var_os("RANKBENCH_PROGRAM") {
        return Ok(PathBuf::from(launcher));
    }
    std::env::current_exe().map_err(|e| Error::Environment(format!("cannot find this program: {e}")))
}

/// A backbone's directory and its name in tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackbonePath {
    /// Where its files are.
    pub dir: PathBuf,
    /// The directory's name, or the repository's.
    pub name: String,
}

/// A backbone that is here: by its directory, by the bare name of one below [`BACKBONES`], or by the repository that the file
/// NAME.repository beside one names.
pub fn local(name: &str) -> Option<BackbonePath> {
    let given = PathBuf::from(name);
    if given.is_dir() {
        return Some(BackbonePath { name: last(name), dir: given });
    }
    let backbones = dir().join(BACKBONES);
    if is_plain(name) && backbones.join(name).is_dir() {
        return Some(BackbonePath { dir: backbones.join(name), name: name.to_string() });
    }
    let short = last(name.split('@').next().unwrap_or(name));
    let origin = std::fs::read_to_string(backbones.join(format!("{short}.repository"))).unwrap_or_default();
    let cached = backbones.join(&short);
    if !is_repository(name) || origin.trim() != name || !cached.is_dir() {
        return None;
    }
    output::note(format_args!("{name}: taken from {}; delete it to have it fetched", cached.display()));
    Some(BackbonePath { dir: cached, name: short })
}

/// Last part of a path or a repository's name.
fn last(path: &str) -> String {
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path).to_string()
}

/// A backbone by its directory, by the bare name of one below [`BACKBONES`], or by its repository on the Hub
/// (`owner/name` or `owner/name@revision`), from which it is fetched. A directory below [`BACKBONES`] stands for a
/// repository only where the file NAME.repository beside it names that repository.
///
/// # Errors
/// Neither is there; the message says how to get one.
pub fn backbone(name: &str, hub: &Hub) -> Result<BackbonePath> {
    if let Some(here) = local(name) {
        return Ok(here);
    }
    if is_repository(name) {
        return Ok(BackbonePath { dir: hub.model(name)?, name: last(name.split('@').next().unwrap_or(name)) });
    }
    Err(Error::Input(format!(
        "backbone '{name}' is not here: neither {name} nor {} is a directory, and it is no repository on the Hub \
         (owner/name). Take all-MiniLM-L6-v2 (which `./justw setup` fetches), microsoft/deberta-v3-base, or a directory with \
         config.json, model.safetensors or pytorch_model.bin, and a tokenizer",
        dir().join(BACKBONES).join(name).display()
    )))
}
