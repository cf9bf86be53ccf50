//! The Hub, played by a local server: what arrives, what is gone on with, and what is said when it cannot be had.

#[path = "support/hub_server.rs"]
mod hub_server;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use datasets::hub::{Event, Hub, Settings, is_repository};
use datasets::sources::fetch;
use datasets::tasks;
use hub_server::{COMMIT, Fault, HubServer};
use tempfile::TempDir;

const REPOSITORY: &str = "some/model";
const WEIGHTS: &str = "pytorch_model.bin";

struct World {
    server: HubServer,
    cache: TempDir,
}

impl World {
    fn new() -> Self {
        let server = HubServer::start();
        server.put(REPOSITORY, "config.json", "{}");
        server.put(REPOSITORY, "README.md.json", "not asked for");
        server.put(REPOSITORY, "vocab.json", "{\"a\": 0}");
        server.put(REPOSITORY, "merges.txt", "a b");
        server.put(REPOSITORY, WEIGHTS, weights());
        World { server, cache: TempDir::new().unwrap() }
    }

    fn settings(&self) -> Settings {
        Settings {
            endpoint: Some(self.server.endpoint.clone()),
            cache: self.cache.path().to_path_buf(),
            token: None,
            is_offline: false,
            attempts: 3,
            first_wait: Duration::from_millis(5),
            patience: Duration::from_secs(20),
        }
    }

    fn hub(&self) -> Hub {
        Hub::new(self.settings(), |_| {})
    }

    fn fetch(&self) -> PathBuf {
        let dir = self.hub().model(REPOSITORY).unwrap();
        assert_eq!(std::fs::read(dir.join(WEIGHTS)).unwrap(), weights());
        dir
    }

    fn failure(&self, settings: Settings) -> String {
        let error = Hub::new(settings, |_| {}).model(REPOSITORY).unwrap_err().to_string();
        assert!(error.contains("By hand") && error.contains("--backbone DIR") && error.contains(REPOSITORY), "{error}");
        error.replace(&self.cache.path().display().to_string(), "CACHE")
    }
}

fn weights() -> Vec<u8> {
    (0..200_000u32).flat_map(|n| n.to_le_bytes()).collect()
}

fn parts(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "part")).count()
}

#[test]
fn a_checkpoint_lies_where_python_looks_and_is_fetched_once() {
    let world = World::new();
    let dir = world.fetch();
    let folder = world.cache.path().join("models--some--model");
    assert_eq!(dir, folder.join("snapshots").join(COMMIT));
    assert_eq!(std::fs::read_to_string(folder.join("refs/main")).unwrap(), COMMIT);
    assert!(dir.join("config.json").is_file() && dir.join("merges.txt").is_file());
    assert!(!dir.join("README.md.json").exists());
    assert!(dir.join(WEIGHTS).is_symlink());
    assert_eq!(parts(&folder.join("blobs")), 0);
    let requests = world.server.request_count();
    world.fetch();
    assert_eq!(world.server.request_count(), requests, "a cached checkpoint was asked for again");
    let offline = Settings { is_offline: true, endpoint: None, ..world.settings() };
    assert_eq!(Hub::new(offline, |_| {}).model(REPOSITORY).unwrap(), dir);
}

#[test]
fn safetensors_come_before_the_pickled_file() {
    let world = World::new();
    world.server.put(REPOSITORY, "model.safetensors", "weights");
    let dir = world.hub().model(REPOSITORY).unwrap();
    assert!(dir.join("model.safetensors").is_file() && !dir.join(WEIGHTS).exists());
}

#[test]
fn progress_is_told() {
    let world = World::new();
    let events: Rc<RefCell<Vec<Event>>> = Rc::default();
    let seen = Rc::clone(&events);
    Hub::new(world.settings(), move |event| seen.borrow_mut().push(event)).model(REPOSITORY).unwrap();
    let size = weights().len() as u64;
    let events = events.borrow();
    let start = events.iter().rposition(|event| matches!(event, Event::Started { .. })).unwrap();
    assert_eq!(events[start], Event::Started { file: format!("{REPOSITORY}/{WEIGHTS}"), size });
    let advanced = events[start..].iter().map(|event| if let Event::Advanced(count) = event { *count } else { 0 });
    assert_eq!(advanced.sum::<u64>(), size);
    assert_eq!(events.last(), Some(&Event::Finished));
}

#[test]
fn a_cut_body_is_gone_on_with() {
    let world = World::new();
    world.server.fail(WEIGHTS, [Fault::Cut(300_000)]);
    world.fetch();
    assert_eq!(world.server.ranges(WEIGHTS), ["bytes=0-", "bytes=300000-"]);
}

