//! W3C's trace context: which trace and which span of it something belongs to.

use std::hash::{BuildHasher, RandomState};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanContext {
    pub(crate) trace: u128,
    pub(crate) span: u64,
}

impl SpanContext {
    /// The first span of a new trace.
    pub(crate) fn root() -> Self {
        let trace = u128::from(random()) << 64 | u128::from(random());
        Self { trace, span: random() }
    }

    /// Another span of the same trace.
    pub(crate) fn another(self) -> Self {
        Self { span: random(), ..self }
    }

    /// Reads `00-<trace>-<span>-<flags>`; `None` for what is not that.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let mut parts = header.trim().split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let lengths = [version.len(), trace.len(), span.len(), flags.len()] == [2, 32, 16, 2];
        // Later versions may have more parts; this one may not.
        if !lengths || version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if ![version, trace, span, flags].into_iter().all(hex) {
            return None;
        }
        let trace = u128::from_str_radix(trace, 16).ok().filter(|&trace| trace != 0)?;
        let span = u64::from_str_radix(span, 16).ok().filter(|&span| span != 0)?;
        Some(Self { trace, span })
    }

    pub(crate) fn header(self) -> String {
        format!("00-{:032x}-{:016x}-01", self.trace, self.span)
    }
}

/// Not zero, and not guessed by accident: each state is keyed from the system's randomness.
fn random() -> u64 {
    RandomState::new().hash_one(0).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = SpanContext::parse(header).unwrap();
        assert_eq!(context.header(), header);
        let child = context.another();
        assert!(child.trace == context.trace && child.span != context.span);
        assert_ne!(SpanContext::root(), SpanContext::root());
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        ] {
            assert_eq!(SpanContext::parse(wrong), None, "{wrong}");
        }
    }
}
