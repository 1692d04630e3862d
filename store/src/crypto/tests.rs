use std::collections::HashSet;

use secrecy::ExposeSecret as _;
use tempfile::TempDir;

use super::*;

fn key(byte: u8) -> String {
    STANDARD.encode([byte; KEY])
}

fn folder(entries: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (entry, content) in entries {
        std::fs::write(folder.path().join(entry), content).unwrap();
    }
    folder
}

fn ring(entries: &[(&str, &str)]) -> Result<Keyring, KeyError> {
    Keyring::from_folder(folder(entries).path())
}

fn member(id: i64) -> MemberId {
    MemberId::try_from(id).unwrap()
}

#[test]
fn an_envelope_can_be_decrypted_in_its_own_place_only() {
    let ring = ring(&[("2026-a", &key(7)), (ACTIVE, "2026-a\n")]).unwrap();
    let envelope = ring.sealer().seal(Column::Email, member(42), "kim@example.com");
    assert_eq!(ring.open(Column::Email, member(42), &envelope).unwrap().expose_secret(), "kim@example.com");
    assert_eq!(&envelope[..8], b"\x01\x062026-a");
    assert_eq!(envelope.len(), 8 + NONCE + "kim@example.com".len() + TAG);

    let moved = ring.open(Column::Email, member(43), &envelope).unwrap_err().to_string();
    assert_eq!(
        moved,
        "the email of member 43 cannot be decrypted: it was changed, moved, or encrypted with another key `2026-a`"
    );
    assert!(ring.open(Column::Phone, member(42), &envelope).is_err());
    for at in 0..envelope.len() {
        let mut changed = envelope.clone();
        changed[at] ^= 1;
        assert!(ring.open(Column::Email, member(42), &changed).is_err(), "byte {at} can be changed");
    }
    for end in 0..envelope.len() {
        assert!(ring.open(Column::Email, member(42), &envelope[..end]).is_err(), "{end} bytes are enough");
    }
}

#[test]
fn all_keys_decrypt_and_the_active_key_encrypts() {
    let before = ring(&[("a", &key(1)), (ACTIVE, "a")]).unwrap();
    let after = ring(&[("a", &key(1)), ("b", &key(2)), (ACTIVE, "b")]).unwrap();
    let old = before.sealer().seal(Column::Name, member(1), "김하늘");
    let new = after.sealer().seal(Column::Name, member(1), "김하늘");
    for envelope in [&old, &new] {
        assert_eq!(after.open(Column::Name, member(1), envelope).unwrap().expose_secret(), "김하늘");
    }
    assert_eq!(
        before.open(Column::Name, member(1), &new).unwrap_err().to_string(),
        "the name of member 1 is encrypted with key `b`, which is not among the given keys"
    );
}

#[test]
fn no_nonce_is_used_twice() {
    let ring = ring(&[("a", &key(1)), (ACTIVE, "a")]).unwrap();
    let mut sealer = ring.sealer();
    let nonces: HashSet<Vec<u8>> = (0..3 * NONCES_AT_ONCE)
        .map(|_| sealer.seal(Column::Name, member(1), "")[3..3 + NONCE].to_vec())
        .collect();
    assert_eq!(nonces.len(), 3 * NONCES_AT_ONCE);
}

#[test]
fn errors_name_the_unusable_key() {
    let short = STANDARD.encode([1; 16]);
    let cases: [(&[(&str, &str)], &str); 6] = [
        (&[("a", "%%%"), (ACTIVE, "a")], "the key entry a is not base64"),
        (&[("a", &short), (ACTIVE, "a")], "the key entry a holds 16 bytes instead of 32"),
        (&[("a", ""), (ACTIVE, "a")], "the key entry a holds 0 bytes instead of 32"),
        (
            &[("a", &key(1)), (ACTIVE, "b")],
            "the entry `active` names the key `b`, which does not exist; existing keys: a",
        ),
        (
            &[("a b", &key(1)), (ACTIVE, "a b")],
            "the key entry `a b` is not a key id: 1 to 64 letters, digits, dots, dashes and underscores",
        ),
        (&[("a", &key(1))], "FOLDER has no entry `active`, which names the key that encrypts"),
    ];
    for (entries, message) in cases {
        let folder = folder(entries);
        let error = Keyring::from_folder(folder.path()).unwrap_err().to_string();
        assert_eq!(error.replace(&folder.path().display().to_string(), "FOLDER"), message);
    }
    let missing = Keyring::from_folder(Path::new("/nowhere/keys")).unwrap_err();
    assert_eq!(missing.to_string(), "cannot read the keys in /nowhere/keys");
}

#[test]
fn debug_output_contains_no_key() {
    let ring = ring(&[("a", &key(0x41)), (ACTIVE, "a")]).unwrap();
    assert_eq!(
        format!("{ring:?} {:?}", ring.sealer()),
        "Keyring { keys: [\"a\"], active: \"a\", .. } Sealer { key: \"a\", .. }"
    );
}

#[test]
fn hidden_entries_of_a_mounted_secret_are_ignored() {
    let folder = folder(&[("a", &key(1)), (ACTIVE, "a"), ("..2026_data", "x")]);
    std::fs::create_dir(folder.path().join("..data")).unwrap();
    assert_eq!(Keyring::from_folder(folder.path()).unwrap().active(), "a");
}
