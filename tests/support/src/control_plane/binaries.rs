//! Where the binaries come from: given, cached, downloaded, or built from Go modules.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use etcetera::BaseStrategy;

/// Version of Kubernetes; `controlplane/kubernetes/go.mod` has the same.
pub const KUBERNETES: &str = "1.37.2";
/// Version of etcd; `controlplane/etcd/go.mod` has the same.
pub const ETCD: &str = "3.7.3";
/// The Go tool that downloads and verifies the official binaries.
const SETUP_ENVTEST: &str = "sigs.k8s.io/controller-runtime/tools/setup-envtest@latest";
/// How long the download may take before a build is tried instead.
const DOWNLOAD_DEADLINE: Duration = Duration::from_secs(20);

/// A binary of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// The database.
    Etcd,
    /// The API server.
    ApiServer,
    /// The controllers of Kubernetes itself.
    ControllerManager,
    /// The command line client.
    Kubectl,
}

impl Name {
    fn file(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Kubectl => "kubectl",
        }
    }

    /// Folder of the Go module below `controlplane/`, and the package.
    fn package(self) -> (&'static str, &'static str) {
        match self {
            Self::Etcd => ("etcd", "go.etcd.io/etcd/server/v3"),
            Self::ApiServer => ("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
            Self::ControllerManager => ("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"),
            Self::Kubectl => ("kubernetes", "k8s.io/kubernetes/cmd/kubectl"),
        }
    }

    /// The official archive has no controller manager.
    fn is_in_archive(self) -> bool {
        self != Self::ControllerManager
    }
}

/// Finds a binary, getting it first where that is needed.
pub fn find(name: Name) -> anyhow::Result<PathBuf> {
    if let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS") {
        let path = Path::new(&assets).join(name.file());
        ensure!(path.is_file(), "KUBEBUILDER_ASSETS is set, but {} is not there", path.display());
        return Ok(path);
    }
    let cache = cache_dir()?;
    let path = cache.join(name.file());
    if path.is_file() {
        return Ok(path);
    }
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    // Two runs at once: the second one waits, and finds what the first one got.
    let lock = File::create(cache.join(".lock"))?;
    lock.lock()?;
    if path.is_file() {
        return Ok(path);
    }
    if name.is_in_archive() && download(&cache).is_ok() && path.is_file() {
        eprintln!("control plane: {} from the official archive", name.file());
        return Ok(path);
    }
    build(name, &cache)?;
    eprintln!("control plane: {} from Go modules, kept in {}", name.file(), cache.display());
    Ok(path)
}

fn cache_dir() -> anyhow::Result<PathBuf> {
    let base = etcetera::choose_base_strategy().context("there is no home directory to cache binaries in")?.cache_dir();
    let platform = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    Ok(base.join("orginvite-operator/control-plane").join(format!("k8s-{KUBERNETES}-etcd-{ETCD}-{platform}")))
}

/// Lets the published Go tool get the official archive; needs the internet.
fn download(cache: &Path) -> anyhow::Result<()> {
    let mut child = Command::new("go")
        .args(["run", SETUP_ENVTEST, "use", KUBERNETES, "-p", "path", "--bin-dir"])
        .arg(cache.join("archive"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let end = Instant::now() + DOWNLOAD_DEADLINE;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            bail!("no answer");
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    ensure!(status.success(), "{status}");
    let mut path = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut path)?;
    for entry in fs::read_dir(path.trim())? {
        let entry = entry?;
        fs::copy(entry.path(), cache.join(entry.file_name()))?;
    }
    Ok(())
}

/// Builds a binary with the ordinary `go` command from published modules.
fn build(name: Name, cache: &Path) -> anyhow::Result<()> {
    let (module, package) = name.package();
    let file = name.file();
    let mut flags = "-s -w".to_owned();
    if module == "kubernetes" {
        let (major, minor) = KUBERNETES.split_once('.').map_or(("1", "0"), |(major, rest)| (major, rest.split('.').next().unwrap_or("0")));
        for (variable, value) in [("gitVersion", format!("v{KUBERNETES}")), ("gitMajor", major.to_owned()), ("gitMinor", minor.to_owned())] {
            flags.push_str(&format!(" -X k8s.io/component-base/version.{variable}={value}"));
        }
    }
    let unfinished = cache.join(format!(".{file}.unfinished"));
    eprintln!("control plane: building {file} from Go modules; this happens once and takes minutes");
    let began = Instant::now();
    let mut child = Command::new("go")
        .args(["build", "-v", "-trimpath", "-ldflags", &flags, "-o"])
        .arg(&unfinished)
        .arg(package)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("controlplane").join(module))
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run `go`: install Go, or set KUBEBUILDER_ASSETS to a folder with etcd and kube-apiserver")?;
    let stderr = child.stderr.take().context("no output")?;
    let (mut packages, mut told, mut other) = (0, Instant::now(), String::new());
    for line in BufReader::new(stderr).lines() {
        let line = line?;
        // `go build -v` prints the path of each package that it compiles, and anything else is news.
        if line.contains(' ') {
            other.push_str(&line);
            other.push('\n');
        } else {
            packages += 1;
        }
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            eprintln!("control plane: building {file}: {packages} packages compiled, {} s", began.elapsed().as_secs());
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "building {file} failed ({status}):\n{other}");
    fs::rename(&unfinished, cache.join(file))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_go_modules_are_of_these_versions() {
        let read = |module: &str| {
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("controlplane").join(module).join("go.mod")).unwrap()
        };
        assert!(read("kubernetes").contains(&format!("k8s.io/kubernetes v{KUBERNETES}\n")));
        assert!(read("etcd").contains(&format!("go.etcd.io/etcd/server/v3 v{ETCD}\n")));
    }
}
