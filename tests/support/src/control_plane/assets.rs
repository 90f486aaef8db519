//! Where the binaries of the control plane come from.
//!
//! In this order: the directory that `KUBEBUILDER_ASSETS` names; the cache in the user's cache directory; the official
//! envtest archive, where there is internet; a build from Go modules.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use etcetera::BaseStrategy;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use super::process::{Task, last_lines};

/// The version of kube-apiserver, kube-controller-manager and kubectl, as `controlplane/kubernetes/go.mod` has it.
pub const KUBERNETES_VERSION: &str = "1.37.2";

/// The version of etcd, as `controlplane/etcd/go.mod` has it.
pub const ETCD_VERSION: &str = "3.7.3";

/// The version of helm, as `controlplane/helm/go.mod` has it.
pub const HELM_VERSION: &str = "4.3.1";

/// The tool that knows where the envtest archives are. An archive has one patch version of a minor version, not
/// always ours.
const SETUP_ENVTEST: &str = "sigs.k8s.io/controller-runtime/tools/setup-envtest@v0.25.1";
const ENVTEST_VERSION: &str = "1.37.x";

/// The first answers whether there is internet; only then is the second, the download, worth waiting for.
const ENVTEST_INDEX_DEADLINE: Duration = Duration::from_secs(20);
const ENVTEST_DOWNLOAD_DEADLINE: Duration = Duration::from_mins(3);

/// From an empty Go cache on a slow machine. Waiting for another process that builds the same takes no longer.
const BUILD_DEADLINE: Duration = Duration::from_mins(45);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// The prefix of directories in the cache that hold unfinished work.
const UNFINISHED: &str = ".unfinished-";

/// A program of the control plane, or one to use it with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Etcd,
    ApiServer,
    ControllerManager,
    Kubectl,
    Helm,
}

impl Binary {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Kubectl => "kubectl",
            Self::Helm => "helm",
        }
    }

    /// Its name in the cache, whose own name tells the versions of the others.
    fn cached(self, cache: &Path) -> PathBuf {
        match self {
            Self::Helm => cache.join(format!("helm-{HELM_VERSION}")),
            _ => cache.join(self.name()),
        }
    }

    const fn version(self) -> &'static str {
        match self {
            Self::Etcd => ETCD_VERSION,
            Self::Helm => HELM_VERSION,
            _ => KUBERNETES_VERSION,
        }
    }

    /// The module under `controlplane`, and the package to build there.
    const fn go_package(self) -> (&'static str, &'static str) {
        match self {
            Self::Etcd => ("etcd", "go.etcd.io/etcd/server/v3"),
            Self::ApiServer => ("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
            Self::ControllerManager => (
                "kubernetes",
                "k8s.io/kubernetes/cmd/kube-controller-manager",
            ),
            Self::Kubectl => ("kubernetes", "k8s.io/kubernetes/cmd/kubectl"),
            Self::Helm => ("helm", "helm.sh/helm/v4/cmd/helm"),
        }
    }

    /// Whether `KUBEBUILDER_ASSETS` must have it: there is no control plane without.
    const fn is_essential(self) -> bool {
        matches!(self, Self::Etcd | Self::ApiServer)
    }

    const fn is_in_envtest_archive(self) -> bool {
        !matches!(self, Self::ControllerManager | Self::Helm)
    }
}

/// Finds programs, or gets them: then this takes minutes, and tells on standard error how it goes.
pub(super) async fn find<const N: usize>(binaries: [Binary; N]) -> Result<[PathBuf; N]> {
    let given = from_environment(&binaries)?;
    let missing: Vec<Binary> = binaries
        .into_iter()
        .filter(|&binary| given(binary).is_none())
        .collect();
    let cache = cache_directory()?;
    if !missing.is_empty() {
        fill(&cache, &missing).await?;
    }
    let mut paths = [const { PathBuf::new() }; N];
    for (path, binary) in paths.iter_mut().zip(binaries) {
        let found = given(binary).unwrap_or_else(|| binary.cached(&cache));
        // The true path, since it names the version of an archive.
        *path = fs::canonicalize(&found).with_context(|| format!("finding {}", found.display()))?;
    }
    let sources: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    eprintln!("control plane: using {}", sources.join(" and "));
    Ok(paths)
}

