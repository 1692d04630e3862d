//! CPU time and memory of processes, read from /proc.

use std::time::Duration;

use anyhow::Context as _;

/// USER_HZ, the unit of times in /proc, which is 100 on every Linux.
const TICKS_PER_SECOND: u64 = 100;

struct Stat {
    parent: u32,
    /// CPU time of the process and of the children that it waited for.
    ticks: u64,
}

/// CPU time of a process and of all its children, also of ended ones.
pub(crate) fn cpu_of_tree(root: u32) -> anyhow::Result<Duration> {
    let mut ticks = stat(root).with_context(|| format!("process {root} does not exist"))?.ticks;
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that ended after the listing is counted in its parent.
        if let Some(child) = stat(pid).filter(|stat| stat.parent == root) {
            ticks += child.ticks;
        }
    }
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// CPU time of one process so far, none if it has ended.
pub(crate) fn cpu_of_process(pid: u32) -> Option<Duration> {
    stat(pid).map(|stat| Duration::from_millis(stat.ticks * 1000 / TICKS_PER_SECOND))
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses, which can contain any character.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>().unwrap_or_default()).sum();
    Some(Stat { parent: fields.get(1)?.parse().ok()?, ticks })
}

/// The peak resident memory of a process in bytes, none if it has ended.
pub(crate) fn peak_memory(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}
