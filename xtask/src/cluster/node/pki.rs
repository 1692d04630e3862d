//! Keys and certificates of the node: one authority, made with the cluster and
//! deleted with it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

use super::layout::{API_ADDRESS, API_SERVICE_ADDRESS, API_URL};

/// Who talks to the API server: kubeconfig, user, group.
const USERS: [(&str, &str, Option<&str>); 6] = [
    ("admin", "monthend-admin", Some("system:masters")),
    ("controllers", "system:kube-controller-manager", None),
    ("scheduler", "system:kube-scheduler", None),
    ("kubelet", "system:node:monthend", Some("system:nodes")),
    ("proxy", "system:kube-proxy", None),
    ("dns", "monthend-dns", None),
];

#[derive(Clone)]
pub(super) struct Pki {
    folder: PathBuf,
}

impl Pki {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.folder.join(format!("{user}.kubeconfig"))
    }

    /// Makes everything once.
    pub(super) fn ensure(&self) -> Result<()> {
        // Written last: with it, everything else is there.
        let complete = self.kubeconfig("admin");
        if complete.exists() {
            return Ok(());
        }
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot create {}", self.folder.display()))?;
        fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o700))?;

        let authority_key = KeyPair::generate()?;
        let mut authority = named("monthend-ca", None, &[])?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority_pem = authority.self_signed(&authority_key)?.pem();
        self.write("ca.crt", &authority_pem)?;
        let issuer = Issuer::new(authority, authority_key);

        let server_names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
            "127.0.0.1",
            API_ADDRESS,
            API_SERVICE_ADDRESS,
        ];
        let mut server = named("kube-apiserver", None, &server_names)?;
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign("apiserver", server, &issuer)?;

        let to_kubelet = client("kube-apiserver-kubelet-client", Some("system:masters"))?;
        self.sign("kubelet-client", to_kubelet, &issuer)?;

        let tokens = KeyPair::generate()?;
        self.write("sa.key", &tokens.serialize_pem())?;
        self.write("sa.pub", &tokens.public_key_pem())?;

        for (file, user, group) in USERS.iter().rev() {
            let key = KeyPair::generate()?;
            let certificate = client(user, *group)?.signed_by(&key, &issuer)?.pem();
            let config = kubeconfig(user, &authority_pem, &certificate, &key.serialize_pem());
            self.write(&format!("{file}.kubeconfig"), &serde_json::to_string_pretty(&config)?)?;
        }
        Ok(())
    }

    fn sign(&self, name: &str, params: CertificateParams, issuer: &Issuer<'_, KeyPair>) -> Result<()> {
        let key = KeyPair::generate()?;
        self.write(&format!("{name}.crt"), &params.signed_by(&key, issuer)?.pem())?;
        self.write(&format!("{name}.key"), &key.serialize_pem())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        write_private(&self.file(name), text.as_bytes())
    }
}

/// A file that only its owner can read.
fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    // A temporary file is private from its first moment on.
    crate::paths::write_if_changed(path, content).map(drop)
}

fn named(name: &str, group: Option<&str>, addresses: &[&str]) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(addresses.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    Ok(params)
}

fn client(name: &str, group: Option<&str>) -> Result<CertificateParams> {
    let mut params = named(name, group, &[])?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn kubeconfig(user: &str, authority: &str, certificate: &str, key: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "monthend", "cluster": {
            "server": API_URL,
            "certificate-authority-data": STANDARD.encode(authority),
        }}],
        "users": [{"name": user, "user": {
            "client-certificate-data": STANDARD.encode(certificate),
            "client-key-data": STANDARD.encode(key),
        }}],
        "contexts": [{"name": "monthend", "context": {"cluster": "monthend", "user": user}}],
        "current-context": "monthend",
    })
}
