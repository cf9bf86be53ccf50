//! Runs that share the passes through the backbone, and the training step they take: usually one run.

use std::collections::BTreeMap;
use std::slice;

use datasets::tokenizer::TokenizedExample;
use encoders::Attach;
use methods::adapter::stacked_branches::StackedBranches;
use methods::method::attaches_alike;
use methods::optim::params::{ParamGroup, ParamId, ParamViews, ParamsBuilder};
use methods::peft::format::TrainedAdapter;
use methods::train_state::{Part, StepLoss};
use methods::{Context, TrainState};
use tch::{Device, Kind, Tensor};
use torch_ext::ops::dropout::DropoutRng;

use crate::error::{Error, Result};
use crate::load::backbone::Backbone;
use crate::load::precision::weight_kind;
use crate::load::task_data::TokenizedTask;
use crate::plan::spec::{RunSpec, TrainSpec};
use crate::train::classifier::SequenceClassifier;
use crate::train::evaluate::{Predictions, predict};
use crate::train::loader::{Collator, DeviceBatch, Loader};
use crate::train::parts::Parts;
use crate::train::schedule::optim_config;
use crate::train::seeds::Seeds;
use crate::train::step_values::StepValues;

/// A tensor of the head.
struct HeadTensor {
    name: String,
    value: HeadValue,
}

/// Trained, or as initialised.
enum HeadValue {
    Trained(ParamId),
    Fixed(Tensor),
}

/// State of one run in a stack: settings, seeds, head, parameters and optimisers.
struct StackedRun<'a> {
    train: &'a TrainSpec,
    seeds: Seeds,
    head: Vec<HeadTensor>,
    state: TrainState,
}

/// Runs in training that [share their steps](crate::launch::stacking). Each has its own adapters, data order, dropout and optimisers.
pub struct RunStack<'a> {
    classifier: SequenceClassifier,
    collator: Collator,
    data: &'a TokenizedTask,
    runs: Vec<StackedRun<'a>>,
    rng: DropoutRng,
    parts: Parts,
}

impl<'a> RunStack<'a> {
    /// Heads, adapters and optimisers at their start values.
    ///
    /// # Errors
    /// Options that do not fit the run; no run.
    pub fn new(specs: &[&'a RunSpec], backbone: &Backbone, data: &'a TokenizedTask) -> Result<Self> {
        let spec = specs.first().ok_or_else(|| Error::Internal("no run to train".into()))?;
        let runs = specs.iter().map(|spec| StackedRun::new(spec, backbone, data)).collect::<Result<Vec<_>>>()?;
        let seeds: Vec<i64> = runs.iter().map(|run| run.seeds.dropout).collect();
        let TrainSpec { precision, padding, max_length, .. } = spec.train;
        let classifier = SequenceClassifier::new(backbone.encoder_in(weight_kind(precision))?, data.task);
        let collator = Collator::new(backbone, data.task, weight_kind(precision), padding, max_length);
        Ok(RunStack {
            classifier,
            collator,
            data,
            runs,
            rng: DropoutRng::new(&seeds, backbone.device),
            parts: Parts::new(backbone.micro_batch, None),
        })
    }

    /// The training batches of these runs.
    pub fn loader(&self) -> Loader<'a> {
        let seeds = self.runs.iter().map(|run| run.seeds).collect();
        Loader::new(&self.data.train, self.train(0), seeds, self.collator.of_layers(self.packs()))
    }

    /// Whether the layers of a step leave padding out where they may.
    fn packs(&self) -> bool {
        tch::no_grad(|| self.classifier.packs(self.attach(&self.views()).as_ref(), Some(&self.rng)))
    }

    /// Attachments of all runs at their next step.
    fn attach(&self, views: &[ParamViews]) -> Box<dyn Attach> {
        attach(&self.runs, views, weight_kind(self.train(0).precision), |run, views| {
            run.state.method().attach_step(views, run.state.step())
        })
    }

