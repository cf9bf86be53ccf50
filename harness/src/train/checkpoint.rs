//! The state of a run between two steps, as a file of safetensors: its tensors, and everything else as CBOR (RFC 8949) in one of
//! bytes. JSON has no number for a loss or a norm that is not finite.
//!
//! A run that is resumed from it takes the very steps that an undisturbed one would have taken (docs/adr/0023).

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::store::rows::{EpochRow, EvalRow, GateRow, RankRow, StageRow, StepRow};
use crate::train::best::{Checkpoint, Scored};
use crate::train::epoch_losses::RunSums;

/// Version of the file's layout.
pub const FORMAT: u32 = 2;
/// Name of the bytes that hold what is no tensor.
const PROGRESS: &str = "progress";

/// Everything of a run that is no tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Layout of the file.
    pub format: u32,
    /// Threads libtorch used: another number rounds otherwise.
    pub threads: i64,
    /// Epoch, from 1.
    pub epoch: usize,
    /// Sums over the steps of it.
    pub sums: RunSums,
    /// The run's share of the seconds of training in it.
    pub seconds: f64,
    /// Captures in it, and the run's share of their seconds.
    pub captures: (usize, f64),
    /// The run's share of the wall time so far.
    pub wall_seconds: f64,
    /// The run's share of the seconds of evaluation so far.
    pub evaluation_seconds: f64,
    /// Rows of `epochs.csv`.
    pub epochs: Vec<EpochRow>,
    /// Rows of `evals.csv`.
    pub evals: Vec<EvalRow>,
    /// Rows of `ranks.csv`.
    pub ranks: Vec<RankRow>,
    /// Rows of `stages.csv`.
    #[serde(default)]
    pub stages: Vec<StageRow>,
    /// Rows of `steps.csv`.
    #[serde(default)]
    pub steps: Vec<StepRow>,
    /// Rows of `gates.csv`.
    #[serde(default)]
    pub gates: Vec<GateRow>,
    /// The best checkpoint of each development set, without its tensors.
    pub best: Vec<Option<BestProgress>>,
}

/// A selected checkpoint without its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BestProgress {
    /// Optimiser steps done.
    pub step: usize,
    /// Value of the selection metric.
    pub value: f64,
    /// Predictions there.
    pub scored: Vec<Scored>,
}

/// A checkpoint of one run.
pub struct RunCheckpoint {
    /// Rows and sums.
    pub progress: Progress,
    /// Everything the next step depends on, by name.
    pub state: Vec<(String, Tensor)>,
    /// Values of the best checkpoint of each development set, by group.
    pub best: Vec<Vec<(String, Tensor)>>,
}

impl RunCheckpoint {
    /// The file's bytes.
    ///
    /// # Errors
    /// A tensor of a kind that is not stored.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let state = self.state.iter().map(|(name, tensor)| (format!("state.{name}"), tensor));
        let best = self.best.iter().enumerate().flat_map(|(index, groups)| {
            groups.iter().map(move |(name, tensor)| (format!("best.{index}.{name}"), tensor))
        });
        let stored = state.chain(best).map(|(name, tensor)| Ok((name, Stored::of(tensor)?)));
        let mut stored = stored.collect::<Result<Vec<_>>>()?;
        let mut bytes = Vec::new();
        ciborium::into_writer(&self.progress, &mut bytes).map_err(internal)?;
        stored.push((PROGRESS.into(), Stored { dtype: Dtype::U8, shape: vec![bytes.len()], bytes }));
        let views = stored.iter().map(|(name, stored)| Ok((name.as_str(), stored.view()?)));
        serialize(views.collect::<Result<Vec<_>>>()?, None).map_err(internal)
    }

    /// Reads a file's bytes.
    ///
    /// # Errors
    /// A file that is not whole, or of another layout.
    pub fn from_bytes(bytes: &[u8]) -> std::result::Result<Self, String> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
        let progress = file.tensor(PROGRESS).map_err(|_| format!("it is none of layout {FORMAT}"))?;
        let progress: Progress = ciborium::from_reader(progress.data()).map_err(|e| e.to_string())?;
        if progress.format != FORMAT {
            return Err(format!("its layout is {}, expected {FORMAT}", progress.format));
        }
        let (mut state, mut best) = (Vec::new(), Vec::new());
        best.resize_with(progress.best.len(), Vec::new);
        for (name, view) in file.iter().filter(|(name, _)| *name != PROGRESS) {
            let tensor = tensor(&view)?;
            match name.split_once('.') {
                Some(("state", name)) => state.push((name.to_string(), tensor)),
                Some(("best", rest)) => {
                    let found =
                        rest.split_once('.').and_then(|(index, name)| Some((index.parse::<usize>().ok()?, name)));
                    let (index, name) = found.filter(|(index, _)| *index < best.len()).ok_or("a tensor of no set")?;
                    best[index].push((name.to_string(), tensor));
                }
                _ => return Err(format!("it has a tensor {name} of no known part")),
            }
        }
        Ok(RunCheckpoint { progress, state, best })
    }
}

