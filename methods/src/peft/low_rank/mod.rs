//! PEFT's low-rank adapters. Every low-rank method is written as plain LoRA (pruned, gate folded into A), so that whatever reads
//! PEFT can load it; LoRA and AdaLoRA as PEFT saved them are read.

use crate::error::Result;
use crate::peft::files::AdapterDir;
use crate::peft::format::{AdapterFormat, TrainedAdapter};
use crate::peft::low_rank::adapter::TYPE;
use crate::peft::low_rank::read::Reader;

pub mod adapter;
mod read;
mod rest;

/// `peft_type` of AdaLoRA as PEFT saves it.
const ADALORA: &str = "ADALORA";

/// Files of low-rank branches, with or without DoRA's magnitude (`use_dora`).
pub struct LowRankFormat;

/// LoRA and DoRA, and AdaLoRA as PEFT saves it.
pub static LORA: LowRankFormat = LowRankFormat;

impl AdapterFormat for LowRankFormat {
    fn peft_types(&self) -> &'static [&'static str] {
        &[TYPE, ADALORA]
    }

    fn read(&self, files: &AdapterDir) -> Result<Box<dyn TrainedAdapter>> {
        let adapter = Reader::new(files, files.config.peft_type() == ADALORA)?.read()?;
        adapter.check(files.encoder)?;
        Ok(Box::new(adapter))
    }
}
