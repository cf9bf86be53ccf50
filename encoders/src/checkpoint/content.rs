//! Recognition of files by their content, where they are not what their name says, with what to do about each.

/// Content found in a file, and what to do about it.
pub(crate) struct Content {
    pub format: Format,
    pub what: &'static str,
    pub help: &'static str,
}

/// Formats of tensors that are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Safetensors,
    Pickle,
    None,
}

/// Bytes at the start of a file, and what they say.
const STARTS: &[(&[u8], &str, &str)] = &[
    (
        b"version https://git-lfs.github.com/spec",
        "it is a pointer of Git LFS, not the file itself",
        "fetch the file with `git lfs pull` in its repository, or download it again",
    ),
    (b"GGUF", "it is a GGUF file (llama.cpp)", USE_SAFETENSORS),
    (b"\x89HDF\r\n\x1a\n", "it is an HDF5 file (TensorFlow, Keras)", USE_SAFETENSORS),
    (b"\x93NUMPY", "it is an array of NumPy", USE_SAFETENSORS),
    (b"PAR1", "it is a parquet file", USE_SAFETENSORS),
    (b"\x1f\x8b", "it is compressed with gzip", UNPACK),
    (b"\xfd7zXZ\x00", "it is compressed with xz", UNPACK),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd", UNPACK),
    (b"BZh", "it is compressed with bzip2", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7z archive", UNPACK),
    (b"%PDF-", "it is a PDF document", AGAIN),
];

const USE_SAFETENSORS: &str = "give a checkpoint in safetensors; transformers writes one with \
                               save_pretrained(directory) once it has loaded the model";
const UNPACK: &str = "unpack it and give what is in it";
const AGAIN: &str = "download the file again";

/// Recognises content that is no checkpoint, or a checkpoint of another format than the file's name says.
pub(crate) fn recognise(data: &[u8]) -> Option<Content> {
    let found = |what, help| Some(Content { format: Format::None, what, help });
    if data.is_empty() {
        return found("it is empty", AGAIN);
    }
    if let Some((_, what, help)) = STARTS.iter().find(|(start, ..)| data.starts_with(start)) {
        return found(what, help);
    }
    if data.get(257..262) == Some(b"ustar") {
        return found("it is a tar archive", UNPACK);
    }
    if is_safetensors(data) {
        let help = "give it the ending .safetensors (model.safetensors, adapter_model.safetensors)";
        return Some(Content { format: Format::Safetensors, what: "it is a safetensors file", help });
    }
    if data.starts_with(b"PK") || is_pickle(data) {
        let what = "it is a file of torch.save (a pickle) or another zip archive";
        let help = "give a pickle the ending .bin (pytorch_model.bin, adapter_model.bin); unpack another archive";
        return Some(Content { format: Format::Pickle, what, help });
    }
    text(data)
}

/// Content that is text: a page or an answer of a server in place of the file.
fn text(data: &[u8]) -> Option<Content> {
    let start = &data[..data.len().min(512)];
    // A character may be cut at the end.
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(e) if e.error_len().is_none() => std::str::from_utf8(&start[..e.valid_up_to()]).unwrap_or_default(),
        Err(_) => return None,
    };
    let is_printable = |c: char| !c.is_control() || c.is_ascii_whitespace();
    if text.is_empty() || !text.chars().all(is_printable) {
        return None;
    }
    let lower = text.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    let help = "download the file itself; the text may say why it was not given (a login, a wrong address)";
    let what = if ["<!doctype", "<html", "<?xml", "<head"].iter().any(|start| lower.starts_with(start)) {
        "it is a web page (HTML), not weights"
    } else if lower.starts_with('{') || lower.starts_with('[') {
        "it is JSON text, not weights"
    } else {
        "it is text, not weights"
    };
    Some(Content { format: Format::None, what, help })
}

fn is_safetensors(data: &[u8]) -> bool {
    let length = data.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes));
    length.is_some_and(|length| length >= 2 && length < data.len() as u64) && data.get(8) == Some(&b'{')
}

/// Protocol 2 or later, as torch writes it.
fn is_pickle(data: &[u8]) -> bool {
    matches!(data, [0x80, 2..=5, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_checkpoint_is_said() {
        for (data, what) in [
            (&b""[..], "empty"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n", "Git LFS"),
            (b"\n<!DOCTYPE html>\n<html>", "web page"),
            (b"{\"error\": \"Invalid username or password.\"}", "JSON"),
            (b"Repository not found", "text"),
            (b"GGUF\x03\x00", "GGUF"),
            (b"\x80\x02}q\x00.", "torch.save"),
            (b"PK\x03\x04", "torch.save"),
            (b"\x02\x00\x00\x00\x00\x00\x00\x00{} ", "safetensors"),
            (b"\x89HDF\r\n\x1a\n", "HDF5"),
        ] {
            assert!(recognise(data).unwrap().what.contains(what), "{what}: {:?}", recognise(data).unwrap().what);
        }
        assert!(recognise(&[0, 1, 2, 3, 200, 201]).is_none());
    }
}
