//! CUDA graphs: a stretch of work recorded once and launched as one.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::OnceLock;

use crate::{Error, Result, load_cuda};

/// The library built from `graph.cpp`; empty where CUDA's headers were not at hand.
const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/graph.so"));

type Call = unsafe extern "C" fn(*mut c_void) -> c_int;

/// Functions of the library.
struct Functions {
    error: unsafe extern "C" fn() -> *const c_char,
    enter: unsafe extern "C" fn(c_int) -> c_int,
    begin: unsafe extern "C" fn(*mut *mut c_void) -> c_int,
    end: Call,
    replay: Call,
    free: Call,
}

/// Whether this build can capture graphs; whether this machine can is found by [`enter`].
pub fn is_built() -> bool {
    !LIBRARY.is_empty()
}

fn functions() -> Result<&'static Functions> {
    static FUNCTIONS: OnceLock<std::result::Result<Functions, String>> = OnceLock::new();
    FUNCTIONS.get_or_init(load).as_ref().map_err(|reason| Error::Graph(reason.clone()))
}

fn load() -> std::result::Result<Functions, String> {
    if !is_built() {
        return Err("this build has none (CUDA's headers were not there when it was built)".into());
    }
    if !load_cuda() {
        return Err("libtorch's CUDA half is not there".into());
    }
    // The library lies in memory, so that the binary needs no file beside it.
    // SAFETY: a name that is NUL-terminated; the descriptor is owned by the file made from it.
    let mut file = unsafe {
        let descriptor = libc::memfd_create(c"rankbench-graph".as_ptr(), 0);
        if descriptor < 0 {
            return Err(std::io::Error::last_os_error().to_string());
        }
        std::fs::File::from_raw_fd(descriptor)
    };
    file.write_all(LIBRARY).map_err(|e| e.to_string())?;
    let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(|e| e.to_string())?;
    // SAFETY: the library is our own, and its initialisers do nothing.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    if handle.is_null() {
        // SAFETY: the message is NUL-terminated and lives until the next call of this thread.
        return Err(unsafe { CStr::from_ptr(libc::dlerror()) }.to_string_lossy().into_owned());
    }
    let find = |name: &CStr| {
        // SAFETY: handle and name are valid.
        let symbol = unsafe { libc::dlsym(handle, name.as_ptr()) };
        if symbol.is_null() { Err(format!("no {} in it", name.to_string_lossy())) } else { Ok(symbol) }
    };
    // SAFETY: the types are those of graph.cpp, which is built with this file.
    unsafe {
        Ok(Functions {
            error: std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> *const c_char>(find(
                c"rb_graph_error",
            )?),
            enter: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int) -> c_int>(find(c"rb_graph_enter")?),
            begin: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut *mut c_void) -> c_int>(find(
                c"rb_graph_begin",
            )?),
            end: std::mem::transmute::<*mut c_void, Call>(find(c"rb_graph_end")?),
            replay: std::mem::transmute::<*mut c_void, Call>(find(c"rb_graph_replay")?),
            free: std::mem::transmute::<*mut c_void, Call>(find(c"rb_graph_free")?),
        })
    }
}

fn checked(functions: &Functions, code: c_int) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: the message is a NUL-terminated string of this thread.
    Err(Error::Graph(unsafe { CStr::from_ptr((functions.error)()) }.to_string_lossy().into_owned()))
}

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
