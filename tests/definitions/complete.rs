//! The reference has everything, and everything in it is used.

use std::collections::BTreeSet;
use std::path::Path;

use orginvite_operator::astro::{Role, SubjectKind};
use orginvite_operator::metrics::families;
use orginvite_operator::resources::Reason;
use orginvite_operator::resources::org_invite::{DeletionPolicy, ResendWhen};
use orginvite_operator::resources::organization::Permission;
use orginvite_operator::resources::reason::About::{OrgInvite, Organization};
use schemars::schema_for;

use crate::{command_line, reference, schema, source};

/// The page's text decides where things go, so that it could leave some out.
#[test]
fn the_reference_has_everything() {
    let page = reference::page();
    let mut wanted = Vec::new();
    for kind in ["OrgInvite", "Organization"] {
        for part in ["spec", "status"] {
            let fields = schema::all_fields(kind, part);
            wanted.extend(
                fields
                    .iter()
                    .map(|field| schema::anchor_of(kind, &field.path)),
            );
        }
    }
    for reason in Reason::ALL {
        for (about, condition) in reason.told_by() {
            wanted.push(reference::anchor_of(*about, *reason));
            wanted.push(format!("{about:?}-condition-{condition}").to_lowercase());
        }
    }
    for called in command_line::all_commands() {
        let args = called.args();
        wanted.extend(
            args.iter()
                .map(|arg| command_line::anchor_of(&called.name, arg)),
        );
    }
    for anchor in wanted {
        let times = page.matches(&format!(r#"<a id="{anchor}"></a>"#)).count();
        assert_eq!(times, 1, "{anchor}");
    }
}

#[test]
fn every_link_in_the_docs_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kept = |file: &str| std::fs::read_to_string(root.join(file)).unwrap();
    let mut files = vec!["README.md".to_owned(), "deploy/chart/README.md".to_owned()];
    for entry in root.join("docs").read_dir().unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let kind = Path::new(&name).extension();
        assert!(kind.is_some_and(|kind| kind == "md"), "{name}");
        files.push(format!("docs/{name}"));
    }
    assert!(files.contains(&"docs/operations.md".to_owned()));
    let places = |page: &str| {
        let headings = page.lines().filter_map(|line| line.strip_prefix('#'));
        let headings = headings.map(|line| line.trim_start_matches(['#', ' ']).to_lowercase());
        let mut places: BTreeSet<String> = headings
            .map(|line| line.replace(' ', "-"))
            .map(|line| line.replace([',', '.', ':', '`', '\'', '(', ')', '?'], ""))
            .collect();
        let anchors = page.split(r#"<a id=""#).skip(1);
        places.extend(anchors.map(|rest| rest.split('"').next().unwrap().to_owned()));
        places
    };
    for file in &files {
        let page = kept(file);
        let links = page.split("](").skip(1);
        for link in links.map(|rest| rest.split(')').next().unwrap()) {
            if link.starts_with("https://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let found = if path.is_empty() {
                root.join(file)
            } else {
                root.join(file).with_file_name(path)
            };
            assert!(found.exists(), "{link} in {file}");
            if !anchor.is_empty() {
                let found = std::fs::read_to_string(found).unwrap();
                assert!(places(&found).contains(anchor), "{link} in {file}");
            }
        }
    }
    assert!(kept("README.md").contains("](docs/reference.md)"));
}

/// A row without its test would be a promise.
#[test]
fn every_attempt_of_a_hostile_user_is_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/hostile-users.md")).unwrap();
    let mut named = 0;
    for quoted in page.split('`').skip(1).step_by(2) {
        let Some((module, test)) = quoted.split_once("::") else {
            continue;
        };
        let places = ["tests", "tests/cluster", "tests/plan", "src/reconcile"];
        let files = places.map(|place| root.join(place).join(module).with_extension("rs"));
        let text = files
            .iter()
            .find_map(|file| std::fs::read_to_string(file).ok());
        let text = text.unwrap_or_else(|| panic!("{quoted}: there is no such file"));
        assert!(text.contains(&format!("fn {test}(")), "{quoted}");
        named += 1;
    }
    assert!(named > 30, "{named}");
    let tests = std::fs::read_to_string(root.join("tests/cluster/hostile.rs")).unwrap();
    for test in tests.split("\nasync fn ").skip(1) {
        let name = test.split('(').next().unwrap();
        let is_test = tests.contains(&format!("]\nasync fn {name}("));
        assert!(!is_test || page.contains(name), "{name} is in no row");
    }
}

