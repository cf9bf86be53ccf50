//! The training loop. It names no method: whatever differs between methods lies behind [`methods::Method`].

use std::collections::BTreeMap;

use datasets::random::torch_randperm;
use datasets::tokenizer::Encoded;
use encoders::Attach;
use methods::export::Exported;
use methods::optim::LinearSchedule;
use methods::params::{Builder, GroupKind, Slot, Views};
use methods::step::StepLoss;
use methods::{Context, Protocol, Step};
use tch::{Kind, Tensor};
use torch_ext::graph::Graph;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::forward::{BATCHES_AHEAD, DeviceBatch, Forward, Predicted};
use crate::inputs::{Inputs as RunInputs, TaskData};
use crate::record::EpochRow;
use crate::seeds::Seeds;
use crate::spec::{Order, RunSpec, TrainSpec};

/// Batches in a window of [`Order::Grouped`].
const WINDOW: usize = 16;

/// A tensor of the head.
struct HeadPart {
    name: String,
    value: HeadValue,
}

/// Trained, or as initialised.
enum HeadValue {
    Trained(Slot),
    Fixed(Tensor),
}

impl HeadPart {
    fn value(&self, views: &Views) -> Tensor {
        match &self.value {
            HeadValue::Trained(slot) => views.get(*slot).shallow_clone(),
            HeadValue::Fixed(value) => value.shallow_clone(),
        }
    }
}

/// One run in training.
pub struct Trainer<'a> {
    forward: Forward<'a>,
    data: &'a TaskData,
    train: &'a TrainSpec,
    seeds: Seeds,
    head: Vec<HeadPart>,
    step: Step,
    /// Recorded steps by rows and length, where steps are recorded.
    captures: Option<BTreeMap<(usize, usize), Option<Captured>>>,
}

