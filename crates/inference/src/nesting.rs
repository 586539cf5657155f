//! Requests that models make while they execute (BLS), as the rate limiter needs to know them.

/// Where a request stands among calls of models by models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nesting {
    /// A model made it, or an ensemble on behalf of such a request.
    pub called: bool,
    /// That model holds resources of the rate limiter while it waits for the answer.
    pub caller_holds: bool,
    /// Its own execution holds resources. Set when it is handed to an instance.
    pub holds: bool,
    /// The instance of its model that waits for the answer, and so must run it itself.
    pub within: Option<usize>,
}

impl Nesting {
    /// Of a request that is made by the execution of this one.
    #[must_use]
    pub fn call(self) -> Self {
        Self { called: true, caller_holds: self.holds, ..Self::default() }
    }
}
