//! Names of repositories on the Hub.

/// Whether a backbone's name is one of a repository on the Hub: `owner/name` or `owner/name@revision`. A name that
/// does not look like one, or has a revision that would lead out of the cache, is none.
pub fn is_repository(name: &str) -> bool {
    let (id, revision) = name.split_once('@').map_or((name, None), |(id, revision)| (id, Some(revision)));
    let is_name = |part: &str| is_plain(part) && !part.contains("..") && !part.contains("--");
    id.split_once('/').is_some_and(|(owner, name)| is_name(owner) && is_name(name))
        && revision.is_none_or(|revision| revision.split('/').all(is_plain))
}

/// Whether a name is one part of a path and nothing else.
pub fn is_plain(part: &str) -> bool {
    !part.is_empty() && !part.starts_with('.') && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
}