    /// Settings of a run; every run has the same but for its optimisers'.
    pub fn train(&self, run: usize) -> &'a TrainSpec {
        self.runs[run].train
    }

    /// Number of runs.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Device of the step.
    pub fn device(&self) -> Device {
        self.collator.device()
    }

    /// Parts that steps are taken in.
    pub fn parts(&self) -> Parts {
        self.parts
    }

    /// Parts that steps are taken in, to be changed.
    pub fn parts_mut(&mut self) -> &mut Parts {
        &mut self.parts
    }

    /// One step of every run, all of it on the device: [`RunStack::differentiate`], then [`RunStack::update`]. [`RunStack::advance`]
    /// follows on the host.
    ///
    /// # Errors
    /// Those of the two.
    pub fn step(&mut self, batch: &DeviceBatch) -> Result<Vec<StepValues>> {
        let losses = self.differentiate(batch)?;
        Ok(StepValues::of(losses, self.update()?))
    }

    /// Losses of a step and their gradients, part by part. Changes nothing else.
    ///
    /// # Errors
    /// A failure on the device.
    pub fn differentiate(&self, batch: &DeviceBatch) -> Result<Vec<StepLoss>> {
        let mut losses: Vec<StepLoss> = Vec::new();
        for (part, batch) in self.parts_of(batch) {
            let views = self.views();
            let task_losses = self.task_losses(&batch, &views);
            let of_runs = self.runs.iter().zip(&task_losses).zip(&views);
            let (totals, of_part): (Vec<Tensor>, Vec<StepLoss>) =
                of_runs.map(|((run, task), views)| run.state.loss_of(part, task, views)).unzip();
            // No run's loss depends on another's values, so the gradient of the sum is that of each.
            Tensor::stack(&totals, 0).sum(None::<Kind>).f_backward()?;
            losses = match losses.is_empty() {
                true => of_part,
                false => losses.into_iter().zip(of_part).map(|(sum, part)| sum.plus(part)).collect(),
            };
        }
        Ok(losses)
    }

    /// Updates every run by its gradients, and gives the norm of each run's before clipping, `[]`.
    ///
    /// # Errors
    /// A parameter without a gradient, more steps than planned, a failure on the device.
    pub fn update(&mut self) -> Result<Vec<Tensor>> {
        let norms = self.runs.iter_mut().map(|run| Ok(run.state.update()?)).collect::<Result<_>>()?;
        self.rng.advance();
        Ok(norms)
    }

    /// Parts of a batch, one after the other; dropout then draws for the rows of the part.
    fn parts_of(&self, batch: &DeviceBatch) -> impl Iterator<Item = (Part, DeviceBatch)> {
        let rows = batch.rows() / self.runs.len();
        let ranges = self.parts.ranges(rows);
        let is_whole = ranges.len() == 1;
        ranges.into_iter().map(move |range| {
            if self.parts.rows().is_some() {
                self.rng.begin_at(range.start as i64);
            }
            if is_whole {
                return (Part::WHOLE, batch.shallow_clone());
            }
            let part = Part { share: range.len() as f64 / rows as f64, is_first: range.start == 0 };
            (part, batch.part(self.runs.len(), &range))
        })
    }

    /// The forward pass of every part of a batch, for what it leaves behind: caches kept per shape.
    pub fn fill_caches(&self, batch: &DeviceBatch) {
        tch::no_grad(|| self.parts_of(batch).for_each(|(_, batch)| drop(self.task_losses(&batch, &self.views()))));
    }

    /// Lets the gradients go of a step that broke off.
    pub fn clear_gradients(&self) {
        self.runs.iter().for_each(|run| run.state.clear_gradients());
    }

    /// Counts a step that was taken.
    pub fn advance(&mut self) {
        self.runs.iter_mut().for_each(|run| run.state.advance());
    }

    /// Phase of every run's next step.
    pub fn phases(&self) -> Vec<usize> {
        self.runs.iter().map(|run| run.state.phase()).collect()
    }

    /// Parameters of every run as views, one split a flat group.
    pub fn views(&self) -> Vec<ParamViews> {
        self.runs.iter().map(|run| run.state.params().views()).collect()
    }

    /// Mean task loss `[]` of every run.
    fn task_losses(&self, batch: &DeviceBatch, views: &[ParamViews]) -> Vec<Tensor> {
        let heads = self.runs.iter().zip(views).map(|(run, views)| run.head_values(views));
        let head = stack_heads(heads.collect());
        let attached = self.attach(views);
        let logits = self.classifier.logits(&batch.tokens, &head, attached.as_ref(), Some(&self.rng));
        self.classifier.mean_losses(&logits, &batch.labels, self.rng.runs())
    }

    /// Predicts every row with a run's values as they are.
    ///
    /// # Errors
    /// A failure on the device.
    pub fn predict(&self, run: usize, rows: &[TokenizedExample]) -> Result<Predictions> {
        tch::no_grad(|| {
            let run = &self.runs[run];
            let views = run.state.params().views();
            let kind = weight_kind(run.train.precision);
            let attached = attach(slice::from_ref(run), slice::from_ref(&views), kind, |run, views| {
                run.state.method().attach(views)
            });
            let head = run.head_values(&views);
            predict(&self.classifier, &self.collator, (&head, attached.as_ref()), rows, run.train.batch_size)
        })
    }

    /// Trained values, method and step count of a run.
    pub fn state(&self, run: usize) -> &TrainState {
        &self.runs[run].state
    }

    /// Overwrites a run's trained values with a copy taken by [`methods::optim::params::Params::state`].
    ///
    /// # Errors
    /// Values of another run.
    pub fn restore(&self, run: usize, values: &[(String, Tensor)]) -> Result<()> {
        let taken = values.iter().all(|(group, value)| self.state(run).params().load(group, value));
        if taken { Ok(()) } else { Err(Error::Internal("a checkpoint of another run was restored".into())) }
    }

    /// The trained values of a run, as files hold them. The head is always there, trained or not: without it an adapter's
    /// results cannot be had again.
    pub fn trained(&self, run: usize) -> Box<dyn TrainedAdapter> {
        let run = &self.runs[run];
        tch::no_grad(|| {
            let views = run.state.params().views();
            let head: BTreeMap<String, Tensor> =
                run.head.iter().map(|tensor| (tensor.name.clone(), tensor.value(&views).copy())).collect();
            run.state.method().trained(&views, head)
        })
    }

    /// Ends a stage of every run's schedule.
    pub fn end_stage(&mut self) {
        self.runs.iter_mut().for_each(|run| run.state.stage_end());
    }

    /// Goes to a step of the schedule, values as they are.
    ///
    /// # Errors
    /// A failure on the device.
    pub fn go_to(&mut self, step: usize) -> Result<()> {
        let number = ("done".to_string(), Tensor::from(step as i64));
        self.runs.iter_mut().try_for_each(|run| Ok(run.state.load(slice::from_ref(&number))?))
    }

    /// Everything the next step of each run depends on, by name: values, moments, the method's state, the step's number.
    pub fn states(&self) -> Vec<Vec<(String, Tensor)>> {
        self.runs.iter().map(|run| run.state.state()).collect()
    }

    /// Takes back states of [`RunStack::states`]. Dropout is a function of seed and step, so it follows them.
    ///
    /// # Errors
    /// States of other runs.
    pub fn load(&mut self, states: &[Vec<(String, Tensor)>]) -> Result<()> {
        for (run, state) in self.runs.iter_mut().zip(states) {
            run.state.load(state)?;
        }
        let rng: Vec<i64> = self.runs.iter().flat_map(|run| [run.seeds.dropout, run.state.done() as i64, 0]).collect();
        self.rng.load(&Tensor::from_slice(&rng).view([-1, 3]));
        Ok(())
    }
}