impl BestProgress {
    /// Of a selected checkpoint.
    pub fn of(best: &Checkpoint) -> Self {
        BestProgress { step: best.step, value: best.value, scored: best.scored.clone() }
    }
}

/// A tensor's bytes on the host.
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    fn of(tensor: &Tensor) -> Result<Self> {
        let kind = tensor.kind();
        let dtype = DTYPES.iter().find(|(known, _)| *known == kind).map(|(_, dtype)| *dtype);
        let dtype = dtype.ok_or_else(|| Error::Internal(format!("a checkpoint stores no tensor of kind {kind:?}")))?;
        let flat = tensor.detach().to_device(Device::Cpu).contiguous().flatten(0, -1);
        let mut bytes = vec![0u8; flat.numel() * kind.elt_size_in_bytes()];
        flat.f_copy_data_u8(&mut bytes, flat.numel())?;
        Ok(Stored { dtype, shape: tensor.size().iter().map(|&n| n as usize).collect(), bytes })
    }

    fn view(&self) -> Result<TensorView<'_>> {
        TensorView::new(self.dtype, self.shape.clone(), &self.bytes).map_err(internal)
    }
}

/// Kinds that states are made of.
const DTYPES: [(Kind, Dtype); 5] = [
    (Kind::Float, Dtype::F32),
    (Kind::Double, Dtype::F64),
    (Kind::Int64, Dtype::I64),
    (Kind::Int, Dtype::I32),
    (Kind::Bool, Dtype::BOOL),
];

