//! Progress of downloads from the Hub: a bar on a terminal, plain lines otherwise.

use std::cell::RefCell;
use std::io::IsTerminal;

use datasets::hub::{Event, Hub, Settings};
use indicatif::{ProgressBar, ProgressStyle};

use crate::env::output;

/// The Hub as its cache holds it: nothing is fetched.
pub fn cached() -> Hub {
    Hub::new(Settings { is_offline: true, ..Settings::from_env() }, |_| ())
}

/// The Hub as the environment describes it.
pub fn hub() -> Hub {
    let shown = RefCell::new(Shown::Nothing);
    Hub::new(Settings::from_env(), move |event| shown.borrow_mut().take(event))
}

enum Shown {
    Nothing,
    Bar(ProgressBar),
    /// A plain line was written at so many of these bytes.
    Lines {
        size: u64,
        done: u64,
        said: u64,
    },
}

impl Shown {
    fn take(&mut self, event: Event) {
        match (event, &mut *self) {
            (Event::Started { file, size }, _) => *self = Shown::start(&file, size),
            (Event::Advanced(count), Shown::Bar(bar)) => bar.inc(count),
            (Event::Advanced(count), Shown::Lines { size, done, said }) => {
                *done += count;
                let percent = *done * 100 / (*size).max(1);
                if percent >= *said + 25 {
                    *said = percent / 25 * 25;
                    output::note(format_args!("  {said} % of {}", mib(*size)));
                }
            }
            (Event::Unpinned { file }, _) => {
                output::note(format_args!(
                    "{file}: no published sha256 of it is known here; it is held against the sum the Hub gives"
                ));
            }
            (Event::Retrying { reason, wait }, shown) => {
                shown.clear();
                let wait =
                    if wait.is_zero() { "waiting".into() } else { format!("trying again in {} s", wait.as_secs_f64()) };
                output::note(format_args!("  {reason}: {wait}"));
            }
            (Event::Finished, shown) => shown.clear(),
            (Event::Advanced(_), Shown::Nothing) => {}
        }
    }

    fn start(file: &str, size: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            output::note(format_args!("fetching {file} ({})", mib(size)));
            return Shown::Lines { size, done: 0, said: 0 };
        }
        let style = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes}, about {eta} left");
        let bar = ProgressBar::new(size).with_message(format!("fetching {file}"));
        Shown::Bar(style.map_or(bar.clone(), |style| bar.with_style(style)))
    }

    fn clear(&mut self) {
        if let Shown::Bar(bar) = self {
            bar.finish_and_clear();
        }
        *self = Shown::Nothing;
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}
