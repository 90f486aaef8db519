//! Whatever somebody types: an address, or the arguments of the command line, one on a line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orginvite_operator::cli;
use orginvite_operator::resources::Address;

fuzz_target!(|input: &str| {
    if let Ok(address) = Address::parse(input) {
        let again = Address::parse(address.as_str());
        assert_eq!(again.as_ref(), Ok(&address));
        assert!(address.domain().is_ascii() && !address.domain().contains('@'));
    }
    let arguments = std::iter::once("orginvite-operator").chain(input.lines());
    if let Err(error) = cli::command().try_get_matches_from(arguments) {
        error.to_string();
    }
});
