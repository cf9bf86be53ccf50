//! Dropout whose every number is a function of the run's seed and step, the stream, and the row, token and column of its value: the
//! same on a CPU and a GPU, with one run or several stacked, however a batch is padded (ADR 0016).

use std::ffi::{c_int, c_longlong, c_void};

use tch::{Device, Kind, Tensor};

use crate::error::{as_ptr, check, out_tensor};
use crate::ffi::Kernels;
use crate::nvrtc;

unsafe extern "C" {
    fn rb_dropout(
        x: *const c_void,
        state: *const c_void,
        stream: c_longlong,
        p: f64,
        tokens: c_longlong,
        first: c_longlong,
        pitch: c_longlong,
        per_row: c_longlong,
        out: *mut *mut c_void,
    ) -> c_int;
    fn rb_attention_dropout_pitch() -> c_int;
}

/// Largest rate of dropout. Numbers of 16 bits choose what is dropped, so that a rate is rounded to 1/65536: a larger one would be 1,
/// which keeps nothing that 1 / (1 - p) could scale.
pub const MAX_RATE: f64 = 65535.0 / 65536.0;

/// Seed and step of every stacked run, and the number of the batch's first row among the rows of the step.
pub struct DropoutRng {
    /// `[runs, 3]`, int64.
    pub(crate) state: Tensor,
}

impl DropoutRng {
    /// Step 0 of one run for each seed.
    pub fn new(seeds: &[i64], device: Device) -> Self {
        let state: Vec<i64> = seeds.iter().flat_map(|&seed| [seed, 0, 0]).collect();
        DropoutRng { state: Tensor::from_slice(&state).view([-1, 3]).to_device(device) }
    }

    /// Stacked runs.
    pub fn runs(&self) -> i64 {
        self.state.size()[0]
    }

    /// Seeds and step numbers, for [`DropoutRng::load`].
    pub fn state(&self) -> Tensor {
        self.state.copy()
    }

    /// Restores a state of [`DropoutRng::state`].
    pub fn load(&self, state: &Tensor) {
        self.state.shallow_clone().copy_(state);
    }

    /// The next batch holds rows of the step from this one on, from 0. Can be captured.
    pub fn begin_at(&self, row: i64) {
        let _ = self.state.select(1, 2).fill_(row);
    }

    /// Advances to the next step. Can be captured.
    pub fn advance(&self) {
        let _ = self.state.select(1, 1).g_add_scalar_(1);
    }
}

/// Dropout at one place of a network, with a stream of its own.
#[derive(Clone, Copy)]
pub struct Dropout<'a> {
    /// Source of its numbers; nothing is dropped without one.
    pub rng: Option<&'a DropoutRng>,
    /// Number of the stream, different for every place of a network.
    pub stream: i64,
    /// Probability that a value is dropped, up to [`MAX_RATE`] and rounded to 1/65536.
    pub p: f64,
}

/// Counters of values `[runs * rows * tokens, width]`: token t of a row has those from `(first + t) * pitch` on, each for eight
/// values. A row of the batch has `per_row` rows of values; 0 where all rows of a step share them.
#[derive(Clone, Copy)]
struct CounterLayout {
    tokens: i64,
    /// Position of a row's first token.
    first: i64,
    /// Counters of a token.
    pitch: i64,
    per_row: i64,
}

