//! What the command line says of itself.

use std::fmt::Write as _;

use clap::{Arg, Command};
use orginvite_operator::cli;

use crate::reference::{marked, named, table};

/// A command, and how it is called.
pub struct Called {
    /// Such as `invite get`.
    pub name: String,
    command: Command,
}

impl Called {
    /// What it takes, without what every command does.
    pub fn args(&self) -> Vec<&Arg> {
        let args = self.command.get_arguments();
        args.filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version"))
            .collect()
    }
}

/// The commands that do something.
pub fn all_commands() -> Vec<Called> {
    fn walk(before: &str, command: &Command, found: &mut Vec<Called>) {
        for sub in command.get_subcommands() {
            let name = format!("{before}{}", sub.get_name());
            if sub.has_subcommands() {
                walk(&format!("{name} "), sub, found);
            } else {
                let command = sub.clone();
                found.push(Called { name, command });
            }
        }
    }
    let mut found = Vec::new();
    walk("", &cli::command(), &mut found);
    found
}

/// A section for each command.
pub fn commands() -> String {
    let mut text = String::new();
    for called in all_commands() {
        let about = called.command.get_about().unwrap().to_string();
        write!(
            text,
            "### {}\n\n    orginvite-operator {}\n\n{}.\n\n",
            called.name,
            usage(&called),
            marked(about.trim_end_matches('.'))
        )
        .unwrap();
        let args = called.args();
        if args.is_empty() {
            text.push_str("It takes nothing.\n\n");
            continue;
        }
        let rows = args.iter().map(|arg| row(&called.name, arg));
        text.push_str(&table(&["Flag", "Default", "Meaning"], rows));
        text.push('\n');
    }
    text.trim_end().to_owned() + "\n"
}

fn usage(called: &Called) -> String {
    let mut text = called.name.clone();
    for arg in called.args() {
        match (arg.is_positional(), arg.is_required_set()) {
            (true, true) => write!(text, " {}", value(arg)).unwrap(),
            (true, false) => write!(text, " [{}]", value(arg)).unwrap(),
            (false, true) => write!(text, " {}", flag(arg)).unwrap(),
            (false, false) => {}
        }
    }
    if called.args().iter().any(|arg| !arg.is_positional()) {
        text.push_str(" [FLAGS]");
    }
    text
}

/// The anchor of a flag.
pub fn anchor_of(command: &str, arg: &Arg) -> String {
    format!("{command}-{}", arg.get_id()).replace([' ', '_'], "-")
}

fn row(command: &str, arg: &Arg) -> Vec<String> {
    let help = arg.get_long_help().or(arg.get_help()).unwrap().to_string();
    // What is computed is said in the help, in clap's own manner.
    let (help, computed) = match help.split_once("[default: ") {
        Some((help, default)) => (
            help.trim().to_owned(),
            Some(default.trim_end_matches(['.', ']']).to_owned()),
        ),
        None => (help, None),
    };
    let mut help = marked(&help);
    if !help.ends_with('.') {
        help.push('.');
    }
    if let Some(separator) = arg.get_value_delimiter() {
        write!(help, " Several are separated by `{separator}`.").unwrap();
    }
    if let Some(variable) = arg.get_env() {
        write!(help, " Also read from `{}`.", variable.to_string_lossy()).unwrap();
    }
    let values: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|_| arg.get_action().takes_values())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !values.is_empty() {
        write!(help, " One of {}.", values.join(", ")).unwrap();
    }
    let defaults: Vec<String> = arg
        .get_default_values()
        .iter()
        .filter(|_| arg.get_action().takes_values())
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    let default = if arg.is_required_set() {
        "**required**".to_owned()
    } else if let Some(computed) = computed {
        marked(&computed)
    } else if defaults.is_empty() {
        "none".to_owned()
    } else {
        defaults.join(", ")
    };
    vec![
        named(&anchor_of(command, arg), &format!("`{}`", flag(arg))),
        default,
        help,
    ]
}

fn flag(arg: &Arg) -> String {
    match arg.get_long() {
        Some(long) if arg.get_action().takes_values() => format!("--{long} {}", value(arg)),
        Some(long) => format!("--{long}"),
        None => value(arg),
    }
}

fn value(arg: &Arg) -> String {
    arg.get_value_names().map_or_else(
        || arg.get_id().as_str().to_uppercase(),
        |names| names.join(" "),
    )
}
