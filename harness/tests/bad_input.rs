//! Every mistake of a user ends in one clear message and the documented exit code, and loses nothing.

mod support;

use encoders::{Config, ENCODERS};
use support::process::process_under;
use support::{World, failure, one_line, random, safetensors_bytes, sst2};
use tch::{Device, Kind, Tensor};

/// Runs the tiny recipe and checks code and parts of the message.
fn fails(world: &World, extra: &[&str], code: i32, parts: &[&str]) {
    let (got, text) = failure(&mut world.run(extra));
    assert_eq!(got, code, "{text}");
    for part in parts {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
    assert!(!world.path("out/runs").exists() || std::fs::read_dir(world.path("out/runs")).unwrap().next().is_none());
}

#[test]
fn missing_data_directory() {
    let world = World::new();
    fails(&world, &["--glue", "nowhere"], 3, &["nowhere", "not found"]);
}

#[test]
fn no_data_directory_given() {
    let world = World::new();
    world.recipe("");
    let (code, text) = failure(&mut world.rankbench(&["run", "--recipe", "tiny.toml", "--device", "cpu"]));
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("--glue DIR") && text.contains("--micro"), "{text}");
    assert!(text.contains("sst2/train-00000-of-00001.parquet, sst2/validation"), "{text}");
}

/// A user without a network is told once which files to get by hand.
#[test]
fn neither_data_nor_backbone_without_a_network() {
    let world = World::new();
    world.recipe("");
    let arguments = ["run", "--recipe", "tiny.toml", "--device", "cpu", "--backbone", "microsoft/deberta-v3-base"];
    let (code, text) = failure(&mut world.rankbench(&arguments));
    assert_eq!(code, 3, "{text}");
    for part in ["sst2/train-00000-of-00001.parquet", "pytorch_model.bin", "spm.model", "--glue DIR", "--backbone DIR"]
    {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
}

#[test]
fn missing_data_file() {
    let world = World::new();
    std::fs::remove_file(world.path("glue/SST-2/dev.tsv")).unwrap();
    fails(&world, &[], 3, &["dev.tsv", "not found"]);
}

#[test]
fn truncated_zst() {
    let world = World::new();
    let packed = zstd::encode_all(sst2(400).as_bytes(), 3).unwrap();
    std::fs::remove_file(world.path("glue/SST-2/train.tsv")).unwrap();
    world.write("glue/SST-2/train.tsv.zst", &packed[..packed.len() / 2]);
    fails(&world, &[], 3, &["train.tsv.zst", "zst"]);
}

#[test]
fn corrupt_parquet() {
    let world = World::new();
    world.write("hub/sst2/train-00000-of-00001.parquet", b"PAR1 this is no parquet file");
    world.write("hub/sst2/validation-00000-of-00001.parquet", b"PAR1");
    fails(&world, &["--glue", "hub"], 3, &["parquet"]);
}

#[test]
fn truncated_tsv_row() {
    let world = World::new();
    let text = sst2(20);
    world.write("glue/SST-2/train.tsv", text.trim_end().rsplit_once('\t').unwrap().0);
    fails(&world, &[], 3, &["train.tsv", "line 21"]);
}

#[test]
fn unknown_label() {
    let world = World::new();
    world.write("glue/SST-2/train.tsv", "sentence\tlabel\nthe film is good\tgreat\n");
    fails(&world, &[], 3, &["train.tsv", "line 2", "great"]);
}

#[test]
fn wrong_column_count() {
    let world = World::new();
    world.write("glue/SST-2/train.tsv", "sentence\tlabel\nthe film\tis good\t1\n");
    fails(&world, &[], 3, &["line 2", "2", "3"]);
}

#[test]
fn checksum_mismatch() {
    let world = World::new();
    world.recipe("");
    let (code, text) = failure(&mut world.rankbench(&[
        "run",
        "--recipe",
        "tiny.toml",
        "--glue",
        "glue",
        "--out",
        "out",
        "--device",
        "cpu",
    ]));
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("--allow-unlocked") && text.contains("expected"), "{text}");
}

#[test]
fn missing_backbone() {
    let world = World::new();
    fails(
        &world,
        &["--backbone", "microsoft/deberta-v3-base"],
        3,
        &["microsoft/deberta-v3-base", "HF_HUB_OFFLINE", "models--microsoft--deberta-v3-base", "--backbone DIR"],
    );
    fails(&world, &["--backbone", "nothing"], 3, &["'nothing' is not here", "owner/name", "all-MiniLM-L6-v2"]);
}

