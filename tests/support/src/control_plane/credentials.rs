//! Keys and certificates of one control plane, and the kubeconfigs made with them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};

pub(super) const AUTHORITY_CERTIFICATE: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";
pub(super) const SERVER_CERTIFICATE: &str = "server.crt";
pub(super) const SERVER_KEY: &str = "server.key";
pub(super) const TOKEN_KEY: &str = "tokens.key";
pub(super) const TOKEN_PUBLIC_KEY: &str = "tokens.pub";

/// Signs the certificates of the server and of its users.
pub(super) struct Authority {
    directory: PathBuf,
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Writes an authority's files to the directory, and those that the server needs.
    pub(super) fn create(directory: &Path) -> Result<Self> {
        let key = KeyPair::generate()?;
        let certificate = authority_parameters().self_signed(&key)?;
        write_private(&directory.join(AUTHORITY_KEY), &key.serialize_pem())?;
        fs::write(directory.join(AUTHORITY_CERTIFICATE), certificate.pem())?;
        let authority = Self::load(directory)?;

        let mut server =
            CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?;
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let (certificate, key) = authority.sign(server, "kube-apiserver")?;
        fs::write(directory.join(SERVER_CERTIFICATE), certificate.pem())?;
        write_private(&directory.join(SERVER_KEY), &key.serialize_pem())?;

        let tokens = KeyPair::generate()?;
        write_private(&directory.join(TOKEN_KEY), &tokens.serialize_pem())?;
        fs::write(directory.join(TOKEN_PUBLIC_KEY), tokens.public_key_pem())?;
        Ok(authority)
    }

    /// The authority whose files are in the directory.
    pub(super) fn load(directory: &Path) -> Result<Self> {
        let read = |name| {
            let path = directory.join(name);
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let key = KeyPair::from_pem(&read(AUTHORITY_KEY)?)?;
        Ok(Self {
            directory: directory.to_owned(),
            certificate: read(AUTHORITY_CERTIFICATE)?,
            issuer: Issuer::new(authority_parameters(), key),
        })
    }

    /// Writes a kubeconfig for the user to a new file in the directory. There can be one group only: a certificate
    /// names each in a field of the same type, and the library that makes it holds one of each.
    pub(super) fn write_kubeconfig(
        &self,
        server: &str,
        user: &str,
        group: Option<&str>,
    ) -> Result<PathBuf> {
        let mut parameters = CertificateParams::default();
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if let Some(group) = group {
            parameters
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        let (certificate, key) = self.sign(parameters, user)?;
        let credentials = json!({
            "client-certificate-data": ByteString(certificate.pem().into_bytes()),
            "client-key-data": ByteString(key.serialize_pem().into_bytes()),
        });
        self.write(server, user, &credentials)
    }

    /// Writes a kubeconfig for the bearer of the token to a new file in the directory.
    pub(super) fn write_kubeconfig_with_token(&self, server: &str, token: &str) -> Result<PathBuf> {
        self.write(server, "bearer", &json!({"token": token}))
    }

    fn write(&self, server: &str, user: &str, credentials: &Value) -> Result<PathBuf> {
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "control-plane", "cluster": {
                "server": server,
                "certificate-authority-data": ByteString(self.certificate.clone().into_bytes()),
            }}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": "control-plane", "context": {"cluster": "control-plane", "user": user}}],
            "current-context": "control-plane",
        });
        // Such a file is readable by its owner only.
        let mut file = tempfile::Builder::new()
            .prefix("user-")
            .suffix(".kubeconfig")
            .tempfile_in(&self.directory)?;
        file.write_all(serde_yaml_ng::to_string(&kubeconfig)?.as_bytes())?;
        Ok(file.into_temp_path().keep()?)
    }

    fn sign(
        &self,
        mut parameters: CertificateParams,
        name: &str,
    ) -> Result<(Certificate, KeyPair)> {
        parameters.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        Ok((certificate, key))
    }
}

/// The same each time, so that the key alone is enough to load an authority.
fn authority_parameters() -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters
        .distinguished_name
        .push(DnType::CommonName, "control plane of a test run");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    parameters
}

fn write_private(path: &Path, content: &str) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    Ok(file.write_all(content.as_bytes())?)
}
