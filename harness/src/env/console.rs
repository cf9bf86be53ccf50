//! Progress of runs as a person sees it: bars on a terminal, plain lines otherwise, all of it on stderr; or events for the process
//! that shows several workers at once.

use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::env::events::Event;
use crate::env::output;

/// Steps are told to the parent of a worker this often.
const REPORT: Duration = Duration::from_millis(200);

/// Progress of the whole sweep and of the run in work.
pub struct Progress {
    sink: Sink,
    total: usize,
    /// Position of the run in work, from 1.
    current: Cell<usize>,
    label: RefCell<String>,
    started: Instant,
    /// Steps done and planned over all runs: what time is left is reckoned from.
    steps: Cell<(u64, u64)>,
}

enum Sink {
    Bars(Bars),
    Lines,
    Events(Told),
}

struct Bars {
    multi: MultiProgress,
    all: ProgressBar,
    run: RefCell<ProgressBar>,
}

/// Steps that the parent of a worker was not told yet, and when it was told last.
struct Told {
    steps: Cell<u64>,
    last: Cell<Instant>,
}

impl Told {
    fn tell(&self) {
        let steps = self.steps.take();
        if steps > 0 {
            Event::Steps { steps }.tell();
        }
        self.last.set(Instant::now());
    }
}

impl Progress {
    /// For `total` runs with `steps` optimiser steps altogether.
    pub fn new(total: usize, steps: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            return Progress::with(Sink::Lines, total, steps);
        }
        let multi = MultiProgress::new();
        let all = multi.add(
            ProgressBar::new(steps)
                .with_style(style("{prefix} {bar:30} {percent:>3} %  {elapsed_precise} gone, about {eta} left")),
        );
        let run = multi.add(ProgressBar::hidden());
        Progress::with(Sink::Bars(Bars { multi, all, run: RefCell::new(run) }), total, steps)
    }

    /// As [`Progress::new`], told to the process that started this one, with the ids of all runs of the sweep.
    pub fn of_worker(ids: Vec<String>, total: usize, steps: u64) -> Self {
        Event::Plan { ids, runs: total, steps }.tell();
        let told = Told { steps: Cell::new(0), last: Cell::new(Instant::now()) };
        Progress::with(Sink::Events(told), total, steps)
    }

    fn with(sink: Sink, total: usize, steps: u64) -> Self {
        Progress {
            sink,
            total,
            current: Cell::new(0),
            label: RefCell::default(),
            started: Instant::now(),
            steps: Cell::new((0, steps)),
        }
    }

    /// A run begins, or several side by side.
    pub fn begin(&self, label: &str, runs: usize, steps: u64) {
        self.current.set(self.current.get() + runs);
        *self.label.borrow_mut() = label.to_string();
        let place = format!("[{}/{}]", self.current.get(), self.total);
        match &self.sink {
            Sink::Bars(bars) => {
                bars.all.set_prefix(format!("{place} runs"));
                let bar = bars.multi.add(
                    ProgressBar::new(steps)
                        .with_style(style("{prefix} {bar:30} {pos}/{len} steps, about {eta} left  {msg}")),
                );
                bar.set_prefix(label.to_string());
                bars.run.replace(bar).finish_and_clear();
            }
            Sink::Lines => output::note(format_args!("{place} {label}: {steps} steps{}", self.left())),
            Sink::Events(_) => Event::Begin { label: label.to_string(), runs, steps }.tell(),
        }
    }

    /// Runs begin in a worker, beside those of others.
    pub fn begin_on(&self, worker: &str, label: &str, runs: usize, steps: u64) {
        self.current.set(self.current.get() + runs);
        let place = format!("[{}/{}]", self.current.get(), self.total);
        match &self.sink {
            Sink::Bars(bars) => bars.all.set_prefix(format!("{place} runs")),
            _ => output::note(format_args!("{place} {label} on {worker}: {steps} steps{}", self.left())),
        }
    }

    /// One optimiser step is done.
    pub fn step(&self) {
        self.advance(1);
    }

    /// So many optimiser steps are done.
    pub fn advance(&self, steps: u64) {
        let (done, planned) = self.steps.get();
        self.steps.set((done + steps, planned));
        match &self.sink {
            Sink::Bars(bars) => {
                bars.all.inc(steps);
                bars.run.borrow().inc(steps);
            }
            Sink::Lines => {}
            Sink::Events(told) => {
                told.steps.set(told.steps.get() + steps);
                if told.last.get().elapsed() >= REPORT {
                    told.tell();
                }
            }
        }
    }

    /// Steps of a run that will not be taken (it failed).
    pub fn skip(&self, steps: u64) {
        let (done, planned) = self.steps.get();
        self.steps.set((done, planned.saturating_sub(steps)));
        match &self.sink {
            Sink::Bars(bars) => bars.all.set_length(planned.saturating_sub(steps)),
            Sink::Lines => {}
            Sink::Events(_) => Event::Skip { steps }.tell(),
        }
    }

    /// Runs that another process finished meanwhile, with their steps. Of workers the parent knows.
    pub fn pass(&self, runs: usize, steps: u64) {
        self.current.set(self.current.get() + runs);
        if !matches!(self.sink, Sink::Events(_)) {
            self.skip(steps);
        }
    }

    /// Something worth a line about the run in work.
    pub fn say(&self, text: &str) {
        match &self.sink {
            Sink::Bars(bars) => bars.run.borrow().set_message(text.to_string()),
            Sink::Lines => output::note(format_args!("  {text}")),
            Sink::Events(_) => Event::Say { text: text.to_string() }.tell(),
        }
    }

    /// The run in work ended.
    pub fn end(&self, text: &str) {
        let line = format!("[{}/{}] {}: {text}", self.current.get(), self.total, self.label.borrow());
        match &self.sink {
            Sink::Bars(bars) => {
                bars.run.borrow().finish_and_clear();
                let _ = bars.multi.println(line);
            }
            Sink::Lines => output::note(line),
            Sink::Events(told) => {
                told.tell();
                Event::End { text: format!("{}: {text}", self.label.borrow()) }.tell();
            }
        }
    }

    /// A line of its own, above the bars.
    pub fn note(&self, text: &str) {
        match &self.sink {
            Sink::Bars(bars) => drop(bars.multi.println(text)),
            Sink::Lines | Sink::Events(_) => output::note(text),
        }
    }

    /// Everything is done: the bars go away.
    pub fn finish(&self) {
        if let Sink::Bars(bars) = &self.sink {
            bars.run.borrow().finish_and_clear();
            bars.all.finish_and_clear();
        }
    }

    /// `, about 3 min left`, from the steps done so far.
    fn left(&self) -> String {
        let (done, planned) = self.steps.get();
        if done == 0 {
            return String::new();
        }
        let left = self.started.elapsed().as_secs_f64() * planned.saturating_sub(done) as f64 / done as f64;
        format!(", about {} left overall", spoken(Duration::from_secs_f64(left)))
    }
}

/// `42 s`, `3 min 20 s`, `2 h 5 min`.
pub fn spoken(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spoken() {
        let times = [0.4, 59.4, 200.0, 7500.0].map(|s| spoken(Duration::from_secs_f64(s)));
        assert_eq!(times, ["0 s", "59 s", "3 min 20 s", "2 h 5 min"]);
    }
}