/// The directory that the environment names need not have what is not essential: an envtest archive is enough.
fn from_environment(binaries: &[Binary]) -> Result<impl Fn(Binary) -> Option<PathBuf>> {
    let directory = std::env::var_os("KUBEBUILDER_ASSETS").filter(|value| !value.is_empty());
    let given = move |binary: Binary| {
        let path = Path::new(directory.as_ref()?).join(binary.name());
        (path.is_file() || binary.is_essential()).then_some(path)
    };
    let missing: Vec<String> = binaries
        .iter()
        .filter_map(|&binary| given(binary))
        .filter(|path| !path.is_file())
        .map(|path| path.display().to_string())
        .collect();
    if !missing.is_empty() {
        bail!(
            "KUBEBUILDER_ASSETS is set, but there is no {}",
            missing.join(" and no ")
        );
    }
    Ok(given)
}

/// Gets into the cache what is not there yet.
async fn fill(cache: &Path, binaries: &[Binary]) -> Result<()> {
    let missing = |binary: &&Binary| !binary.cached(cache).is_file();
    if !binaries.iter().any(|binary| missing(&binary)) {
        return Ok(());
    }
    fs::create_dir_all(cache).with_context(|| format!("creating {}", cache.display()))?;
    let _lock = lock(cache).await?;
    remove_unfinished(cache)?;
    let wanted: Vec<Binary> = binaries
        .iter()
        .filter(missing)
        .filter(|binary| binary.is_in_envtest_archive())
        .copied()
        .collect();
    if !wanted.is_empty()
        && let Err(error) = from_envtest_archive(&wanted, cache).await
    {
        eprintln!(
            "control plane: building from source, since there is no envtest archive: {error:#}"
        );
    }
    for &binary in binaries.iter().filter(missing) {
        build(binary, cache).await?;
    }
    Ok(())
}

/// One for each platform and pair of versions, for all checkouts of a user.
fn cache_directory() -> Result<PathBuf> {
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        os => os,
    };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        arch => arch,
    };
    let base = etcetera::choose_base_strategy().context("finding the cache directory")?;
    Ok(base
        .cache_dir()
        .join("orginvite-operator/control-plane")
        .join(format!(
            "k8s-{KUBERNETES_VERSION}-etcd-{ETCD_VERSION}-{os}-{arch}"
        )))
}

