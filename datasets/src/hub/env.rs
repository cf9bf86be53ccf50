//! The environment as Python's `huggingface_hub` reads it (its `constants.py` and `utils/_auth.py`).

use std::path::{Path, PathBuf};

/// Variables by name. A variable that is empty counts as not set.
pub struct Environment<F: Fn(&str) -> Option<String>>(pub F);

impl<F: Fn(&str) -> Option<String>> Environment<F> {
    fn var(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn is_true(&self, value: Option<String>) -> bool {
        value.is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str()))
    }

    /// `HF_HOME`, else `huggingface` below `XDG_CACHE_HOME` or `~/.cache`.
    fn home(&self) -> PathBuf {
        let cache = || self.var("XDG_CACHE_HOME").unwrap_or_else(|| "~/.cache".into());
        self.expanded(&self.var("HF_HOME").unwrap_or_else(|| format!("{}/huggingface", cache())))
    }

    /// `HF_HUB_CACHE`, else its older name, else `hub` below the home.
    pub fn cache(&self) -> PathBuf {
        let named = self.var("HF_HUB_CACHE").or_else(|| self.var("HUGGINGFACE_HUB_CACHE"));
        named.map_or_else(|| self.home().join("hub"), |path| self.expanded(&path))
    }

    /// `HF_HUB_OFFLINE`, else its older name.
    pub fn is_offline(&self) -> bool {
        self.is_true(self.var("HF_HUB_OFFLINE").or_else(|| self.var("TRANSFORMERS_OFFLINE")))
    }

    /// `HF_ENDPOINT` without a slash at its end.
    pub fn endpoint(&self) -> Option<String> {
        self.var("HF_ENDPOINT").map(|endpoint| endpoint.trim_end_matches('/').to_string())
    }

    /// `HF_TOKEN`, else its older name, else the file `HF_TOKEN_PATH` or `token` below the home; without line breaks and
    /// outer spaces.
    pub fn token(&self) -> Option<String> {
        if self.is_true(self.var("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
            return None;
        }
        let clean = |token: String| {
            let token = token.replace(['\r', '\n'], "").trim().to_string();
            (!token.is_empty()).then_some(token)
        };
        let path = self.var("HF_TOKEN_PATH").map_or_else(|| self.home().join("token"), |path| self.expanded(&path));
        let named = self.var("HF_TOKEN").or_else(|| self.var("HUGGING_FACE_HUB_TOKEN"));
        named.and_then(clean).or_else(|| std::fs::read_to_string(path).ok().and_then(clean))
    }

    /// Python's `os.path.expandvars(os.path.expanduser(path))`.
    fn expanded(&self, path: &str) -> PathBuf {
        PathBuf::from(self.with_variables(&self.with_user(path)))
    }

    fn with_user(&self, path: &str) -> String {
        let Some(rest) = path.strip_prefix('~') else { return path.into() };
        let (user, rest) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let home = if user.is_empty() { self.var("HOME").or_else(|| home_of(None)) } else { home_of(Some(user)) };
        match home {
            Some(home) if rest.is_empty() => home,
            Some(home) => format!("{}{rest}", home.trim_end_matches('/')),
            None => path.into(),
        }
    }

    /// `$NAME` and `${NAME}`; one that is not set stays as it is.
    fn with_variables(&self, path: &str) -> String {
        let mut out = String::new();
        let mut rest = path;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let (name, length) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
                Some((name, _)) => (name, name.len() + 2),
                None => {
                    let end = after.find(|c| !is_name(c)).unwrap_or(after.len());
                    (&after[..end], end)
                }
            };
            match (self.0)(name).filter(|_| !name.is_empty()) {
                Some(value) => out.push_str(&value),
                None => out.extend(["$", &after[..length]]),
            }
            rest = &after[length..];
        }
        out + rest
    }
}

/// The home directory of a user, or that of the user this process runs as, from the machine's list.
fn home_of(user: Option<&str>) -> Option<String> {
    let name = match user {
        Some(user) => user.to_string(),
        None => std::env::var("USER").ok()?,
    };
    let list = std::fs::read_to_string(Path::new("/etc/passwd")).ok()?;
    let entry = list.lines().find(|line| line.split(':').next() == Some(name.as_str()))?;
    entry.split(':').nth(5).map(str::to_string)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn environment(set: &[(&str, &str)]) -> Environment<impl Fn(&str) -> Option<String>> {
        let set: HashMap<String, String> =
            set.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Environment(move |name: &str| set.get(name).cloned())
    }

    fn cache(set: &[(&str, &str)]) -> String {
        environment(set).cache().display().to_string()
    }

    /// Expected values are those of huggingface_hub 0.36.2 under the same variables.
    #[test]
    fn the_cache_is_where_python_looks() {
        let home = ("HOME", "/home/me");
        assert_eq!(cache(&[home]), "/home/me/.cache/huggingface/hub");
        assert_eq!(cache(&[home, ("XDG_CACHE_HOME", "$HOME/x")]), "/home/me/x/huggingface/hub");
        assert_eq!(cache(&[home, ("HF_HOME", "~/hf"), ("XDG_CACHE_HOME", "/x")]), "/home/me/hf/hub");
        assert_eq!(cache(&[home, ("HF_HOME", "/hf"), ("HUGGINGFACE_HUB_CACHE", "${HOME}/old")]), "/home/me/old");
        let both = [home, ("HF_HUB_CACHE", "/new/$NOT_SET/$"), ("HUGGINGFACE_HUB_CACHE", "/old")];
        assert_eq!(cache(&both), "/new/$NOT_SET/$");
        assert_eq!(cache(&[home, ("HF_HUB_CACHE", "~no_such_user/x")]), "~no_such_user/x");
    }

    #[test]
    fn offline_is_what_python_takes_for_true() {
        for (set, expected) in [
            (vec![("HF_HUB_OFFLINE", "1")], true),
            (vec![("HF_HUB_OFFLINE", "yes")], true),
            (vec![("HF_HUB_OFFLINE", "y")], false),
            (vec![("TRANSFORMERS_OFFLINE", "TRUE")], true),
            (vec![("HF_HUB_OFFLINE", ""), ("TRANSFORMERS_OFFLINE", "on")], true),
            (vec![("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")], false),
        ] {
            assert_eq!(environment(&set).is_offline(), expected, "{set:?}");
        }
    }

    #[test]
    fn a_token_is_cleaned() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), " from_file\r\n").unwrap();
        let home = dir.path().display().to_string();
        let token = |set: &[(&str, &str)]| environment(&[&[("HF_HOME", home.as_str())], set].concat()).token();
        assert_eq!(token(&[("HF_TOKEN", "hf_abc\n")]).as_deref(), Some("hf_abc"));
        assert_eq!(token(&[("HUGGING_FACE_HUB_TOKEN", " hf_old")]).as_deref(), Some("hf_old"));
        assert_eq!(token(&[("HF_TOKEN", " \n")]).as_deref(), Some("from_file"));
        assert_eq!(token(&[("HF_TOKEN_PATH", "/nowhere/token")]), None);
        assert_eq!(token(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"), ("HF_TOKEN", "hf")]), None);
    }
}
