//! Encryption of personal data at rest: AES-256-GCM envelopes and the keys that encrypt and decrypt
//! them. No type here can be printed with a key or a plain text.
//!
//! An envelope is the version byte 1, the length of the key's id, the id, a random nonce of 12
//! bytes, the ciphertext and its tag of 16 bytes. Table, column and member are authenticated with
//! it: a ciphertext that was moved elsewhere cannot be decrypted.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use aes_gcm::aead::AeadInOut as _;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{Aes256Gcm, KeyInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::ids::MemberId;
use secrecy::SecretString;
use secrecy::zeroize::{Zeroize as _, Zeroizing};

const VERSION: u8 = 1;
const KEY: usize = 32;
const NONCE: usize = 12;
const TAG: usize = 16;
/// The entry with the id of the key that encrypts.
const ACTIVE: &str = "active";
/// Nonces are read from the system in batches: one call for each would cost as much as the
/// encryption.
const NONCES_AT_ONCE: usize = 256;

/// A column of `member` that holds personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Name,
    Email,
    Phone,
}

impl Column {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Email => "email",
            Self::Phone => "phone",
        }
    }

    /// What an envelope of this column and member is bound to: `member`, the column and the id,
    /// separated by 0x1f.
    fn associated_data(self, member: MemberId) -> Vec<u8> {
        [b"member\x1f", self.as_str().as_bytes(), b"\x1f", &member.get().to_be_bytes()].concat()
    }
}

/// Why the keys cannot be used. Names the entry, never its content.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read the keys in {folder}")]
    Folder { folder: String, source: std::io::Error },
    #[error("cannot read the key entry {entry}")]
    Entry { entry: String, source: std::io::Error },
    #[error("the key entry {entry} is not base64")]
    NotBase64 { entry: String },
    #[error("the key entry {entry} holds {bytes} bytes instead of 32")]
    Length { entry: String, bytes: usize },
    #[error("the key entry `{entry}` is not a key id: 1 to 64 letters, digits, dots, dashes and underscores")]
    KeyId { entry: String },
    #[error("{folder} has no entry `active`, which names the key that encrypts")]
    NoActive { folder: String },
    #[error("the entry `active` names the key `{named}`, which does not exist; existing keys: {found}")]
    ActiveMissing { named: String, found: String },
}

/// Why an envelope cannot be decrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error(
        "the {column} of member {member} is encrypted with key `{key}`, which is not among the given keys"
    )]
    UnknownKey { column: &'static str, member: MemberId, key: String },
    #[error("the {column} of member {member} is not an envelope that this version can read")]
    Malformed { column: &'static str, member: MemberId },
    #[error(
        "the {column} of member {member} cannot be decrypted: it was changed, moved, or encrypted with another key `{key}`"
    )]
    Refused { column: &'static str, member: MemberId, key: String },
}

/// All keys that decrypt, and the one that encrypts: one cipher for each.
pub struct Keyring {
    ciphers: BTreeMap<String, Aes256Gcm>,
    active: String,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&String> = self.ciphers.keys().collect();
        f.debug_struct("Keyring").field("keys", &ids).field("active", &self.active).finish_non_exhaustive()
    }
}