impl Dropout<'_> {
    /// Stacked runs.
    pub fn runs(&self) -> i64 {
        self.rng.map_or(1, DropoutRng::runs)
    }

    /// Drops hidden states `[runs * rows * length, width]`; `first` is the position of a row's first token.
    pub fn hidden(&self, x: &Tensor, length: i64, first: i64) -> Tensor {
        self.over(x, CounterLayout { tokens: length, first, pitch: pitch(x), per_row: 1 })
    }

    /// Drops values `[runs * count, width]` that all rows of a step share; `first` is the position of the first of them.
    pub fn shared(&self, x: &Tensor, count: i64, first: i64) -> Tensor {
        self.over(x, CounterLayout { tokens: count, first, pitch: pitch(x), per_row: 0 })
    }

    /// Drops attention weights `[runs * rows, heads, length, length]`.
    pub fn weights(&self, x: &Tensor) -> Tensor {
        let [.., heads, _, length] = x.size()[..] else { return x.shallow_clone() };
        // SAFETY: a plain integer crosses.
        let pitch = unsafe { rb_attention_dropout_pitch() }.into();
        self.over(x, CounterLayout { tokens: length, first: 0, pitch, per_row: heads })
    }

    fn over(&self, x: &Tensor, layout: CounterLayout) -> Tensor {
        let Some(rng) = self.rng.filter(|_| self.p > 0.0) else { return x.shallow_clone() };
        let is_multiple_of_8 = x.size().last().is_some_and(|width| width % 8 == 0);
        match nvrtc::kernels(x) {
            Some(kernels) if is_multiple_of_8 => self.over_by(kernels, rng, x, layout),
            _ if x.device() == Device::Cpu => self.over_on_cpu(rng, x, layout),
            _ => (x * self.factors(rng, x, layout)).to_kind(x.kind()),
        }
    }

    fn over_by(&self, kernels: &Kernels, rng: &DropoutRng, x: &Tensor, layout: CounterLayout) -> Tensor {
        let CounterLayout { tokens, first, pitch, per_row } = layout;
        let (x, state, call) = (as_ptr(x), as_ptr(&rng.state), kernels.dropout);
        // SAFETY: the tensors outlive the call.
        out_tensor(|out| {
            kernels.check(unsafe { call(x, state, self.stream, self.p, tokens, first, pitch, per_row, out) })
        })
    }

    fn over_on_cpu(&self, rng: &DropoutRng, x: &Tensor, layout: CounterLayout) -> Tensor {
        let CounterLayout { tokens, first, pitch, per_row } = layout;
        let (x, state) = (as_ptr(x), as_ptr(&rng.state));
        // SAFETY: the tensors outlive the call.
        out_tensor(|out| {
            check(unsafe { rb_dropout(x, state, self.stream, self.p, tokens, first, pitch, per_row, out) })
        })
    }

    /// 0 where a value is dropped, elsewhere 1 / (1 - p): the reference implementation of kernels and CPU.
    fn factors(&self, rng: &DropoutRng, x: &Tensor, layout: CounterLayout) -> Tensor {
        let width = x.size().last().copied().unwrap_or(0);
        let runs = rng.runs();
        let rows = x.numel() as i64 / (width * layout.tokens * runs);
        let range = |count: i64| Tensor::arange(count, (Kind::Int64, x.device()));
        let blocks = (range(layout.tokens) + layout.first).unsqueeze(1) * layout.pitch + range((width + 7) / 8);
        let counter = [
            blocks.unsqueeze(0).unsqueeze(0),
            range(rows).view([1, rows, 1, 1]) + rng.state.select(1, 2).view([runs, 1, 1, 1]) * layout.per_row,
            Tensor::full([1, 1, 1, 1], self.stream, (Kind::Int64, x.device())),
            rng.state.select(1, 1).view([runs, 1, 1, 1]),
        ];
        let seed = rng.state.select(1, 0).view([runs, 1, 1, 1]);
        let numbers = philox(counter, seed).narrow(-1, 0, width).reshape(x.size());
        let threshold = (self.p * 65536.0).round() as i64;
        let kind = if x.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        numbers.ge(threshold).to_kind(kind) * (65536.0 / (65536 - threshold) as f64)
    }
}

/// Counters of a token's values.
fn pitch(x: &Tensor) -> i64 {
    x.size().last().map_or(0, |width| (width + 7) / 8)
}

