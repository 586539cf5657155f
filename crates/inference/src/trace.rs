//! What follows a request, for those who want to know where its time went.

use std::sync::Arc;

use crate::{Error, Tensor, Times};

/// Follows one request. Most requests have none. It sees the request twice: when its model takes
/// it in, and at its end, when all that happened in between is in its [`Times`].
pub trait Trace: Send + Sync {
    /// For a request that is made on behalf of this one.
    fn child(&self) -> Arc<dyn Trace>;

    /// A model has taken the request in.
    fn begin(&self, begin: Begin<'_>);

    /// The tensors of a successful response, the first one or the only one.
    fn outputs(&self, outputs: &[Tensor]);

    /// The last answer has come; `error`: what it was.
    fn end(&self, times: &Times, error: Option<&Error>);

    /// What other programs need to follow it further: JSON with the headers of W3C's trace context.
    fn context(&self) -> Option<String>;
}

/// A request as its model takes it in.
#[derive(Clone, Copy, Debug)]
pub struct Begin<'a> {
    pub model: &'a str,
    pub version: i64,
    pub id: &'a str,
    pub inputs: &'a [Tensor],
}
