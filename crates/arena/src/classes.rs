//! Which parts of the arena are free, by size class.
//!
//! Sizes are rounded up to four classes per power of two, so at most a fifth of a chunk is unused.
//! A freed chunk is kept for the next tensor of its class, since fresh pages cost far more than
//! the copy into them; beyond [`KEPT`] bytes its memory is returned to the system and only the
//! address range is kept.

use std::collections::BTreeMap;

/// Free memory that is kept ready for reuse.
const KEPT: usize = 256 << 20;

const SMALLEST_CLASS: usize = 64 << 10;

pub(crate) struct FreeLists {
    /// Everything from here on was never used.
    fresh: usize,
    end: usize,
    by_class: BTreeMap<usize, Vec<Free>>,
    kept: usize,
    in_use: usize,
}

struct Free {
    offset: usize,
    /// Its pages are still in memory.
    warm: bool,
}

impl FreeLists {
    pub(crate) fn new(len: usize) -> Self {
        Self { fresh: 0, end: len, by_class: BTreeMap::new(), kept: 0, in_use: 0 }
    }

    /// Offset and capacity of a chunk of at least `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Option<(usize, usize)> {
        let class = class_of(len)?;
        if let Some(free) = self.by_class.get_mut(&class).and_then(Vec::pop) {
            self.kept -= if free.warm { class } else { 0 };
            self.in_use += class;
            return Some((free.offset, class));
        }
        let end = self.fresh.checked_add(class).filter(|&end| end <= self.end)?;
        let offset = std::mem::replace(&mut self.fresh, end);
        self.in_use += class;
        Some((offset, class))
    }

    /// Takes a chunk back. What is returned is the range whose pages should go to the system.
    pub(crate) fn give_back(&mut self, offset: usize, class: usize) -> Option<(usize, usize)> {
        self.in_use -= class;
        let warm = self.kept + class <= KEPT;
        self.kept += if warm { class } else { 0 };
        let list = self.by_class.entry(class).or_default();
        // Warm chunks are taken first: they are at the end of the list.
        let at = if warm { list.len() } else { 0 };
        list.insert(at, Free { offset, warm });
        (!warm).then_some((offset, class))
    }

    /// Bytes of the chunks that were taken and not given back.
    pub(crate) fn in_use(&self) -> usize {
        self.in_use
    }
}

/// The smallest class that holds `len` bytes; all classes are multiples of a page.
fn class_of(len: usize) -> Option<usize> {
    let len = len.max(SMALLEST_CLASS);
    let quarter = len.checked_next_power_of_two()? / 8;
    Some(len.div_ceil(quarter) * quarter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_waste_little_and_stay_page_aligned() {
        for len in [1, 65_536, 65_537, 100_000, 6_220_800, (1 << 30) + 1] {
            let class = class_of(len).unwrap();
            assert!(class >= len && class.is_multiple_of(4096), "{len} -> {class}");
            assert!(len < SMALLEST_CLASS || class - len <= len / 4, "{len} -> {class}");
        }
        assert_eq!(class_of(usize::MAX), None);
    }

    #[test]
    fn memory_beyond_what_is_kept_is_returned() {
        let mut free = FreeLists::new(4 * KEPT);
        let (first, class) = free.take(KEPT).unwrap();
        let (second, _) = free.take(KEPT).unwrap();
        assert_eq!(free.give_back(first, class), None);
        assert_eq!(free.give_back(second, class), Some((second, class)));
        assert_eq!(free.take(KEPT), Some((first, class)), "the warm one first");
        assert_eq!(free.take(KEPT), Some((second, class)));
        assert_eq!(free.in_use(), 2 * class);
    }
}
