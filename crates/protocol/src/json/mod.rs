//! JSON as Triton reads and writes it.
//!
//! Triton's clients see RapidJSON's behaviour: its error texts with byte offsets, bare `NaN` and
//! `Infinity`, strings that need not be UTF-8, its number formatting. No JSON crate has these, and
//! none lets the numbers of a tensor go straight into its bytes, so this is our own.

mod data;
mod grisu;
mod number;
mod parser;
mod value;
mod write;

pub(crate) use data::{array_len, decode_data, decode_scalar};
pub(crate) use parser::{parse, parse_flat};
pub(crate) use value::{Member, NOT_ARRAY, NOT_BOOLEAN, NOT_STRING, NOT_UNSIGNED, Value, unable};
pub(crate) use write::{push_double, push_string};
