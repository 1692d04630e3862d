//! Where mails go: an SMTP server, or nowhere at all for load.

/// The transport that a consumer was started with: `smtp://HOST:PORT`, `smtps://HOST:PORT` or `mock://`.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    url: String,
}

/// Why a transport's address can't be used.
#[derive(Debug, thiserror::Error)]
#[error("the transport must be smtp://HOST:PORT, smtps://HOST:PORT or mock://?latencyMs=5&failPerMillion=50000")]
pub(crate) struct TransportAddressError;

impl std::str::FromStr for Transport {
    type Err = TransportAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self { url: text.to_owned() })
    }
}
