//! The image as `make image` builds it, and containers of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

/// The one who runs in the image, and belongs to nobody.
pub const USER: &str = "65532:65532";
/// Where the image has the public certificate authorities.
pub const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";

const NAME: &str = "localhost/orginvite-operator:test";
/// The revision that it is told to be of.
pub const REVISION: &str = "0123456789abcdef";

/// Built once for this test process. When that fails, every test fails.
pub static IMAGE: LazyLock<Image> = LazyLock::new(Image::build);

/// The image, in a storage of its own below `target`.
pub struct Image {
    directory: PathBuf,
    /// Its configuration, as the OCI has it.
    pub config: Value,
}

impl Image {
    fn build() -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image");
        if directory.exists() {
            fs::remove_dir_all(&directory).unwrap();
        }
        fs::create_dir_all(&directory).unwrap();
        // This driver and this isolation need nothing of the kernel that a container may lack.
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{0}/storage\"\nrunroot = \"{0}/run\"\n",
            directory.display(),
        );
        fs::write(directory.join("storage.conf"), storage).unwrap();
        let mut image = Self {
            directory,
            config: Value::Null,
        };
        let mut make = image.prepared("make");
        make.args(["image", "BUILD_IMAGE=buildah bud"])
            .arg(format!("IMAGE={NAME}"))
            .arg(format!("REVISION={REVISION}"))
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(make.status().unwrap().success(), "make image failed");
        let described = image.buildah(&["inspect", "--type", "image", NAME]);
        let described: Value = serde_json::from_str(&described).unwrap();
        image.config = described["OCIv1"]["config"].clone();
        image
    }

    /// The bytes that a node pulls: its layers, compressed.
    pub fn compressed_size(&self) -> u64 {
        let layout = self.directory.join("layout");
        self.buildah(&[
            "push",
            "--quiet",
            NAME,
            &format!("oci:{}", layout.display()),
        ]);
        let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap();
        blobs
            .map(|blob| blob.unwrap().metadata().unwrap().len())
            .sum()
    }

    /// A new container, which nothing runs in yet.
    pub fn container(&'static self) -> Container {
        let name = self.buildah(&["from", NAME]);
        let root = PathBuf::from(self.buildah(&["mount", &name]));
        Container {
            image: self,
            name,
            root,
        }
    }

    /// Runs buildah, and returns what it prints.
    fn buildah(&self, args: &[&str]) -> String {
        let mut command = self.prepared("buildah");
        let output = command
            .args(args)
            .output()
            .expect("buildah is needed: .ci/install installs it on Debian");
        assert!(
            output.status.success(),
            "buildah {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A command that finds this storage. What cargo tells a test about its package would make another cargo below it
    /// build crates again that depend on such variables.
    fn prepared(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text == "CARGO"
                || text.starts_with("CARGO_PKG_")
                || text.starts_with("CARGO_MANIFEST_")
                || text.starts_with("STORAGE_")
            {
                command.env_remove(&name);
            }
        }
        command
            .env(
                "CONTAINERS_STORAGE_CONF",
                self.directory.join("storage.conf"),
            )
            .env("BUILDAH_ISOLATION", "chroot")
            .stdin(Stdio::null());
        command
    }
}

/// A container of the image.
pub struct Container {
    image: &'static Image,
    name: String,
    /// Its root directory, as this machine sees it.
    pub root: PathBuf,
}

impl Container {
    /// Runs the image's entry point with these arguments as a container runtime does, and returns what it prints.
    pub fn run(&self, args: &[&str]) -> String {
        let entrypoint = self.image.config["Entrypoint"][0].as_str().unwrap();
        let mut whole = vec!["run", &self.name, "--", entrypoint];
        whole.extend(args);
        self.image.buildah(&whole)
    }

    /// The operator in this root, as the image's user and with these variables alone. The process is the operator's
    /// own, and the network is this machine's.
    pub fn operator(&self, args: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new("/usr/sbin/chroot");
        command
            .arg(format!("--userspec={USER}"))
            .arg(&self.root)
            .arg("/orginvite-operator")
            .args(args)
            .env_clear()
            .envs(variables.iter().copied())
            .stdin(Stdio::null());
        command
    }

    /// Puts a file into the root, as a volume would.
    pub fn put(&self, path: &str, content: &str) {
        let path = self.root.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.image.buildah(&["rm", &self.name]);
    }
}