impl HeadTensor {
    fn value(&self, views: &ParamViews) -> Tensor {
        match &self.value {
            HeadValue::Trained(id) => views.get(*id).shallow_clone(),
            HeadValue::Fixed(value) => value.shallow_clone(),
        }
    }
}

impl<'a> StackedRun<'a> {
    fn new(spec: &'a RunSpec, backbone: &Backbone, data: &TokenizedTask) -> Result<Self> {
        let encoder = backbone.encoder.as_ref();
        let seeds = Seeds::of(spec.seed);
        let config = optim_config(&spec.train, data.train.len());
        let mut params = ParamsBuilder::new(backbone.device, Kind::Float);
        let context = Context {
            target_modules: &encoder.info().target_modules,
            backbone: &encoder.info().weights,
            components: &backbone.components,
            protocol: &config,
            hidden_size: encoder.info().hidden_size,
            seed: seeds.adapter,
        };
        let method = methods::registry::find(&spec.method)?.build(&spec.options, &context, &mut params)?;
        let head = encoder.new_head(data.task.labels.outputs() as i64, seeds.head);
        let head = head
            .params
            .into_iter()
            .map(|p| {
                let group = if p.decayed { ParamGroup::DECAYED } else { ParamGroup::UNDECAYED };
                let value = match spec.train.train_head {
                    true => HeadValue::Trained(params.add(group, p.name.as_str(), &p.init)),
                    false => HeadValue::Fixed(p.init.to_kind(Kind::Float).to_device(backbone.device)),
                };
                HeadTensor { name: p.name, value }
            })
            .collect();
        Ok(StackedRun { train: &spec.train, seeds, head, state: TrainState::new(params.finish(), method, &config) })
    }

    fn head_values(&self, views: &ParamViews) -> Vec<Tensor> {
        self.head.iter().map(|tensor| tensor.value(views)).collect()
    }
}

/// The heads' tensors: of one run as they are, of several each as a stack.
fn stack_heads(mut heads: Vec<Vec<Tensor>>) -> Vec<Tensor> {
    if heads.len() == 1 {
        return heads.remove(0);
    }
    let tensor = |index: usize| Tensor::stack(&heads.iter().map(|head| &head[index]).collect::<Vec<_>>(), 0);
    (0..heads.first().map_or(0, Vec::len)).map(tensor).collect()
}

/// Attachments of all runs, made of their parameters rounded to a kind. Neighbours that attach alike have their parameters stacked
/// first, so that what a method does for its modules is done once for all of them.
fn attach(
    runs: &[StackedRun],
    views: &[ParamViews],
    kind: Kind,
    of_views: impl Fn(&StackedRun, &ParamViews) -> Box<dyn Attach>,
) -> Box<dyn Attach> {
    let rounded: Vec<ParamViews> = match kind {
        Kind::Float => Vec::new(),
        kind => runs.iter().map(|run| run.state.params().views_as(kind)).collect(),
    };
    let mut views = if rounded.is_empty() { views } else { &rounded };
    if let ([run], [views]) = (runs, views) {
        return of_views(run, views);
    }
    let mut stacks: Vec<Box<dyn Attach>> = Vec::new();
    for alike in runs.chunk_by(|a, b| attaches_alike(a.state.method(), b.state.method())) {
        let (of_alike, others) = views.split_at(alike.len());
        stacks.push(of_views(&alike[0], &ParamViews::stack(of_alike)));
        views = others;
    }
    match stacks.len() {
        1 => stacks.remove(0),
        _ => Box::new(StackedBranches::new(stacks, runs[0].state.method().target_modules())),
    }
}