#[test]
fn missing_backbone_file() {
    let world = World::new();
    std::fs::remove_file(world.path("tiny/model.safetensors")).unwrap();
    fails(&world, &[], 3, &["model.safetensors"]);
}

#[test]
fn missing_tokenizer() {
    let world = World::new();
    std::fs::remove_file(world.path("tiny/vocab.txt")).unwrap();
    fails(&world, &[], 3, &["tokenizer.json", "vocab.txt"]);
}

#[test]
fn truncated_backbone_file() {
    let world = World::new();
    let bytes = std::fs::read(world.path("tiny/model.safetensors")).unwrap();
    world.write("tiny/model.safetensors", &bytes[..bytes.len() / 2]);
    fails(&world, &[], 3, &["model.safetensors", "truncated"]);
}

#[test]
fn config_of_another_architecture() {
    let world = World::new();
    let config = world.read("tiny/config.json").replace("\"bert\"", "\"gpt2\"");
    world.write("tiny/config.json", config);
    fails(&world, &[], 3, &["config.json", "model_type", "gpt2", "bert"]);
}

#[test]
fn option_that_is_not_supported() {
    let world = World::new();
    let config = world.read("tiny/config.json").replace("\"gelu\"", "\"swish\"");
    world.write("tiny/config.json", config);
    fails(&world, &[], 3, &["hidden_act", "swish", "gelu"]);
}

#[test]
fn missing_surplus_and_wrong_shaped_tensors_are_named_together() {
    let world = World::new();
    let config = Config::parse(ENCODERS[0].tiny, std::path::Path::new("tiny")).unwrap();
    let encoder = encoders::random(&config, 1, Device::Cpu, Kind::Float).unwrap();
    let mut tensors: Vec<(String, Tensor)> =
        encoder.info().weights.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    tensors[0].1 = random(&[3, 5]);
    tensors[1].0 = "bert.embeddings.what".into();
    world.write("tiny/model.safetensors", safetensors_bytes(&tensors));
    fails(&world, &[], 3, &["wrong shape", "[3, 5]", "missing", "surplus: bert.embeddings.what"]);
}

#[test]
fn unknown_names_come_with_the_nearest() {
    let world = World::new();
    fails(&world, &["--methods", "sorra"], 2, &["unknown method 'sorra'", "did you mean 'sora'?"]);
    fails(&world, &["--tasks", "rtee"], 2, &["unknown task 'rtee'", "did you mean 'rte'?"]);
    world.recipe("epoch = 3\n");
    fails(&world, &[], 2, &["epoch", "did you mean `epochs`?"]);
    world.recipe("[[override]]\nmethods = [\"sora\"]\noptions = { l1_wieght = 1.0 }\n");
    fails(&world, &[], 2, &["sora", "l1_wieght", "did you mean `l1_weight`?"]);
    world.recipe("[[override]]\nmethods = [\"sorra\"]\n");
    fails(&world, &[], 2, &["override 1", "sorra"]);
}

#[test]
fn recipe_that_is_not_there_or_does_not_parse() {
    let world = World::new();
    let (code, text) = failure(&mut world.rankbench(&["run", "--recipe", "nothing.toml"]));
    assert!(code == 2 && text.contains("nothing.toml"), "{text}");
    world.write("broken.toml", "tasks = [");
    let (code, text) = failure(&mut world.rankbench(&["run", "--recipe", "broken.toml"]));
    assert!(code == 2 && text.contains("broken.toml"), "{text}");
}

#[test]
fn schedule_that_does_not_fit() {
    let world = World::new();
    world.recipe("[[override]]\nmethods = [\"adalora\"]\noptions = { tinit = 10, tfinal = 10 }\n");
    fails(&world, &[], 2, &["tinit + tfinal", "10 + 10 for 12 steps"]);
}

#[test]
fn schedule_with_stages_that_would_be_ignored() {
    let world = World::new();
    world.recipe("[[override]]\nmethods = [\"sora\"]\noptions = { xi_schedule = { spacing = \"linear\", max = 1e-3, stages = 3 } }\n");
    fails(&world, &[], 2, &["3 stages"]);
}