fn tensor(view: &TensorView) -> std::result::Result<Tensor, String> {
    let kind = DTYPES.iter().find(|(_, dtype)| *dtype == view.dtype()).map(|(kind, _)| *kind);
    let kind = kind.ok_or_else(|| format!("it has a tensor of {:?}", view.dtype()))?;
    let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
    Ok(Tensor::from_data_size(view.data(), &shape, kind))
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::Internal(format!("checkpoint: {error}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A row of every kind, with the numbers of two sources in its fields.
    fn progress(mut wide: impl FnMut() -> f64, mut narrow: impl FnMut() -> f32) -> Progress {
        let name = || String::from("dev");
        let epoch = EpochRow {
            epoch: 1,
            steps: 3,
            seconds: wide(),
            task_loss: wide(),
            penalty: wide(),
            tokens: 7,
            padded_tokens: 8,
            recordings: 1,
            recording_seconds: wide(),
            peak_allocated_mib: Some(wide()),
            peak_reserved_mib: None,
            peak_resident_mib: Some(wide()),
        };
        let eval = EvalRow {
            step: 3,
            epoch: wide(),
            split: name(),
            dev_set: name(),
            metric: name(),
            value: wide(),
            effective_parameters: -7,
        };
        let rank = |gate| RankRow {
            step: 3,
            module: name(),
            layer: 0,
            kind: name(),
            rank: 1,
            max_rank: 8,
            mean_abs_gate: gate,
        };
        let stage = StageRow {
            stage: 1,
            schedule_value: Some(wide()),
            step: 3,
            dev_set: name(),
            metric: name(),
            memorisation: wide(),
            generalisation: wide(),
            test: wide(),
            allocated: 1,
            effective: 2,
            as_published: 3,
        };
        let step = StepRow {
            step: 3,
            epoch: 1,
            task_loss: narrow(),
            penalty: narrow(),
            lr: wide(),
            grad_norm: narrow(),
            nonzero_components: Some(7),
        };
        let gate = GateRow { step: 3, module: name(), layer: 0, kind: name(), component: 0, value: narrow() };
        let scored = vec![Scored {
            split: "validation".into(),
            predictions: vec![wide(), wide()],
            metrics: vec![("accuracy".into(), wide())],
        }];
        Progress {
            format: FORMAT,
            threads: 1,
            epoch: 2,
            sums: RunSums { task: wide(), penalty: wide(), tokens: u64::MAX, padded_tokens: 8, steps: 3 },
            seconds: wide(),
            captures: (2, wide()),
            wall_seconds: wide(),
            evaluation_seconds: wide(),
            epochs: vec![epoch],
            evals: vec![eval],
            ranks: vec![rank(Some(wide())), rank(None)],
            stages: vec![stage],
            steps: vec![step],
            gates: vec![gate],
            best: vec![Some(BestProgress { step: 2, value: wide(), scored }), None],
        }
    }

    fn checkpoint() -> RunCheckpoint {
        let (mut wide, mut narrow) = (0.1 + 0.2, 1.0f32 / 3.0);
        let progress = progress(
            || {
                wide /= -3.0;
                wide
            },
            || {
                narrow /= -3.0;
                narrow
            },
        );
        let state = vec![
            ("params.decayed".to_string(), Tensor::from_slice(&[0.1f32, -2.5e-38])),
            ("done".to_string(), Tensor::from(3i64)),
        ];
        let best = vec![vec![("decayed".to_string(), Tensor::from_slice(&[1.0f32]))], Vec::new()];
        RunCheckpoint { progress, state, best }
    }

    #[test]
    fn a_checkpoint_comes_back_to_the_last_bit() {
        let written = checkpoint();
        let read = RunCheckpoint::from_bytes(&written.to_bytes().unwrap()).unwrap();
        assert_eq!(read.progress, written.progress);
        let of =
            |name: &str| read.state.iter().find(|(known, _)| known == name).map(|(_, tensor)| tensor.shallow_clone());
        assert_eq!(of("params.decayed"), Some(Tensor::from_slice(&[0.1f32, -2.5e-38])));
        assert_eq!(of("done").map(|done| i64::try_from(done).unwrap()), Some(3));
        assert_eq!(read.best[0].len(), 1);
        assert!(read.best[1].is_empty());
    }

    proptest! {
        /// A norm that overflows, a loss that is no number: the run may still end well, and goes on from such a row.
        #[test]
        fn every_number_comes_back_to_the_last_bit_or_as_no_number(
            wide in proptest::collection::vec(proptest::num::f64::ANY, 32),
            narrow in proptest::collection::vec(proptest::num::f32::ANY, 4),
        ) {
            let (mut wide, mut narrow) = (wide.into_iter().cycle(), narrow.into_iter().cycle());
            let progress = progress(|| wide.next().unwrap(), || narrow.next().unwrap());
            let written = RunCheckpoint { progress, state: Vec::new(), best: vec![Vec::new(), Vec::new()] };
            let read = RunCheckpoint::from_bytes(&written.to_bytes().unwrap()).unwrap();
            // The shortest text that means a float and no other; that of every NaN is the same.
            prop_assert_eq!(format!("{:?}", read.progress), format!("{:?}", written.progress));
        }
    }

    #[test]
    fn a_checkpoint_that_was_cut_is_refused() {
        let bytes = checkpoint().to_bytes().unwrap();
        for length in [0, 7, 8, 100, bytes.len() - 1] {
            assert!(RunCheckpoint::from_bytes(&bytes[..length]).is_err(), "{length} bytes");
        }
    }
}
