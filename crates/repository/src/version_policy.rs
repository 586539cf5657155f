//! Which of a model's versions are served.

/// `version_policy` of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionPolicy {
    /// The `n` highest.
    Latest(usize),
    All,
    /// These; the ones that are not on disk are reported by the caller.
    Specific(Vec<i64>),
}

impl VersionPolicy {
    /// Chooses from `available` (ascending); the result is ascending too.
    pub fn choose(&self, available: &[i64]) -> Vec<i64> {
        match self {
            Self::Latest(count) => available[available.len().saturating_sub(*count)..].to_vec(),
            Self::All => available.to_vec(),
            Self::Specific(wanted) => {
                available.iter().copied().filter(|version| wanted.contains(version)).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::VersionPolicy;

    #[test]
    fn policies_choose() {
        let available = [1, 3, 10];
        assert_eq!(VersionPolicy::Latest(1).choose(&available), [10]);
        assert_eq!(VersionPolicy::Latest(2).choose(&available), [3, 10]);
        assert_eq!(VersionPolicy::Latest(9).choose(&available), available);
        assert_eq!(VersionPolicy::All.choose(&available), available);
        assert_eq!(VersionPolicy::Specific(vec![10, 1, 7]).choose(&available), [1, 10]);
    }
}
