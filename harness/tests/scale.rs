//! Reports over many stored runs: right for some, in time and memory for thousands.

mod support;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use support::stored::{REAL, SMALL, Size, write_runs};

/// Bounds of the report over 10,000 small runs.
const MOST_TIME: Duration = Duration::from_secs(5);
const MOST_MIB: f64 = 400.0;

/// Time and peak memory (MiB) of `rankbench report` on `out`.
fn report(out: &Path) -> (Duration, f64) {
    let started = Instant::now();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_rankbench"))
        .args(["report", "--out", out.to_str().unwrap()])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut peak = 0.0;
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: Option<f64> = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok());
        peak = kib.map_or(peak, |kib| f64::max(peak, kib / 1024.0));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}, signal {:?}", status.signal());
            return (started.elapsed(), peak);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn column(out: &Path, table: &str, name: &str) -> Vec<String> {
    let mut reader = csv::Reader::from_path(out.join(format!("report/{table}.csv"))).unwrap();
    let index = reader.headers().unwrap().iter().position(|known| known == name).unwrap();
    reader.records().map(|record| record.unwrap()[index].to_string()).collect()
}

#[test]
fn stored_runs_are_whole_and_all_of_them_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let count = write_runs(&dir.path().join("runs"), 120, SMALL);
    report(dir.path());
    assert_eq!(count, 135, "nine tasks, three methods, five seeds");
    let status = column(dir.path(), "results", "status");
    assert!(status.iter().all(|status| status == "done"), "{status:?}");
    let mut runs = column(dir.path(), "results", "run");
    runs.dedup();
    assert_eq!(runs.len(), count);
    assert!(runs.is_sorted(), "runs are in the order of their names, whichever core read them");
    let seeds: Vec<String> = column(dir.path(), "table1", "seeds");
    assert!(seeds.iter().all(|seeds| seeds == "5"), "{seeds:?}");
    let examples = column(dir.path(), "paired", "examples_low");
    assert_eq!(examples.iter().filter(|low| !low.is_empty()).count(), 18, "nine tasks, two methods against LoRA");
}

/// `cargo test --release -p harness --test scale -- --ignored --nocapture`; with RANKBENCH_SCALE, the runs stay there.
#[test]
#[ignore = "writes thousands of runs"]
fn ten_thousand_runs_in_time_and_memory() {
    let dir = tempfile::tempdir().unwrap();
    let root = std::env::var_os("RANKBENCH_SCALE").map_or(dir.path().to_path_buf(), Into::into);
    let measured = |name: &str, count: usize, size: Size| {
        let out = root.join(name);
        if !out.join("runs").exists() {
            write_runs(&out.join("runs"), count, size);
        }
        // The files are in the page cache afterwards.
        report(&out);
        let (time, mib) = report(&out);
        println!("{name}: {count} runs, {:.2} s, {mib:.0} MiB", time.as_secs_f64());
        (time, mib)
    };
    measured("small-2016", 2_016, SMALL);
    let (time, mib) = measured("small-10008", 10_008, SMALL);
    measured("real-2016", 2_016, REAL);
    assert!(time <= MOST_TIME && mib <= MOST_MIB, "{time:?}, {mib:.0} MiB");
}
