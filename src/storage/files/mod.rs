//! Files of other programs as tables: where they are, what they are written in, and how they are scanned.

mod format;
mod home;
mod infer;
mod keys;
mod location;
mod partitions;
mod scan;
mod table;

pub use format::Format;
pub use home::Home;
pub(super) use home::Readable;
pub use infer::{adopt, check_footer, infer};
pub(super) use location::Found;
pub use location::absolute;
pub(super) use scan::{Columns, scan_files};
pub use table::FilesTable;
