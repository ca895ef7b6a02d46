//! Files of other programs as tables: where they are, what they are written in, and how they are scanned.

mod format;
mod infer;
mod location;
mod partitions;
mod scan;
mod table;

pub use format::Format;
pub use infer::{check_footer, infer};
pub use location::absolute;
pub(super) use location::object;
pub(super) use scan::scan_files;
pub use table::FilesTable;
