//! How busy the machine is: Triton's `nv_cpu_*` metrics.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::labels::Labels;
use crate::page::Page;

/// Reads the machine's load when a page is written, at most once in an interval.
pub struct Cpu {
    interval: Duration,
    last: Mutex<Last>,
}

struct Last {
    at: Instant,
    times: Times,
    utilization: f64,
}

/// Ticks that all processors together have spent.
#[derive(Clone, Copy, Default)]
struct Times {
    total: u64,
    idle: u64,
}

impl Cpu {
    pub fn new(interval: Duration) -> Self {
        let last = Last { at: Instant::now(), times: Times::read(), utilization: 0.0 };
        Self { interval, last: Mutex::new(last) }
    }

    pub fn write(&self, page: &mut Page) {
        let (all, memory) = (Labels::default(), Memory::read());
        page.gauge("nv_cpu_utilization", "CPU utilization rate [0.0 - 1.0]")
            .add(&all, self.utilization());
        page.gauge("nv_cpu_memory_total_bytes", "CPU total memory (RAM), in bytes")
            .add(&all, memory.total);
        page.gauge("nv_cpu_memory_used_bytes", "CPU used memory (RAM), in bytes")
            .add(&all, memory.total.saturating_sub(memory.available));
    }

    /// Since the last look, which is at least one interval ago.
    fn utilization(&self) -> f64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.at.elapsed() >= self.interval {
            let now = Times::read();
            last.utilization = now.utilization_since(last.times);
            (last.at, last.times) = (Instant::now(), now);
        }
        last.utilization
    }
}

impl Times {
    /// Zero where there is no such file: the metrics are there all the same.
    fn read() -> Self {
        std::fs::read_to_string("/proc/stat").map(|text| Self::parse(&text)).unwrap_or_default()
    }

    /// The first line sums up all processors: user, nice, system, idle, iowait, irq, softirq,
    /// steal; what follows is counted in user and nice already.
    fn parse(text: &str) -> Self {
        let numbers = text.lines().next().unwrap_or("").split_whitespace().skip(1).take(8);
        let numbers: Vec<u64> = numbers.filter_map(|number| number.parse().ok()).collect();
        Self { total: numbers.iter().sum(), idle: numbers.iter().skip(3).take(2).sum() }
    }

    fn utilization_since(self, before: Self) -> f64 {
        let total = self.total.saturating_sub(before.total);
        let idle = self.idle.saturating_sub(before.idle).min(total);
        if total == 0 { 0.0 } else { (total - idle) as f64 / total as f64 }
    }
}

#[derive(Default)]
struct Memory {
    total: u64,
    available: u64,
}

impl Memory {
    fn read() -> Self {
        std::fs::read_to_string("/proc/meminfo").map(|text| Self::parse(&text)).unwrap_or_default()
    }

    fn parse(text: &str) -> Self {
        let kibibytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
        };
        let bytes = |name| kibibytes(name).unwrap_or(0) * 1024;
        Self { total: bytes("MemTotal"), available: bytes("MemAvailable") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes() {
        let before = Times::parse("cpu  100 0 50 800 50 0 0 0 7 7\ncpu0 1 2 3\n");
        assert_eq!((before.total, before.idle), (1000, 850));
        let now = Times::parse("cpu  175 0 50 820 55 0 0 0 9 9\n");
        assert_eq!(now.utilization_since(before), 0.75);
        assert_eq!(now.utilization_since(now), 0.0);
        let memory = Memory::parse("MemTotal:   1000 kB\nMemFree: 1 kB\nMemAvailable:    600 kB\n");
        assert_eq!((memory.total, memory.available), (1_024_000, 614_400));
    }
}
