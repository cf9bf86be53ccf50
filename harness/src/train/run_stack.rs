//! Runs that share the passes through the backbone, and the training step they take: usually one run.

use std::collections::BTreeMap;
use std::iter;
use std::ops::Range;
use std::slice;

use datasets::tokenizer::TokenizedExample;
use encoders::Attach;
use methods::adapter::stacked_branches::StackedBranches;
use methods::method::attaches_alike;
use methods::optim::params::{ParamGroup, ParamId, ParamViews, Params, ParamsBuilder};
use methods::peft::format::TrainedAdapter;
use methods::train_state::{Part, StepLoss};
use methods::{Context, Method, TrainState};
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

/// Parameters of neighbouring runs in the graph of one step: of one run in training alone, or stacked, of runs that attach alike.
struct RunViews {
    runs: Range<usize>,
    /// In float32, and in the kind of the backbone's weights where that is another.
    kinds: Vec<ParamViews>,
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
        if runs.len() > 1 && runs.iter().any(|run| run.state.method().module_groups().is_none()) {
            return Err(Error::Internal("a run without plain branches was stacked".into()));
        }
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
            let penalties = if part.is_first { self.penalties(&views) } else { Vec::new() };
            let penalties = penalties.into_iter().chain(iter::repeat_with(|| None));
            let of_runs = self.runs.iter().zip(&task_losses).zip(penalties);
            let (totals, of_part): (Vec<Tensor>, Vec<StepLoss>) =
                of_runs.map(|((run, task), penalty)| run.state.loss_with(part, task, || penalty)).unzip();
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
        let mut states: Vec<&mut TrainState> = self.runs.iter_mut().map(|run| &mut run.state).collect();
        let norms = TrainState::update_all(&mut states)?.unbind(0);
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

    /// Parameters of every run as views. Runs that attach alike are stacked, so that what a method does for its modules is done once
    /// for all of them.
    fn views(&self) -> Vec<RunViews> {
        if let [run] = self.runs.as_slice() {
            return vec![RunViews::of_one(run)];
        }
        let alike = self.runs.chunk_by(StackedRun::attaches_like);
        let first = alike.clone().scan(0, |next, runs| {
            let first = *next;
            *next += runs.len();
            Some(first)
        });
        alike.zip(first).map(|(runs, first)| RunViews::of_stack(first, runs)).collect()
    }

    /// Mean task loss `[]` of every run.
    fn task_losses(&self, batch: &DeviceBatch, views: &[RunViews]) -> Vec<Tensor> {
        let attached = self.attach(views);
        let logits = self.classifier.logits(&batch.tokens, &self.head(views), attached.as_ref(), Some(&self.rng));
        self.classifier.mean_losses(&logits, &batch.labels, self.rng.runs())
    }

    /// Attachments of all runs in a training step.
    fn attach(&self, views: &[RunViews]) -> Box<dyn Attach> {
        if let ([run], [views]) = (self.runs.as_slice(), views) {
            return run.state.method().attach_step(views.attached(), run.state.step());
        }
        let groups = views.iter().filter_map(|views| self.method(views).module_groups());
        let stacks: Vec<_> = groups.zip(views.iter().map(RunViews::attached)).collect();
        Box::new(StackedBranches::new(&stacks))
    }

    /// The method of alike runs.
    fn method(&self, views: &RunViews) -> &dyn Method {
        self.runs[views.runs.start].state.method()
    }

    /// The heads' tensors: of one run as they are, of several each as a stack.
    fn head(&self, views: &[RunViews]) -> Vec<Tensor> {
        if let ([run], [views]) = (self.runs.as_slice(), views) {
            return run.head_values(views.exact());
        }
        let of_alike = |index: usize, views: &RunViews| {
            let heads = self.runs[views.runs.clone()].iter().map(|run| &run.head[index]);
            stacked_head(&heads.collect::<Vec<_>>(), views.exact())
        };
        let tensor =
            |index: usize| Tensor::cat(&views.iter().map(|views| of_alike(index, views)).collect::<Vec<_>>(), 0);
        (0..self.runs[0].head.len()).map(tensor).collect()
    }

    /// Every run's [`Method::penalty`].
    fn penalties(&self, views: &[RunViews]) -> Vec<Option<Tensor>> {
        let of_alike = |views: &RunViews| {
            let runs = &self.runs[views.runs.clone()];
            let has_any = runs.iter().any(|run| run.state.method().penalty_weight().is_some());
            let penalty = has_any.then(|| self.method(views).penalty(views.exact())).flatten();
            let penalties = penalty.map(|penalty| penalty.view([-1]).unbind(0).into_iter());
            let mut penalties = penalties.into_iter().flatten();
            (0..runs.len()).map(|_| penalties.next()).collect::<Vec<_>>()
        };
        views.iter().flat_map(of_alike).collect()
    }

    /// Predicts every row with a run's values as they are.
    ///
    /// # Errors
    /// A failure on the device.
    pub fn predict(&self, run: usize, rows: &[TokenizedExample]) -> Result<Predictions> {
        tch::no_grad(|| {
            let run = &self.runs[run];
            let views = RunViews::of_one(run);
            let attached = run.state.method().attach(views.attached());
            let head = run.head_values(views.exact());
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

    /// Kinds that its parameters are used in.
    fn kinds(&self) -> Vec<Kind> {
        let rounded = Some(weight_kind(self.train.precision)).filter(|kind| *kind != Kind::Float);
        iter::once(Kind::Float).chain(rounded).collect()
    }

    /// Whether its parameters can be stacked with another run's.
    fn attaches_like(&self, other: &Self) -> bool {
        let [one, other] = [&self.state, &other.state];
        attaches_alike(one.method(), other.method()) && one.params().is_laid_out_as(other.params())
    }

    fn head_values(&self, views: &ParamViews) -> Vec<Tensor> {
        self.head.iter().map(|tensor| tensor.value(views)).collect()
    }
}

impl RunViews {
    fn of_one(run: &StackedRun) -> Self {
        RunViews { runs: 0..1, kinds: run.state.params().views_in(&run.kinds()) }
    }

    /// Those of alike runs, the first of which has a place in the stack.
    fn of_stack(first: usize, runs: &[StackedRun]) -> Self {
        let params: Vec<&Params> = runs.iter().map(|run| run.state.params()).collect();
        RunViews { runs: first..first + runs.len(), kinds: ParamViews::stack(&params, &runs[0].kinds()) }
    }

    /// Those of head and penalty.
    fn exact(&self) -> &ParamViews {
        &self.kinds[0]
    }

    /// Those that attachments are made of.
    fn attached(&self) -> &ParamViews {
        &self.kinds[self.kinds.len() - 1]
    }
}

/// A tensor of alike runs' heads, with a dimension of runs in front.
fn stacked_head(heads: &[&HeadTensor], views: &ParamViews) -> Tensor {
    match &heads[0].value {
        HeadValue::Trained(_) => heads[0].value(views),
        HeadValue::Fixed(_) => Tensor::stack(&heads.iter().map(|head| head.value(views)).collect::<Vec<_>>(), 0),
    }
}
