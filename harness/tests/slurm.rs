//! An array job on a real Slurm: controller and two nodes on this machine. Tasks are cancelled, put back into the queue and warned in the
//! middle, a node is drained; every run is made once, and the results are those of one process.

mod support;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::World;
use support::process::run_dirs;

/// Programs of the Debian packages slurmctld, slurmd, slurm-client and munge.
const PROGRAMS: [&str; 5] = ["munged", "slurmctld", "slurmd", "sbatch", "scontrol"];

/// Where this variable is set, a skip is a failure: Slurm is known to be here.
const REQUIRED: &str = "SLURM_REQUIRED";

/// Says why the test is not run.
fn skip(reason: &str) {
    assert!(std::env::var_os(REQUIRED).is_none(), "{REQUIRED} is set, and {reason}");
    println!("skipped: {reason}");
}

/// A Slurm of our own, stopped when dropped.
struct Slurm {
    dir: PathBuf,
}

impl Slurm {
    /// Starts one; none, with the reason printed, where that cannot be.
    fn start(dir: PathBuf) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places: Vec<PathBuf> =
            std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]).collect();
        let is_missing = |name: &&str| !places.iter().any(|place| place.join(name).is_file());
        if let Some(missing) = PROGRAMS.iter().find(|name| is_missing(name)) {
            skip(&format!("{missing} is not installed (apt-get install slurmctld slurmd slurm-client munge)"));
            return None;
        }
        for part in ["state", "spool.n1", "spool.n2", "cgroup"] {
            std::fs::create_dir_all(dir.join(part)).unwrap();
        }
        let slurm = Slurm { dir };
        slurm.write_configuration();
        slurm.munge();
        let conf = slurm.conf();
        let run = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(format!("/usr/sbin/{program}"));
            assert!(command.args(["-f", &conf]).args(arguments).status().unwrap().success(), "{program}");
        };
        run("slurmctld", &[]);
        run("slurmd", &["-N", "n1"]);
        run("slurmd", &["-N", "n2"]);
        let until = Instant::now() + Duration::from_secs(60);
        while slurm.ask("sinfo", &["-h", "-o", "%D %t"]) != "2 idle" {
            if Instant::now() > until {
                let log = |name: &str| std::fs::read_to_string(slurm.dir.join(name)).unwrap_or_default();
                skip(&format!(
                    "Slurm's nodes do not come up here:\n{}\n{}",
                    log("slurmctld.log"),
                    log("slurmd.n1.log")
                ));
                return None;
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        Some(slurm)
    }

    fn conf(&self) -> String {
        self.dir.join("slurm.conf").display().to_string()
    }

    fn munge(&self) {
        let key: Vec<u8> = (0..1024u32).map(|i| (i * 37 % 251) as u8).collect();
        std::fs::write(self.dir.join("key"), key).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(self.dir.join("key"), mode).unwrap();
        let mut command = Command::new("/usr/sbin/munged");
        for (flag, file) in [
            ("key-file", "key"),
            ("socket", "munge"),
            ("pid-file", "munged.pid"),
            ("log-file", "munged.log"),
            ("seed-file", "seed"),
        ] {
            command.arg(format!("--{flag}={}", self.dir.join(file).display()));
        }
        assert!(command.arg("--force").status().unwrap().success(), "munged");
    }

    fn write_configuration(&self) {
        let dir = self.dir.display();
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let host = host.trim().split('.').next().unwrap().to_string();
        let user = user();
        // Held until all are known, so that they differ.
        let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [controller, first, second] = held.each_ref().map(|port| port.local_addr().unwrap().port());
        let node = |name: &str, port: u16| {
            format!(
                "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=500 State=UNKNOWN"
            )
        };
        let text = format!(
            "ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={controller}\nSlurmUser={user}\n\
             SlurmdUser={user}\nAuthType=auth/munge\nAuthInfo=socket={dir}/munge,cred_expire=5\nCredType=cred/munge\n\
             StateSaveLocation={dir}/state\nSlurmdSpoolDir={dir}/spool.%n\nSlurmctldPidFile={dir}/slurmctld.pid\n\
             SlurmdPidFile={dir}/slurmd.%n.pid\nSlurmctldLogFile={dir}/slurmctld.log\nSlurmdLogFile={dir}/slurmd.%n.log\n\
             ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nSwitchType=switch/none\nMpiDefault=none\n\
             JobAcctGatherType=jobacct_gather/none\nAccountingStorageType=accounting_storage/none\n\
             JobCompType=jobcomp/none\nSelectType=select/cons_tres\nSelectTypeParameters=CR_CPU\nReturnToService=2\n\
             SlurmdTimeout=60\nKillWait=60\nSchedulerParameters=sched_interval=1\n{}\n{}\n\
             PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n",
            node("n1", first),
            node("n2", second)
        );
        std::fs::write(self.conf(), text).unwrap();
        // Not used by this configuration, and asked for all the same.
        let cgroup = format!("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nCgroupMountpoint={dir}/cgroup\n");
        std::fs::write(self.dir.join("cgroup.conf"), cgroup).unwrap();
    }

    /// Output of a program of Slurm.
    fn ask(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program).args(arguments).env("SLURM_CONF", self.conf()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    }

    /// Sends the warning that comes before a task's time limit. `scancel` must be ended once it has arrived: for a task of an array Slurm
    /// 22.05 tells it to try again, so that it signals the task up to ten times in 45 s, also after the task was put back.
    fn warn(&self, task: &str) -> Child {
        let arguments = ["--batch", "--signal=USR1", task];
        let mut command = Command::new("scancel");
        command.args(arguments).env("SLURM_CONF", self.conf()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Ids of the running tasks, as `<job>_<index>`.
    fn running(&self) -> Vec<String> {
        self.ask("squeue", &["-h", "-t", "R", "-o", "%i"]).lines().map(str::to_string).collect()
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        let _ = self.ask("scancel", &["--user", &user()]);
        for pid in ["slurmd.n1.pid", "slurmd.n2.pid", "slurmctld.pid", "munged.pid"] {
            let pid = std::fs::read_to_string(self.dir.join(pid)).ok().and_then(|pid| pid.trim().parse::<i32>().ok());
            // SAFETY: a process that this test started.
            pid.map(|pid| unsafe { libc::kill(pid, libc::SIGTERM) });
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn user() -> String {
    String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap().trim().to_string()
}

/// Waits for something; `logs` are shown where it does not come.
fn wait_for<T>(what: &str, seconds: u64, logs: &dyn Fn() -> String, mut found: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < until, "{what}: not within {seconds} s\n{}", logs());
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Files of every run that do not hold times.
fn results(world: &World, out: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let files = ["run.toml", "evals.csv", "ranks.csv", "predictions.csv", "adapter/adapter_model.safetensors"];
    let of = |run: PathBuf| {
        files.map(|file| (Path::new(run.file_name().unwrap()).join(file), std::fs::read(run.join(file)).unwrap()))
    };
    run_dirs(world, out).into_iter().flat_map(of).collect()
}

fn restarts(world: &World) -> u64 {
    let of = |run: PathBuf| {
        let text = std::fs::read_to_string(run.join("manifest.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["restarts"].as_u64().unwrap()
    };
    run_dirs(world, "out").into_iter().map(of).sum()
}

#[test]
fn an_array_job_that_is_disturbed_makes_every_run_once() {
    let world = World::new();
    let Some(slurm) = Slurm::start(world.path("slurmd")) else { return };
    let flags = ["--tasks", "sst2,rte", "--methods", "lora,sora", "--epochs", "120"];
    world.run(&[&flags[..], &["--out", "alone"]].concat()).assert().success();
    world.run(&[&flags[..], &["--write-plan", "plan.jsonl"]].concat()).assert().success();
    let submit = || {
        let submit = ["submit", "slurm", "--plan", "plan.jsonl", "--time", "10"];
        let submitted = world.rankbench(&submit).env("SLURM_CONF", slurm.conf()).assert().success();
        let said = String::from_utf8_lossy(&submitted.get_output().stdout).into_owned();
        assert!(said.contains("Submitted batch job") && said.contains("4 lines"), "{said}");
    };
    let logs = || {
        let entries = std::fs::read_dir(world.path("slurm")).unwrap().flatten();
        entries.map(|entry| std::fs::read_to_string(entry.path()).unwrap_or_default()).collect::<String>()
    };
    let said = |what: &str, count: usize| (logs().matches(what).count() >= count).then_some(());
    let saved = |count: usize| said("rankbench ended with 75", count);
    let at_work = |count: usize| {
        let runs = run_dirs(&world, "out");
        let begun = runs.iter().filter(|run| run.join("evals.csv").exists() && !run.join("DONE").exists());
        (begun.count() >= count && slurm.running().len() >= count).then(|| slurm.running())
    };
    submit();
    wait_for("two tasks at work", 120, &logs, || at_work(2));
    // All tasks are cancelled: those at work save themselves, and none puts itself back.
    slurm.ask("scancel", &["--name", "rankbench"]);
    wait_for("an empty queue", 120, &logs, || slurm.ask("squeue", &["-h"]).is_empty().then_some(()));
    assert!(saved(2).is_some(), "{}", logs());
    submit();
    let resumed = "goes on after step";
    wait_for("two tasks at work again", 120, &logs, || said(resumed, 2));
    let tasks = slurm.running();
    // One task is killed and put back; the other gets the warning that comes before its time limit, and puts itself back.
    slurm.ask("scontrol", &["requeue", &tasks[0]]);
    let mut warning = slurm.warn(&tasks[1]);
    wait_for("two more tasks that saved themselves", 120, &logs, || saved(4));
    let _ = warning.kill();
    warning.wait().unwrap();
    // The second node takes no more tasks.
    wait_for("the next task at work", 120, &logs, || at_work(1));
    slurm.ask("scontrol", &["update", "nodename=n2", "state=drain", "reason=test"]);
    let is_done = || {
        let status = world.rankbench(&["status", "--plan", "plan.jsonl"]).output().unwrap();
        String::from_utf8_lossy(&status.stdout).contains("4 runs: 4 done").then_some(())
    };
    wait_for("all runs", 300, &logs, is_done);
    // Each restart went on from a checkpoint.
    assert_eq!(restarts(&world), 4, "two tasks were cancelled, and two disturbed:\n{}", logs());
    assert_eq!(logs().matches(resumed).count(), 4, "{}", logs());
    assert!(results(&world, "alone") == results(&world, "out"));
    world.rankbench(&["report", "--out", "out"]).assert().success();
    world.rankbench(&["fsck", "--out", "out"]).assert().success();
    for table in ["table1.csv", "paired.csv"] {
        assert_eq!(world.read(&format!("alone/report/{table}")), world.read(&format!("out/report/{table}")));
    }
}
