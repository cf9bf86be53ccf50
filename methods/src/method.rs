//! What a method is.

use encoders::{Attach, Site, SiteKind};
use tch::{Device, Kind, Tensor};

use crate::adapter::Adapters;
use crate::count::Counts;
use crate::error::Result;
use crate::optim::{AdamWOptions, LinearSchedule};
use crate::params::{GroupKind, Params, Views};
use crate::step::Protocol;

/// What a method is built for.
pub struct Context<'a> {
    /// Where it may attach.
    pub sites: &'a [Site],
    /// Every tensor of the backbone by its Hugging Face name, as [`encoders::Encoder::weights`] gives them.
    pub backbone: &'a [(String, Tensor)],
    /// Optimiser, schedules and length of the run.
    pub protocol: &'a Protocol,
    /// Width that the authors' counter charges for every zero rank (spec §3.8).
    pub hidden_size: i64,
    /// Seed of the adapter's start values.
    pub seed: i64,
}

/// One site's rank.
#[derive(Debug, Clone)]
pub struct SiteRank {
    /// Module path of the site.
    pub site: String,
    /// Layer, from 0.
    pub layer: usize,
    /// Kind of linear.
    pub kind: SiteKind,
    /// Non-zero components.
    pub rank: i64,
    /// Components at the start.
    pub max_rank: i64,
    /// Mean |gate|, for a method with gates.
    pub mean_abs_gate: Option<f64>,
}

/// A step's number, on the host and on the device. What is recorded once and replayed for many steps may read the device's
/// only, as a row of a table.
pub struct StepNumber {
    /// From 0.
    pub number: usize,
    /// The same, `[1]`, int64.
    on_device: Tensor,
}

impl StepNumber {
    /// Step 0.
    pub fn zero(device: Device) -> Self {
        StepNumber { number: 0, on_device: Tensor::zeros([1], (Kind::Int64, device)) }
    }

    /// The step's row of a table with a row for every step.
    pub fn row_of(&self, table: &Tensor) -> Tensor {
        table.index_select(0, &self.on_device).squeeze_dim(0)
    }

    /// The number on the device, `[1]`, int64.
    pub fn on_device(&self) -> &Tensor {
        &self.on_device
    }

    /// Goes on by one on the device; can be recorded.
    pub fn advance_on_device(&mut self) {
        let _ = self.on_device.g_add_scalar_(1);
    }

    /// Goes to a step.
    pub fn set(&mut self, number: usize) {
        self.number = number;
        let _ = self.on_device.fill_(number as i64);
    }
}

/// How a parameter group is optimised.
#[derive(Debug, Clone, Copy)]
pub struct GroupRule {
    /// Its AdamW.
    pub options: AdamWOptions,
    /// Its learning-rate schedule.
    pub schedule: LinearSchedule,
}

/// A fine-tuning method: what is attached at the sites, and what happens around a step. The order of calls is
/// `attach` and `penalty` in the forward pass, then backward, clipping, optimisers, `after_step`, clearing of the
/// gradients ([`crate::Step`]).
pub trait Method {
    /// Name on the command line.
    fn name(&self) -> &'static str;

    /// Sites of [`Method::adapters`], in the encoder's order.
    fn sites(&self) -> &[Site] {
        &[]
    }

    /// Low-rank adapters by site, for a method that is made of them.
    fn adapters(&self, _views: &Views) -> Adapters {
        Adapters::new(Vec::new())
    }

    /// What is attached to the backbone in one forward pass.
    fn attach(&self, views: &Views) -> Box<dyn Attach> {
        Box::new(self.adapters(views))
    }

    /// Trained tensors that are no low-rank factors, by the name they have in a file; the head is not among them.
    fn tensors(&self, _views: &Views) -> Vec<(String, Tensor)> {
        Vec::new()
    }

    /// `peft_type` in the configuration of its file.
    fn file_kind(&self) -> &'static str {
        "LORA"
    }

    /// Term added to the task loss, `[]`; never part of an evaluation loss.
    fn penalty(&self, _views: &Views) -> Option<Tensor> {
        None
    }

    /// How a group is optimised: by the protocol, unless the method has a rule of its own.
    fn group_rule(&self, group: GroupKind, protocol: &Protocol) -> GroupRule {
        protocol.group_rule(group)
    }

    /// Within a phase every step is the same work, so that one recording serves them all.
    fn phase(&self, _t: usize) -> usize {
        0
    }

    /// Name of the part of the method's schedule that a step lies in; empty for a method without parts.
    fn schedule_part(&self, _t: usize) -> &'static str {
        ""
    }

    /// After the optimisers' update of a step, while the clipped gradients of the step are still there. It may ask the host
    /// only for the step's phase.
    ///
    /// # Errors
    /// A failure on the device.
    fn after_step(&mut self, _params: &Params, _step: &StepNumber) -> Result<()> {
        Ok(())
    }

    /// Stages of the method's schedule.
    fn stages(&self) -> usize {
        1
    }

    /// After the last step of a stage of a schedule with several stages.
    fn stage_end(&mut self) {}

    /// The three parameter counts, head not included.
    fn counts(&self, params: &Params) -> Counts;

    /// The method's own state (what is not a parameter), by name.
    fn state(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }

    /// Takes one tensor of [`Method::state`] back.
    fn load(&mut self, name: &str, _value: &Tensor) -> Result<()> {
        Err(crate::error::Error::State { name: name.into(), expected: "no state".into(), got: "a tensor".into() })
    }
}

/// Rank of every site, read back from the parameters.
pub fn ranks(method: &dyn Method, params: &Params) -> Vec<SiteRank> {
    tch::no_grad(|| {
        let adapters = method.adapters(&params.views());
        let attached = method.sites().iter().zip(&adapters.sites).filter_map(|(s, a)| a.as_ref().map(|a| (s, a)));
        attached
            .map(|(site, adapter)| SiteRank {
                site: site.path.clone(),
                layer: site.layer,
                kind: site.kind,
                rank: adapter.rank(),
                max_rank: adapter.a.size()[0],
                mean_abs_gate: adapter.gate.as_ref().map(|g| g.abs().mean(None::<tch::Kind>).double_value(&[])),
            })
            .collect()
    })
}
