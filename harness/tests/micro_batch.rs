//! Steps in parts against steps of the whole batch: as a user asks for them, and as memory runs out.

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use datasets::tokenizer::Behaviour;
use harness::env::micro_batch::MicroBatch;
use harness::error::{Error, Result};
use harness::load::backbone::Backbone;
use harness::load::paths::BackbonePath;
use harness::load::task_data::{RowSource, TaskCache};
use harness::plan::recipe::Recipe;
use harness::plan::resolve::{self, PlanContext};
use harness::plan::spec::RunSpec;
use harness::train::fitting::in_fitting_parts;
use harness::train::loader::DeviceBatch;
use harness::train::run_stack::RunStack;
use support::World;
use support::process::run_dirs;
use tch::{Device, Kind, Tensor};

/// float32 after a dozen steps: the order of sums differs.
const TOLERANCE: f64 = 1e-4;

/// A file of every run, by the run's id.
fn of_runs(world: &World, out: &str, file: &str) -> BTreeMap<String, String> {
    let read = |run: PathBuf| (run.file_name().unwrap().to_string_lossy().into_owned(), run.join(file));
    run_dirs(world, out).into_iter().map(read).map(|(id, path)| (id, std::fs::read_to_string(path).unwrap())).collect()
}

/// Values of some columns, row by row.
fn columns(csv: &str, names: &[&str]) -> Vec<f64> {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let at: Vec<usize> =
        names.iter().map(|name| reader.headers().unwrap().iter().position(|known| known == *name).unwrap()).collect();
    let rows: Vec<csv::StringRecord> = reader.records().map(std::result::Result::unwrap).collect();
    rows.iter().flat_map(|row| at.iter().map(|&at| row[at].parse().unwrap())).collect()
}

#[test]
fn runs_in_parts_are_those_of_the_whole_batch() {
    let world = World::new();
    let recipe = std::fs::read_to_string(world.recipe("")).unwrap();
    // The last batch of an epoch is short, and the rate small: rounding is to stay rounding.
    world.write("tiny.toml", recipe.replace("batch_size = 8", "batch_size = 7").replace("lr = 2e-2", "lr = 1e-3"));
    let flags = ["--tasks", "sst2,stsb", "--methods", "all", "--seeds", "0,1"];
    let run = |out: &str, extra: &[&str]| {
        world.run(&[&flags[..], &["--out", out], extra].concat()).assert().success();
    };
    run("whole", &[]);
    let whole = of_runs(&world, "whole", "epochs.csv");
    for (rows, extra) in [("1", &[][..]), ("3", &["--stack", "2"]), ("7", &[])] {
        let out = format!("parts{rows}");
        run(&out, &[&["--micro-batch", rows], extra].concat());
        let in_parts = of_runs(&world, &out, "epochs.csv");
        assert_eq!(in_parts.len(), whole.len());
        let mut differs = false;
        for (id, epochs) in &whole {
            let of = |epochs: &str| columns(epochs, &["steps", "tokens", "task_loss", "penalty"]);
            for (got, want) in of(&in_parts[id]).into_iter().zip(of(epochs)) {
                let off = (got - want).abs();
                assert!(off <= TOLERANCE * want.abs().max(1.0), "{id} in parts of {rows}: {got} for {want}");
                differs |= got != want;
            }
        }
        assert_eq!(differs, rows != "7", "parts of {rows}: sums of another order round otherwise");
        let manifests = of_runs(&world, &out, "manifest.json");
        assert!(manifests.values().all(|text| text.contains(&format!("\"micro_batch\": {rows}"))), "{manifests:?}");
    }
    for file in ["evals.csv", "predictions.csv"] {
        assert!(of_runs(&world, "parts7", file) == of_runs(&world, "whole", file), "a part may be the whole: {file}");
    }
    assert!(of_runs(&world, "whole", "manifest.json").values().all(|text| !text.contains("micro_batch")));
}

#[test]
fn a_resume_in_other_parts_says_so() {
    let world = World::new();
    let flags = ["--methods", "lora", "--epochs", "4000", "--checkpoint-every", "0"];
    let mut child =
        support::process::process(&world.run(&[&flags[..], &["--micro-batch", "3"]].concat())).spawn().unwrap();
    let is_begun = || run_dirs(&world, "out").iter().any(|run| run.join("evals.csv").exists());
    support::process::wait_until("an evaluation", &mut child, is_begun);
    // SAFETY: the process is our own child.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    assert_eq!(child.wait().unwrap().code(), Some(75));
    let mut again = support::process::process(&world.run(&flags)).spawn().unwrap();
    let resumed = std::time::Instant::now() + std::time::Duration::from_secs(5);
    support::process::ended_or_killed(&mut again, resumed);
    let said = std::io::read_to_string(again.stderr.take().unwrap()).unwrap();
    assert!(said.contains("resumed with steps of the whole batch, begun with parts of at most 3 rows"), "{said}");
}

