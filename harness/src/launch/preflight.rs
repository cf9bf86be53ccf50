//! Checks of a plan before its first step, so that what cannot work is not said hours later.

use std::collections::BTreeSet;

use encoders::ENCODERS;
use methods::Context;
use methods::adapter::pissa::PrincipalComponents;
use methods::optim::params::ParamsBuilder;
use tch::{Device, Kind};

use crate::env::output;
use crate::error::{Error, Result};
use crate::load::backbone::Backbone;
use crate::load::task_data::{TaskCache, TokenizedTask};
use crate::plan::spec::{RunSpec, TrainSpec};
use crate::train::run_stack::RunStack;
use crate::train::schedule::{lengths, optim_config};

/// Builds one stack for every different method and task of the plan; settings that leave a method without effect are noted.
///
/// # Errors
/// The first run whose options do not fit its length or its target modules.
pub fn preflight(plan: &[RunSpec], backbone: &Backbone, data: &TaskCache) -> Result<()> {
    of_each_setting(plan, |spec| check(spec, backbone, &*data.of_run(spec, &backbone.tokenizer)?))
}

/// The checks that need no weights: schedules and stages against numbers of training rows, on a tiny encoder.
///
/// # Errors
/// As [`preflight`], ranks not looked at.
pub fn check_without_weights(plan: &[RunSpec], rows: impl Fn(&RunSpec) -> usize) -> Result<()> {
    let entry = ENCODERS.first().ok_or_else(|| Error::Internal("no architecture is registered".into()))?;
    let config = encoders::Config::parse(entry.tiny, std::path::Path::new("tiny"))?;
    let encoder = encoders::random(&config, 0, Device::Cpu, Kind::Float)?;
    let info = encoder.info();
    of_each_setting(plan, |spec| {
        check_schedule(spec, rows(spec))?;
        let protocol = &optim_config(&spec.train, rows(spec));
        let (target_modules, backbone, hidden_size) = (&info.target_modules, &info.weights, info.hidden_size);
        let context = Context {
            target_modules,
            backbone,
            components: &PrincipalComponents::default(),
            protocol,
            hidden_size,
            seed: 0,
        };
        let mut params = ParamsBuilder::new(Device::Cpu, Kind::Float);
        let method = methods::registry::find(&spec.method)?.build(&spec.options, &context, &mut params)?;
        note_caution(spec, method.caution());
        check_stages(spec, method.stages())
    })
}

/// Checks the first run of every different method, task and setting.
fn of_each_setting(plan: &[RunSpec], check: impl Fn(&RunSpec) -> Result<()>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for spec in plan {
        let settings = format!("{} {} {:?} {:?}", spec.task, spec.method, spec.train, spec.options);
        if seen.insert(settings) {
            check(spec).map_err(|e| match e {
                Error::Usage(text) => Error::Usage(format!("run {}: {text}", spec.id())),
                other => other,
            })?;
        }
    }
    Ok(())
}

fn note_caution(spec: &RunSpec, caution: Option<String>) {
    if let Some(text) = caution {
        let setting = [spec.task.as_str(), &spec.method, &spec.label].join(" ");
        output::note(format_args!("note: {}: {text}", setting.trim_end()));
    }
}

fn check(spec: &RunSpec, backbone: &Backbone, task: &TokenizedTask) -> Result<()> {
    check_schedule(spec, task.train.len())?;
    let stack = RunStack::new(&[spec], backbone, task)?;
    let step = stack.state(0);
    let method = step.method();
    note_caution(spec, method.caution());
    check_stages(spec, method.stages())?;
    let adapters = tch::no_grad(|| method.adapters(&step.params().views()));
    for (module, adapter) in adapters.attached(method.target_modules()) {
        let (rank, most) = (adapter.max_rank(), module.d_in.min(module.d_out));
        if rank > most {
            return Err(Error::Usage(format!(
                "rank {rank} is larger than a dimension of {} ({} x {}): expected at most {most}; choose a smaller rank",
                module.path, module.d_out, module.d_in
            )));
        }
    }
    Ok(())
}

/// Refuses a schedule of a method whose stages the run does not have, and stages of a run that the method does not have.
fn check_stages(spec: &RunSpec, of_method: usize) -> Result<()> {
    match spec.train.stages {
        None if of_method > 1 => Err(Error::Usage(format!(
            "the options ask for a schedule of {of_method} stages, and [train] gives one; leave the schedule out, or add \
             stages = {{ count = {of_method}, epochs = 15, rate = \"released\" }} to the method's [train]"
        ))),
        Some(stages) if stages.count != of_method => Err(Error::Usage(format!(
            "train.stages.count is {}, but the options of {} make {of_method}: expected the same number",
            stages.count, spec.method
        ))),
        _ => Ok(()),
    }
}

/// Refuses a run whose learning-rate schedule has no step.
///
/// # Errors
/// Fewer rows than a batch over all epochs.
fn check_schedule(spec: &RunSpec, rows: usize) -> Result<()> {
    let (_, scheduled) = lengths(&spec.train, rows);
    if scheduled > 0 {
        return Ok(());
    }
    let TrainSpec { epochs, batch_size, .. } = spec.train;
    Err(Error::Usage(format!(
        "{} training rows in batches of {batch_size} over {epochs} epochs: the learning-rate schedule has no step \
         (epochs × rows / batch, rounded down, as released); train longer or with a smaller batch_size",
        rows
    )))
}
