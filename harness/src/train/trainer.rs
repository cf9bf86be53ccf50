//! The training loop. It names no method: whatever differs between methods lies behind [`methods::Method`].

use std::collections::{BTreeMap, BTreeSet};
use std::slice;
use std::time::Instant;

use datasets::batch::Batch;
use datasets::permutation::torch_randperm;
use datasets::tokenizer::Encoded;
use encoders::Attach;
use methods::optim::config::LinearSchedule;
use methods::optim::params::{ParamGroup, ParamId, ParamViews, ParamsBuilder};
use methods::peft::export::Exported;
use methods::train_state::StepLoss;
use methods::{Context, OptimConfig, TrainState};
use tch::{Kind, Tensor};
use torch_ext::graph::Graph;
use torch_ext::ops::dropout::DropoutRng;

use crate::env::clock::Clock;
use crate::error::{Error, Result};
use crate::load::inputs::{Inputs as RunInputs, TaskData};
use crate::plan::spec::{Order, RunSpec, TrainSpec};
use crate::store::rows::{EpochRow, PeakMiB};
use crate::train::classifier::{BATCHES_AHEAD, DeviceBatch, Forward, Predicted, Shape};
use crate::train::seeds::Seeds;

/// Batches in a window of [`Order::Grouped`].
const WINDOW: usize = 16;

/// A tensor of the head.
struct HeadPart {
    name: String,
    value: HeadValue,
}

/// Trained, or as initialised.
enum HeadValue {
    Trained(ParamId),
    Fixed(Tensor),
}

impl HeadPart {
    fn value(&self, views: &ParamViews) -> Tensor {
        match &self.value {
            HeadValue::Trained(slot) => views.get(*slot).shallow_clone(),
            HeadValue::Fixed(value) => value.shallow_clone(),
        }
    }
}

/// What each of the runs that are trained side by side has for itself.
struct Run {
    seeds: Seeds,
    head: Vec<HeadPart>,
    step: TrainState,
}

impl Run {
    fn head_values(&self, views: &ParamViews) -> Vec<Tensor> {
        self.head.iter().map(|part| part.value(views)).collect()
    }
}

/// Runs in training that differ in nothing but their seed: usually one; several share the passes through the backbone, each
/// with its own adapters, data order, dropout and optimisers.
pub struct Trainer<'a> {
    forward: Forward,
    data: &'a TaskData,
    train: &'a TrainSpec,
    runs: Vec<Run>,
    random: DropoutRng,
    /// Recorded steps, where steps are recorded.
    captures: Option<BTreeMap<Recorded, Captured>>,
    /// Whether a step was taken: the very first makes what every later one finds.
    is_warm: bool,
    /// Steps recorded so far, and the seconds that took.
    recordings: (usize, f64),
}

/// What a recorded step serves: batches of a shape, and a phase of the method.
type Recorded = (Shape, usize);

/// A training step recorded as a CUDA graph: it reads `batch` and writes `losses`.
struct Captured {
    graph: Graph,
    batch: DeviceBatch,
    losses: Vec<StepLoss>,
}

/// Sums over the steps of an epoch, on the device.
struct Sums {
    task: Tensor,
    penalty: Tensor,
    tokens: u64,
}

/// Steps of a run: those that are taken, and those the learning-rate schedule counts.
///
/// The release divides without rounding up (`epochs * rows / batch`, truncated), so with a short last batch the rate
/// reaches 0 before the last step (spec §3.2).
pub fn lengths(train: &TrainSpec, rows: usize) -> (usize, usize) {
    let taken = train.epochs * rows.div_ceil(train.batch_size);
    let scheduled = (train.epochs as f64 * rows as f64 / train.batch_size as f64) as usize;
    (taken, scheduled)
}

/// Optimiser settings of a run: warm-up rounded up for weights and down for gates, as released.
pub fn protocol(train: &TrainSpec, rows: usize) -> OptimConfig {
    let (steps, total) = lengths(train, rows);
    let warmup = train.warmup_ratio * total as f64;
    OptimConfig {
        lr: train.lr,
        weight_decay: train.weight_decay,
        decay_order: train.decay_order,
        max_grad_norm: train.max_grad_norm,
        steps,
        schedule: LinearSchedule { warmup: warmup.ceil() as usize, total },
        gate_schedule: LinearSchedule { warmup: warmup as usize, total },
    }
}

