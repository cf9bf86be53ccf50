//! The terminal of `rankbench watch`: keys, signals, and its state given back whatever happens.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};

use crate::cli::watch_view::{draw, is_open};
use crate::env::signals;
use crate::error::{Error, Result};
use crate::launch::watched::{WatchedRun, WatchedStore};

/// Longest wait for a key before signals and the clock are looked at.
const TICK: Duration = Duration::from_millis(200);
/// Lines of PgUp and PgDn.
const PAGE: usize = 10;

/// Gives the terminal back when it is dropped. A panic is told after that: ratatui's own hook does it before ours.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        let _ = ratatui::try_restore();
    }
}

/// Result of a key.
#[derive(Debug, PartialEq, Eq)]
enum Pressed {
    Leave,
    Scroll(isize),
    Nothing,
}

/// Shows the store until nothing of it is open, a key leaves or a signal comes; gives what was seen last.
///
/// # Errors
/// The terminal cannot be used; the store cannot be read.
pub fn show(place: &str, store: &mut WatchedStore, every: Duration) -> Result<Vec<WatchedRun>> {
    let mut runs = store.look()?;
    if !is_open(&runs) {
        return Ok(runs);
    }
    let cannot =
        |e: std::io::Error| Error::Environment(format!("the terminal cannot be used: {e}; --once prints lines"));
    let leave = signals::leave_flag()?;
    let _restored = Restored;
    let mut terminal = ratatui::try_init().map_err(cannot)?;
    let (mut scroll, mut looked) = (0, Instant::now());
    while !leave.load(Ordering::Relaxed) && is_open(&runs) {
        terminal.draw(|frame| draw(frame, place, &runs, &mut scroll)).map_err(cannot)?;
        let is_heard = event::poll(TICK.min(every.saturating_sub(looked.elapsed()))).map_err(cannot)?;
        if is_heard && let Event::Key(key) = event::read().map_err(cannot)? {
            match pressed(key) {
                Pressed::Leave => break,
                Pressed::Scroll(lines) => scroll = scroll.saturating_add_signed(lines),
                Pressed::Nothing => {}
            }
        }
        if looked.elapsed() >= every {
            runs = store.look()?;
            looked = Instant::now();
        }
    }
    Ok(runs)
}

fn pressed(key: KeyEvent) -> Pressed {
    let page = PAGE as isize;
    match (key.code, key.modifiers) {
        _ if !key.is_press() => Pressed::Nothing,
        (KeyCode::Char('c'), KeyModifiers::CONTROL) | (KeyCode::Char('q') | KeyCode::Esc, _) => Pressed::Leave,
        (KeyCode::Up, _) => Pressed::Scroll(-1),
        (KeyCode::Down, _) => Pressed::Scroll(1),
        (KeyCode::PageUp, _) => Pressed::Scroll(-page),
        (KeyCode::PageDown, _) => Pressed::Scroll(page),
        (KeyCode::Home, _) => Pressed::Scroll(isize::MIN),
        (KeyCode::End, _) => Pressed::Scroll(isize::MAX),
        _ => Pressed::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_leave_and_scroll() {
        let key = |code, modifiers| pressed(KeyEvent::new(code, modifiers));
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            assert_eq!(key(code, KeyModifiers::NONE), Pressed::Leave);
        }
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Pressed::Leave);
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::NONE), Pressed::Nothing);
        assert_eq!(key(KeyCode::Up, KeyModifiers::NONE), Pressed::Scroll(-1));
        assert_eq!(key(KeyCode::PageDown, KeyModifiers::NONE), Pressed::Scroll(10));
        assert_eq!(10usize.saturating_add_signed(isize::MIN), 0, "Home");
    }
}
