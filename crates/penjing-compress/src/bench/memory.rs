//! The largest amount of memory that a process ever had.

use serde::{Deserialize, Serialize};

/// Resident memory of a process that loads a model and runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Bytes that it had at most before: the program and the runtime's library.
    pub before: u64,
    /// Bytes that it had at most in all.
    pub peak: u64,
}

/// Bytes that this process had in memory at most until now (`VmHWM`); `None` where the system does not tell.
pub(super) fn high_water() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn parse(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_kernels_line_is_read() {
        assert_eq!(parse("VmPeak:\t    3060 kB\nVmHWM:\t    1604 kB\nVmRSS:\t 12 kB\n"), Some(1604 * 1024));
        assert_eq!(parse("VmPeak:\t    3060 kB\n"), None);
        assert_eq!(parse("VmHWM:\t    much kB\n"), None);
    }
}