/// Positions of the training rows, batch after batch, for the epoch with this seed.
pub fn order(rows: &[Encoded], train: &TrainSpec, seed: u64) -> Vec<usize> {
    let mut order = torch_randperm(rows.len(), seed);
    if train.order == Order::Random {
        return order;
    }
    let whole = rows.len() / train.batch_size * train.batch_size;
    for window in order[..whole].chunks_mut(train.batch_size * WINDOW) {
        window.sort_by_key(|&row| rows[row].encoding.ids.len());
    }
    // The short last batch stays last.
    let (batches, rest) = order.split_at(whole);
    let shuffled = torch_randperm(whole / train.batch_size, seed);
    let batch = |index: usize| &batches[index * train.batch_size..(index + 1) * train.batch_size];
    shuffled.into_iter().flat_map(batch).chain(rest).copied().collect()
}

impl<'a> Trainer<'a> {
    /// Heads, adapters and optimisers at their start values, for runs that differ in their seed only.
    ///
    /// # Errors
    /// Options that do not fit the run; no run.
    pub fn new(specs: &[&'a RunSpec], inputs: &'a RunInputs, data: &'a TaskData) -> Result<Self> {
        let spec = specs.first().ok_or_else(|| Error::Internal("no run to train".into()))?;
        let runs = specs.iter().map(|spec| Run::new(spec, inputs, data)).collect::<Result<Vec<_>>>()?;
        let seeds: Vec<i64> = runs.iter().map(|run| run.seeds.dropout).collect();
        let TrainSpec { precision, padding, max_length, .. } = spec.train;
        let forward = Forward::new(inputs, data.task, precision, padding, max_length)?;
        let random = DropoutRng::new(&seeds, inputs.device);
        let captures = inputs.graphs.then(BTreeMap::new);
        let (is_warm, recordings) = (false, (0, 0.0));
        Ok(Trainer { forward, data, train: &spec.train, runs, random, captures, is_warm, recordings })
    }

    /// Trained values, method and step count of a run.
    pub fn step(&self, run: usize) -> &TrainState {
        &self.runs[run].step
    }

    /// Overwrites a run's trained values with a copy taken by [`methods::optim::params::Params::state`].
    pub fn restore(&self, run: usize, state: &[(String, Tensor)]) -> Result<()> {
        let taken = state.iter().all(|(group, value)| self.step(run).params().load(group, value));
        if taken { Ok(()) } else { Err(Error::Internal("a checkpoint of another run was restored".into())) }
    }

    /// What was trained, as files hold it; the head is always there, trained or not: without it an adapter's results
    /// cannot be had again.
    pub fn exported(&self, run: usize) -> Exported {
        let run = &self.runs[run];
        tch::no_grad(|| {
            let views = run.step.params().views();
            let head: BTreeMap<String, Tensor> =
                run.head.iter().map(|part| (part.name.clone(), part.value(&views).copy())).collect();
            Exported::new(run.step.method(), &views, head)
        })
    }

    /// Tokens of the longest training row, padded: what a batch can come to.
    pub fn longest(&self) -> usize {
        let all: Vec<usize> = (0..self.data.train.len()).collect();
        self.forward
            .layout(&self.data.train, &all, self.train.batch_size)
            .iter()
            .map(|batch| batch.length)
            .max()
            .unwrap_or(0)
    }

    /// Trains one epoch, from 1, and gives a row for each run; `seconds` of runs side by side are an equal share of the
    /// whole. `between` is called after every step with the running clock: what must not count is done in a pause of it,
    /// what waits for nothing needs none.
    ///
    /// # Errors
    /// Whatever `between` ends with; for one run, a loss that is not finite.
    pub fn epoch(
        &mut self,
        epoch: usize,
        between: &mut dyn FnMut(&Self, &mut Clock) -> Result<()>,
    ) -> Result<Vec<Result<EpochRow>>> {
        let (device, size) = (self.forward.device, self.train.batch_size);
        let orders: Vec<Vec<usize>> =
            self.runs.iter().map(|run| order(&self.data.train, self.train, run.seeds.order(epoch))).collect();
        let mut clock = Clock::start(device)?;
        let before = self.recordings;
        let zero = || Tensor::zeros([], (Kind::Double, device));
        let mut sums: Vec<Sums> = self.runs.iter().map(|_| Sums { task: zero(), penalty: zero(), tokens: 0 }).collect();
        let (mut steps, mut padded_tokens) = (0, 0);
        for start in (0..self.data.train.len()).step_by(size * BATCHES_AHEAD) {
            let end = self.data.train.len().min(start + size * BATCHES_AHEAD);
            let layouts: Vec<Vec<Batch>> =
                orders.iter().map(|order| self.forward.layout(&self.data.train, &order[start..end], size)).collect();
            for (sums, layout) in sums.iter_mut().zip(&layouts) {
                sums.tokens += layout.iter().map(|batch| batch.tokens).sum::<u64>();
            }
            let layout = self.joined(layouts);
            for (batch, on_device) in layout.iter().zip(self.forward.upload(&layout)) {
                let losses = self.train_step(&on_device)?;
                for (sums, losses) in sums.iter_mut().zip(losses) {
                    let _ = sums.task.g_add_(&losses.task);
                    if let Some(term) = losses.penalty {
                        let _ = sums.penalty.g_add_(&term);
                    }
                }
                steps += 1;
                padded_tokens += (batch.rows * batch.length / self.runs.len()) as u64;
                between(self, &mut clock)?;
            }
        }
        let seconds = clock.stop()? / self.runs.len() as f64;
        let PeakMiB { peak_allocated_mib, peak_reserved_mib, peak_resident_mib } =
            PeakMiB::of(torch_ext::device::peak_memory(device)?);
        let recordings = self.recordings.0 - before.0;
        let recording_seconds = (self.recordings.1 - before.1) / self.runs.len() as f64;
        let mean = |sum: &Tensor| sum.double_value(&[]) / steps.max(1) as f64;
        let row = |sums: &Sums| {
            let (task_loss, penalty, tokens) = (mean(&sums.task), mean(&sums.penalty), sums.tokens);
            if !(task_loss + penalty).is_finite() {
                let lr = self.train.lr;
                return Err(Error::Diverged(format!(
                    "the loss is not finite in epoch {epoch}; a smaller lr than {lr} may help"
                )));
            }
            Ok(EpochRow {
                epoch,
                steps,
                seconds,
                task_loss,
                penalty,
                tokens,
                padded_tokens,
                recordings,
                recording_seconds,
                peak_allocated_mib,
                peak_reserved_mib,
                peak_resident_mib,
            })
        };
        Ok(sums.iter().map(row).collect())
    }

    /// Takes one step of every kind that the run will have (shapes of its batches, phases of its method) and takes it back: values,
    /// optimisers and random numbers are as before, and what a first step makes (recordings, caches, memory) is there. Of one run.
    ///
    /// # Errors
    /// As a step.
    pub fn warm_up(&mut self) -> Result<()> {
        let random = self.random.state();
        let states: Vec<_> = self.runs.iter().map(|run| run.step.state()).collect();
        let mut seen = BTreeSet::new();
        let mut t = 0;
        for epoch in 1..=self.train.epochs {
            let order = order(&self.data.train, self.train, self.runs[0].seeds.order(epoch));
            for batch in self.forward.layout(&self.data.train, &order, self.train.batch_size) {
                if seen.insert((self.forward.shape(&batch), self.step(0).method().phase(t))) {
                    // The very first step is not recorded, so its kind comes once more.
                    for _ in 0..=usize::from(!self.is_warm) {
                        self.go_to(t)?;
                        for on_device in self.forward.upload(slice::from_ref(&batch)) {
                            self.train_step(&on_device)?;
                        }
                    }
                }
                t += 1;
            }
        }
        self.random.load(&random);
        for (run, state) in self.runs.iter_mut().zip(states) {
            run.step.load(&state)?;
        }
        Ok(())
    }

    fn go_to(&mut self, step: usize) -> Result<()> {
        let number = ("done".to_string(), Tensor::from(step as i64));
        self.runs.iter_mut().try_for_each(|run| Ok(run.step.load(slice::from_ref(&number))?))
    }

    /// Parts of the method's schedule that the steps of an epoch (from 1) lie in, e.g. `full budget → falling budget`.
    pub fn schedule_parts(&self, epoch: usize) -> String {
        let steps = self.data.train.len().div_ceil(self.train.batch_size);
        let mut parts: Vec<&str> =
            ((epoch - 1) * steps..epoch * steps).map(|t| self.step(0).method().schedule_part(t)).collect();
        parts.dedup();
        parts.join(" → ")
    }

    /// The runs' batches as one of each step.
    fn joined(&self, layouts: Vec<Vec<Batch>>) -> Vec<Batch> {
        let count = layouts.first().map_or(0, Vec::len);
        let mut layouts: Vec<_> = layouts.into_iter().map(Vec::into_iter).collect();
        (0..count).map(|_| self.forward.side_by_side(layouts.iter_mut().filter_map(Iterator::next).collect())).collect()
    }

    /// One step of every run. Where steps are recorded, the very first one is not, since much is made by the first call of
    /// its kind; every other is recorded at its first occurrence and replayed.
    fn train_step(&mut self, batch: &DeviceBatch) -> Result<Vec<StepLoss>> {
        let key = (batch.shape(), self.step(0).phase());
        let is_first = !self.is_warm;
        self.is_warm = true;
        let known = self.captures.as_mut().filter(|_| !is_first).map(|captures| captures.remove(&key));
        let losses = match known {
            None => self.compute(batch)?,
            Some(known) => {
                let captured = match known {
                    Some(captured) => captured,
                    None => self.record(batch)?,
                };
                captured.batch.overwrite(batch);
                captured.graph.replay()?;
                let losses = captured.losses.iter().map(StepLoss::shallow_clone).collect();
                if let Some(captures) = &mut self.captures {
                    captures.insert(key, captured);
                }
                losses
            }
        };
        self.runs.iter_mut().for_each(|run| run.step.advance());
        Ok(losses)
    }

    /// The step for batches of this shape.
    fn record(&mut self, batch: &DeviceBatch) -> Result<Captured> {
        torch_ext::device::synchronize(self.forward.device)?;
        let started = Instant::now();
        // What is made once a shape must not be made while recording; and what it took must not stay beside the recording.
        tch::no_grad(|| drop(self.forward_losses(batch, &self.views())));
        torch_ext::device::release_memory(self.forward.device)?;
        let batch = batch.copy();
        let (graph, losses) = Graph::capture(|| self.compute(&batch))?;
        self.recordings = (self.recordings.0 + 1, self.recordings.1 + started.elapsed().as_secs_f64());
        Ok(Captured { graph, batch, losses })
    }

    fn views(&self) -> Vec<ParamViews> {
        self.runs.iter().map(|run| run.step.params().views()).collect()
    }

    /// Task loss of every run.
    fn forward_losses(&self, batch: &DeviceBatch, views: &[ParamViews]) -> Vec<Tensor> {
        let heads = self.runs.iter().zip(views).map(|(run, views)| run.head_values(views));
        let head = stacked(heads.collect());
        let attached = attached(&self.runs, views, self.train.precision.kind());
        self.forward.losses(&head, attached.as_ref(), batch, &self.random)
    }

    /// What a step computes, all of it on the device: losses, gradients, updates.
    fn compute(&mut self, batch: &DeviceBatch) -> Result<Vec<StepLoss>> {
        let views = self.views();
        let task = self.forward_losses(batch, &views);
        let of_runs = self.runs.iter().zip(&task).zip(&views);
        let (totals, losses): (Vec<Tensor>, Vec<StepLoss>) =
            of_runs.map(|((run, task), views)| run.step.loss(task, views)).unzip();
        // No run's loss depends on another's values, so the gradient of the sum is that of each.
        Tensor::stack(&totals, 0).sum(None::<Kind>).f_backward()?;
        for run in &mut self.runs {
            let _norm = run.step.update()?;
        }
        self.random.advance();
        Ok(losses)
    }

    /// Predicts every row with a run's values as they are.
    ///
    /// # Errors
    /// As [`Forward::predict`].
    pub fn predict(&self, run: usize, rows: &[Encoded]) -> Result<Predicted> {
        tch::no_grad(|| {
            let run = &self.runs[run];
            let views = run.step.params().views();
            let attached = attached(slice::from_ref(run), slice::from_ref(&views), self.train.precision.kind());
            self.forward.predict(&run.head_values(&views), attached.as_ref(), rows, self.train.batch_size)
        })
    }
}

/// The heads' tensors: of one run as they are, of several each as a stack.
fn stacked(mut heads: Vec<Vec<Tensor>>) -> Vec<Tensor> {
    if heads.len() == 1 {
        return heads.remove(0);
    }
    let part = |index: usize| Tensor::stack(&heads.iter().map(|head| &head[index]).collect::<Vec<_>>(), 0);
    (0..heads.first().map_or(0, Vec::len)).map(part).collect()
}

/// What the method attaches for all runs, rounded to a kind.
fn attached(runs: &[Run], views: &[ParamViews], kind: Kind) -> Box<dyn Attach> {
    let rounded: Vec<ParamViews> = match kind {
        Kind::Float => Vec::new(),
        kind => runs.iter().map(|run| run.step.params().views_as(kind)).collect(),
    };
    let method = runs[0].step.method();
    match if rounded.is_empty() { views } else { &rounded } {
        [one] => method.attach(one),
        several => method.attach(&ParamViews::together(several)),
    }
}

impl Run {
    fn new(spec: &RunSpec, inputs: &RunInputs, data: &TaskData) -> Result<Self> {
        let encoder = inputs.encoder.as_ref();
        let seeds = Seeds::of(spec.seed);
        let protocol = protocol(&spec.train, data.train.len());
        let mut params = ParamsBuilder::new(inputs.device, Kind::Float);
        let context = Context {
            target_modules: &encoder.info().target_modules,
            backbone: &encoder.info().weights,
            protocol: &protocol,
            hidden_size: encoder.info().hidden_size,
            seed: seeds.adapter,
        };
        let method = (methods::registry::find(&spec.method)?.build)(&spec.options, &context, &mut params)?;
        let head = encoder.new_head(data.task.labels.outputs() as i64, seeds.head);
        let head = head
            .params
            .into_iter()
            .map(|p| {
                let group = if p.decayed { ParamGroup::Decayed } else { ParamGroup::Undecayed };
                let value = match spec.train.train_head {
                    true => HeadValue::Trained(params.add(group, p.name.as_str(), &p.init)),
                    false => HeadValue::Fixed(p.init.to_kind(Kind::Float).to_device(inputs.device)),
                };
                HeadPart { name: p.name, value }
            })
            .collect();
        Ok(Run { seeds, head, step: TrainState::new(params.finish(), method, &protocol) })
    }
}

#[cfg(test)]
mod tests {
    use datasets::batch::Padding;
    use datasets::tokenizer::Encoding;
    use proptest::prelude::*;