/// Philox 4x32-10 (Salmon et al. 2011) in int64: eight 16-bit numbers for each counter, `[.., 8 * counters]`.
fn philox(counter: [Tensor; 4], seed: Tensor) -> Tensor {
    const WORD: i64 = 0xffff_ffff;
    let word = |x: Tensor| x.bitwise_and(WORD);
    // High and low word of a product, from halves that int64 holds.
    let product = |x: &Tensor, by: i64| {
        let (low, high) = (x.bitwise_and(0xffff) * by, x.bitwise_right_shift_tensor_scalar(16) * by);
        let sum = low + word(high.bitwise_and(0xffff).bitwise_left_shift_tensor_scalar(16));
        (word(high.bitwise_right_shift_tensor_scalar(16) + sum.bitwise_right_shift_tensor_scalar(32)), word(sum))
    };
    let [mut x, mut y, mut z, mut w] = counter;
    let (mut key0, mut key1) = (word(seed.shallow_clone()), word(seed.bitwise_right_shift_tensor_scalar(32)));
    for _ in 0..10 {
        let (high0, low0) = product(&x, 0xD251_1F53);
        let (high1, low1) = product(&z, 0xCD9E_8D57);
        x = high1.bitwise_xor_tensor(&y).bitwise_xor_tensor(&key0);
        z = high0.bitwise_xor_tensor(&w).bitwise_xor_tensor(&key1);
        (y, w) = (low1, low0);
        key0 = word(key0 + 0x9E37_79B9);
        key1 = word(key1 + 0xBB67_AE85);
    }
    let halves = [x, y, z, w].map(|word| [word.bitwise_and(0xffff), word.bitwise_right_shift_tensor_scalar(16)]);
    let halves = Tensor::broadcast_tensors(&halves.into_iter().flatten().collect::<Vec<_>>());
    Tensor::stack(&halves, -1).flatten(-2, -1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::{KINDS, compare, dropout_rng, in_every_schedule, random};

    /// The first words of Random123's known answers for philox4x32-10 (`kat_vectors`).
    #[test]
    fn philox_gives_its_authors_numbers() {
        let one = |value: i64| Tensor::from_slice(&[value]);
        let words = |counter: [i64; 4], key: [i64; 2]| {
            let numbers =
                Vec::<i64>::try_from(philox(counter.map(one), one(key[0] | key[1] << 32)).view([-1])).unwrap();
            [0, 2, 4, 6].map(|at| numbers[at] | numbers[at + 1] << 16)
        };
        assert_eq!(words([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(words([0xffff_ffff; 4], [0xffff_ffff; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        assert_eq!(words(pi, [0xa409_3822, 0x299f_31d0]), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    fn at(rng: &DropoutRng, p: f64) -> Dropout<'_> {
        Dropout { rng: Some(rng), stream: 7, p }
    }

    #[test]
    fn the_cpu_keeps_what_the_reference_keeps_forward_and_back() {
        for (runs, rows, length, width, kind) in
            [(1, 2, 3, 16, Kind::Float), (2, 3, 5, 24, Kind::Double), (3, 1, 4, 300, Kind::BFloat16)]
        {
            let rng = DropoutRng::new(&[5, -9, i64::MAX][..runs as usize], Device::Cpu);
            rng.advance();
            rng.begin_at(5);
            let x = Tensor::randn([runs * rows * length, width], (kind, Device::Cpu)).set_requires_grad(true);
            let layout = CounterLayout { tokens: length, first: 2, pitch: pitch(&x), per_row: 1 };
            let factors = at(&rng, 0.3).factors(&rng, &x, layout);
            let out = at(&rng, 0.3).hidden(&x, length, 2);
            out.sum(None::<Kind>).backward();
            let error = |a: &Tensor, b: &Tensor| (a - b).to_kind(Kind::Double).abs().max().double_value(&[]);
            assert!(error(&out, &(&x * &factors)) <= 2e-2 * f64::from(kind == Kind::BFloat16) + 1e-6, "{kind:?}");
            assert!(error(&x.grad(), &factors) <= 1e-2 * f64::from(kind == Kind::BFloat16) + 1e-6);
        }
    }

    #[test]
    fn padding_and_stacked_runs_change_nothing() {
        let stacked = DropoutRng::new(&[3, 4], Device::Cpu);
        let alone = DropoutRng::new(&[4], Device::Cpu);
        let ones = |shape: &[i64]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
        let both = at(&stacked, 0.5).hidden(&ones(&[2 * 3 * 10, 8]), 10, 0).view([2, 3, 10, 8]);
        let short = at(&alone, 0.5).hidden(&ones(&[3 * 6, 8]), 6, 0).view([3, 6, 8]);
        assert_eq!(both.get(1).narrow(1, 0, 6), short);
        assert_ne!(both.get(0).narrow(1, 0, 6), short);
        let both = at(&stacked, 0.5).weights(&ones(&[2 * 3, 2, 20, 20])).view([2, 3, 2, 20, 20]);
        let short = at(&alone, 0.5).weights(&ones(&[3, 2, 9, 9]));
        assert_eq!(both.get(1).narrow(2, 0, 9).narrow(3, 0, 9), short);
        stacked.advance();
        let later = at(&stacked, 0.5).hidden(&ones(&[2 * 3 * 10, 8]), 10, 0).view([2, 3, 10, 8]);
        assert_ne!(later.get(1).narrow(1, 0, 6), at(&alone, 0.5).hidden(&ones(&[3 * 6, 8]), 6, 0).view([3, 6, 8]));
    }

    #[test]
    fn parts_of_a_batch_keep_what_the_whole_keeps() {
        let rng = DropoutRng::new(&[3, 4], Device::Cpu);
        let ones = |rows: i64, shape: &[i64]| Tensor::ones([&[2 * rows], shape].concat(), (Kind::Float, Device::Cpu));
        type Drop = fn(&Dropout, &Tensor) -> Tensor;
        let hidden: Drop = |dropout, x| dropout.hidden(&x.flatten(0, 1), 5, 0).view_as(x);
        let weights: Drop = |dropout, x| dropout.weights(x);
        for (drop, shape) in [(hidden, &[5, 8][..]), (weights, &[2, 9, 9])] {
            rng.begin_at(0);
            let whole = drop(&at(&rng, 0.5), &ones(7, shape)).unflatten(0, [2, 7]);
            let part = |first: i64, rows: i64| {
                rng.begin_at(first);
                drop(&at(&rng, 0.5), &ones(rows, shape)).unflatten(0, [2, rows])
            };
            assert_eq!(Tensor::cat(&[part(0, 3), part(3, 3), part(6, 1)], 1), whole);
            assert_ne!(part(0, 3), part(3, 3));
        }
        let of_all = |first: i64| {
            rng.begin_at(first);
            at(&rng, 0.5).shared(&ones(6, &[8]), 6, 0)
        };
        assert_eq!(of_all(0), of_all(4));
    }

    #[test]
    fn the_share_that_is_dropped_is_p() {
        let rng = DropoutRng::new(&[1], Device::Cpu);
        let kept = at(&rng, 0.1).hidden(&Tensor::ones([4096, 256], (Kind::Float, Device::Cpu)), 128, 0);
        let share = kept.eq(0.0).to_kind(Kind::Double).mean(None::<Kind>).double_value(&[]);
        assert!((share - 0.1).abs() < 1e-3, "{share}");
        assert!((kept.mean(None::<Kind>).double_value(&[]) - 1.0).abs() < 1e-3);
    }

    #[test]
    fn the_largest_rate_keeps_a_value_in_65536_and_scales_it_by_as_much() {
        let rng = DropoutRng::new(&[1], Device::Cpu);
        let kept = at(&rng, MAX_RATE).hidden(&Tensor::ones([4096, 256], (Kind::Float, Device::Cpu)), 128, 0);
        let count = kept.ne(0.0).sum(Kind::Int64).int64_value(&[]);
        assert!((1..=60).contains(&count), "{count} of 2^20 values, 16 expected");
        assert_eq!(kept.max().double_value(&[]), 65536.0);
        assert!(kept.isfinite().all().int64_value(&[]) == 1 && kept.min().double_value(&[]) == 0.0);
    }

    #[test]
    fn the_kernel_keeps_what_the_reference_keeps_forward_and_back() {
        in_every_schedule(|kernels| {
            for (kind, bound) in KINDS {
                for (runs, rows, tokens, width) in [(1, 2, 9, 16), (3, 4, 5, 384)] {
                    let rng = dropout_rng(runs);
                    let dropout = at(&rng, 0.1);
                    let layout = CounterLayout { tokens, first: 7, pitch: width / 8, per_row: 3 };
                    let x = [random(&[runs * rows * tokens, width])];
                    let by_kernel = |x: &[Tensor]| dropout.over_by(kernels, &rng, &x[0], layout);
                    compare("dropout", (kind, bound), &x, by_kernel, |x| &x[0] * dropout.factors(&rng, &x[0], layout));
                }
            }
        });
    }
}