#[test]
fn what_an_earlier_process_left_is_gone_on_with() {
    let world = World::new();
    world.server.fail(WEIGHTS, [Fault::Cut(300_000)]);
    world.failure(Settings { attempts: 1, ..world.settings() });
    assert_eq!(parts(&world.cache.path().join("models--some--model/blobs")), 1);
    world.fetch();
    assert_eq!(world.server.ranges(WEIGHTS), ["bytes=0-", "bytes=300000-"]);
}

#[test]
fn a_server_without_ranges_costs_another_attempt_and_nothing_else() {
    let world = World::new();
    world.server.fail(WEIGHTS, [Fault::Cut(1000), Fault::NoRange]);
    world.fetch();
}

#[test]
fn passing_faults_are_waited_out() {
    for faults in [vec![Fault::Status(429), Fault::Status(500)], vec![Fault::Wrong, Fault::Status(503)]] {
        let world = World::new();
        world.server.fail(WEIGHTS, faults);
        world.fetch();
    }
}

#[test]
fn a_slow_server_is_no_fault() {
    let world = World::new();
    world.server.fail(WEIGHTS, [Fault::Slow(Duration::from_millis(30))]);
    let patient = Settings { patience: Duration::from_secs(2), ..world.settings() };
    Hub::new(patient, |_| {}).model(REPOSITORY).unwrap();
}

#[test]
fn what_cannot_be_had_is_said() {
    let world = World::new();
    world.server.fail(WEIGHTS, [Fault::Status(500), Fault::Status(500), Fault::Status(500)]);
    let failure = world.failure(world.settings());
    insta::assert_snapshot!(failure, @"cannot get pytorch_model.bin of some/model at revision 8ccc9b6f36199bec6961081d44eb72fb3f7353f3 from the Hub: the server answers 500 (3 attempts). Check the network (proxies are taken from HTTPS_PROXY), or try again later: what was fetched is kept. By hand: put the files of some/model at revision 8ccc9b6f36199bec6961081d44eb72fb3f7353f3 into CACHE/models--some--model/snapshots/8ccc9b6f36199bec6961081d44eb72fb3f7353f3, or into any directory and pass --backbone DIR");
    let world = World::new();
    world.server.fail(WEIGHTS, [Fault::Wrong, Fault::Wrong, Fault::Wrong]);
    let failure = world.failure(world.settings());
    assert!(failure.contains("checksum") && failure.contains("expected"), "{failure}");
    assert!(!world.cache.path().join("models--some--model/snapshots").join(COMMIT).join(WEIGHTS).exists());
    let world = World::new();
    world.server.fail(WEIGHTS, [Fault::Stall(Duration::from_secs(5))]);
    let failure = world.failure(Settings { patience: Duration::from_millis(200), ..world.settings() });
    assert!(failure.contains("has sent nothing"), "{failure}");
    let failure = world.failure(Settings { is_offline: true, ..world.settings() });
    assert!(failure.contains("HF_HUB_OFFLINE is set"), "{failure}");
    let nowhere = Settings { endpoint: Some("http://127.0.0.1:1".into()), ..world.settings() };
    let failure = world.failure(nowhere);
    assert!(failure.contains("Check the network") && failure.contains("(3 attempts)"), "{failure}");
}

#[test]
fn names_and_rights_are_not_tried_twice() {
    let world = World::new();
    let error = world.hub().model("some/other").unwrap_err().to_string();
    assert!(error.contains("404") && error.contains("NAME@REVISION"), "{error}");
    assert_eq!(world.server.request_count(), 1);
    world.server.require("secret");
    let failure = world.failure(world.settings());
    assert!(failure.contains("HF_TOKEN"), "{failure}");
    let with_token = Settings { token: Some("secret".into()), ..world.settings() };
    Hub::new(with_token, |_| {}).model(REPOSITORY).unwrap();
}

#[test]
fn two_processes_share_a_cache() {
    let world = World::new();
    world.server.fail(WEIGHTS, [Fault::Slow(Duration::from_millis(100)), Fault::Slow(Duration::from_millis(100))]);
    let fetch = |settings: Settings| Hub::new(settings, |_| {}).model(REPOSITORY).unwrap();
    let (first, second) = (world.settings(), world.settings());
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| fetch(first));
        let second = scope.spawn(|| fetch(second));
        (first.join().unwrap(), second.join().unwrap())
    });
    assert_eq!(first, second);
    assert_eq!(std::fs::read(first.join(WEIGHTS)).unwrap(), weights());
}

#[test]
fn another_file_than_the_locked_one_is_refused() {
    let world = World::new();
    let task = tasks::find("rte").unwrap();
    world.server.put("datasets/nyu-mll/glue", "rte/train-00000-of-00001.parquet", "not these rows");
    let error = fetch::fetch(&world.hub(), &[task]).unwrap_err().to_string();
    assert!(error.contains("rte/train-00000-of-00001.parquet") && error.contains("checksum"), "{error}");
    assert!(error.contains("--glue DIR"), "{error}");
}

