//! The fake of Astro behind HTTPS, as the real API is.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use support::fake_astro::FakeAstro;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::built::Container;

const HOST: &str = "astro.example.com";

/// Ends TLS before a fake of Astro, by a certificate of an authority that nobody knows.
pub struct Https {
    address: SocketAddr,
    /// The authority's certificate, in PEM.
    pub authority: String,
    server: JoinHandle<()>,
}

impl Https {
    pub async fn before(astro: &FakeAstro) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = parameters.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(parameters, key);

        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![HOST.to_owned()])
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let behind = astro.address();
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut front = acceptor.accept(stream).await?;
                    let mut back = TcpStream::connect(behind).await?;
                    copy_bidirectional(&mut front, &mut back).await
                });
            }
        });
        Self {
            address,
            authority,
            server,
        }
    }

    /// The base URL of the API, for a container that [`Self::resolve_in`] has prepared.
    pub fn url(&self) -> String {
        format!("https://{HOST}:{}/v1alpha1", self.address.port())
    }

    /// Lets the container find the host by its name.
    pub fn resolve_in(&self, container: &Container) {
        container.put("/etc/hosts", &format!("{} {HOST}\n", self.address.ip()));
    }
}

impl Drop for Https {
    fn drop(&mut self) {
        self.server.abort();
    }
}
