//! Training batches: the order of the rows, batches of them, and their way onto the device.

use std::collections::VecDeque;
use std::ops::Range;

use datasets::Task;
use datasets::batch::{Batch, Padding, batches, stack_batches};
use datasets::permutation::torch_randperm;
use datasets::tokenizer::TokenizedExample;
use encoders::TokenBatch;
use tch::{Device, Kind, Tensor};
use torch_ext::ops::encoder_layer;

use crate::load::backbone::Backbone;
use crate::plan::spec::{Order, TrainSpec};
use crate::train::seeds::Seeds;

/// Batches in a window of [`Order::Grouped`].
const WINDOW: usize = 16;
/// Token capacities between a power of two and the next: a step costs its capacity, and each is a capture.
const CAPACITIES: usize = 8;
/// Tokens that cost a step on a GPU next to nothing.
const FEWEST_TOKENS: usize = 128;
/// Lengths of packed rows between a power of two and the next: a place of padding costs next to nothing.
const LENGTHS: usize = 2;
/// Least difference of two lengths of packed rows.
const FEWEST_PLACES: usize = 16;
/// Most rows of a batch: kernels of attention count rows times heads, of which a GPU's grid holds 65,535.
pub const MOST_ROWS: usize = 4_095;
/// Batches on the device ahead of the work: the first step of an epoch waits for so many, and every other is laid out beside steps.
pub const BATCHES_AHEAD: usize = 16;

/// A batch on the device.
pub struct DeviceBatch {
    /// Ids, mask and segments.
    pub tokens: TokenBatch,
    /// Class ids (int64) or scores (float32), `[rows]`.
    pub labels: Tensor,
}

/// `[rows, length]` of a batch on the device, and its token capacity where padding is left out.
pub type BatchShape = (Vec<i64>, Option<i64>);

impl DeviceBatch {
    /// The shape that a captured step for this batch must have.
    pub fn shape(&self) -> BatchShape {
        (self.tokens.input_ids.size(), self.tokens.token_capacity)
    }

    /// Rows of all runs.
    pub fn rows(&self) -> usize {
        self.labels.numel()
    }

    /// Some rows of each of `runs` runs. Padding is left out where the tokens of the whole batch would be fewer: those of a part are not
    /// known to a captured step.
    pub fn part(&self, runs: usize, rows: &Range<usize>) -> Self {
        let (first, count) = (rows.start as i64, rows.len() as i64);
        let mut part = self.map(|x| x.unflatten(0, [runs as i64, -1]).narrow(1, first, count).flatten(0, 1));
        let padded = part.tokens.input_ids.numel() as i64;
        part.tokens.token_capacity = part.tokens.token_capacity.filter(|capacity| *capacity < padded);
        part
    }

    fn tensors(&self) -> [&Tensor; 4] {
        [&self.tokens.input_ids, &self.tokens.attention_mask, &self.tokens.token_type_ids, &self.labels]
    }

    /// The same tensors.
    pub fn shallow_clone(&self) -> Self {
        self.map(Tensor::shallow_clone)
    }

    /// A copy in memory of its own.
    pub fn copy(&self) -> Self {
        self.map(Tensor::copy)
    }

    fn map(&self, of: impl Fn(&Tensor) -> Tensor) -> Self {
        let [input_ids, attention_mask, token_type_ids, labels] = self.tensors().map(of);
        let token_capacity = self.tokens.token_capacity;
        DeviceBatch { tokens: TokenBatch { input_ids, attention_mask, token_type_ids, token_capacity }, labels }
    }

    /// Overwrites this batch with another of the same shape.
    pub fn overwrite(&self, with: &DeviceBatch) {
        for (target, source) in self.tensors().into_iter().zip(with.tensors()) {
            target.shallow_clone().copy_(source);
        }
    }
}

/// Rows as padded batches on the device.
#[derive(Debug, Clone, Copy)]
pub struct Collator {
    device: Device,
    padding: Padding,
    max_length: usize,
    pad_id: u32,
    /// Kind of the labels.
    label_kind: Kind,
    /// Whether layers leave padding out.
    packs: bool,
}

impl Collator {
    /// Batches of a task's rows for a backbone whose weights are of `kind`.
    pub fn new(backbone: &Backbone, task: &Task, kind: Kind, padding: Padding, max_length: usize) -> Self {
        Collator {
            device: backbone.device,
            padding,
            max_length,
            pad_id: backbone.tokenizer.pad_id(),
            label_kind: if task.is_regression() { Kind::Float } else { Kind::Int64 },
            packs: padding != Padding::MaxLength && encoder_layer::is_available(backbone.device, kind),
        }
    }

