//! In which order models can be loaded when some of them are made of others.

use std::collections::{BTreeMap, BTreeSet};

/// Models by name, each with the models that it needs.
pub(crate) type Needs = BTreeMap<String, Vec<String>>;

/// Models in waves: everything that a model needs is in an earlier wave, or not in `needs` at all.
/// The rest are those that need each other in a circle, or something that does.
pub(crate) fn waves(needs: &Needs) -> (Vec<Vec<String>>, Vec<String>) {
    let mut left: BTreeSet<&String> = needs.keys().collect();
    let mut waves = Vec::new();
    loop {
        let ready = |name: &&&String| needs[**name].iter().all(|needed| !left.contains(needed));
        let wave: Vec<&String> = left.iter().filter(ready).copied().collect();
        if wave.is_empty() {
            return (waves, left.into_iter().cloned().collect());
        }
        for name in &wave {
            left.remove(name);
        }
        waves.push(wave.into_iter().cloned().collect());
    }
}

/// The model through which `name` comes back to itself, if it does.
pub(crate) fn circle<'a>(needs: &'a Needs, name: &str) -> Option<&'a str> {
    let mut seen = BTreeSet::new();
    let mut waiting: Vec<&str> = vec![needs.get_key_value(name)?.0];
    while let Some(model) = waiting.pop() {
        for needed in needs.get(model).into_iter().flatten() {
            if needed == name {
                return Some(model);
            }
            if seen.insert(needed.as_str()) {
                waiting.push(needed);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(pairs: &[(&str, &[&str])]) -> Needs {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        pairs.iter().map(|(name, needed)| ((*name).to_owned(), owned(needed))).collect()
    }

    #[test]
    fn members_come_before_their_ensembles() {
        let needs =
            needs(&[("a", &[]), ("ab", &["a", "b"]), ("b", &["elsewhere"]), ("on", &["ab"])]);
        let (waves, rest) = waves(&needs);
        assert_eq!(waves, [vec!["a", "b"], vec!["ab"], vec!["on"]]);
        assert!(rest.is_empty());
    }

    #[test]
    fn circles_are_left_over() {
        let needs = needs(&[("a", &[]), ("c1", &["c2", "a"]), ("c2", &["c1"]), ("on", &["c1"])]);
        let (waves, rest) = waves(&needs);
        assert_eq!(
            (waves, rest),
            (vec![vec!["a".to_owned()]], vec!["c1".into(), "c2".into(), "on".into()])
        );
        assert_eq!(circle(&needs, "c1"), Some("c2"));
        assert_eq!(circle(&needs, "on"), None);
    }
}
