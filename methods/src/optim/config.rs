//! Settings of optimisers and schedules: plain data.

use serde::{Deserialize, Serialize};

use crate::optim::params::ParamGroup;

/// Optimiser settings and length of a run, shared by every method.
#[derive(Debug, Clone, Copy)]
pub struct OptimConfig {
    /// Peak learning rate.
    pub lr: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Where the decay comes in.
    pub decay_order: DecayOrder,
    /// Bound of the joint gradient norm.
    pub max_grad_norm: f64,
    /// Optimiser steps of the whole run.
    pub steps: usize,
    /// Learning-rate schedule of weights.
    pub schedule: LinearSchedule,
    /// Learning-rate schedule of gates: the release rounds its warm-up down instead of up (spec §3.2).
    pub gate_schedule: LinearSchedule,
}

impl OptimConfig {
    /// The protocol's own rule for a group: decay only where it is due.
    pub fn group_optim(&self, group: ParamGroup) -> GroupOptim {
        let weight_decay = if group.decayed { self.weight_decay } else { 0.0 };
        GroupOptim { options: AdamWOptions::new(self.lr, weight_decay, self.decay_order), schedule: self.schedule }
    }
}

/// How a parameter group is optimised.
#[derive(Debug, Clone, Copy)]
pub struct GroupOptim {
    /// Its AdamW.
    pub options: AdamWOptions,
    /// Its learning-rate schedule.
    pub schedule: LinearSchedule,
}

/// Which AdamW, by where weight decay comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecayOrder {
    /// `torch.optim.AdamW`: `p *= 1 - lr*wd`, then the Adam update with ε added to the bias-corrected root.
    Before,
    /// `AdamW` of transformers 4 (what SoRA's release used): the Adam update with ε added to the uncorrected root, then
    /// `p -= lr*wd*p` on the updated value.
    After,
}

/// Settings of one AdamW.
#[derive(Debug, Clone, Copy)]
pub struct AdamWOptions {
    /// Peak learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Order of decay and update.
    pub order: DecayOrder,
    /// Whether ε is added to the bias-corrected root (torch) or to the uncorrected one (transformers 4, SoRA's gates).
    pub eps_on_corrected_root: bool,
}

impl AdamWOptions {
    /// Betas .9/.999 and ε 1e-8 (spec §2.6, §3.2).
    pub fn new(lr: f64, weight_decay: f64, order: DecayOrder) -> Self {
        let eps_on_corrected_root = order == DecayOrder::Before;
        AdamWOptions { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay, order, eps_on_corrected_root }
    }
}

/// Linear warm-up from 0, then linear decay to 0 at `total`; 0 after it (`get_linear_schedule_with_warmup`), unless it restarts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinearSchedule {
    /// Steps of the warm-up.
    pub warmup: usize,
    /// Step at which the rate reaches 0.
    pub total: usize,
    /// A fresh warm-up and decay in every stage after the first.
    pub restart: Option<Restart>,
}

/// Stages of one length, each with a warm-up and decay of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// Steps before the first of them.
    pub first: usize,
    /// Steps of each.
    pub every: usize,
    /// Steps of its warm-up.
    pub warmup: usize,
    /// Step of it at which the rate reaches 0.
    pub total: usize,
}

impl LinearSchedule {
    /// Factor of the peak rate at step `t` from 0.
    pub fn factor(&self, t: usize) -> f64 {
        match self.restart {
            Some(stage) if t >= stage.first => {
                linear((t - stage.first) % stage.every.max(1), stage.warmup, stage.total)
            }
            _ => linear(t, self.warmup, self.total),
        }
    }
}

fn linear(t: usize, warmup: usize, total: usize) -> f64 {
    if t < warmup {
        return t as f64 / warmup.max(1) as f64;
    }
    total.saturating_sub(t) as f64 / total.saturating_sub(warmup).max(1) as f64
}
