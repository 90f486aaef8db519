//! Who may invite whom as what: the `allow` rules of an Organization.

use std::collections::BTreeMap;

use kube::core::{Selector, SelectorExt};

use crate::astro::Role;
use crate::resources::Address;
use crate::resources::organization::AllowRule;

/// A namespace as the rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Namespace<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

/// Whether any rule lets `namespace` give `role` to `address`.
#[must_use]
pub fn allows(
    rules: &[AllowRule],
    namespace: Namespace<'_>,
    role: Role,
    address: &Address,
) -> bool {
    rules.iter().any(|rule| {
        rule.roles.contains(&role) && names(rule, namespace) && covers(rule, address.domain())
    })
}

fn names(rule: &AllowRule, namespace: Namespace<'_>) -> bool {
    let by_name = rule
        .namespaces
        .as_ref()
        .is_some_and(|names| names.iter().any(|name| name == namespace.name));
    // A selector that cannot be read allows nothing.
    let by_label = rule.namespace_selector.as_ref().is_some_and(|selector| {
        Selector::try_from(selector.clone())
            .is_ok_and(|selector| selector.matches(namespace.labels))
    });
    by_name || by_label
}

fn covers(rule: &AllowRule, domain: &str) -> bool {
    let Some(patterns) = &rule.email_domains else {
        return true;
    };
    patterns.iter().any(|pattern| {
        let (below, name) = match pattern.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, pattern.as_str()),
        };
        let Ok(name) = idna::domain_to_ascii_strict(name) else {
            return false;
        };
        if below {
            domain
                .strip_suffix(name.as_str())
                .is_some_and(|rest| rest.ends_with('.'))
        } else {
            domain == name
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: serde_json::Value) -> AllowRule {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn domains_match_exactly_or_below() {
        let labels = BTreeMap::new();
        let here = Namespace {
            name: "team-a",
            labels: &labels,
        };
        let rules = [rule(serde_json::json!({
            "namespaces": ["team-a", "team-z"],
            "roles": ["ORGANIZATION_MEMBER"],
            "emailDomains": ["example.com", "*.example.org", "bücher.example", "xn--\u{0}"],
        }))];
        for (email, allowed) in [
            ("j@example.com", true),
            ("j@EXAMPLE.com", true),
            ("j@sub.example.com", false),
            ("j@evilexample.com", false),
            ("j@example.com.evil.net", false),
            ("j@example.org", false),
            ("j@a.example.org", true),
            ("j@a.b.example.org", true),
            ("j@aexample.org", false),
            ("j@evilexample.org", false),
            ("j@bücher.example", true),
        ] {
            let address = Address::parse(email).unwrap();
            assert_eq!(
                allows(&rules, here, Role::OrganizationMember, &address),
                allowed,
                "{email}"
            );
        }
        assert!(Address::parse("j@.example.org").is_err(), "nothing below");
        let address = Address::parse("j@example.com").unwrap();
        assert!(!allows(&rules, here, Role::OrganizationOwner, &address));
        let there = Namespace {
            name: "team-b",
            labels: &labels,
        };
        assert!(!allows(&rules, there, Role::OrganizationMember, &address));
        assert!(!allows(&[], here, Role::OrganizationMember, &address));
    }

    #[test]
    fn selectors_match_labels() {
        let labels = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
        let here = Namespace {
            name: "x",
            labels: &labels,
        };
        let address = Address::parse("j@example.com").unwrap();
        for (selector, allowed) in [
            (serde_json::json!({}), true),
            (serde_json::json!({"matchLabels": {"team": "a"}}), true),
            (serde_json::json!({"matchLabels": {"team": "b"}}), false),
            (
                serde_json::json!({"matchExpressions": [{"key": "team", "operator": "Exists"}]}),
                true,
            ),
            (
                serde_json::json!({"matchExpressions": [{"key": "team", "operator": "Nonsense"}]}),
                false,
            ),
        ] {
            let rules = [rule(serde_json::json!({
                "namespaceSelector": selector, "roles": ["ORGANIZATION_MEMBER"],
            }))];
            assert_eq!(
                allows(&rules, here, Role::OrganizationMember, &address),
                allowed,
                "{selector}"
            );
        }
    }
}
