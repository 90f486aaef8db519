//! Whatever the API server could show as an object.
#![no_main]

use std::collections::BTreeMap;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use orginvite_operator::astro::Role;
use orginvite_operator::resources::{Address, OrgInvite, Organization};
use orginvite_operator::stored::Stored;
use orginvite_operator::{claims, policy};

fuzz_target!(|input: &[u8]| {
    if let Ok(Stored(object)) = serde_json::from_slice::<Stored<OrgInvite>>(input) {
        let unreadable = matches!(claims::attempt(&object), Some(Err(_)));
        assert!(!unreadable || claims::is_open(&object));
        let _ = (claims::recorded(&object), claims::lost(&object));
        // It is written back.
        serde_json::to_value(&object.status).unwrap();
        Address::parse(&object.spec.email).ok();
    }
    if let Ok(Stored(organization)) = serde_json::from_slice::<Stored<Organization>>(input) {
        let interval = organization.spec.sync_interval();
        assert!(interval >= Duration::from_secs(1) && interval <= Duration::from_hours(24));
        serde_json::to_value(&organization.status).unwrap();
        let here = policy::Namespace {
            name: "team",
            labels: &BTreeMap::from([("team".to_owned(), "a".to_owned())]),
        };
        let jane = Address::parse("jane@sub.example.com").unwrap();
        let allow = &organization.spec.allow;
        for role in [Role::OrganizationMember, Role::OrganizationOwner] {
            let named = allow.iter().any(|rule| rule.roles.contains(&role));
            assert!(named || !policy::allows(allow, here, role, &jane));
        }
        assert!(!policy::allows(allow, here, Role::Unknown, &jane));
    }
});
