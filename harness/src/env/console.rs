//! What a person sees while runs go on: bars on a terminal, plain lines otherwise. All of it goes to stderr.

use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Bars for the whole sweep and for the run in work.
pub struct Progress {
    bars: Option<Bars>,
    total: usize,
    /// Position of the run in work, from 1.
    current: Cell<usize>,
    label: RefCell<String>,
    started: Instant,
    /// Steps done and planned over all runs: what time is left is reckoned from.
    steps: Cell<(u64, u64)>,
}

struct Bars {
    multi: MultiProgress,
    all: ProgressBar,
    run: RefCell<ProgressBar>,
}

impl Progress {
    /// For `total` runs with `steps` optimiser steps altogether.
    pub fn new(total: usize, steps: u64) -> Self {
        let bars = std::io::stderr().is_terminal().then(|| {
            let multi = MultiProgress::new();
            let all = multi.add(
                ProgressBar::new(steps)
                    .with_style(style("{prefix} {bar:30} {percent:>3} %  {elapsed_precise} gone, about {eta} left")),
            );
            let run = multi.add(ProgressBar::hidden());
            Bars { multi, all, run: RefCell::new(run) }
        });
        Progress {
            bars,
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
        match &self.bars {
            Some(bars) => {
                bars.all.set_prefix(format!("{place} runs"));
                let bar = bars.multi.add(
                    ProgressBar::new(steps)
                        .with_style(style("{prefix} {bar:30} {pos}/{len} steps, about {eta} left  {msg}")),
                );
                bar.set_prefix(label.to_string());
                bars.run.replace(bar).finish_and_clear();
            }
            None => eprintln!("{place} {label}: {steps} steps{}", self.left()),
        }
    }

    /// One optimiser step is done.
    pub fn step(&self) {
        let (done, planned) = self.steps.get();
        self.steps.set((done + 1, planned));
        if let Some(bars) = &self.bars {
            bars.all.inc(1);
            bars.run.borrow().inc(1);
        }
    }

    /// Steps of a run that will not be taken (it failed).
    pub fn skip(&self, steps: u64) {
        let (done, planned) = self.steps.get();
        self.steps.set((done, planned.saturating_sub(steps)));
        if let Some(bars) = &self.bars {
            bars.all.set_length(planned.saturating_sub(steps));
        }
    }

    /// Something worth a line about the run in work.
    pub fn say(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.run.borrow().set_message(text.to_string()),
            None => eprintln!("  {text}"),
        }
    }

    /// The run in work ended.
    pub fn end(&self, text: &str) {
        let line = format!("[{}/{}] {}: {text}", self.current.get(), self.total, self.label.borrow());
        match &self.bars {
            Some(bars) => {
                bars.run.borrow().finish_and_clear();
                let _ = bars.multi.println(line);
            }
            None => eprintln!("{line}"),
        }
    }

    /// Everything is done: the bars go away.
    pub fn finish(&self) {
        if let Some(bars) = &self.bars {
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
