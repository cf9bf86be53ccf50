//! Which runs share their steps.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::plan::spec::{RunSpec, TrainSpec};
use crate::train::loader::MOST_ROWS;

/// The runs in stacks that share their steps, each stack where its first run is. `size` gives the most runs of a stack of those that could
/// all share their steps. Runs of one method and setting are neighbours: what the method does at a step is then done once for them.
///
/// # Errors
/// A method that is not known; those of `size`.
pub fn stacks<'a>(
    runs: &[&'a RunSpec],
    mut size: impl FnMut(&[&'a RunSpec]) -> Result<usize>,
) -> Result<Vec<Vec<&'a RunSpec>>> {
    let mut stacks: Vec<(usize, Vec<&RunSpec>)> = Vec::new();
    for sharing in sharing(runs)? {
        let all: Vec<&RunSpec> = sharing.runs.iter().map(|&at| runs[at]).collect();
        let most = MOST_ROWS / all.first().map_or(1, |spec| spec.train.batch_size);
        let chunks = sharing.runs.chunks(size(&all)?.min(most).max(1));
        stacks.extend(chunks.map(|chunk| {
            let first = chunk.iter().copied().min().unwrap_or_default();
            (first, chunk.iter().map(|&at| runs[at]).collect())
        }));
    }
    stacks.sort_by_key(|(first, _)| *first);
    Ok(stacks.into_iter().map(|(_, stack)| stack).collect())
}

/// Runs that could all share their steps, by their places.
struct Sharing {
    runs: Vec<usize>,
    /// The first run of each method among them: runs of one method that share with it share with each other.
    of_methods: Vec<usize>,
}

impl Sharing {
    fn takes(&self, runs: &[&RunSpec], spec: &RunSpec) -> Result<bool> {
        for &other in &self.of_methods {
            if !share_steps(runs[other], spec)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The runs in groups that could share their steps; runs of one setting are neighbours.
fn sharing(runs: &[&RunSpec]) -> Result<Vec<Sharing>> {
    let mut settings: Vec<Vec<usize>> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for (at, spec) in runs.iter().enumerate() {
        let setting = *known.entry(spec.setting()).or_insert(settings.len());
        settings.resize_with(settings.len().max(setting + 1), Vec::new);
        settings[setting].push(at);
    }
    let alone = |run| Sharing { runs: vec![run], of_methods: vec![run] };
    let (mut groups, mut others): (Vec<Sharing>, Vec<Sharing>) = Default::default();
    for setting in settings {
        let (first, spec) = (setting[0], runs[setting[0]]);
        if !share_steps(spec, spec)? {
            others.extend(setting.into_iter().map(alone));
            continue;
        }
        let mut open = None;
        for group in &mut groups {
            if group.takes(runs, spec)? {
                open = Some(group);
                break;
            }
        }
        match open {
            Some(group) => {
                if group.of_methods.iter().all(|&known| runs[known].method != spec.method) {
                    group.of_methods.push(first);
                }
                group.runs.extend(setting);
            }
            None => groups.push(Sharing { runs: setting, of_methods: vec![first] }),
        }
    }
    groups.extend(others);
    Ok(groups)
}

/// Whether two runs can share their steps: both see as many rows of the same data at a step, and differ in nothing but method, options,
/// seed and what their optimisers do.
fn share_steps(one: &RunSpec, other: &RunSpec) -> Result<bool> {
    let [method, other_method] = [one, other].map(|spec| methods::registry::find(&spec.method));
    if one.task != other.task || !method?.stacks_with(&one.options, other_method?, &other.options) {
        return Ok(false);
    }
    let alike = RunSpec {
        method: one.method.clone(),
        label: one.label.clone(),
        options: one.options.clone(),
        seed: one.seed,
        train: TrainSpec {
            lr: one.train.lr,
            warmup_ratio: one.train.warmup_ratio,
            weight_decay: one.train.weight_decay,
            decay_order: one.train.decay_order,
            max_grad_norm: one.train.max_grad_norm,
            ..other.train.clone()
        },
        ..other.clone()
    };
    Ok(alike == *one)
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;
    use crate::plan::spec::tests::run_spec;

    fn with(method: &str, options: &str, seed: u64) -> RunSpec {
        let given = options.parse().unwrap();
        let options = methods::registry::find(method).unwrap().options(&given).unwrap();
        RunSpec { options, seed, ..run_spec(method) }
    }

    fn sizes(runs: &[RunSpec], stack_size: usize) -> Vec<usize> {
        let stacks = stacks(&runs.iter().collect::<Vec<_>>(), |_| Ok(stack_size)).unwrap();
        stacks.iter().map(Vec::len).collect()
    }

    #[test]
    fn runs_of_other_rates_ranks_and_methods_share_their_steps() {
        let mut runs = [("lora", ""), ("lora", "r = 4"), ("sora", "xi = 1e-3"), ("adalora", "")]
            .map(|(m, o)| with(m, o, 0))
            .to_vec();
        runs.push(RunSpec { seed: 1, label: "lr 0.1".into(), ..runs[0].clone() });
        runs[4].train.lr = 0.1;
        runs[4].train.weight_decay = 0.5;
        assert_eq!(sizes(&runs, 8), [5]);
        assert_eq!(sizes(&runs, 2), [2, 2, 1]);
        assert_eq!(
            sizes(&[0, 1, 0].map(|seed| with(["lora", "sora"][seed], "", seed as u64)), 2),
            [2, 1],
            "alike first"
        );
        assert_eq!(sizes(&runs, 1), [1; 5]);
    }

    #[test]
    fn what_a_step_has_in_common_keeps_runs_apart() {
        let base = with("lora", "", 0);
        let apart = |other: RunSpec| assert_eq!(sizes(&[base.clone(), other.clone()], 8), [1, 1], "{other:?}");
        apart(with("lora", "target_modules = ['query', 'value']", 0));
        apart(with("lora", "lora_dropout = 0.1", 0));
        apart(with("lora", "bias = 'all'", 0));
        apart(with("dora", "", 0));
        apart(with("bitfit", "", 0));
        let train = |change: fn(&mut TrainSpec)| {
            let mut other = base.clone();
            change(&mut other.train);
            apart(other);
        };
        train(|train| train.batch_size += 1);
        train(|train| train.epochs += 1);
        train(|train| train.train_head = !train.train_head);
        train(|train| train.max_length -= 1);
        apart(RunSpec { task: "cola".into(), ..base.clone() });
        let adalora = ["", "delta_t = 3", "gamma = 0.7"].map(|options| with("adalora", options, 0));
        assert_eq!(sizes(&adalora, 8), [2, 1], "other phases at a step");
        assert_eq!(sizes(&[slice::from_ref(&base), &adalora].concat(), 8), [3, 1]);
        assert_eq!(sizes(&["", ""].map(|options| with("dora", options, 0)), 8), [2]);
        assert_eq!(sizes(&["", ""].map(|options| with("bitfit", options, 0)), 8), [1, 1]);
    }
}
