//! Runs the control plane until standard input ends, or until told to stop by a signal.

use std::process::ExitCode;

// One thread: the servers die with the thread that started them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match support::control_plane::supervise().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("control plane: {error:#}");
            ExitCode::FAILURE
        }
    }
}
