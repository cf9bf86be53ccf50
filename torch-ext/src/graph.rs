//! CUDA graphs: a stretch of work recorded once and launched as one.

use std::ffi::{c_int, c_void};

use crate::cuda::{checked, functions};
use crate::{Error, Result};

/// Makes a stream that can be captured the current one of this thread. Everything that a capture depends on must be
/// queued after this.
///
/// # Errors
/// A build or a machine without CUDA.
pub fn enter(device: usize) -> Result<()> {
    let functions = functions()?;
    // SAFETY: plain integers cross.
    checked(functions, unsafe { (functions.enter)(device as c_int) })
}

/// Recorded work on the device.
pub struct Graph(*mut c_void);

impl Graph {
    /// Records what `work` queues on the current stream; nothing of it runs yet. It must do the same every time, wait for
    /// nothing and read nothing back. What it gives keeps its place in memory, and [`Graph::replay`] writes it anew.
    ///
    /// # Errors
    /// What `work` ends with; work that cannot be recorded.
    pub fn capture<T, E: From<Error>>(
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<(Self, T), E> {
        let functions = functions()?;
        let mut graph = std::ptr::null_mut();
        // SAFETY: `graph` outlives the call.
        checked(functions, unsafe { (functions.begin)(&mut graph) })?;
        let graph = Graph(graph);
        let result = work();
        // SAFETY: the graph was begun above. It must be ended whatever the work came to.
        let ended = checked(functions, unsafe { (functions.end)(graph.0) });
        let result = result?;
        ended?;
        Ok((graph, result))
    }

    /// Queues the recorded work.
    ///
    /// # Errors
    /// A failure on the device.
    pub fn replay(&self) -> Result<()> {
        let functions = functions()?;
        // SAFETY: the graph was ended.
        checked(functions, unsafe { (functions.replay)(self.0) })
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