    /// The same for layers that leave padding out, or compute it.
    pub fn of_layers(self, pack: bool) -> Self {
        Collator { packs: self.packs && pack, ..self }
    }

    /// Whether layers leave padding out.
    pub fn packs(&self) -> bool {
        self.packs
    }

    /// Device of the batches.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Rows in batches, in the given order.
    pub fn batches(&self, rows: &[TokenizedExample], order: &[usize], batch_size: usize) -> Vec<Batch> {
        batches(rows, order, batch_size, self.padding, self.max_length, self.pad_id)
    }

    /// Shape of a batch once it is on the device. Where padding is left out, length and token capacity are rounded up, so that batches
    /// share captured steps. With [`Padding::MaxLength`] padding is computed, as the released scripts do.
    pub fn shape(&self, batch: &Batch) -> BatchShape {
        let Batch { rows, length, .. } = *batch;
        if !self.packs {
            return (vec![rows as i64, length as i64], None);
        }
        // Tables of positions end at the maximum length.
        let length = rounded_up(length, LENGTHS, FEWEST_PLACES).min(self.max_length).max(length);
        let capacity = rounded_up(batch.tokens as usize, CAPACITIES, FEWEST_TOKENS).min(rows * length);
        (vec![rows as i64, length as i64], Some(capacity as i64))
    }

    /// Batches on the device, by one transfer of each tensor's values.
    pub fn upload(&self, batches: &[Batch]) -> Vec<DeviceBatch> {
        let shapes: Vec<BatchShape> = batches.iter().map(|batch| self.shape(batch)).collect();
        let mut tables = [(); 3].map(|()| Vec::new());
        for (batch, (size, _)) in batches.iter().zip(&shapes) {
            batch.append_to(&mut tables, size[1] as usize, self.pad_id);
        }
        let tables = tables.map(|table| Tensor::from_slice(&table).to_device(self.device));
        let labels: Vec<f64> = batches.iter().flat_map(|batch| batch.labels.iter().copied()).collect();
        let labels = Tensor::from_slice(&labels).to_kind(self.label_kind).to_device(self.device);
        let (mut place, mut row) = (0, 0);
        let on_device = |(size, token_capacity): BatchShape| {
            let (rows, places) = (size[0], size[0] * size[1]);
            let [input_ids, attention_mask, token_type_ids] =
                tables.each_ref().map(|table| table.narrow(0, place, places).view(size.as_slice()));
            let tokens = TokenBatch { input_ids, attention_mask, token_type_ids, token_capacity };
            (place, row) = (place + places, row + rows);
            DeviceBatch { tokens, labels: labels.narrow(0, row - rows, rows) }
        };
        shapes.into_iter().map(on_device).collect()
    }

    /// One batch of each run as one.
    fn stack(&self, of_runs: Vec<Batch>) -> Batch {
        stack_batches(of_runs, self.pad_id)
    }
}

/// The batch of one step, with the rows of every run of the stack.
pub struct StepBatch {
    /// On the device.
    pub batch: DeviceBatch,
    /// Tokens by run, padding not counted.
    pub tokens: Vec<u64>,
    /// Tokens of one run with padding.
    pub padded_tokens: u64,
}

/// Gives the training batches of a stack of runs.
pub struct Loader<'a> {
    rows: &'a [TokenizedExample],
    train: &'a TrainSpec,
    seeds: Vec<Seeds>,
    collator: Collator,
}

impl<'a> Loader<'a> {
    /// Over the training rows, in the order of each run's seeds.
    pub fn new(rows: &'a [TokenizedExample], train: &'a TrainSpec, seeds: Vec<Seeds>, collator: Collator) -> Self {
        Loader { rows, train, seeds, collator }
    }

    /// Training rows.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Steps of an epoch.
    pub fn steps(&self) -> usize {
        self.rows.len().div_ceil(self.train.batch_size)
    }