#[test]
fn rank_larger_than_a_dimension() {
    let world = World::new();
    world.recipe("[[override]]\nmethods = [\"lora\"]\noptions = { r = 20 }\n");
    fails(&world, &[], 2, &["rank 20 is larger than a dimension", "at most 16"]);
}

#[test]
fn maximum_length_beyond_the_backbone() {
    let world = World::new();
    let recipe = world.recipe("");
    let text = std::fs::read_to_string(&recipe).unwrap().replace("max_length = 16", "max_length = 64");
    std::fs::write(&recipe, text).unwrap();
    fails(&world, &[], 2, &["max_length is 64", "40 positions"]);
}

#[test]
fn output_that_cannot_be_written() {
    let world = World::new();
    world.write("occupied", "a file, not a directory");
    fails(&world, &["--out", "occupied"], 6, &["cannot write", "occupied"]);
}

#[test]
fn no_gpu() {
    if tch::Cuda::is_available() {
        eprintln!("skipped: this machine has a GPU");
        return;
    }
    let world = World::new();
    world.recipe("");
    let (code, text) =
        failure(&mut world.rankbench(&["run", "--recipe", "tiny.toml", "--glue", "glue", "--device", "cuda"]));
    assert!(code == 7 && text.contains("no usable GPU"), "{text}");
}

/// The disk fills while runs are stored: those that are done stay, the message names the file.
#[test]
fn full_disk() {
    let world = World::new();
    world.recipe("");
    std::fs::create_dir(world.path("out")).unwrap();
    let command = world.run(&["--seeds", "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15"]);
    let mount =
        "mount -t tmpfs -o size=1m tmpfs out || exit 99; \"$@\"; code=$?; ls out/runs/*/DONE | wc -l; exit $code";
    let full = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh"];
    let Ok(output) = process_under(&full, &command).output() else {
        eprintln!("skipped: this machine has no unshare, so no small disk can be made");
        return;
    };
    let stderr = one_line(&String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(99) || stderr.contains("unshare:") {
        eprintln!("skipped: this machine allows no mount in a namespace, so no small disk can be made");
        return;
    }
    assert_eq!(output.status.code(), Some(6), "{stderr}");
    assert!(stderr.contains("cannot write") && stderr.contains("No space left"), "{stderr}");
    let done: usize = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
    assert!(done > 0, "nothing was kept: {stderr}");
}

/// Every number of a recipe's protocol, with values it must not take.
#[test]
fn every_number_of_the_protocol_has_bounds() {
    let not_finite = ["nan", "inf", "-inf"];
    let cases: [(&str, &[&str]); 10] = [
        ("epochs", &["0", "-1"]),
        ("batch_size", &["0", "-8"]),
        ("lr", &["0.0", "-1e-3"]),
        ("warmup_ratio", &["-0.1", "1.1"]),
        ("weight_decay", &["-0.01"]),
        ("max_grad_norm", &["0.0", "-1.0"]),
        ("max_length", &["0", "3", "100000"]),
        ("padding", &["{ bucket = 0 }"]),
        ("evaluate", &["{ epochs = 0 }", "{ steps = 0 }"]),
        ("seeds", &["[-1]"]),
    ];
    let world = World::new();
    let text = std::fs::read_to_string(world.recipe("")).unwrap();
    for (key, values) in cases {
        let is_float = ["lr", "warmup_ratio", "weight_decay"].contains(&key);
        let more: &[&str] = if is_float { &not_finite } else { &[] };
        for value in values.iter().chain(more) {
            let line =
                |old: &str| if old.starts_with(&format!("{key} =")) { format!("{key} = {value}") } else { old.into() };
            let changed: Vec<String> = text.lines().map(line).collect();
            assert!(changed.join("\n") != text, "{key} is not in the recipe");
            world.write("tiny.toml", changed.join("\n"));
            fails(&world, &[], 2, &[key]);
        }
    }
    for (extra, part) in
        [("[timing]\nrounds = 0\n", "timing.rounds"), ("[timing]\nrounds = 1\nsteps = 0\n", "timing.steps")]
    {
        world.recipe(extra);
        fails(&world, &[], 2, &[part]);
    }
    world.recipe("");
    fails(&world, &["--batch-size", "100", "--epochs", "1"], 2, &["the learning-rate schedule has no step"]);
    fails(&world, &["--train-limit", "0"], 2, &["no training row"]);
    fails(&world, &["--margin=-1"], 2, &["expected a finite number above 0"]);
}
