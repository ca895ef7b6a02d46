//! Objects of S3, and of stores that speak like it: how their buckets are reached, read and written.

mod bucket;
mod buckets;
mod location;
mod reader;
mod refusal;
mod upload;
mod way;

pub use bucket::Bucket;
pub use buckets::Buckets;
pub use location::{Location, is_s3};
pub use reader::ObjectReader;
pub use upload::Upload;
pub use way::{S3Options, divided};
