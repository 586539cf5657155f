//! Queue policies: how many requests of a priority may wait, how long, and what comes then.

use std::collections::HashMap;
use std::time::Duration;

/// What becomes of a request that waited too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeoutAction {
    /// It is answered with an error.
    #[default]
    Reject,
    /// It runs after all others of its priority that have not waited too long.
    Delay,
}

/// How requests of one priority wait.
#[derive(Clone, Debug, Default)]
pub struct QueuePolicy {
    pub timeout_action: TimeoutAction,
    /// Zero: no limit.
    pub default_timeout: Duration,
    /// Whether a request may shorten its timeout. Without a default there is nothing to shorten.
    pub allow_timeout_override: bool,
    /// How many may wait; 0: no limit.
    pub max_queue_size: usize,
}

impl QueuePolicy {
    /// How long a request may wait that asks for `timeout_us`.
    pub(crate) fn timeout(&self, timeout_us: u64) -> Option<Duration> {
        let asked = Duration::from_micros(timeout_us);
        let shortens =
            self.allow_timeout_override && !asked.is_zero() && asked < self.default_timeout;
        let timeout = if shortens { asked } else { self.default_timeout };
        (!timeout.is_zero()).then_some(timeout)
    }
}

/// The priorities of a model, each with its policy. The default: one priority without limits.
#[derive(Clone, Debug, Default)]
pub struct QueuePolicies {
    /// 0: no priorities. Else 1 is the highest.
    pub priority_levels: u64,
    /// Of requests that ask for no priority, or for one that there is not.
    pub default_priority_level: u64,
    /// Of the levels that have none of their own.
    pub default_policy: QueuePolicy,
    pub by_level: HashMap<u64, QueuePolicy>,
}

impl QueuePolicies {
    /// The level of a request that asks for `priority`.
    pub(crate) fn level(&self, priority: u64) -> u64 {
        match self.priority_levels {
            0 => 0,
            levels if (1..=levels).contains(&priority) => priority,
            _ => self.default_priority_level,
        }
    }

    pub(crate) fn policy(&self, level: u64) -> &QueuePolicy {
        self.by_level.get(&level).unwrap_or(&self.default_policy)
    }

    /// Whether there is anything here that the order of arrival does not already say.
    pub(crate) fn matter(&self) -> bool {
        let limits =
            |policy: &QueuePolicy| policy.max_queue_size > 0 || !policy.default_timeout.is_zero();
        self.priority_levels > 1
            || limits(&self.default_policy)
            || self.by_level.values().any(limits)
    }
}