    use super::*;
    use crate::plan::spec::{EvaluateEvery, Precision};

    fn train(batch_size: usize, order: Order) -> TrainSpec {
        TrainSpec {
            epochs: 1,
            batch_size,
            lr: 1.0,
            warmup_ratio: 0.0,
            weight_decay: 0.0,
            decay_order: methods::optim::config::DecayOrder::Before,
            max_grad_norm: 1.0,
            max_length: 64,
            padding: Padding::Bucket(1),
            order,
            evaluate: EvaluateEvery::Epochs(1),
            train_head: true,
            precision: Precision::Fp32,
            device: "cpu".into(),
        }
    }

    proptest! {
        #[test]
        fn every_row_comes_once_and_groups_pad_less(lengths in prop::collection::vec(1usize..64, 1..200), size in 1usize..9, seed: u64) {
            let row = |(row, &n): (usize, &usize)| Encoded { encoding: Encoding { ids: vec![1; n], type_ids: vec![0; n] }, label: 0.0, row };
            let rows: Vec<Encoded> = lengths.iter().enumerate().map(row).collect();
            let padded = |kind: Order| {
                let order = order(&rows, &train(size, kind), seed);
                let mut sorted = order.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..rows.len()).collect::<Vec<_>>());
                order.chunks(size).map(|c| c.iter().map(|&i| lengths[i]).max().unwrap_or(0) * c.len()).sum::<usize>()
            };
            prop_assert!(padded(Order::Grouped) <= padded(Order::Random));
        }
    }

    #[test]
    fn steps_follow_the_release() {
        // 10 rows in batches of 4 over 3 epochs: 9 steps are taken, the schedule counts 7 (spec §3.2).
        let spec = TrainSpec { epochs: 3, ..train(4, Order::Random) };
        assert_eq!(lengths(&spec, 10), (9, 7));
    }
}
