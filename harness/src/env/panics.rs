//! Panics: told as they come, with place and backtrace, but inside [`guarded`], which keeps the text as an error.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Error, Result};

thread_local! {
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
    /// Place of the last guarded panic.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Sets the process's hook: a guarded panic is kept, every other goes on to the hook that was there.
pub fn install() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !IS_GUARDED.get() {
            return before(info);
        }
        PLACE.set(info.location().map(|place| format!("{}:{}", place.file(), place.line())));
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
            before(info);
        }
    }));
}

/// Runs `work`; a panic in it becomes an error with its text, and its place where the text is not libtorch's.
///
/// # Errors
/// Those of `work`, and its panic.
pub fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = IS_GUARDED.replace(true);
    let caught = catch_unwind(AssertUnwindSafe(work));
    IS_GUARDED.set(before);
    caught.unwrap_or_else(|panic| {
        let error = Error::from_panic(panic.as_ref());
        match (error, PLACE.take()) {
            (Error::Internal(text), Some(place)) => Err(Error::Internal(format!("{text} (at {place})"))),
            (error, _) => Err(error),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guarded_panic_is_an_error_with_its_place() {
        install();
        let error = guarded(|| -> Result<()> { panic!("no such thing") }).unwrap_err().to_string();
        assert!(error.contains("no such thing") && error.contains("panics.rs:"), "{error}");
        assert!(!IS_GUARDED.get());
    }

    #[test]
    fn running_out_of_memory_says_what_to_change() {
        let text = "called `Result::unwrap()` on an `Err` value: Torch(\"CUDA out of memory. Tried to allocate 2 GiB\\nstack\")";
        let error = guarded(|| -> Result<()> { panic!("{text}") }).unwrap_err();
        assert!(matches!(error, Error::Environment(_)), "{error}");
        assert!(error.is_out_of_memory() && error.to_string().contains("--micro-batch auto"), "{error}");
    }
}
