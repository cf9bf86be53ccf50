//! Several worker processes on one store: one a device, or more. Each takes runs by their leases, so none knows of the others.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use crate::env::console::Progress;
use crate::env::events::Event;
use crate::env::output;
use crate::error::{Error, Result};

/// Time between two looks at the workers where they say nothing.
const TICK: Duration = Duration::from_millis(100);

/// A worker to be started.
pub struct Worker {
    /// Its device, as it is shown.
    pub name: String,
    /// Command that starts it.
    pub command: Command,
}

/// End of a pool. The ends of its runs are in the store.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PoolSummary {
    /// Ids of the plan's runs.
    pub plan: Vec<String>,
    /// Workers that ended before the work was done, and why.
    pub lost: Vec<String>,
}

/// A worker at work.
struct AtWork {
    name: String,
    child: Child,
    /// The last lines it said on standard error.
    last_words: Vec<String>,
    ended: Option<ExitStatus>,
}

/// Something a worker said.
enum Heard {
    Event(Event),
    Line(String),
}

/// Starts the workers and shows their progress until the last has ended. A worker that fails gives its run back by ending: the others
/// take it over.
///
/// # Errors
/// No worker can be started, or all of them failed; a stop signal, which they get, too.
pub fn pool(workers: Vec<Worker>, stop: &AtomicBool) -> Result<PoolSummary> {
    let (sender, heard) = mpsc::channel();
    let started = workers.into_iter().enumerate().map(|(index, worker)| start(worker, index, &sender));
    let mut workers = started.collect::<Result<Vec<_>>>()?;
    drop(sender);
    let mut display = Display::default();
    let mut lost = Vec::new();
    let mut is_stopped = false;
    loop {
        match heard.recv_timeout(TICK) {
            Ok((index, Heard::Line(line))) => {
                display.note(&format!("{}: {line}", workers[index].name));
                workers[index].hear(line);
            }
            Ok((index, Heard::Event(event))) => display.show(&workers[index].name, event),
            Err(RecvTimeoutError::Timeout) => {}
            // All have closed their outputs.
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if stop.load(Ordering::Relaxed) && !is_stopped {
            is_stopped = true;
            workers.iter().filter(|worker| worker.ended.is_none()).for_each(|worker| ask_to_stop(&worker.child));
        }
        for worker in workers.iter_mut().filter(|worker| worker.ended.is_none()) {
            worker.ended = worker.child.try_wait().ok().flatten();
        }
    }
    display.finish();
    for worker in &mut workers {
        let status = worker.child.wait().map_err(|e| Error::Environment(format!("{}: {e}", worker.name)))?;
        worker.ended = Some(status);
        if !is_through(status) && !is_stopped {
            let text = format!("{} was left out: {}", worker.name, worker.ending(status));
            output::note(&text);
            lost.push(text);
        }
    }
    verdict(&workers, is_stopped).map(|()| PoolSummary { plan: display.plan, lost })
}

/// Starts a worker that gets SIGTERM should this process die, and two threads that hear it.
fn start(worker: Worker, index: usize, sender: &Sender<(usize, Heard)>) -> Result<AtWork> {
    let Worker { name, mut command } = worker;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[cfg(target_os = "linux")]
    // SAFETY: prctl is safe to call between fork and exec, and touches nothing of this process.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            Ok(())
        });
    }
    let cannot = |e: std::io::Error| Error::Environment(format!("cannot start a worker for {name}: {e}"));
    let mut child = command.spawn().map_err(cannot)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let event = |line: String| Event::read(&line).map_or(Heard::Line(line), Heard::Event);
    hear(stdout, index, sender.clone(), event).map_err(cannot)?;
    hear(stderr, index, sender.clone(), Heard::Line).map_err(cannot)?;
    Ok(AtWork { name, child, last_words: Vec::new(), ended: None })
}

/// Sends on each line of a worker's output.
fn hear(
    from: Option<impl Read + Send + 'static>,
    index: usize,
    sender: Sender<(usize, Heard)>,
    heard: impl Fn(String) -> Heard + Send + 'static,
) -> std::io::Result<()> {
    let Some(from) = from else { return Ok(()) };
    let read = move || {
        for line in BufReader::new(from).split(b'\n').map_while(std::result::Result::ok) {
            let _ = sender.send((index, heard(String::from_utf8_lossy(&line).into_owned())));
        }
    };
    std::thread::Builder::new().name("worker".into()).spawn(read).map(drop)
}

fn ask_to_stop(child: &Child) {
    // SAFETY: sends a signal to a process of our own that was not waited for yet.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
}

/// Whether a worker went through the whole plan; some runs may have failed.
fn is_through(status: ExitStatus) -> bool {
    matches!(status.code(), Some(0 | 5))
}

impl AtWork {
    /// Lines of an error's frame that are shown once more when the worker is left out.
    fn hear(&mut self, line: String) {
        let line = line.replace(['│', '×', '╰', '─', '▶'], " ");
        self.last_words.push(line.trim().to_string());
        if self.last_words.len() > 4 {
            self.last_words.remove(0);
        }
    }

    fn ending(&self, status: ExitStatus) -> String {
        match (status.signal(), status.code()) {
            (Some(signal), _) => format!("it was ended by signal {signal}"),
            (None, Some(75)) => "a signal stopped it".into(),
            _ => format!("{status}: {}", self.last_words.join(" ").trim()),
        }
    }
}

/// Progress of all workers, once the first has read the plan.
#[derive(Default)]
struct Display {
    plan: Vec<String>,
    progress: Option<Progress>,
}

impl Display {
    fn show(&mut self, worker: &str, event: Event) {
        if let (None, Event::Plan { ids, runs, steps }) = (&self.progress, &event) {
            if *runs < ids.len() {
                output::note(format_args!("{} of {} runs are finished already", ids.len() - runs, ids.len()));
            }
            self.plan.clone_from(ids);
            self.progress = Some(Progress::new(*runs, *steps));
        }
        let Some(progress) = &self.progress else { return };
        match event {
            Event::Plan { .. } => {}
            Event::Begin { label, runs, steps } => progress.begin_on(worker, &label, runs, steps),
            Event::Steps { steps } => progress.advance(steps),
            Event::Skip { steps } => progress.skip(steps),
            Event::Say { text } => progress.note(&format!("  {worker}: {text}")),
            Event::End { text } => progress.note(&format!("{worker}: {text}")),
        }
    }

    fn note(&self, text: &str) {
        match &self.progress {
            Some(progress) => progress.note(text),
            None => output::note(text),
        }
    }

    fn finish(&self) {
        if let Some(progress) = &self.progress {
            progress.finish();
        }
    }
}

/// The plan is done where one worker went through it to its end.
fn verdict(workers: &[AtWork], is_stopped: bool) -> Result<()> {
    let codes = || workers.iter().filter_map(|worker| worker.ended?.code());
    if workers.iter().any(|worker| worker.ended.is_some_and(is_through)) {
        return Ok(());
    }
    if is_stopped || codes().any(|code| code == 75) {
        return Err(Error::Interrupted);
    }
    let Some(last) = workers.last() else { return Err(Error::Usage("no worker to start".into())) };
    let words = last.ended.map_or_else(String::new, |status| last.ending(status));
    let code = codes().next_back().and_then(|code| u8::try_from(code).ok()).unwrap_or(7);
    Err(Error::WorkersFailed { text: format!("every worker failed; {}: {words}", last.name), code })
}
