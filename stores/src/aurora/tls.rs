//! How a server proves who it is: its certificate and its host name, always both.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::config::Tls;
use crate::{Result, StoreError, Trouble};

/// The connector for `tls`; `None` when it is off. Certificate files are read now, so a replaced file counts at the next connect.
pub(crate) fn connector(site: &str, tls: &Tls) -> Result<Option<MakeRustlsConnect>> {
    let roots = match tls {
        Tls::Disable => return Ok(None),
        Tls::CaFile(path) => {
            let tried = format!("read ca_file {}", path.display());
            let refused = |cause: String| {
                StoreError::Config(
                    Trouble::new(site, tried.clone(), cause)
                        .hint("ca_file is a PEM file of the authority's certificates"),
                )
            };
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| refused(error.to_string()))? {
                let certificate = certificate.map_err(|error| refused(error.to_string()))?;
                roots.add(certificate).map_err(|error| refused(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(refused("it holds no certificate".to_owned()));
            }
            roots
        }
        Tls::SystemRoots => {
            let found = rustls_native_certs::load_native_certs();
            let mut roots = RootCertStore::empty();
            let (added, _) = roots.add_parsable_certificates(found.certs);
            if added == 0 {
                return Err(StoreError::Config(
                    Trouble::new(site, "read the system's trusted authorities", "there are none")
                        .hint("install them (Debian: ca-certificates) or set tls = { ca_file = \"...\" }"),
                ));
            }
            roots
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreError::Config(Trouble::new(site, "set up TLS", error.to_string())))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Some(MakeRustlsConnect::new(config)))
}
