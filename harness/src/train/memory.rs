//! Peak memory in the unit of the stored rows.

use tch::Device;

use crate::error::Result;
use crate::store::rows::PeakMiB;

/// Peak memory of a device since it was last reset.
///
/// # Errors
/// A failure on the device.
pub fn peak_memory(device: Device) -> Result<PeakMiB> {
    let peak = torch_ext::device::peak_memory(device)?;
    let mib = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64 / (1024.0 * 1024.0));
    Ok(PeakMiB {
        peak_allocated_mib: mib(peak.allocated),
        peak_reserved_mib: mib(peak.reserved),
        peak_resident_mib: mib(peak.resident),
    })
}