#[test]
fn every_reason_is_told_somewhere() {
    let files = source::files();
    let told = |reason: &Reason| {
        let name = format!("Reason::{reason}");
        files.iter().any(|(path, code)| {
            // Neither the beginning of a longer name, nor a comparison with what is recorded.
            !path.ends_with("resources/reason.rs")
                && code.split(&name).skip(1).any(|rest| {
                    !rest.starts_with(char::is_alphanumeric) && !rest.starts_with(".as_str()")
                })
        })
    };
    let idle = Reason::ALL.iter().filter(|reason| !told(reason));
    assert_eq!(idle.collect::<Vec<_>>(), Vec::<&Reason>::new());
}

/// What the code says in one go; `tests/plan` has the rest.
#[test]
fn reasons_are_told_by_the_conditions_that_they_name() {
    let places = [
        (
            "State::Progressing(Saying{reason:",
            OrgInvite,
            "Reconciling",
        ),
        ("State::Obscured(Saying{reason:", OrgInvite, "Reconciling"),
        ("State::Stalled(Saying{reason:", OrgInvite, "Stalled"),
        ("Plan::stalled(", OrgInvite, "Stalled"),
        ("Plan::gone(", OrgInvite, "Stalled"),
        ("report::stalled(object,context,", Organization, "Stalled"),
    ];
    for (before, about, condition) in places {
        let mut found = 0;
        for (path, code) in source::files() {
            let code = code.replace(char::is_whitespace, "");
            for rest in code.split(&format!("{before}Reason::")).skip(1) {
                let name = rest.split(|next: char| !next.is_alphanumeric()).next();
                let reason = Reason::ALL.iter().find(|one| Some(one.as_str()) == name);
                let told_by = reason.unwrap().told_by();
                assert!(
                    told_by.contains(&(about, condition)),
                    "{name:?} in {}",
                    path.display()
                );
                found += 1;
            }
        }
        assert!(found > 0, "{before}");
    }
}

/// A message that names an annotation which does not exist helps nobody.
#[test]
fn every_name_in_our_group_is_in_the_reference() {
    let mut known: BTreeSet<String> = BTreeSet::from(["iam.astronomer.io/v1alpha1".to_owned()]);
    for suffix in ["ANNOTATION", "FINALIZER"] {
        known.extend(
            source::constants(suffix)
                .into_iter()
                .map(|constant| constant.value),
        );
    }
    let page = reference::page();
    for (path, name) in source::names_of_the_group() {
        assert!(known.contains(&name), "{name} in {}", path.display());
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}

/// An alert on a metric that has another name by now would be silent.
#[test]
fn every_metric_that_is_named_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = ["operations.md", "metrics.md", "reliability.md"];
    let mut files = docs.map(|file| root.join("docs").join(file)).to_vec();
    files.push(root.join("README.md"));
    for directory in ["deploy/chart", "deploy/chart/templates"] {
        let entries = root.join(directory).read_dir().unwrap();
        files.extend(entries.map(|entry| entry.unwrap().path()));
    }
    files.retain(|path| path.is_file());
    let mut known = BTreeSet::new();
    for family in families::ALL {
        let histogram = ["", "_bucket", "_sum", "_count"];
        let parts = if family.kind == "histogram" { 4 } else { 1 };
        known.extend(histogram[..parts].iter().map(|part| family.series() + part));
    }
    let mut named = 0;
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        for rest in text.split("orginvite_").skip(1) {
            let end = |next: char| !next.is_ascii_lowercase() && next != '_';
            let name = format!("orginvite_{}", rest.split(end).next().unwrap());
            assert!(known.contains(&name), "{name} in {}", path.display());
            named += 1;
        }
    }
    assert!(named > families::ALL.len(), "{named}");
}

#[test]
fn every_variable_that_is_read_is_in_the_reference() {
    let page = reference::page();
    let read = source::variables();
    assert!(!read.is_empty());
    for name in read {
        assert!(page.contains(&format!("| `{name}`")), "{name}");
    }
}

/// An optional field gets the description of its type, which says less, unless it is told otherwise
/// (`schemars(with)`).
#[test]
fn every_description_is_the_fields_own() {
    let types = [
        schema_for!(Role),
        schema_for!(SubjectKind),
        schema_for!(Permission),
        schema_for!(DeletionPolicy),
        schema_for!(ResendWhen),
    ];
    for kind in ["OrgInvite", "Organization"] {
        let fields = ["spec", "status"].map(|part| schema::all_fields(kind, part));
        for field in fields.iter().flatten() {
            let borrowed = types
                .iter()
                .any(|known| known.get("description") == Some(field.description()));
            assert!(!borrowed, "{kind} {}", field.path);
        }
    }
}
