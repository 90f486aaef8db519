//! Starts the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    orginvite_operator::cli::main()
}
