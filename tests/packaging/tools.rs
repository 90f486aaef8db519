//! The real helm and the real kubectl as processes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use support::control_plane::{ControlPlane, helm};
use tempfile::TempDir;
use tokio::process::Command;

/// How long a program, or anything waited for, may take before a test fails.
pub const DEADLINE: Duration = Duration::from_mins(2);

/// A file of the project.
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What a program did.
#[derive(Debug)]
pub struct Outcome {
    pub success: bool,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// What it printed, after it succeeded.
    #[track_caller]
    pub fn printed(self) -> String {
        assert!(self.success, "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// What it said, after it failed.
    #[track_caller]
    pub fn refusal(self) -> String {
        assert!(!self.success, "it succeeded: {}", self.stdout);
        self.stderr
    }
}

/// Runs a program to its end.
pub async fn run(command: &mut Command) -> Outcome {
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(DEADLINE, running)
        .await
        .unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {command:?}"))
        .unwrap();
    Outcome {
        success: output.status.success(),
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A helm that knows nothing of the machine's user.
pub struct Helm {
    program: PathBuf,
    home: TempDir,
    kubeconfig: PathBuf,
}

impl Helm {
    /// Without a cluster.
    pub async fn alone() -> Self {
        Self::with(Path::new("/nowhere")).await
    }

    pub async fn with(kubeconfig: &Path) -> Self {
        Self {
            program: helm().await.unwrap(),
            home: tempfile::tempdir().unwrap(),
            kubeconfig: kubeconfig.to_owned(),
        }
    }

    pub async fn run(&self, arguments: &[&str]) -> Outcome {
        run(Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .env("HOME", self.home.path())
            .env("KUBECONFIG", &self.kubeconfig))
        .await
    }
}

/// A kubectl as one user.
pub struct Kubectl {
    program: PathBuf,
    home: TempDir,
    kubeconfig: PathBuf,
}

impl Kubectl {
    pub async fn with(plane: &ControlPlane, kubeconfig: &Path) -> Self {
        Self {
            program: plane.kubectl().await.unwrap(),
            home: tempfile::tempdir().unwrap(),
            kubeconfig: kubeconfig.to_owned(),
        }
    }

    pub async fn admin(plane: &ControlPlane) -> Self {
        Self::with(plane, plane.kubeconfig()).await
    }

    pub async fn run(&self, arguments: &[&str]) -> Outcome {
        run(Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .env("HOME", self.home.path())
            // Its `diff` is the system's.
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("KUBECONFIG", &self.kubeconfig))
        .await
    }

    /// Writes the text to a file and runs the command with `--filename` and that file.
    pub async fn with_file(&self, arguments: &[&str], text: &str) -> Outcome {
        let file = self.home.path().join("manifest.yaml");
        std::fs::write(&file, text).unwrap();
        let mut arguments = arguments.to_vec();
        arguments.extend(["--filename", file.to_str().unwrap()]);
        self.run(&arguments).await
    }
}
