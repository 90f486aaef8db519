//! The canonical form of an e-mail address, the key of everything that is kept by address.

use std::fmt;

/// An e-mail address in canonical form: trimmed, lower-cased, its domain in IDNA ASCII.
///
/// Two spellings of one mailbox must never get an invitation each, so the canonical form is the key
/// of claims, of the directory and of e-mail counts. What is sent to Astro is what the user wrote.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(Box<str>);

/// Why a text is no e-mail address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `@` with something on both sides.
    #[error("{0:?} is not an e-mail address: it needs a name, an @ and a domain")]
    Shape(String),
    /// The domain is not valid under IDNA (UTS 46).
    #[error("the domain of {0:?} is not a valid domain name")]
    Domain(String),
}

impl Address {
    /// Brings `text` into canonical form.
    ///
    /// The local part is lower-cased although RFC 5321 would let case matter there: whether Astro
    /// keeps the case is not known, and taking two spellings for two people is the worse mistake.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let trimmed = text.trim();
        let (local, domain) = trimmed
            .rsplit_once('@')
            .filter(|(local, domain)| !local.is_empty() && !domain.is_empty())
            .ok_or_else(|| AddressError::Shape(text.to_owned()))?;
        let domain = idna::domain_to_ascii_strict(domain)
            .map_err(|_| AddressError::Domain(text.to_owned()))?;
        Ok(Self(
            format!("{}@{domain}", local.to_lowercase()).into_boxed_str(),
        ))
    }

    /// The whole address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands behind the `@`, in IDNA ASCII.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_mailbox_are_one_address() {
        for (text, canonical) in [
            ("jane@example.com", "jane@example.com"),
            (" Jane@Example.COM ", "jane@example.com"),
            ("jane+astro@sub.example.com", "jane+astro@sub.example.com"),
            ("jane@bücher.example", "jane@xn--bcher-kva.example"),
            ("jane@xn--bcher-kva.example", "jane@xn--bcher-kva.example"),
            ("JANE@BÜCHER.example", "jane@xn--bcher-kva.example"),
        ] {
            assert_eq!(Address::parse(text).unwrap().as_str(), canonical);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "jane",
            "@example.com",
            "jane@",
            "jane@exa mple.com",
            "jane@-x.com",
        ] {
            assert!(Address::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_domain_is_ascii() {
        assert_eq!(
            Address::parse("j@Bücher.example").unwrap().domain(),
            "xn--bcher-kva.example"
        );
    }
}
