//! Names of tensors in an adapter's file: as PEFT saves them, and as they stand in a raw state dictionary, where the adapter's
//! own name ("default") is among them.

/// Part of a module that a tensor is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    A,
    B,
    /// AdaLoRA's Λ.
    E,
    /// Of `lora_bias`.
    Bias,
    /// DoRA's m.
    Magnitude,
    /// Of an embedding.
    EmbeddingA,
    EmbeddingB,
    /// The adapted module's own weight or bias.
    Base(&'static str),
    /// No part of an adapted module: the whole name is the tensor's.
    Plain,
}

/// Module (or the whole name) and part of a name without PEFT's prefix; `None` for what PEFT keeps beside the values that are used.
///
/// # Errors
/// A part that belongs to a kind of adapter that is not supported.
pub(crate) fn parse(name: &str) -> Result<Option<(String, Part)>, String> {
    if name.contains(".original_module.") || name.ends_with(".position_ids") || name.ends_with(".token_type_ids") {
        return Ok(None);
    }
    if let Some((module, rest)) = name.split_once(".lora_") {
        let parts: Vec<&str> = rest.split('.').filter(|part| *part != "default").collect();
        let part = match parts.as_slice() {
            ["A"] | ["A", "weight"] => Part::A,
            ["B"] | ["B", "weight"] => Part::B,
            ["E"] => Part::E,
            ["B", "bias"] => Part::Bias,
            ["magnitude_vector"] | ["magnitude_vector", "weight"] => Part::Magnitude,
            ["embedding_A"] => Part::EmbeddingA,
            ["embedding_B"] => Part::EmbeddingB,
            _ => {
                return Err(format!(
                    "it has {name}; of a LoRA module lora_A, lora_B, AdaLoRA's lora_E and DoRA's \
                     lora_magnitude_vector are supported"
                ));
            }
        };
        return Ok(Some((module.into(), part)));
    }
    for part in ["weight", "bias"] {
        if let Some(module) = name.strip_suffix(part).and_then(|rest| rest.strip_suffix(".base_layer.")) {
            return Ok(Some((module.into(), Part::Base(part))));
        }
    }
    Ok(Some((name.replace(".modules_to_save.default.", "."), Part::Plain)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let module = "bert.encoder.layer.0.attention.self.query";
        for (rest, part) in [
            ("lora_A.weight", Part::A),
            ("lora_B.default.weight", Part::B),
            ("lora_A", Part::A),
            ("lora_E.default", Part::E),
            ("lora_B.bias", Part::Bias),
            ("lora_magnitude_vector", Part::Magnitude),
            ("lora_magnitude_vector.default.weight", Part::Magnitude),
            ("lora_embedding_A", Part::EmbeddingA),
            ("base_layer.bias", Part::Base("bias")),
        ] {
            assert_eq!(parse(&format!("{module}.{rest}")).unwrap(), Some((module.into(), part)), "{rest}");
        }
        let plain = |name: &str| parse(name).unwrap();
        assert_eq!(plain("classifier.weight"), Some(("classifier.weight".into(), Part::Plain)));
        assert_eq!(plain("classifier.modules_to_save.default.weight"), Some(("classifier.weight".into(), Part::Plain)));
        assert_eq!(plain("classifier.original_module.bias"), None);
        for odd in ["lora_diag", "lora_A.other.weight"] {
            assert!(parse(&format!("{module}.{odd}")).unwrap_err().contains(odd));
        }
    }
}
