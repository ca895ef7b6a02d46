//! The `cohort` binary: everything it does starts in [`cohort::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    cohort::cli::main()
}
