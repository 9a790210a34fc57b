//! TLS 1.3 (RFC 8446) between parent and node, with pinned keys instead of authorities.
//!
//! A node learns at boot which public key its parent has, as the SHA-256 of the
//! SubjectPublicKeyInfo (as RFC 7469 pins do). There is no name and no authority to trust, and an
//! expiry date would only lock out a cluster whose clocks are wrong.

use ring::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, PeerIncompatible, ServerConfig,
    SignatureScheme,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What both ends say the TLS session is for (ALPN, RFC 7301).
const PROTOCOL: &[u8] = b"kraken-join/1";

/// The label under which both ends export the secret of the sync session (RFC 8446 §7.5).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-kraken-sync-1";

/// The pin of a parent's public key: SHA-256 over its SubjectPublicKeyInfo.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyPin([u8; 32]);

/// A text is not the pin of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a key pin is 64 hexadecimal digits")]
pub struct KeyPinError;

impl fmt::Display for KeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPin({self})")
    }
}

impl FromStr for KeyPin {
    type Err = KeyPinError;

    fn from_str(text: &str) -> Result<Self, KeyPinError> {
        let mut pin = [0; 32];
        hex::decode_to_slice(text, &mut pin).map_err(|_| KeyPinError)?;
        Ok(Self(pin))
    }
}

/// The certificate and private key of a parent, both in DER; made once, kept in the store.
#[derive(Clone, Serialize, Deserialize)]
pub struct Identity {
    /// The certificate (X.509).
    pub certificate: Vec<u8>,
    /// The private key (PKCS #8).
    pub key: Vec<u8>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// A parent's identity cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A key or certificate could not be made.
    #[cfg(feature = "parent")]
    #[error("cannot make a key and certificate")]
    Make(#[source] rcgen::Error),
    /// What was stored is not a key with its certificate.
    #[error("the stored key and certificate cannot be used")]
    Use(#[source] Error),
    /// What was stored is not a certificate.
    #[error("the stored certificate cannot be read")]
    Parse,
}

impl Identity {
    /// A fresh key with a certificate of its own.
    ///
    /// # Errors
    /// When the system gives no randomness.
    #[cfg(feature = "parent")]
    pub fn generate() -> Result<Self, IdentityError> {
        let key = rcgen::KeyPair::generate().map_err(IdentityError::Make)?;
        let params = rcgen::CertificateParams::new(vec!["kraken-parent".to_owned()])
            .map_err(IdentityError::Make)?;
        let certificate = params.self_signed(&key).map_err(IdentityError::Make)?;
        Ok(Self { certificate: certificate.der().to_vec(), key: key.serialize_der() })
    }

    /// The pin by which nodes know this parent.
    ///
    /// # Errors
    /// When the certificate cannot be read.
    pub fn pin(&self) -> Result<KeyPin, IdentityError> {
        pin_of(&CertificateDer::from(self.certificate.as_slice())).ok_or(IdentityError::Parse)
    }

    /// What a listener for joins needs.
    ///
    /// # Errors
    /// When key and certificate do not belong together.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(IdentityError::Use)?
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(self.certificate.clone())], key)
            .map_err(IdentityError::Use)?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // Every join is a full handshake: nothing is resumed, so nothing has to be remembered.
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

/// What a node needs to call a parent whose key it knows.
///
/// # Errors
/// When TLS 1.3 is not to be had, which does not happen with this provider.
pub fn client_config(pin: KeyPin) -> Result<Arc<ClientConfig>, Error> {
    let provider = provider();
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedKey { pin, provider }))
        .with_no_client_auth();
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The SHA-256 of a certificate's SubjectPublicKeyInfo.
fn pin_of(certificate: &CertificateDer<'_>) -> Option<KeyPin> {
    let parsed = rustls::server::ParsedCertificate::try_from(certificate).ok()?;
    let hash = digest::digest(&digest::SHA256, parsed.subject_public_key_info().as_ref());
    Some(KeyPin(hash.as_ref().try_into().ok()?))
}

/// Accepts the one key that the boot named, and proof that the peer holds it.
#[derive(Debug)]
struct PinnedKey {
    pin: KeyPin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if pin_of(end_entity) == Some(self.pin) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(all(test, feature = "parent"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    async fn handshake(server: &Identity, pin: KeyPin) -> Result<[u8; 32], std::io::Error> {
        let (ours, theirs) = tokio::io::duplex(16 * 1024);
        let acceptor = TlsAcceptor::from(server.server_config().unwrap());
        let connector = TlsConnector::from(client_config(pin).unwrap());
        let name = ServerName::try_from("kraken-parent").unwrap();
        let (client, server) = tokio::join!(connector.connect(name, ours), acceptor.accept(theirs));
        let (client, server) = (client?, server?);
        let label = EXPORTER_LABEL;
        let a = client.get_ref().1.export_keying_material([0; 32], label, None).unwrap();
        let b = server.get_ref().1.export_keying_material([0; 32], label, None).unwrap();
        assert_eq!(a, b, "both ends export the same secret");
        Ok(a)
    }

    #[tokio::test]
    async fn a_node_talks_to_the_parent_whose_key_it_knows() {
        let parent = Identity::generate().unwrap();
        let pin = parent.pin().unwrap();
        assert_eq!(pin.to_string().parse::<KeyPin>().unwrap(), pin);
        let first = handshake(&parent, pin).await.unwrap();
        let second = handshake(&parent, pin).await.unwrap();
        assert_ne!(first, second, "every session has its own secret");
    }

    #[tokio::test]
    async fn a_node_refuses_any_other_key() {
        let (parent, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let error = handshake(&other, parent.pin().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}
