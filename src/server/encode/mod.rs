//! Rows of a batch → `DataRow` messages, straight into the write buffer.
//!
//! What a column holds is looked at once per batch: the result is one writer per column, which then answers for every
//! row without asking again.

mod binary;
mod calendar;
mod column;
mod copy;
mod interval;
mod json;
mod number;
mod text;

pub(super) use column::{Column, Encoding, Format, Style, put_rows};
pub(super) use copy::CopyEncoding;
pub(super) use number::{read_binary_decimal, read_binary_numeric};