    /// Batches of an epoch, from 1, but for its first `steps`.
    pub fn epoch(&self, epoch: usize, steps: usize) -> Epoch<'_> {
        let start = self.rows.len().min(steps * self.train.batch_size);
        Epoch { loader: self, orders: self.orders(epoch), start, ahead: VecDeque::new() }
    }

    /// Every batch and its shape, step by step over all epochs.
    pub fn shapes(&self) -> impl Iterator<Item = (BatchShape, Batch)> + '_ {
        (1..=self.train.epochs).flat_map(move |epoch| {
            let orders = self.orders(epoch);
            let starts = (0..self.rows.len()).step_by(self.train.batch_size * BATCHES_AHEAD);
            starts.flat_map(move |start| {
                let (batches, _) = self.batches(&orders, start);
                batches.into_iter().map(|batch| (self.collator.shape(&batch), batch))
            })
        })
    }

    /// Positions of the rows in an epoch, by run.
    fn orders(&self, epoch: usize) -> Vec<Vec<usize>> {
        self.seeds.iter().map(|seeds| order(self.rows, self.train, seeds.order(epoch))).collect()
    }

    /// The [`BATCHES_AHEAD`] batches from row `start` of the orders on, with the tokens of each by run.
    fn batches(&self, orders: &[Vec<usize>], start: usize) -> (Vec<Batch>, Vec<Vec<u64>>) {
        let Loader { rows, train, collator, .. } = self;
        let end = rows.len().min(start + train.batch_size * BATCHES_AHEAD);
        let of_runs: Vec<Vec<Batch>> =
            orders.iter().map(|order| collator.batches(rows, &order[start..end], train.batch_size)).collect();
        let steps = of_runs.first().map_or(0, Vec::len);
        let tokens = (0..steps).map(|step| of_runs.iter().map(|batches| batches[step].tokens).collect()).collect();
        let mut of_runs: Vec<_> = of_runs.into_iter().map(Vec::into_iter).collect();
        let next = |_| collator.stack(of_runs.iter_mut().filter_map(Iterator::next).collect());
        ((0..steps).map(next).collect(), tokens)
    }

    /// Puts one batch on the device.
    pub fn upload(&self, batch: &Batch) -> Vec<DeviceBatch> {
        self.collator.upload(std::slice::from_ref(batch))
    }

    /// Tokens of the longest training row, padded.
    pub fn longest(&self) -> usize {
        let all: Vec<usize> = (0..self.rows.len()).collect();
        let batches = self.collator.batches(self.rows, &all, self.train.batch_size);
        batches.iter().map(|batch| batch.length).max().unwrap_or(0)
    }
}

/// Batches of one epoch, step by step.
pub struct Epoch<'a> {
    loader: &'a Loader<'a>,
    /// Positions of the rows, by run.
    orders: Vec<Vec<usize>>,
    /// First row that is not in a batch yet.
    start: usize,
    ahead: VecDeque<StepBatch>,
}

impl Epoch<'_> {
    /// Puts the next [`BATCHES_AHEAD`] batches on the device.
    fn fill(&mut self) {
        let Loader { rows, train, collator, .. } = self.loader;
        let (stacked, tokens) = self.loader.batches(&self.orders, self.start);
        self.start = rows.len().min(self.start + train.batch_size * BATCHES_AHEAD);
        let runs = self.orders.len();
        let uploaded = collator.upload(&stacked);
        self.ahead.extend(uploaded.into_iter().zip(&stacked).zip(tokens).map(|((batch, stacked), tokens)| StepBatch {
            batch,
            tokens,
            padded_tokens: (stacked.rows * stacked.length / runs) as u64,
        }));
    }
}

impl Iterator for Epoch<'_> {
    type Item = StepBatch;

    fn next(&mut self) -> Option<StepBatch> {
        if self.ahead.is_empty() && self.start < self.loader.rows.len() {
            self.fill();
        }
        self.ahead.pop_front()
    }
}

