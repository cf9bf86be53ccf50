//! Progress of a worker, told to the process that started it: a line of JSON on standard output for each event.

use serde::{Deserialize, Serialize};

use crate::env::output;

/// Something that happened in a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Ids of all runs of the sweep; how many are not finished, and their optimiser steps.
    Plan { ids: Vec<String>, runs: usize, steps: u64 },
    /// Runs of one stack begin.
    Begin { label: String, runs: usize, steps: u64 },
    /// So many more steps are done.
    Steps { steps: u64 },
    /// So many steps will not be taken.
    Skip { steps: u64 },
    /// A word on the run in work.
    Say { text: String },
    /// A run ended.
    End { text: String },
}

impl Event {
    /// Prints the event.
    pub fn tell(&self) {
        if let Ok(line) = serde_json::to_string(self) {
            output::print(line);
        }
    }

    /// An event from its line; none from another line.
    pub fn read(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_as_it_was_told() {
        let event = Event::Begin { label: "rte lora".into(), runs: 2, steps: 9 };
        assert_eq!(Event::read(&serde_json::to_string(&event).unwrap()), Some(event));
        assert_eq!(Event::read("a line of a library"), None);
    }
}
