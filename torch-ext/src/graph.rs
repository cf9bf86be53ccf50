//! CUDA graphs: work captured once and launched as one.

use std::ffi::{c_int, c_void};

use crate::error::{Error, Result};
use crate::ffi::{Functions, functions};

/// Makes a stream that can be captured the current one of this thread. Queue everything that a capture depends on after this.
///
/// # Errors
/// A build or a machine without CUDA.
pub fn enter(device: usize) -> Result<()> {
    let functions = functions()?;
    // SAFETY: plain integers cross.
    functions.kernels.check(unsafe { (functions.enter)(device as c_int) })
}

/// CUDA's part of [`guarded`]: begins and ends captures.
trait Capture {
    /// A capture under way.
    type Handle: Copy;
    fn begin(&self) -> Result<Self::Handle>;
    fn end(&self, handle: Self::Handle) -> Result<()>;
    /// Ends and frees a failed capture.
    fn abort(&self, handle: Self::Handle);
}

impl Capture for Functions {
    type Handle = *mut c_void;

    fn begin(&self) -> Result<*mut c_void> {
        let mut graph = std::ptr::null_mut();
        // SAFETY: `graph` outlives the call.
        self.kernels.check(unsafe { (self.begin)(&mut graph) })?;
        Ok(graph)
    }

    fn end(&self, graph: *mut c_void) -> Result<()> {
        // SAFETY: the graph was begun.
        self.kernels.check(unsafe { (self.end)(graph) })
    }

    fn abort(&self, graph: *mut c_void) {
        // SAFETY: the graph was begun and is not used again. A failure of the device will show at the next call.
        unsafe { (self.abort)(graph) };
    }
}

/// Captures `work`. However it ends (an error, a panic, work that cannot be captured), no capture stays open, and the next one on
/// this thread is not affected.
fn guarded<C: Capture, T, E: From<Error>>(
    capture: &C,
    work: impl FnOnce() -> std::result::Result<T, E>,
) -> std::result::Result<(C::Handle, T), E> {
    /// Capture that is aborted when dropped, also by a panic.
    struct Open<'a, C: Capture>(&'a C, C::Handle);

    impl<C: Capture> Drop for Open<'_, C> {
        fn drop(&mut self) {
            self.0.abort(self.1);
        }
    }

    let open = Open(capture, capture.begin()?);
    let result = work()?;
    capture.end(open.1)?;
    let handle = open.1;
    std::mem::forget(open);
    Ok((handle, result))
}

/// Captured work of a device.
pub struct Graph(*mut c_void);

impl Graph {
    /// Captures what `work` queues on the current stream, without running it. `work` must do the same every time, wait for nothing
    /// and read nothing back. Its result stays at the same memory, and [`Graph::replay`] overwrites it.
    ///
    /// # Errors
    /// Errors of `work`, and work that cannot be captured.
    pub fn capture<T, E: From<Error>>(
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<(Self, T), E> {
        let (graph, result) = guarded(functions()?, work)?;
        Ok((Graph(graph), result))
    }

    /// Queues the captured work.
    ///
    /// # Errors
    /// A failure on the device.
    pub fn replay(&self) -> Result<()> {
        let functions = functions()?;
        // SAFETY: the graph was ended.
        functions.kernels.check(unsafe { (functions.replay)(self.0) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if let Ok(functions) = functions() {
            // SAFETY: the graph is not used again.
            unsafe { (functions.free)(self.0) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// Notes the calls. Ending fails where `cannot_end` is set.
    #[derive(Default)]
    struct Fake {
        calls: RefCell<Vec<&'static str>>,
        cannot_end: bool,
    }

    impl Capture for Fake {
        type Handle = ();

        fn begin(&self) -> Result<()> {
            self.calls.borrow_mut().push("begin");
            Ok(())
        }

        fn end(&self, (): ()) -> Result<()> {
            self.calls.borrow_mut().push("end");
            if self.cannot_end { Err(Error::Cuda("cannot be captured".into())) } else { Ok(()) }
        }

        fn abort(&self, (): ()) {
            self.calls.borrow_mut().push("abort");
        }
    }

    #[test]
    fn a_capture_is_ended_once() {
        let fake = Fake::default();
        assert_eq!(guarded::<_, _, Error>(&fake, || Ok(7)).unwrap().1, 7);
        assert_eq!(*fake.calls.borrow(), ["begin", "end"]);
    }

    #[test]
    fn an_error_and_a_panic_in_the_work_abort_it() {
        let fake = Fake::default();
        let failed = guarded(&fake, || Err::<(), _>(Error::Memory("none left".into())));
        assert!(failed.unwrap_err().to_string().contains("none left"));
        let panicked = catch_unwind(AssertUnwindSafe(|| guarded::<_, (), Error>(&fake, || panic!("out of memory"))));
        assert!(panicked.is_err());
        assert_eq!(*fake.calls.borrow(), ["begin", "abort", "begin", "abort"]);
    }

    #[test]
    fn work_that_cannot_be_captured_is_aborted() {
        let fake = Fake { cannot_end: true, ..Fake::default() };
        assert!(guarded::<_, _, Error>(&fake, || Ok(())).is_err());
        assert_eq!(*fake.calls.borrow(), ["begin", "end", "abort"]);
    }
}
