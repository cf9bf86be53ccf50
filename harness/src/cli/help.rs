//! Text below the help of each command: two examples and the exit codes.

macro_rules! exit_codes {
    () => {
        "Exit codes: 0 done · 1 a bug · 2 wrong recipe, flag or name · 3 unreadable data, backbone or run · \
         4 the baseline check failed, or a run does not repeat · 5 a run failed · 6 something cannot be written · \
         7 the machine lacks something · 75 stopped by a signal and saved: start the same command again · 130 a second Ctrl-C"
    };
}

macro_rules! help {
    ($first:literal, $one:literal, $second:literal, $two:literal) => {
        concat!("Examples:\n  ", $first, ":\n    ", $one, "\n  ", $second, ":\n    ", $two, "\n\n", exit_codes!())
    };
}

/// Exit codes of every command.
pub const EXIT_CODES: &str = exit_codes!();
/// `rankbench quickstart`.
pub const QUICKSTART: &str = help!(
    "everything on synthetic data, in minutes on two cores",
    "rankbench quickstart",
    "less of it",
    "rankbench quickstart --tasks rte,stsb --out results/first"
);
/// `rankbench run`.
pub const RUN: &str = help!(
    "the three methods on CoLA, five seeds",
    "rankbench run table1 --tasks cola --methods lora,adalora,sora --seeds 0-4 --glue DIR",
    "a recipe of your own, at another rate",
    "rankbench run mine.toml --lr 2e-4 --out results/mine"
);
/// `rankbench plan`.
pub const PLAN: &str = help!(
    "what a recipe takes on this machine",
    "rankbench plan table2 --glue DIR",
    "its runs and steps alone, for a script",
    "rankbench plan table2 --glue DIR --no-measure --json"
);
/// `rankbench ablate`.
pub const ABLATE: &str = help!(
    "every switch against the base",
    "rankbench ablate --glue DIR",
    "one switch on one task",
    "rankbench ablate --flip variant --tasks rte --glue DIR"
);
/// `rankbench tune`.
pub const TUNE: &str = help!(
    "the whole space of a recipe",
    "rankbench tune --glue DIR",
    "five trials a method, over other rates",
    "rankbench tune --trials 5 --set train.lr=1e-4,2e-4,4e-4,8e-4,1.6e-3,3.2e-3 --glue DIR"
);
/// `rankbench split`.
pub const SPLIT: &str = help!(
    "rows of RTE as the SoRA release divides them",
    "rankbench split --task rte --glue DIR --out split.csv",
    "with texts and labels, ready to train on",
    "rankbench split --task rte --micro --text --out split.csv"
);
/// `rankbench add`.
pub const ADD: &str = help!(
    "predictions of a program of your own",
    "rankbench add --method mine --task rte --seed 0 --predictions predictions.csv --backbone all-MiniLM-L6-v2 --lr 1e-3 --glue DIR",
    "an adapter that PEFT saved",
    "rankbench add --method mine --task rte --seed 0 --adapter DIR --backbone all-MiniLM-L6-v2 --glue DIR"
);
/// `rankbench verify`.
pub const VERIFY: &str = help!(
    "the first epoch of a run",
    "rankbench verify rte-lora-s0-0123456789 --glue DIR",
    "more of it, in another store",
    "rankbench verify rte-lora-s0-0123456789 --out results/mine --steps 500 --glue DIR"
);
/// `rankbench status`.
pub const STATUS: &str = help!(
    "how the runs in results stand",
    "rankbench status",
    "those of a plan",
    "rankbench status --out results/mine --plan plan.jsonl"
);
/// `rankbench submit`.
pub const SUBMIT: &str = help!(
    "write a plan",
    "rankbench run table1 --write-plan plan.jsonl --glue DIR",
    "submit it as an array job",
    "rankbench submit slurm --plan plan.jsonl --time 120"
);
/// `rankbench list`.
pub const LIST: &str = help!(
    "every option of every method",
    "rankbench list methods",
    "the same for a script",
    "rankbench list methods --json"
);
/// `rankbench recipe`.
pub const RECIPE: &str =
    help!("what there is", "rankbench recipe", "a copy to change", "rankbench recipe table1 > mine.toml");
