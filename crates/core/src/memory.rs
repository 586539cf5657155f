//! How much memory this process and its workers hold.

use std::fs;

/// Bytes of this process and its children that belong to nobody else. Zero where the kernel does
/// not say.
pub(crate) fn held() -> u64 {
    let own = std::process::id();
    let processes = fs::read_dir("/proc").into_iter().flatten();
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|&id| id == own || parent(id) == Some(own)).filter_map(private).sum()
}

fn parent(process: u32) -> Option<u32> {
    field(process, "PPid:")?.parse().ok()
}

fn private(process: u32) -> Option<u64> {
    let kilobytes: u64 = field(process, "RssAnon:")?.trim_end_matches(" kB").parse().ok()?;
    Some(kilobytes * 1024)
}

fn field(process: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_taken_is_seen() {
        let before = super::held();
        let taken = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(super::held() >= before + (32 << 20));
        drop(taken);
    }
}
