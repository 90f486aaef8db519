//! Runs the control plane until standard input ends, or until told to stop by a signal.

// One thread: the signal that ends the children with their parent is tied to the thread that started them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    support::control_plane::supervise().await
}