/// Held until dropped. One process at a time gets what is missing, the others find it done.
async fn lock(cache: &Path) -> Result<File> {
    let path = cache.join("lock");
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    let wait = async {
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) if told => {}
                Err(TryLockError::WouldBlock) => {
                    eprintln!(
                        "control plane: waiting for another process that fills {}",
                        cache.display()
                    );
                    told = true;
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(BUILD_DEADLINE, wait)
        .await
        .with_context(|| format!("{} is still locked", path.display()))??;
    Ok(file)
}

/// Nobody else is at work in the cache: the caller has the lock.
fn remove_unfinished(cache: &Path) -> Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Links to the archive's directory rather than copying: its name tells which patch version this is.
async fn from_envtest_archive(binaries: &[Binary], cache: &Path) -> Result<()> {
    let archives = cache.join("envtest");
    setup_envtest(
        &["list", ENVTEST_VERSION],
        &archives,
        ENVTEST_INDEX_DEADLINE,
    )
    .await?;
    let use_archive = ["use", "-p", "path", ENVTEST_VERSION];
    let directory = setup_envtest(&use_archive, &archives, ENVTEST_DOWNLOAD_DEADLINE).await?;
    let unfinished = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(cache)?;
    for binary in binaries {
        let path = Path::new(directory.trim()).join(binary.name());
        if !path.is_file() {
            bail!("there is no {}", path.display());
        }
        let link = unfinished.path().join(binary.name());
        symlink(path, &link)?;
        fs::rename(link, binary.cached(cache))?;
    }
    Ok(())
}

/// Runs the tool and returns what it prints.
async fn setup_envtest(arguments: &[&str], archives: &Path, deadline: Duration) -> Result<String> {
    let mut command = Command::new("go");
    command
        .args(["run", SETUP_ENVTEST])
        .args(arguments)
        .arg("--bin-dir")
        .arg(archives)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut task = Task::start(&mut command).context("running go")?;
    let mut stdout = task.child.stdout.take().context("no standard output")?;
    let mut stderr = task.child.stderr.take().context("no standard error")?;
    let (mut printed, mut errors) = (String::new(), String::new());
    let run = async {
        tokio::try_join!(
            stdout.read_to_string(&mut printed),
            stderr.read_to_string(&mut errors)
        )?;
        task.ended().await
    };
    let status = timeout(deadline, run)
        .await
        .with_context(|| format!("no answer within {deadline:?}"))??;
    if !status.success() {
        let reason = errors
            .lines()
            .rfind(|line| !line.starts_with("exit status"));
        bail!("{}", reason.unwrap_or("the tool that gets it failed"));
    }
    Ok(printed)
}

async fn build(binary: Binary, cache: &Path) -> Result<()> {
    let (module, package) = binary.go_package();
    let module = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("controlplane")
        .join(module);
    let what = format!("{} {}", binary.name(), binary.version());
    let unfinished = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(cache)?;
    let output = unfinished.path().join(binary.name());
    let mut command = Command::new("go");
    command
        .args([
            "build",
            "-v",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags",
            &linker_flags(binary),
        ])
        .arg("-o")
        .arg(&output)
        .arg(package)
        .current_dir(&module)
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .env("GOTMPDIR", unfinished.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());

    let mut task =
        Task::start(&mut command).map_err(|error| explain_start(binary, &module, error))?;
    eprintln!(
        "control plane: building {what} from Go modules; this happens once and can take minutes"
    );
    let lines = task
        .child
        .stderr
        .take()
        .context("go has no standard error")?;
    let messages = timeout(
        BUILD_DEADLINE,
        report_progress(&what, BufReader::new(lines)),
    )
    .await
    .with_context(|| format!("go took more than {BUILD_DEADLINE:?} to build {what}"))??;
    if !task.ended().await?.success() {
        bail!(
            "go could not build {what} in {}:\n{}",
            module.display(),
            last_lines(&messages)
        );
    }
    fs::rename(&output, binary.cached(cache))?;
    Ok(())
}

fn linker_flags(binary: Binary) -> String {
    // No symbol table: half the size, and faster to start.
    let mut flags = vec!["-s -w".to_owned()];
    // Without these, a program says that it is some development version.
    if binary == Binary::Helm {
        flags.push(format!(
            "-X helm.sh/helm/v4/internal/version.version=v{HELM_VERSION}"
        ));
    } else if binary != Binary::Etcd {
        let mut numbers = KUBERNETES_VERSION.split('.');
        let values = [
            ("gitVersion", format!("v{KUBERNETES_VERSION}")),
            ("gitMajor", numbers.next().unwrap_or_default().to_owned()),
            ("gitMinor", numbers.next().unwrap_or_default().to_owned()),
        ];
        flags.extend(
            values.map(|(name, value)| format!("-X k8s.io/component-base/version.{name}={value}")),
        );
    }
    flags.join(" ")
}

fn explain_start(binary: Binary, module: &Path, error: std::io::Error) -> anyhow::Error {
    if error.kind() == std::io::ErrorKind::NotFound && module.is_dir() {
        return anyhow!(
            "there is no {name} for the control plane, and no `go` to build it with: \
             install Go, or set KUBEBUILDER_ASSETS to a directory that has etcd and kube-apiserver",
            name = binary.name(),
        );
    }
    anyhow!(error).context(format!("running go in {}", module.display()))
}

/// Reads the names of packages that `go build -v` prints when it compiles them. Returns everything else it printed.
async fn report_progress(
    what: &str,
    output: impl tokio::io::AsyncBufRead + Unpin,
) -> Result<String> {
    let start = Instant::now();
    let mut ticks = interval_at(start + PROGRESS_INTERVAL, PROGRESS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut lines = output.lines();
    let mut messages = String::new();
    let (mut fetched, mut compiled) = (0_u32, 0_u32);
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                None => return Ok(messages),
                Some(line) if line.starts_with("go: downloading ") => fetched += 1,
                Some(line) if line.contains([' ', '#']) => messages.push_str(&(line + "\n")),
                Some(_) => compiled += 1,
            },
            now = ticks.tick() => {
                let seconds = now.duration_since(start).as_secs();
                eprintln!(
                    "control plane: building {what} from Go modules: {fetched} modules fetched, \
                     {compiled} packages compiled, {}m{:02}s",
                    seconds / 60,
                    seconds % 60,
                );
            }
        }
    }
}
