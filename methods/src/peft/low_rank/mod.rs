//! PEFT's low-rank adapters. Every low-rank method is written as plain LoRA (pruned, gate folded into A), so that whatever reads
//! PEFT can load it; LoRA and AdaLoRA as PEFT saved them are read.

use crate::error::Result;
use crate::peft::config::PeftConfig;
use crate::peft::files::AdapterDir;
use crate::peft::format::{AdapterFormat, TrainedAdapter};
use crate::peft::low_rank::adapter::TYPE;
use crate::peft::low_rank::read::Reader;

pub mod adapter;
mod read;
mod rest;

/// `peft_type` of AdaLoRA as PEFT saves it.
const ADALORA: &str = "ADALORA";

/// Files of low-rank branches, with or without DoRA's magnitude.
pub struct LowRankFormat {
    /// Whether `use_dora` is on.
    pub use_dora: bool,
}

/// LoRA, and AdaLoRA as PEFT saves it.
pub static LORA: LowRankFormat = LowRankFormat { use_dora: false };

impl AdapterFormat for LowRankFormat {
    fn peft_types(&self) -> &'static [&'static str] {
        if self.use_dora { &[TYPE] } else { &[TYPE, ADALORA] }
    }

    fn accepts(&self, config: &PeftConfig) -> bool {
        let peft_type = config.peft_type();
        let is_dora = peft_type == TYPE && config.is_on("use_dora");
        self.peft_types().contains(&peft_type) && is_dora == self.use_dora
    }

    fn read(&self, files: &AdapterDir) -> Result<Box<dyn TrainedAdapter>> {
        let adapter = Reader::new(files, files.config.peft_type() == ADALORA)?.read()?;
        adapter.check(files.encoder)?;
        Ok(Box::new(adapter))
    }
}