/// The runs of a recipe of this world, with what they are made of.
struct Parts {
    backbone: Backbone,
    data: TaskCache,
    plan: Vec<RunSpec>,
}

impl Parts {
    fn new(world: &World, asked: MicroBatch) -> Self {
        let place = BackbonePath { dir: world.path("tiny"), name: "tiny".into() };
        let mut backbone = Backbone::load(&place, Behaviour::default(), Device::Cpu, false).unwrap();
        backbone.micro_batch = Some(asked);
        let dirs = [("sst2", world.path("glue"))].into_iter().collect();
        let data = TaskCache::new(RowSource::Glue { dirs, allow_unlocked: true });
        let context = PlanContext {
            backbone: backbone.spec.clone(),
            max_positions: backbone.encoder.info().max_positions,
            device: "cpu".into(),
            dataset: &|task| data.dataset(task),
        };
        let plan = resolve::plan(&Recipe::read(&world.recipe("")).unwrap(), &context).unwrap();
        Parts { backbone, data, plan }
    }
}

fn off(a: &[(String, Tensor)], b: &[(String, Tensor)]) -> f64 {
    let difference = |((_, a), (_, b)): (&(String, Tensor), &(String, Tensor))| {
        (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max().double_value(&[])
    };
    a.iter().zip(b).map(difference).fold(0.0, f64::max)
}

/// One step that runs out of memory in parts of more than `most` rows, after their gradients were computed.
fn step_within(stack: &mut RunStack, batch: &DeviceBatch, most: usize) -> Result<()> {
    in_fitting_parts(stack, batch, |stack| {
        stack.differentiate(batch)?;
        match stack.parts().rows() {
            Some(rows) if rows <= most => Ok(()),
            _ => panic!("called `Result::unwrap()` on an `Err` value: Torch(\"CUDA out of memory.\\nstack\")"),
        }
    })?;
    stack.update()?;
    stack.advance();
    Ok(())
}

#[test]
fn a_step_that_ran_out_of_memory_is_made_again_in_half_parts() {
    let world = World::new();
    let parts = Parts::new(&world, MicroBatch::Auto);
    for spec in &parts.plan {
        let data = parts.data.of_run(spec, &parts.backbone.tokenizer).unwrap();
        let [mut whole, mut halved] = [(); 2].map(|()| RunStack::new(&[spec], &parts.backbone, &data).unwrap());
        for step in whole.loader().epoch(1, 0) {
            whole.step(&step.batch).unwrap();
            whole.advance();
            step_within(&mut halved, &step.batch, 3).unwrap();
        }
        assert_eq!((whole.parts().rows(), halved.parts().rows()), (None, Some(2)), "of 8 rows 4, then 2");
        let off = off(&whole.states()[0], &halved.states()[0]);
        assert!(off <= 10.0 * TOLERANCE, "{}: {off:e}", spec.method);
    }
}

#[test]
fn a_row_that_does_not_fit_fails_the_step() {
    let world = World::new();
    let run_out = |asked: MicroBatch| {
        let parts = Parts::new(&world, asked);
        let spec = &parts.plan[0];
        let data = parts.data.of_run(spec, &parts.backbone.tokenizer).unwrap();
        let mut stack = RunStack::new(&[spec], &parts.backbone, &data).unwrap();
        let step = stack.loader().epoch(1, 0).next().unwrap();
        let mut tries = Vec::new();
        let failed = in_fitting_parts(&mut stack, &step.batch, |stack| -> Result<()> {
            tries.push(stack.parts().rows());
            Err(torch_ext::Error::Memory("out of memory".into()).into())
        });
        assert!(matches!(failed.unwrap_err(), Error::Environment(text) if text.contains("--micro-batch auto")));
        tries
    };
    assert_eq!(run_out(MicroBatch::Auto), [None, Some(4), Some(2), Some(1)]);
    assert_eq!(run_out("4".parse().unwrap()), [Some(4)], "a number is kept");
}
