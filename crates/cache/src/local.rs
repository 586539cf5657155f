//! A cache in this process: as many bytes as it was given, least recently used leave first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::{Entry, Key};

pub struct Local {
    capacity: usize,
    state: Mutex<State>,
}

struct State {
    entries: LruCache<Key, Arc<Entry>>,
    /// Of all entries together.
    byte_size: usize,
    statistics: LocalStatistics,
}

/// What Triton's `nv_cache_*` metrics without a model report.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LocalStatistics {
    pub entries: u64,
    /// From 0 to 1.
    pub utilization: f64,
    pub lookups: u64,
    pub hits: u64,
    pub misses: u64,
    pub evictions: u64,
    pub lookup_duration: Duration,
    pub insertion_duration: Duration,
}

impl Local {
    /// A cache of so many bytes.
    pub fn new(capacity: usize) -> Self {
        let state = State {
            entries: LruCache::unbounded(),
            byte_size: 0,
            statistics: LocalStatistics::default(),
        };
        Self { capacity, state: Mutex::new(state) }
    }

    pub fn lookup(&self, key: &Key) -> Option<Arc<Entry>> {
        let start = Instant::now();
        let mut state = self.lock();
        let found = state.entries.get(key).cloned();
        let statistics = &mut state.statistics;
        statistics.lookups += 1;
        *if found.is_some() { &mut statistics.hits } else { &mut statistics.misses } += 1;
        statistics.lookup_duration += start.elapsed();
        found
    }

    /// Keeps the entry, if it fits at all, and lets go of others for it.
    pub fn insert(&self, key: Key, entry: Entry) {
        let start = Instant::now();
        let byte_size = entry.byte_size();
        if byte_size > self.capacity {
            tracing::debug!("a response of {byte_size} bytes is larger than the response cache");
            return;
        }
        let mut gone = Vec::new(); // Freed once the lock is.
        let mut state = self.lock();
        if let Some(old) = state.entries.pop(&key) {
            state.byte_size -= old.byte_size();
            gone.push(old);
        }
        while state.byte_size + byte_size > self.capacity
            && let Some((_, oldest)) = state.entries.pop_lru()
        {
            state.byte_size -= oldest.byte_size();
            state.statistics.evictions += 1;
            gone.push(oldest);
        }
        state.entries.put(key, Arc::new(entry));
        state.byte_size += byte_size;
        state.statistics.insertion_duration += start.elapsed();
        drop(state);
    }

    pub fn statistics(&self) -> LocalStatistics {
        let state = self.lock();
        LocalStatistics {
            entries: state.entries.len() as u64,
            utilization: state.byte_size as f64 / self.capacity as f64,
            ..state.statistics
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use nereid_inference::{Buffer, DataType, Request, Responder, Tensor};

    use super::*;

    fn key(number: u64) -> Key {
        struct Ignore;
        impl nereid_inference::ResponseSink for Ignore {
            fn deliver(&mut self, _: nereid_inference::Answer, _: &nereid_inference::Times) {}
        }
        let responder = Responder::new(Box::new(Ignore));
        Key::of(&Request::new(number.to_string(), None, responder), 1, true)
    }

    fn entry(bytes: usize) -> Entry {
        let tensor = Tensor {
            name: "OUT".into(),
            datatype: DataType::Uint8,
            shape: vec![bytes as i64],
            data: Buffer::from(vec![0; bytes]),
        };
        Entry { outputs: vec![tensor], ..Entry::default() }
    }

    #[test]
    fn the_least_recently_used_leave() {
        let size = entry(1000).byte_size();
        let cache = Local::new(2 * size);
        cache.insert(key(1), entry(1000));
        cache.insert(key(2), entry(1000));
        assert!(cache.lookup(&key(1)).is_some());
        cache.insert(key(3), entry(1000));
        assert!(cache.lookup(&key(2)).is_none());
        assert!(cache.lookup(&key(1)).is_some() && cache.lookup(&key(3)).is_some());
        let statistics = cache.statistics();
        assert_eq!((statistics.entries, statistics.utilization), (2, 1.0));
        assert_eq!((statistics.lookups, statistics.hits, statistics.misses), (4, 3, 1));
        assert_eq!(statistics.evictions, 1);
    }

    #[test]
    fn what_is_larger_than_the_cache_drives_nothing_out() {
        let cache = Local::new(5000);
        cache.insert(key(1), entry(1000));
        cache.insert(key(2), entry(5000));
        assert!(cache.lookup(&key(1)).is_some());
        assert!(cache.lookup(&key(2)).is_none());
    }

    /// Against a list in order of use, over scripts of inserts and lookups.
    #[test]
    fn keeps_what_a_list_in_order_of_use_would() {
        let capacity = 20_000;
        let cache = Local::new(capacity);
        let mut list: Vec<(u64, usize)> = Vec::new(); // The most recently used last.
        let mut seed = 7_u64;
        let mut below = |end: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % end
        };
        for _ in 0..5000 {
            let number = below(12);
            let known = list.iter().position(|(known, _)| *known == number);
            if below(2) == 0 {
                let found = cache.lookup(&key(number)).map(|entry| entry.byte_size());
                assert_eq!(found, known.map(|index| list[index].1));
                if let Some(index) = known {
                    list[index..].rotate_left(1);
                }
                continue;
            }
            let new = entry(below(6000) as usize);
            if let Some(index) = known {
                list.remove(index);
            }
            list.push((number, new.byte_size()));
            cache.insert(key(number), new);
            while list.iter().map(|(_, size)| size).sum::<usize>() > capacity {
                list.remove(0);
            }
            let used = (cache.statistics().utilization * capacity as f64).round() as usize;
            assert_eq!(used, list.iter().map(|(_, size)| size).sum::<usize>());
        }
        assert!(cache.statistics().evictions > 100);
    }
}
