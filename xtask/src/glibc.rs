//! Which base image a binary needs: one whose libc is not older than the
//! newest symbol version that the binary asks for.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, SectionHeader as _};

/// A version of the GNU C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Glibc {
    major: u32,
    minor: u32,
}

/// A release of Debian, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    Bookworm,
    Trixie,
    Sid,
}

impl Release {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        }
    }

    /// The usual name of its small image.
    pub(crate) fn image(self) -> String {
        format!("debian:{}-slim", self.name())
    }

    /// The oldest release with this libc: the oldest is the longest tested.
    pub(crate) fn with(needed: Glibc) -> Self {
        match (needed.major, needed.minor) {
            (..2, _) | (2, ..=36) => Self::Bookworm,
            (2, ..=41) => Self::Trixie,
            _ => Self::Sid,
        }
    }
}

/// The release that all of these binaries run on.
pub(crate) fn release_for(binaries: &[&Path]) -> Result<Release> {
    let mut newest = Glibc { major: 2, minor: 0 };
    for binary in binaries {
        let data = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
        let needed = needed(&data).with_context(|| format!("cannot tell what {} needs", binary.display()))?;
        newest = newest.max(needed);
    }
    Ok(Release::with(newest))
}

/// The newest libc whose symbols the binary asks for.
fn needed(data: &[u8]) -> Result<Glibc> {
    let names = version_names(data)?;
    names
        .iter()
        .filter_map(|name| parse(name))
        .max()
        .context("no GLIBC_ symbol version: is this a dynamically linked Linux binary?")
}

fn parse(symbol_version: &str) -> Option<Glibc> {
    let mut parts = symbol_version.strip_prefix("GLIBC_")?.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    Some(Glibc { major, minor })
}

/// The symbol versions that an ELF file needs from its libraries.
fn version_names(data: &[u8]) -> Result<Vec<String>> {
    let elf = FileHeader64::<Endianness>::parse(data)?;
    let endian = elf.endian()?;
    let sections = elf.sections(endian, data)?;
    let mut names = Vec::new();
    for (_, section) in sections.enumerate() {
        let Some((mut needs, link)) = section.gnu_verneed(endian, data)? else { continue };
        let strings = sections.strings(endian, data, link)?;
        while let Some((_, mut versions)) = needs.next()? {
            while let Some(version) = versions.next()? {
                names.push(String::from_utf8_lossy(version.name(endian, strings)?).into_owned());
            }
        }
    }
    if names.is_empty() {
        bail!("it names no symbol version");
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_release_that_has_the_libc() {
        for (needed, release) in [
            ((2, 17), Release::Bookworm),
            ((2, 36), Release::Bookworm),
            ((2, 37), Release::Trixie),
            ((2, 41), Release::Trixie),
            ((2, 42), Release::Sid),
            ((3, 0), Release::Sid),
        ] {
            let (major, minor) = needed;
            assert_eq!(Release::with(Glibc { major, minor }), release, "{needed:?}");
        }
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(parse("GLIBC_2.9").unwrap() < parse("GLIBC_2.36").unwrap());
        assert_eq!(parse("GLIBC_2.3.4"), parse("GLIBC_2.3"));
        assert_eq!(parse("GCC_3.0"), None);
        assert_eq!(parse("GLIBC_PRIVATE"), None);
    }

    #[test]
    fn a_real_binary_says_what_it_needs() {
        let this = std::env::current_exe().unwrap();
        let data = fs::read(this).unwrap();
        let needed = needed(&data).unwrap();
        assert!(needed >= Glibc { major: 2, minor: 17 }, "{needed:?}");
        let error = super::needed(b"#!/bin/sh\n").unwrap_err();
        assert!(!error.to_string().is_empty());
    }
}