/// Positions of the training rows, batch after batch, for the epoch with this seed.
fn order(rows: &[TokenizedExample], train: &TrainSpec, seed: u64) -> Vec<usize> {
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

/// The next number of which there are `steps` between a power of two and the next, `fewest` or more apart.
fn rounded_up(number: usize, steps: usize, fewest: usize) -> usize {
    number.next_multiple_of((number.next_power_of_two() / (2 * steps)).max(fewest))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use datasets::tokenizer::Encoding;
    use proptest::prelude::*;

    use super::*;
    use crate::plan::spec::tests::train_spec;

    /// Rows of so many tokens, whose ids are row and position.
    fn rows_of(lengths: &[usize]) -> Vec<TokenizedExample> {
        let ids = |row: usize, n: usize| (0..n).map(|position| (1 + 1000 * row + position) as u32).collect();
        let encoding = |(row, n)| Encoding { ids: ids(row, n), type_ids: vec![1; n] };
        let row = |(row, &n)| TokenizedExample { encoding: encoding((row, n)), label: row as f64, row };
        lengths.iter().enumerate().map(row).collect()
    }

    /// Batches on the CPU of rows of at most 64 tokens, for layers that leave padding out or compute it.
    fn collator(packs: bool) -> Collator {
        let (padding, label_kind) = (Padding::Bucket(4), Kind::Double);
        Collator { device: Device::Cpu, padding, max_length: 64, pad_id: 0, label_kind, packs }
    }

    /// The rows of a batch without their padding, as ids and segments, with their labels.
    fn unpadded(batch: &DeviceBatch) -> Vec<(Vec<i64>, Vec<i64>, f64)> {
        let [ids, mask, types] = [&batch.tokens.input_ids, &batch.tokens.attention_mask, &batch.tokens.token_type_ids]
            .map(|table| Vec::<Vec<i64>>::try_from(table).unwrap());
        let labels = Vec::<f64>::try_from(&batch.labels).unwrap();
        let row = |row: usize| {
            let count = mask[row].iter().sum::<i64>() as usize;
            let (tokens, padding) = mask[row].split_at(count);
            assert!(tokens.iter().all(|&is_token| is_token == 1) && padding.iter().all(|&is_token| is_token == 0));
            assert!(ids[row][count..].iter().chain(&types[row][count..]).all(|&value| value == 0));
            (ids[row][..count].to_vec(), types[row][..count].to_vec(), labels[row])
        };
        (0..batch.rows()).map(row).collect()
    }

    proptest! {
        #[test]
        fn packed_batches_have_the_rows_and_the_stated_padding_of_padded_ones(
            lengths in prop::collection::vec(1usize..=64, 1..60), size in 1usize..9, runs in 1u64..4
        ) {
            let (rows, train) = (rows_of(&lengths), train_spec(size, Order::Random));
            let loader = |packs| Loader::new(&rows, &train, (0..runs).map(Seeds::of).collect(), collator(packs));
            let [packed, padded] = [loader(true), loader(false)];
            for (packed, padded) in packed.epoch(1, 0).zip(padded.epoch(1, 0)) {
                prop_assert_eq!(unpadded(&packed.batch), unpadded(&padded.batch));
                prop_assert_eq!((&packed.tokens, packed.padded_tokens), (&padded.tokens, padded.padded_tokens));
                let [packed, padded] = [packed, padded].map(|step| step.batch.shape());
                prop_assert!(packed.0[1] >= padded.0[1] && packed.0[1] <= 64 && padded.1.is_none());
                let (places, tokens) = (packed.0[0] * packed.0[1], packed.1.unwrap_or(0));
                prop_assert!(tokens <= places, "{tokens} tokens in {places} places");
            }
        }

        #[test]
        fn every_row_comes_once_and_groups_pad_less(lengths in prop::collection::vec(1usize..64, 1..200), size in 1usize..9, seed: u64) {
            let rows = rows_of(&lengths);
            let padded = |kind: Order| {
                let order = order(&rows, &train_spec(size, kind), seed);
                let mut sorted = order.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..rows.len()).collect::<Vec<_>>());
                order.chunks(size).map(|c| c.iter().map(|&i| lengths[i]).max().unwrap_or(0) * c.len()).sum::<usize>()
            };
            prop_assert!(padded(Order::Grouped) <= padded(Order::Random));
        }
    }

    #[test]
    fn token_capacities_are_enough_and_not_many_more() {
        let capacity = |tokens| rounded_up(tokens, CAPACITIES, FEWEST_TOKENS);
        for tokens in 0..10_000 {
            let more = capacity(tokens).checked_sub(tokens).unwrap();
            assert!(more < (tokens / 8).max(FEWEST_TOKENS), "{tokens}: {more} more");
        }
        let numbers: BTreeSet<usize> = (2_048..4_096).map(capacity).collect();
        assert!(numbers.len() <= 10, "{} captured steps", numbers.len());
    }

    #[test]
    fn packed_rows_have_few_lengths() {
        let lengths: BTreeSet<usize> = (1..=512).map(|length| rounded_up(length, LENGTHS, FEWEST_PLACES)).collect();
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [16, 32, 48, 64, 96, 128, 192, 256, 384, 512]);
    }
}
