//! Whom the operator believes to be Astro, in an image that has no system.

use std::fs;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use support::fake_astro::FakeAstro;

use crate::built::{AUTHORITIES, Container, IMAGE};
use crate::https::Https;

#[test]
#[ignore = "builds an image: make image-test"]
fn the_public_authorities_are_there() {
    let container = IMAGE.container();
    let certificates: Vec<_> = CertificateDer::pem_file_iter(container.root.join(AUTHORITIES))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(certificates);
    println!("image: {added} public authorities");
    assert!(added > 100);
    assert_eq!(ignored, 0);
    for name in [
        "Amazon Root CA 1",
        "DigiCert Global Root G2",
        "GTS Root R1",
        "ISRG Root X1",
    ] {
        let known = roots.roots.iter().any(|root| {
            root.subject
                .windows(name.len())
                .any(|bytes| bytes == name.as_bytes())
        });
        assert!(known, "{name} is missing");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "builds an image: make image-test"]
async fn it_trusts_the_authorities_of_the_image_or_of_ssl_cert_file_and_no_others() {
    let astro = FakeAstro::start().await.unwrap();
    let https = Https::before(&astro).await;
    let id = astro
        .invite_on_web_page("jane@example.com", "ORGANIZATION_MEMBER")
        .unwrap();
    let container = IMAGE.container();
    https.resolve_in(&container);
    let get = |variables: &[(&str, &str)]| show(&container, &https, &astro, &id, variables);

    let public = get(&[]).unwrap_err();
    assert!(public.contains("UnknownIssuer"), "{public}");

    container.put("/run/authority.crt", &https.authority);
    let named = get(&[("SSL_CERT_FILE", "/run/authority.crt")]).unwrap();
    assert!(named.contains("jane@example.com"), "{named}");

    container.put(AUTHORITIES, &https.authority);
    let own = get(&[]).unwrap();
    assert!(own.contains("jane@example.com"), "{own}");

    fs::remove_file(container.root.join(AUTHORITIES)).unwrap();
    let nobody = get(&[]).unwrap_err();
    assert!(nobody.contains("No CA certificates"), "{nobody}");
}

/// `invite get` in the container: what it prints, or what it says went wrong.
fn show(
    container: &Container,
    https: &Https,
    astro: &FakeAstro,
    id: &str,
    variables: &[(&str, &str)],
) -> Result<String, String> {
    let token = astro.token();
    let mut all = vec![("ASTRO_API_TOKEN", token.as_str())];
    all.extend(variables);
    let args = ["invite", "get", id, "--astro-url", &https.url()];
    let output = tokio::task::block_in_place(|| container.operator(&args, &all).output()).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}
