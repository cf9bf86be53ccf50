//! Memory of the host.

use std::fs;

/// Bytes of a mebibyte.
const MIB: f64 = 1024.0 * 1024.0;

/// Mebibytes that this process may still take: what the machine has free, or what its control group (a container, a job) has left where
/// that is less. `None` where the system does not say.
pub fn free_mib() -> Option<f64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0;
    Some(left_in_group().map_or(machine, |left| machine.min(left)))
}

/// Mebibytes that the process's control group (version 2) has left; `None` without a limit.
fn left_in_group() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let bytes =
        |file: &str| fs::read_to_string(format!("/sys/fs/cgroup/{group}/{file}")).ok()?.trim().parse::<f64>().ok();
    Some((bytes("memory.max")? - bytes("memory.current")?).max(0.0) / MIB)
}

/// Mebibytes of this process that are resident now.
pub fn resident_mib() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_this_machine_is_known() {
        assert!(free_mib().is_some_and(|free| free > 1.0) && resident_mib().is_some_and(|resident| resident > 1.0));
    }
}
