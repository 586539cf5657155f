//! Who may do what: restricted APIs, keys, and control from other machines.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::header::{AUTHORIZATION, FORWARDED, HeaderMap};

use crate::keys::{Keys, Scope};

/// Groups of routes, by Triton's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    Health,
    Metadata,
    Inference,
    SharedMemory,
    ModelConfig,
    ModelRepository,
    Statistics,
    Trace,
    Logging,
}

impl Category {
    const NAMES: [(&str, Self); 9] = [
        ("health", Self::Health),
        ("metadata", Self::Metadata),
        ("inference", Self::Inference),
        ("shared-memory", Self::SharedMemory),
        ("model-config", Self::ModelConfig),
        ("model-repository", Self::ModelRepository),
        ("statistics", Self::Statistics),
        ("trace", Self::Trace),
        ("logging", Self::Logging),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, category)| *category)
    }
}

/// Routes that are only for those who send a certain header: `<api>,<api>:<header>=<value>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restriction {
    categories: Vec<Category>,
    header: String,
    value: String,
}

impl Restriction {
    /// Reads what a flag says. Headers of gRPC have a prefix.
    pub fn parse(text: &str, header_prefix: &str) -> Result<Self, String> {
        let (names, pair) = text
            .split_once(':')
            .ok_or_else(|| format!("expected <api>,<api>:<key>=<value>, got '{text}'"))?;
        let (key, value) = pair
            .split_once('=')
            .filter(|(key, value)| !key.is_empty() && !value.is_empty())
            .ok_or(format!("expected <key>=<value> behind the colon, got '{pair}'"))?;
        let category = |name: &str| {
            Category::named(name.trim()).ok_or_else(|| {
                let known: Vec<_> = Category::NAMES.iter().map(|(name, _)| *name).collect();
                format!("unknown restricted api '{name}'; there are {}", known.join(", "))
            })
        };
        let categories = names.split(',').map(category).collect::<Result<_, _>>()?;
        let header = format!("{header_prefix}{}", key.trim());
        Ok(Self { categories, header, value: value.trim().to_owned() })
    }
}

/// The rules of one frontend.
#[derive(Clone, Default)]
pub struct Access {
    restrictions: Vec<Restriction>,
    keys: Option<Arc<Keys>>,
    /// Control from other machines needs neither a key nor a header.
    remote_control: bool,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    pub category: Category,
    /// It changes what the server does, beyond the answer.
    pub control: bool,
}

impl Wish {
    /// Something that changes nothing.
    pub fn to_see(category: Category) -> Self {
        Self { category, control: false }
    }

    pub fn to_change(category: Category) -> Self {
        Self { category, control: true }
    }
}

/// Why a wish is not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The header is missing or has another value.
    Restricted { header: String },
    /// There is no key, or none that is known.
    NoKey,
    /// The key is for other things.
    Scope(Scope),
    /// Control from another machine.
    Remote,
}

impl Denial {
    /// What to tell a client about everything but a restriction, which protocols word themselves.
    pub fn message(&self) -> String {
        match self {
            Self::Restricted { header } => {
                format!("This API is restricted, expecting header '{header}'")
            }
            Self::NoKey => "expecting a key: 'Authorization: Bearer <key>'".to_owned(),
            Self::Scope(scope) => format!("this needs a key with the scope '{scope}'"),
            Self::Remote => {
                "control from other machines is refused. Start the server with \
                 '--allow-remote-control=true' to allow it, or with '--api-key-file' to ask for \
                 keys."
            }
            .to_owned(),
        }
    }
}

impl Access {
    pub fn new(
        restrictions: Vec<Restriction>,
        keys: Option<Arc<Keys>>,
        remote_control: bool,
    ) -> Result<Self, String> {
        let mut seen = Vec::new();
        for category in restrictions.iter().flat_map(|restriction| &restriction.categories) {
            if seen.contains(category) {
                let name = Category::NAMES.iter().find(|(_, known)| known == category);
                let name = name.map_or("", |(name, _)| name);
                return Err(format!(
                    "restricted api '{name}' can not be specified in multiple groups"
                ));
            }
            seen.push(*category);
        }
        Ok(Self { restrictions, keys, remote_control })
    }

