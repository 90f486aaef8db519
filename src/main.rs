//! Starts the command line.

use std::process::ExitCode;

/// Takes a tenth less time than glibc's allocator, and far less than musl's, which the image would have.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    orginvite_operator::cli::main()
}
