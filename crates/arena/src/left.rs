//! How much memory is left, for those who are about to take a lot.

use std::fs;

/// Below this size nobody asks: the answer would cost more than it is worth.
const LARGE: usize = 256 << 20;

/// Whether `len` bytes, if they are many, would take more memory than this machine or this
/// container has left; and how many those are.
pub fn exceeds_memory(len: usize) -> Option<u64> {
    if len < LARGE {
        return None;
    }
    let left = memory_left()?;
    (len as u64 > left).then_some(left)
}

fn memory_left() -> Option<u64> {
    let machine = number_after(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")? * 1024;
    Some(container_left().map_or(machine, |container| container.min(machine)))
}

/// What the limit of this process's cgroup leaves, as a container sees it.
fn container_left() -> Option<u64> {
    let read = |file| fs::read_to_string(format!("/sys/fs/cgroup/memory.{file}")).ok();
    let limit: u64 = read("max")?.trim().parse().ok()?;
    let used: u64 = read("current")?.trim().parse().ok()?;
    let cache = number_after(&read("stat")?, "inactive_file").unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(cache)))
}

/// The number behind the first line's name that is `name`.
fn number_after(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_ascii_whitespace);
    let mut line = lines.find_map(|mut words| (words.next() == Some(name)).then_some(words))?;
    line.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_behind_their_names() {
        let text = "MemTotal:   1000 kB\nMemFree: 1 kB\nMemAvailable:    600 kB\n";
        assert_eq!(number_after(text, "MemAvailable:"), Some(600));
        assert_eq!(number_after(text, "Mem"), None);
        assert_eq!(number_after("inactive_file\n", "inactive_file"), None);
    }

    #[test]
    fn only_much_is_too_much() {
        assert_eq!(exceeds_memory(LARGE - 1), None);
        let left = exceeds_memory(1 << 60).unwrap();
        assert!((1 << 20..1 << 60).contains(&left));
        assert_eq!(exceeds_memory(usize::try_from(left / 2).unwrap()), None);
    }
}