    /// The same rules, but that control from other machines is allowed.
    #[must_use]
    pub fn with_remote_control(self) -> Self {
        Self { remote_control: true, ..self }
    }

    /// Grants what `peer` wishes, or says why not.
    pub fn check(&self, wish: Wish, peer: IpAddr, headers: &HeaderMap) -> Result<(), Denial> {
        let restriction = match self.restrictions.is_empty() {
            true => None,
            false => self.restrictions.iter().find(|r| r.categories.contains(&wish.category)),
        };
        if let Some(Restriction { header, value, .. }) = restriction
            && headers.get(header).is_none_or(|given| given.as_bytes() != value.as_bytes())
        {
            return Err(Denial::Restricted { header: header.clone() });
        }
        if let Some(keys) = &self.keys {
            // Load balancers have none.
            return match wish.category {
                Category::Health => Ok(()),
                _ => keys.check(headers.get(AUTHORIZATION), wish),
            };
        }
        let granted = !wish.control || self.remote_control || restriction.is_some();
        if granted || is_local(peer, headers) {
            return Ok(());
        }
        Err(Denial::Remote)
    }
}

/// Whether a request was made on this machine, not handed on by a proxy on it.
fn is_local(peer: IpAddr, headers: &HeaderMap) -> bool {
    peer.is_loopback()
        && !headers.contains_key(FORWARDED)
        && !headers.contains_key("x-forwarded-for")
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn control_is_for_this_machine_unless_allowed() {
        let load = Wish::to_change(Category::ModelRepository);
        let closed = Access::default();
        assert_eq!(closed.check(load, HERE, &headers(&[])), Ok(()));
        assert_eq!(closed.check(load, THERE, &headers(&[])), Err(Denial::Remote));
        let proxied = headers(&[("x-forwarded-for", "10.0.0.1")]);
        assert_eq!(closed.check(load, HERE, &proxied), Err(Denial::Remote));
        let index = Wish::to_see(Category::ModelRepository);
        assert_eq!(closed.check(index, THERE, &headers(&[])), Ok(()));
        let open = Access::new(Vec::new(), None, true).unwrap();
        assert_eq!(open.check(load, THERE, &headers(&[])), Ok(()));
    }

    #[test]
    fn restrictions_want_their_header() {
        let restriction = Restriction::parse("model-repository,health:secret=a=b", "x-").unwrap();
        let access = Access::new(vec![restriction], None, false).unwrap();
        let load = Wish::to_change(Category::ModelRepository);
        let denied = Err(Denial::Restricted { header: "x-secret".to_owned() });
        for wrong in [headers(&[]), headers(&[("x-secret", "a")])] {
            assert_eq!(access.check(load, HERE, &wrong), denied);
        }
        assert_eq!(access.check(load, THERE, &headers(&[("x-secret", "a=b")])), Ok(()));
        let infer = Wish::to_see(Category::Inference);
        assert_eq!(access.check(infer, THERE, &headers(&[])), Ok(()));
    }

    #[test]
    fn restrictions_that_make_no_sense() {
        for (text, message) in [
            ("health", "expected <api>,<api>:<key>=<value>"),
            ("health:key", "expected <key>=<value>"),
            ("wealth:a=b", "unknown restricted api 'wealth'"),
        ] {
            assert!(Restriction::parse(text, "").unwrap_err().starts_with(message));
        }
        let twice = |_| Restriction::parse("health:a=b", "").unwrap();
        let error = Access::new([0, 1].map(twice).to_vec(), None, false).err().unwrap();
        assert!(error.ends_with("in multiple groups"), "{error}");
    }
}