/// `rankbench report`.
pub const REPORT: &str = help!(
    "tables and figures of everything in results",
    "rankbench report",
    "of another sweep, with a wider margin",
    "rankbench report results/mine --margin 1"
);
/// `rankbench show`.
pub const SHOW: &str = help!(
    "a run of results, by the beginning of its id",
    "rankbench show rte-sora-s0",
    "for a script",
    "rankbench show rte-sora-s0-0123456789 --out results/mine --json"
);
/// `rankbench compare`.
pub const COMPARE: &str = help!(
    "what a change of the code moved",
    "rankbench compare results/before results/after",
    "stored runs against committed numbers",
    "rankbench compare results/reference/minilm_glue results/mine"
);
/// `rankbench power`.
pub const POWER: &str = help!(
    "what the seeds in results can show",
    "rankbench power",
    "seeds that a margin of one point takes",
    "rankbench power results/reference/minilm_glue --margin 1"
);
/// `rankbench audit`.
pub const AUDIT: &str = help!(
    "a table that is part of the project",
    "rankbench audit results/published/sora_table1.csv",
    "one of your own, three runs on the whole development set",
    "rankbench audit table.csv --runs 3 --split official"
);
/// `rankbench tensorboard`.
pub const TENSORBOARD: &str = help!(
    "event files of everything in results",
    "rankbench tensorboard",
    "of another sweep, beside others",
    "rankbench tensorboard results/mine --to ~/logs/mine"
);
/// `rankbench fsck`.
pub const FSCK: &str =
    help!("check everything in results", "rankbench fsck", "another sweep", "rankbench fsck --out results/mine");
/// `rankbench efficiency`.
pub const EFFICIENCY: &str = help!(
    "time an epoch of each method",
    "rankbench efficiency",
    "on another backbone",
    "rankbench efficiency --backbone microsoft/deberta-v3-base --rounds 5"
);
/// `rankbench regression`.
pub const REGRESSION: &str = help!(
    "compare with the stored baseline",
    "rankbench regression",
    "take what comes out as the new one",
    "rankbench regression --bless"
);
/// `rankbench export`.
pub const EXPORT: &str = help!(
    "an adapter for PEFT",
    "rankbench export --run results/runs/rte-lora-s0-0123456789 --out adapter",
    "for a backbone of another name",
    "rankbench export --run RUN --out adapter --base-model microsoft/deberta-v3-base"
);
/// `rankbench import`.
pub const IMPORT: &str = help!(
    "evaluate an adapter",
    "rankbench import --adapter adapter --backbone all-MiniLM-L6-v2 --task rte --micro",
    "and keep its logits",
    "rankbench import --adapter adapter --backbone DIR --task rte --glue DIR --out logits.csv"
);
/// `rankbench merge`.
pub const MERGE: &str = help!(
    "one checkpoint for transformers",
    "rankbench merge --adapter adapter --backbone all-MiniLM-L6-v2 --out merged",
    "of a run",
    "rankbench merge --adapter RUN/adapter --backbone DIR --out merged"
);
/// `rankbench tokenize`.
pub const TOKENIZE: &str = help!(
    "token ids of RTE",
    "rankbench tokenize --backbone all-MiniLM-L6-v2 --tasks rte --micro --out ids.jsonl",
    "as transformers reads them",
    "rankbench tokenize --backbone DIR --tokenizer fast --tasks rte --out ids.jsonl"
);
/// `rankbench doctor`.
pub const DOCTOR: &str = help!(
    "what is here, what is missing",
    "rankbench doctor",
    "whether a recipe works here: disk, memory, kernels, a step of everything",
    "rankbench doctor --recipe cola_three"
);
/// `rankbench completions`.
pub const COMPLETIONS: &str = help!(
    "for bash",
    "rankbench completions bash > ~/.local/share/bash-completion/completions/rankbench",
    "for fish",
    "rankbench completions fish > ~/.config/fish/completions/rankbench.fish"
);
/// `rankbench man`.
pub const MAN: &str =
    help!("every page", "rankbench man man1", "where man looks", "rankbench man ~/.local/share/man/man1");
/// `rankbench fetch`.
pub const FETCH: &str = help!(
    "into the cache that the nodes share",
    "rankbench fetch table1 --tasks cola,rte",
    "into a folder that is carried there",
    "rankbench fetch table1 --to /scratch/rankbench"
);
/// `rankbench watch`.
pub const WATCH: &str = help!(
    "a sweep that another process makes",
    "rankbench watch results/mine",
    "one look, as lines",
    "rankbench watch results/mine --once"
);