/// A training step recorded as a CUDA graph: it reads `batch` and writes `losses`.
struct Captured {
    graph: Graph,
    batch: DeviceBatch,
    losses: StepLoss,
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
pub fn protocol(train: &TrainSpec, rows: usize) -> Protocol {
    let (steps, total) = lengths(train, rows);
    let warmup = train.warmup_ratio * total as f64;
    Protocol {
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
    /// Head, adapters and optimisers at their start values.
    ///
    /// # Errors
    /// Options that do not fit the run.
    pub fn new(spec: &'a RunSpec, inputs: &'a RunInputs, data: &'a TaskData) -> Result<Self> {
        let encoder = inputs.encoder.as_ref();
        let seeds = Seeds::of(spec.seed);
        let protocol = protocol(&spec.train, data.train.len());
        let mut params = Builder::new(inputs.device, Kind::Float);
        let context = Context {
            sites: encoder.sites(),
            backbone: encoder.weights(),
            protocol: &protocol,
            hidden_size: encoder.hidden_size(),
            seed: seeds.adapter,
        };
        let method = (methods::registry::find(&spec.method)?.build)(&spec.options, &context, &mut params)?;
        let head = encoder.head(data.task.labels.outputs() as i64, seeds.head);
        let head = head
            .params
            .into_iter()
            .map(|p| {
                let group = if p.decayed { GroupKind::Decayed } else { GroupKind::Undecayed };
                let value = match spec.train.train_head {
                    true => HeadValue::Trained(params.add(group, p.name.as_str(), &p.init)),
                    false => HeadValue::Fixed(p.init.to_kind(Kind::Float).to_device(inputs.device)),
                };
                HeadPart { name: p.name, value }
            })
            .collect();
        let step = Step::new(params.finish(), method, &protocol);
        tch::manual_seed(seeds.dropout);
        let TrainSpec { precision, padding, max_length, .. } = spec.train;
        let forward = Forward::new(inputs, data.task, precision, padding, max_length)?;
        let captures = inputs.graphs.then(BTreeMap::new);
        Ok(Trainer { forward, data, train: &spec.train, seeds, head, step, captures })
    }

    /// Trained values, method and step count.
    pub fn step(&self) -> &Step {
        &self.step
    }

    /// Overwrites the trained values with a copy taken by [`methods::params::Params::state`].
    pub fn restore(&self, state: &[(String, Tensor)]) -> Result<()> {
        let taken = state.iter().all(|(group, value)| self.step.params().load(group, value));
        if taken { Ok(()) } else { Err(Error::Internal("a checkpoint of another run was restored".into())) }
    }

    /// What was trained, as files hold it; the head is always there, trained or not: without it an adapter's results
    /// cannot be had again.
    pub fn exported(&self) -> Exported {
        tch::no_grad(|| {
            let views = self.step.params().views();
            let head: BTreeMap<String, Tensor> =
                self.head.iter().map(|part| (part.name.clone(), part.value(&views).copy())).collect();
            Exported::new(self.step.method(), &views, head)
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

    /// Trains one epoch, from 1. `between` is called after every step with the running clock: what must not count is
    /// done in a pause of it, what waits for nothing needs none.
    ///
    /// # Errors
    /// A loss that is not finite; whatever `between` ends with.
    pub fn epoch(
        &mut self,
        epoch: usize,
        between: &mut dyn FnMut(&Self, &mut Clock) -> Result<()>,
    ) -> Result<EpochRow> {
        let rows = order(&self.data.train, self.train, self.seeds.order(epoch));
        torch_ext::reset_peak_memory(self.forward.device)?;
        let mut clock = Clock::start(self.forward.device)?;
        let zero = || Tensor::zeros([], (Kind::Double, self.forward.device));
        let (mut task_loss, mut penalty) = (zero(), zero());
        let (mut steps, mut tokens, mut padded_tokens) = (0, 0, 0);
        for rows in rows.chunks(self.train.batch_size * BATCHES_AHEAD) {
            let layout = self.forward.layout(&self.data.train, rows, self.train.batch_size);
            for (batch, on_device) in layout.iter().zip(self.forward.upload(&layout)) {
                let losses = self.train_step((batch.rows, batch.length), &on_device)?;
                let _ = task_loss.g_add_(&losses.task);
                if let Some(term) = losses.penalty {
                    let _ = penalty.g_add_(&term);
                }
                steps += 1;
                tokens += batch.tokens;
                padded_tokens += (batch.rows * batch.length) as u64;
                between(self, &mut clock)?;
            }
        }
        let seconds = clock.stop()?;
        let mean = |sum: Tensor| sum.double_value(&[]) / steps.max(1) as f64;
        let (task_loss, penalty) = (mean(task_loss), mean(penalty));
        if !(task_loss + penalty).is_finite() {
            let lr = self.train.lr;
            return Err(Error::Diverged(format!(
                "the loss is not finite in epoch {epoch}; a smaller lr than {lr} may help"
            )));
        }
        let peak_memory_mib = torch_ext::peak_memory(self.forward.device)? as f64 / (1024.0 * 1024.0);
        Ok(EpochRow { epoch, steps, seconds, task_loss, penalty, tokens, padded_tokens, peak_memory_mib })
    }

    /// One step. Where steps are recorded, the first of a shape is run plainly, the second is recorded, and every later
    /// one is a replay; the optimisers, which depend on the step's number, follow it.
    fn train_step(&mut self, shape: (usize, usize), batch: &DeviceBatch) -> Result<StepLoss> {
        let known = self.captures.as_ref().map(|captures| captures.get(&shape));
        let losses = match known {
            None => self.forward_backward(batch)?,
            Some(Some(Some(captured))) => {
                captured.batch.overwrite(batch);
                captured.graph.replay()?;
                captured.losses.shallow_clone()
            }
            Some(Some(None)) => {
                let batch = batch.copy();
                let (graph, losses) = Graph::capture(|| self.forward_backward(&batch))?;
                graph.replay()?;
                let captured = Captured { graph, batch, losses: losses.shallow_clone() };
                self.captures.get_or_insert_default().insert(shape, Some(captured));
                losses
            }
            Some(None) => {
                self.captures.get_or_insert_default().insert(shape, None);
                self.forward_backward(batch)?
            }
        };
        self.step.update()?;
        Ok(losses)
    }

    fn forward_backward(&self, batch: &DeviceBatch) -> Result<StepLoss> {
        let views = self.step.params().views();
        let attached = self.attached(&views);
        let logits = self.forward.logits(&self.head_values(&views), attached.as_ref(), batch, true)?;
        let (losses, _norm) = self.step.backward(&self.forward.loss(&logits, batch), &views)?;
        Ok(losses)
    }

    /// What the method attaches, in the backbone's precision.
    fn attached(&self, views: &Views) -> Box<dyn Attach> {
        let method = self.step.method();
        match self.train.precision.kind() {
            Kind::Float => method.attach(views),
            kind => method.attach(&self.step.params().views_as(kind)),
        }
    }

    fn head_values(&self, views: &Views) -> Vec<Tensor> {
        self.head.iter().map(|part| part.value(views)).collect()
    }

    /// Predicts every row with the values as they are.
    ///
    /// # Errors
    /// As [`Forward::predict`].
    pub fn predict(&self, rows: &[Encoded]) -> Result<Predicted> {
        tch::no_grad(|| {
            let views = self.step.params().views();
            let attached = self.attached(&views);
            self.forward.predict(&self.head_values(&views), attached.as_ref(), rows, self.train.batch_size)
        })
    }
}

#[cfg(test)]
mod tests {
    use datasets::batch::Padding;
    use datasets::tokenizer::Encoding;
    use proptest::prelude::*;

    use super::*;
    use crate::spec::{EvaluateEvery, Precision};

    fn train(batch_size: usize, order: Order) -> TrainSpec {
        TrainSpec {
            epochs: 1,
            batch_size,
            lr: 1.0,
            warmup_ratio: 0.0,
            weight_decay: 0.0,
            decay_order: methods::optim::DecayOrder::Before,
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