/// Another program fetched some files alone: what decides ids is fetched, or named where it cannot be.
#[test]
fn a_cache_that_may_lack_what_decides_ids_is_not_whole() {
    let world = World::new();
    world.server.put(REPOSITORY, "config.json", r#"{"model_type": "roberta"}"#);
    world.server.put(REPOSITORY, "tokenizer_config.json", r#"{"add_prefix_space": true}"#);
    let folder = world.cache.path().join("models--some--model");
    let snapshot = folder.join("snapshots").join(COMMIT);
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(folder.join("refs")).unwrap();
    std::fs::write(folder.join("refs/main"), COMMIT).unwrap();
    for (file, content) in
        [("config.json", r#"{"model_type": "roberta"}"#), ("vocab.json", "{}"), ("merges.txt", ""), (WEIGHTS, "")]
    {
        std::fs::write(snapshot.join(file), content).unwrap();
    }
    let offline = Settings { is_offline: true, ..world.settings() };
    let failure = world.failure(offline.clone());
    for part in ["tokenizer_config.json, special_tokens_map.json, added_tokens.json, tokenizer.json", "HF_HUB_OFFLINE"]
    {
        assert!(failure.contains(part), "{failure}");
    }
    assert_eq!(world.hub().model(REPOSITORY).unwrap(), snapshot);
    assert!(snapshot.join("tokenizer_config.json").is_file());
    assert!(folder.join(".no_exist").join(COMMIT).join("added_tokens.json").is_file());
    let requests = world.server.request_count();
    assert_eq!(world.hub().model(REPOSITORY).unwrap(), snapshot);
    assert_eq!(Hub::new(offline, |_| {}).model(REPOSITORY).unwrap(), snapshot);
    assert_eq!(world.server.request_count(), requests);
}

#[test]
fn sharded_weights_are_fetched_whole() {
    let world = World::new();
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let index = format!(r#"{{"weight_map": {{"a": "{}", "b": "{}"}}}}"#, shards[0], shards[1]);
    world.server.put(REPOSITORY, "model.safetensors.index.json", index);
    shards.iter().for_each(|shard| world.server.put(REPOSITORY, shard, "weights"));
    let dir = world.hub().model(REPOSITORY).unwrap();
    assert!(shards.iter().all(|shard| dir.join(shard).is_file()) && !dir.join(WEIGHTS).exists());
    let requests = world.server.request_count();
    world.hub().model(REPOSITORY).unwrap();
    assert_eq!(world.server.request_count(), requests);
    let outside = r#"{"weight_map": {"a": "../../outside"}}"#;
    let world = World::new();
    world.server.put(REPOSITORY, "model.safetensors.index.json", outside);
    let error = world.hub().model(REPOSITORY).unwrap_err().to_string();
    assert!(error.contains("../../outside"), "{error}");
}

#[test]
fn what_no_attempt_can_mend_is_said_at_once() {
    let world = World::new();
    let failure = world.failure(Settings { token: Some("hf_\u{1}x".into()), ..world.settings() });
    assert!(failure.contains("HF_TOKEN") && failure.contains("no header may carry"), "{failure}");
    let file = world.cache.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Hub::new(Settings { cache: file, ..world.settings() }, |_| {}).model(REPOSITORY).unwrap_err();
    assert!(error.to_string().contains("cannot be written") && error.to_string().contains("HF_HUB_CACHE"), "{error}");
    assert_eq!(world.server.request_count(), 0);
    let nowhere = Settings { endpoint: Some("http://no.such.host.invalid".into()), ..world.settings() };
    let failure = world.failure(nowhere);
    assert!(failure.contains("HF_HUB_OFFLINE=1") && failure.contains("DNS"), "{failure}");
}

#[test]
fn a_revision_does_not_lead_out_of_the_cache() {
    let world = World::new();
    for name in ["some/model@../../../x", "some/model@/etc", "some/model@a\\b", "some/model@", "some/..", "a/b/c"] {
        assert!(!is_repository(name), "{name}");
        let error = world.hub().model(name).unwrap_err().to_string();
        assert!(error.contains("it is no owner/name@revision"), "{error}");
    }
    assert!(is_repository("some/model@refs/pr/1"));
}

#[test]
fn a_repository_is_told_from_a_path() {
    for name in ["microsoft/deberta-v3-base", "a/b@main"] {
        assert!(is_repository(name), "{name}");
    }
    for name in ["MiniLM-L6-H384", "./a/b", "/a/b", "a/b/c", "../b", "a/", ""] {
        assert!(!is_repository(name), "{name}");
    }
}