impl Keyring {
    /// Reads a folder or a mounted Secret: a file for each key id with 32 bytes in base64, and the
    /// file `active` with the id of the key that encrypts.
    ///
    /// # Errors
    /// The entry that cannot be used, and why.
    pub fn from_folder(folder: &Path) -> Result<Self, KeyError> {
        let source = folder.display().to_string();
        let unreadable = |error| KeyError::Folder { folder: source.clone(), source: error };
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let id = entry.file_name().to_string_lossy().into_owned();
            // A mounted Secret keeps its versions in hidden folders.
            if id.starts_with('.') {
                continue;
            }
            let content = std::fs::read_to_string(entry.path()).map(Zeroizing::new);
            let content = content.map_err(|source| KeyError::Entry { entry: id.clone(), source })?;
            entries.push((id, content));
        }
        Self::from_entries(&source, entries)
    }

    /// `source` is where the entries are from, for error messages.
    pub(crate) fn from_entries(
        source: &str,
        entries: impl IntoIterator<Item = (String, Zeroizing<String>)>,
    ) -> Result<Self, KeyError> {
        let mut ciphers = BTreeMap::new();
        let mut active = None;
        for (id, content) in entries {
            if id == ACTIVE {
                active = Some(content.trim().to_owned());
            } else {
                let cipher = cipher(&id, content.trim())?;
                ciphers.insert(id, cipher);
            }
        }
        let active = active.ok_or_else(|| KeyError::NoActive { folder: source.to_owned() })?;
        if !ciphers.contains_key(&active) {
            let found = ciphers.into_keys().collect::<Vec<_>>().join(", ");
            return Err(KeyError::ActiveMissing { named: active, found });
        }
        Ok(Self { ciphers, active })
    }

    /// The id of the key that encrypts.
    #[must_use]
    pub fn active(&self) -> &str {
        &self.active
    }

    /// The ids of all keys.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.ciphers.keys().map(String::as_str)
    }

    /// Encrypts with the active key, on one thread.
    #[must_use]
    pub fn sealer(&self) -> Sealer<'_> {
        let cipher =
            self.ciphers.get(&self.active).expect("the active key was found when the keyring was made");
        Sealer { cipher, id: &self.active, nonces: [0; NONCE * NONCES_AT_ONCE], next: NONCES_AT_ONCE }
    }

    /// Decrypts the envelope in a member's column.
    ///
    /// # Errors
    /// When the key is not given, or the ciphertext is not the one that was written there.
    pub fn open(&self, column: Column, member: MemberId, envelope: &[u8]) -> Result<SecretString, OpenError> {
        let name = column.as_str();
        let malformed = || OpenError::Malformed { column: name, member };
        let (&[version, id_length], rest) = envelope.split_first_chunk::<2>().ok_or_else(malformed)?;
        if version != VERSION {
            return Err(malformed());
        }
        let (id, rest) = rest.split_at_checked(id_length.into()).ok_or_else(malformed)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE>().ok_or_else(malformed)?;
        let (text, tag) = rest.split_last_chunk::<TAG>().ok_or_else(malformed)?;
        let id = std::str::from_utf8(id).map_err(|_| malformed())?;
        let unknown = || OpenError::UnknownKey { column: name, member, key: id.to_owned() };
        let cipher = self.ciphers.get(id).ok_or_else(unknown)?;
        let refused = || OpenError::Refused { column: name, member, key: id.to_owned() };
        let mut plain = text.to_vec();
        let buffer = InOutBuf::from(plain.as_mut_slice());
        if cipher
            .decrypt_inout_detached(nonce.into(), &column.associated_data(member), buffer, tag.into())
            .is_err()
        {
            plain.zeroize();
            return Err(refused());
        }
        let plain = String::from_utf8(plain).map_err(|error| {
            error.into_bytes().zeroize();
            malformed()
        })?;
        Ok(SecretString::from(plain))
    }
}

fn cipher(id: &str, base64: &str) -> Result<Aes256Gcm, KeyError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if id.is_empty() || id.len() > 64 || !id.bytes().all(plain) {
        return Err(KeyError::KeyId { entry: id.to_owned() });
    }
    let key = STANDARD.decode(base64).map(Zeroizing::new);
    let key = key.map_err(|_| KeyError::NotBase64 { entry: id.to_owned() })?;
    let key: &[u8; KEY] =
        key.as_slice().try_into().map_err(|_| KeyError::Length { entry: id.to_owned(), bytes: key.len() })?;
    Ok(Aes256Gcm::new(key.into()))
}

/// Encrypts with the active key.
pub struct Sealer<'a> {
    cipher: &'a Aes256Gcm,
    id: &'a str,
    nonces: [u8; NONCE * NONCES_AT_ONCE],
    next: usize,
}

impl fmt::Debug for Sealer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("key", &self.id).finish_non_exhaustive()
    }
}

impl Sealer<'_> {
    /// Appends the envelope of `plain` to `out`. One key is safe for 2^32 envelopes; then another
    /// must become active.
    ///
    /// # Panics
    /// When the system has no random bytes: then nothing may be encrypted.
    pub fn seal_into(&mut self, out: &mut Vec<u8>, column: Column, member: MemberId, plain: &str) {
        let nonce = self.nonce();
        let id_length = u8::try_from(self.id.len()).expect("key ids have at most 64 bytes");
        out.extend_from_slice(&[VERSION, id_length]);
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(plain.as_bytes());
        let buffer = InOutBuf::from(&mut out[start..]);
        let tag = self
            .cipher
            .encrypt_inout_detached((&nonce).into(), &column.associated_data(member), buffer)
            .expect("a text far below the 64 GiB that one nonce covers");
        out.extend_from_slice(&tag);
    }

    /// The envelope of `plain`.
    #[must_use]
    pub fn seal(&mut self, column: Column, member: MemberId, plain: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(2 + self.id.len() + NONCE + plain.len() + TAG);
        self.seal_into(&mut out, column, member, plain);
        out
    }

    fn nonce(&mut self) -> [u8; NONCE] {
        if self.next == NONCES_AT_ONCE {
            getrandom::fill(&mut self.nonces).expect("the system's source of random bytes");
            self.next = 0;
        }
        let start = self.next * NONCE;
        self.next += 1;
        self.nonces[start..start + NONCE].try_into().expect("a span of that length")
    }
}

#[cfg(test)]
mod tests;
