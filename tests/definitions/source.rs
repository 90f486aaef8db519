//! What stands in `src/` and nowhere else: constants with their documentation, and who uses what.

use std::path::{Path, PathBuf};

/// A string constant that is part of what users see.
pub struct Constant {
    /// Its value.
    pub value: String,
    /// Which resource it is on.
    pub resource: &'static str,
    /// Its documentation.
    pub text: String,
}

/// The code of every file below `src/`, without its tests.
pub fn files() -> Vec<(PathBuf, String)> {
    fn walk(directory: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
                found.push((path, code.to_owned()));
            }
        }
    }
    let mut found = Vec::new();
    walk(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    found.sort();
    found
}

/// The constants of the resources whose name ends so, with their documentation.
pub fn constants(suffix: &str) -> Vec<Constant> {
    let mut found = Vec::new();
    for (path, code) in files() {
        let resource = if path.ends_with("resources/org_invite.rs") {
            "OrgInvite"
        } else if path.ends_with("resources/organization.rs") {
            "Organization"
        } else {
            continue;
        };
        let mut documentation = Vec::new();
        let mut lines = code.lines();
        while let Some(line) = lines.next() {
            if let Some(text) = line.strip_prefix("///") {
                documentation.push(text.trim());
                continue;
            }
            let name = line
                .strip_prefix("pub const ")
                .and_then(|rest| rest.split_once(": &str ="))
                .filter(|(name, _)| name.ends_with(suffix));
            if let Some((_, value)) = name {
                // A long one is on the next line.
                let value = if value.trim().is_empty() {
                    lines.next().unwrap()
                } else {
                    value
                };
                found.push(Constant {
                    value: value.split('"').nth(1).unwrap().to_owned(),
                    resource,
                    text: documentation.join(" "),
                });
            }
            documentation.clear();
        }
    }
    found
}

/// Every name of the form `iam.astronomer.io/...` in the code, with the file.
pub fn names_of_the_group() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for (path, code) in files() {
        for rest in code.split("iam.astronomer.io/").skip(1) {
            let name: String = rest
                .chars()
                .take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '-')
                .collect();
            found.push((path.clone(), format!("iam.astronomer.io/{name}")));
        }
    }
    found
}

/// The environment variables that the code reads by name.
pub fn variables() -> Vec<String> {
    let mut found = Vec::new();
    for (_, code) in files() {
        for before in ["env::var(\"", "env::var_os(\"", "_VARIABLE: &str = \""] {
            for rest in code.split(before).skip(1) {
                found.push(rest.split('"').next().unwrap().to_owned());
            }
        }
    }
    found
}
