//! `docs/reference.md`: the text is `reference.md` beside this file, and each line `<!-- ... -->` in it
//! is where something goes that the code knows better.

use std::fmt::Write as _;

use orginvite_operator::reconcile::events::Deed;
use orginvite_operator::resources::Reason;
use orginvite_operator::resources::reason::About;

use crate::{command_line, schema, source};

/// The whole page.
pub fn page() -> String {
    let mut page =
        "<!-- `make generate` writes this from the code and tests/definitions/reference.md. -->\n"
            .to_owned();
    for line in include_str!("reference.md").lines() {
        match line
            .strip_prefix("<!-- ")
            .and_then(|rest| rest.strip_suffix(" -->"))
        {
            Some(wanted) => page.push_str(&made(wanted)),
            None => writeln!(page, "{line}").unwrap(),
        }
    }
    page
}

fn made(wanted: &str) -> String {
    match wanted.split(' ').collect::<Vec<_>>()[..] {
        ["names", kind] => schema::names(kind),
        ["fields", kind, part] => schema::fields(kind, part),
        ["refusals", kind] => schema::refusals(kind),
        ["columns", kind] => schema::columns(kind),
        ["selectable", kind] => schema::selectable(kind),
        ["roles"] => schema::roles(),
        ["reasons", kind, condition] => reasons(kind, condition),
        ["deeds"] => deeds(),
        ["constants", suffix] => constants(suffix),
        ["commands"] => command_line::commands(),
        _ => panic!("reference.md asks for {wanted:?}"),
    }
}

/// A table; line ends and `|` in a cell would end it.
pub fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut rows = rows.into_iter().peekable();
    assert!(rows.peek().is_some(), "a table of {head:?} without rows");
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        assert_eq!(row.len(), head.len());
        let cells: Vec<String> = row
            .iter()
            .map(|cell| cell.replace('\n', " ").replace('|', "\\|"))
            .collect();
        writeln!(text, "| {} |", cells.join(" | ")).unwrap();
    }
    text
}

/// Something that can be linked to.
pub fn named(anchor: &str, text: &str) -> String {
    format!(r#"<a id="{}"></a>{text}"#, anchor.to_lowercase())
}

/// Names of our own annotations, of fields of a status and of flags stand out.
pub fn marked(text: &str) -> String {
    text.split_inclusive(' ')
        .map(|word| {
            let name = word.trim_end_matches([' ', '.', ',', ';', ':', ')']);
            let code = name.starts_with("iam.astronomer.io/")
                || name.starts_with("status.")
                || name.starts_with("--");
            if code {
                word.replacen(name, &format!("`{name}`"), 1)
            } else {
                word.to_owned()
            }
        })
        .collect()
}

/// The anchor of a reason, as one resource has it.
pub fn anchor_of(about: About, reason: Reason) -> String {
    let kind = match about {
        About::OrgInvite => "orginvite",
        About::Organization => "organization",
    };
    format!("{kind}-{}", reason.as_str().to_lowercase())
}

fn reasons(kind: &str, condition: &str) -> String {
    let about = match kind {
        "OrgInvite" => About::OrgInvite,
        "Organization" => About::Organization,
        _ => panic!("no resource {kind}"),
    };
    let told = Reason::ALL
        .iter()
        .filter(|reason| reason.told_by().contains(&(about, condition)));
    table(
        &["Reason", "What it means and what to do"],
        told.map(|reason| {
            vec![
                named(&anchor_of(about, *reason), &format!("`{reason}`")),
                marked(reason.meaning()),
            ]
        }),
    )
}

fn deeds() -> String {
    table(
        &["Reason", "What was done"],
        Deed::ALL.iter().map(|deed| {
            vec![
                named(
                    &format!("event-{}", deed.as_str()),
                    &format!("`{}`", deed.as_str()),
                ),
                marked(deed.meaning()),
            ]
        }),
    )
}

fn constants(suffix: &str) -> String {
    let constants = source::constants(suffix);
    table(
        &["Name", "On", "Meaning"],
        constants.into_iter().map(|constant| {
            vec![
                format!("`{}`", constant.value),
                constant.resource.to_owned(),
                marked(&constant.text),
            ]
        }),
    )
}
