//! What is in the image.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use orginvite_operator::resources::crds_yaml;
use serde_json::json;

use crate::built::{AUTHORITIES, IMAGE, REVISION, USER};

/// Twice what it needs.
const SIZE_LIMIT: u64 = 32 << 20;

#[test]
#[ignore = "builds an image: make image-test"]
fn it_says_what_it_is_and_runs_as_a_number_that_is_not_root() {
    let config = &IMAGE.config;
    assert_eq!(config["User"], USER);
    assert_eq!(config["Entrypoint"], json!(["/orginvite-operator"]));
    assert!(config["Cmd"].is_null());
    let label = |name: &str| &config["Labels"][format!("org.opencontainers.image.{name}")];
    assert_eq!(label("title"), env!("CARGO_PKG_NAME"));
    assert_eq!(label("description"), env!("CARGO_PKG_DESCRIPTION"));
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(label("licenses"), env!("CARGO_PKG_LICENSE"));
    assert_eq!(label("revision"), REVISION);
}

#[test]
#[ignore = "builds an image: make image-test"]
fn it_holds_the_operator_and_the_public_authorities_and_no_shell_or_anything_else() {
    fn walk(root: &Path, directory: &Path, files: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (0, 0), "{path:?}");
            assert_eq!(metadata.mode() & 0o7022, 0, "{path:?} may be written");
            if metadata.is_dir() {
                walk(root, &path, files);
            } else {
                assert!(metadata.is_file(), "{path:?} is no file");
                files.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    let container = IMAGE.container();
    let mut files = Vec::new();
    walk(&container.root, &container.root, &mut files);
    files.sort();
    assert_eq!(files, [AUTHORITIES, "orginvite-operator"]);
}

#[test]
#[ignore = "builds an image: make image-test"]
fn it_is_small_and_does_not_tell_where_it_was_built() {
    let container = IMAGE.container();
    let binary = fs::read(container.root.join("orginvite-operator")).unwrap();
    let compressed = IMAGE.compressed_size();
    println!(
        "image: {} bytes compressed, the binary in it {} bytes",
        compressed,
        binary.len()
    );
    assert!((1..SIZE_LIMIT).contains(&compressed));
    for place in [env!("CARGO_MANIFEST_DIR"), &std::env::var("HOME").unwrap()] {
        assert!(
            !binary
                .windows(place.len())
                .any(|bytes| bytes == place.as_bytes()),
            "{place} is in the binary"
        );
    }
}

#[test]
#[ignore = "builds an image: make image-test"]
fn it_prints_its_version_and_the_definitions() {
    let container = IMAGE.container();
    assert_eq!(
        container.run(&["--version"]),
        concat!("orginvite-operator ", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(container.run(&["crd"]), crds_yaml().unwrap().trim());
}

#[test]
fn the_dockerfile_builds_with_a_rust_that_is_new_enough() {
    let dockerfile = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Dockerfile"));
    let base = format!("/rust:{}-", env!("CARGO_PKG_RUST_VERSION"));
    assert!(dockerfile.unwrap().contains(&base), "no {base}");
}
