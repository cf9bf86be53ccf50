//! The source tree this program was built from, as its build script found it.

/// Commit of the source tree this program was built from, `unknown` where it was built outside a checkout.
pub const COMMIT: &str = env!("RANKBENCH_COMMIT");

/// Whether that tree had changes that were not committed.
pub fn is_dirty() -> bool {
    env!("RANKBENCH_DIRTY") == "true"
}
