//! Why the dynamic batcher let a batch go.

/// What ended the wait for further requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Nothing more fits.
    Full,
    /// No preferred size is larger.
    Preferred,
    /// Its oldest request has waited as long as the configuration lets it.
    Delay,
    /// The next request has other shapes or other inputs.
    Shape,
    /// Its oldest request would be late otherwise.
    Deadline,
    /// There was an instance, and the configuration asks for no delay.
    IdleInstance,
}

impl Closed {
    pub const ALL: [Self; 6] =
        [Self::Full, Self::Preferred, Self::Delay, Self::Shape, Self::Deadline, Self::IdleInstance];

    /// The value of a metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Preferred => "PREFERRED",
            Self::Delay => "DELAY",
            Self::Shape => "SHAPE",
            Self::Deadline => "DEADLINE",
            Self::IdleInstance => "IDLE_INSTANCE",
        }
    }
}
