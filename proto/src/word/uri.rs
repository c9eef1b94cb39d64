//! Names of objects: an absolute path reference (`/models/a.gguf`) or a full URI
//! (`kv:users/42`), in RFC 3986 syntax.
//!
//! A [`Uri`] is normal by construction: scheme in lower case, percent-escapes only
//! where they are needed and in upper-case hex. From then on two URIs name the
//! same object exactly when their bytes are equal. (So `%40` is `@`, though RFC 3986
//! keeps them apart: mounts and their rules go by the normal form and files by the
//! decoded one, so that a second spelling would be a way around a rule.)
//!
//! What is refused rather than repaired: `.` and `..` segments (also written
//! `%2e`), empty segments, queries and fragments. An object has one name; a name
//! that needs resolving is a mistake or an attempt.

use std::fmt;
use std::str::FromStr;

use crate::limits;

/// A normal URI, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uri<'a>(&'a [u8]);

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Nothing there.
    #[error("the URI is empty: give a path like /models/a.gguf or a URI like kv:users/42")]
    Empty,
    /// Over the limit.
    #[error("the URI has {length} bytes, the limit is {max}", max = limits::URI)]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Neither `/` nor a scheme at the front.
    #[error("the URI must begin with '/' or with a scheme such as 'kv:'")]
    NotAbsolute,
    /// A byte that RFC 3986 does not allow there.
    #[error("byte 0x{byte:02x} at {at} is not allowed in a URI: write it as %{byte:02X}")]
    Byte {
        /// Offset in bytes.
        at: usize,
        /// The byte.
        byte: u8,
    },
    /// A `%` without two hex digits.
    #[error("the '%' at {at} is not followed by two hex digits: write a plain '%' as %25")]
    Escape {
        /// Offset in bytes.
        at: usize,
    },
    /// `.` or `..`, plain or encoded.
    #[error(
        "'.' and '..' segments are not resolved (one ends at {at}): send the path they lead to"
    )]
    DotSegment {
        /// Offset just behind the segment, in bytes of the normal form.
        at: usize,
    },
    /// `//`.
    #[error("an empty segment ends at {at}: write one '/' where there are two")]
    EmptySegment {
        /// Offset just behind the segment, in bytes of the normal form.
        at: usize,
    },
}

/// What a byte may be in a URI.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Unreserved characters, sub-delimiters, `:`, `@`: never needs an escape.
    Plain,
    /// Stands for itself and differs from its escape.
    Slash,
    Percent,
    /// May stand only as an escape.
    Other,
}

#[allow(clippy::indexing_slicing, clippy::cast_possible_truncation)] // evaluated at compile time
const CLASSES: [Class; 256] = {
    let mut table = [Class::Other; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = match i as u8 {
            // The second range is & ' ( ) * + , - and .
            b'!'
            | b'$'
            | b'&'..=b'.'
            | b'0'..=b'9'
            | b':'
            | b';'
            | b'='
            | b'@'
            | b'_'
            | b'~'
            | b'A'..=b'Z'
            | b'a'..=b'z' => Class::Plain,
            b'/' => Class::Slash,
            b'%' => Class::Percent,
            _ => Class::Other,
        };
        i += 1;
    }
    table
};

#[inline]
fn class(byte: u8) -> Class {
    // A 256-entry table and a u8 index: in range by type, and the optimiser sees it.
    #[allow(clippy::indexing_slicing)]
    CLASSES[usize::from(byte)]
}

impl<'a> Uri<'a> {
    /// Takes `raw` as it is if it is normal already, else writes its normal form
    /// into `scratch` and borrows that.
    pub fn normalise(raw: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Self, UriError> {
        if raw.is_empty() {
            return Err(UriError::Empty);
        }
        if raw.len() > limits::URI {
            return Err(UriError::TooLong { length: raw.len() });
        }
        let normal = if is_normal_text(raw)? {
            raw
        } else {
            scratch.clear();
            rewrite(raw, scratch)?;
            scratch.as_slice()
        };
        check_segments(normal)?;
        Ok(Self(normal))
    }

    /// The bytes; ASCII by construction.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The text.
    pub fn as_str(self) -> &'a str {
        std::str::from_utf8(self.0).unwrap_or_default()
    }

    /// Whether this is an absolute path reference.
    pub fn is_path(self) -> bool {
        self.0.first() == Some(&b'/')
    }

    /// An owned copy.
    pub fn to_owned(self) -> UriBuf {
        UriBuf(self.0.into())
    }

    /// The part below `prefix`, without the separating `/`: empty for the prefix
    /// itself, `None` if this name does not lie below it. `/a/b` lies below `/`,
    /// `/a` and `/a/b`, not below `/a/` + `/` nor `/ab`; `kv:x` lies below `kv:`.
    pub fn below(self, prefix: Uri<'_>) -> Option<&'a [u8]> {
        let rest = self.0.strip_prefix(prefix.0)?;
        match (prefix.0.last(), rest.first()) {
            (_, None) | (Some(b'/' | b':'), _) => Some(rest),
            (_, Some(b'/')) => rest.get(1..),
            _ => None,
        }
    }
}

impl fmt::Debug for Uri<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Uri<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Length of `scheme:` at the front, if there is one.
fn scheme_length(raw: &[u8]) -> Option<usize> {
    let colon = raw.iter().position(|&b| b == b':')?;
    let (first, rest) = raw.get(..colon)?.split_first()?;
    let fits = first.is_ascii_alphabetic()
        && rest.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    fits.then_some(colon + 1)
}

/// Whether every byte may stand and no escape or scheme needs rewriting.
fn is_normal_text(raw: &[u8]) -> Result<bool, UriError> {
    let mut normal = true;
    if raw.first() != Some(&b'/') {
        let n = scheme_length(raw).ok_or(UriError::NotAbsolute)?;
        normal = !raw.iter().take(n).any(u8::is_ascii_uppercase);
    }
    let mut escape_until = 0;
    for (at, &byte) in raw.iter().enumerate() {
        match class(byte) {
            Class::Plain | Class::Slash => {}
            Class::Percent => {
                if at < escape_until {
                    return Err(UriError::Escape { at });
                }
                escape_until = at + 3;
                let value = escape_at(raw, at)?;
                normal &= class(value) != Class::Plain;
                normal &= !raw.iter().skip(at + 1).take(2).any(u8::is_ascii_lowercase);
            }
            Class::Other => return Err(UriError::Byte { at, byte }),
        }
    }
    Ok(normal)
}

/// The byte that the escape at `at` stands for.
fn escape_at(raw: &[u8], at: usize) -> Result<u8, UriError> {
    let digit = |i: usize| raw.get(at + i).and_then(|&b| char::from(b).to_digit(16));
    match (digit(1), digit(2)) {
        (Some(high), Some(low)) => {
            u8::try_from(high * 16 + low).map_err(|_| UriError::Escape { at })
        }
        _ => Err(UriError::Escape { at }),
    }
}

/// Writes the normal form of `raw`, which [`is_normal_text`] has checked.
fn rewrite(raw: &[u8], out: &mut Vec<u8>) -> Result<(), UriError> {
    let scheme = if raw.first() == Some(&b'/') { 0 } else { scheme_length(raw).unwrap_or(0) };
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        if byte == b'%' {
            let value = escape_at(raw, at)?;
            push_encoded(value, class(value) == Class::Plain, out);
            at += 3;
        } else {
            out.push(if at < scheme { byte.to_ascii_lowercase() } else { byte });
            at += 1;
        }
    }
    Ok(())
}

/// Refuses dot segments and empty segments of a hierarchical name. What follows a
/// scheme without a `/` is opaque: `kv:..` is a key like any other.
fn check_segments(normal: &[u8]) -> Result<(), UriError> {
    let start = if normal.first() == Some(&b'/') { 0 } else { scheme_length(normal).unwrap_or(0) };
    let Some((b'/', path)) = normal.get(start..).and_then(<[u8]>::split_first) else {
        return Ok(());
    };
    let mut at = start + 1;
    let mut segments = path.split(|&b| b == b'/').peekable();
    // `scheme://authority/...`: the empty segment before an authority, and an empty
    // authority, are no mistakes.
    if start > 0 && path.first() == Some(&b'/') {
        at += segments.by_ref().take(2).map(|s| s.len() + 1).sum::<usize>();
    }
    while let Some(segment) = segments.next() {
        at += segment.len();
        match segment {
            b"." | b".." => return Err(UriError::DotSegment { at }),
            b"" if segments.peek().is_some() => return Err(UriError::EmptySegment { at }),
            _ => at += 1,
        }
    }
    Ok(())
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn push_encoded(byte: u8, plain: bool, out: &mut Vec<u8>) {
    if plain {
        out.push(byte);
    } else {
        let hex = |n: u8| HEX.get(usize::from(n)).copied().unwrap_or(b'0');
        out.extend_from_slice(&[b'%', hex(byte >> 4), hex(byte & 15)]);
    }
}

/// Appends `name` as one or more path segments of a URI: everything that may not
/// stand for itself is escaped; `/` stays.
pub fn encode_path(name: &[u8], out: &mut Vec<u8>) {
    for &byte in name {
        let plain = !matches!(class(byte), Class::Percent | Class::Other);
        push_encoded(byte, plain, out);
    }
}

/// Appends what the escaped text stands for. `text` is a piece of a [`Uri`].
pub fn decode_path(text: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match escape_at(text, at) {
            Ok(value) if byte == b'%' => {
                out.push(value);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
}

/// A normal URI, owned.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UriBuf(Box<[u8]>);

impl UriBuf {
    /// Normalises `raw`.
    pub fn parse(raw: &[u8]) -> Result<Self, UriError> {
        let mut scratch = Vec::new();
        Uri::normalise(raw, &mut scratch).map(Uri::to_owned)
    }

    /// The URI of a path: `/` is kept, every other byte that needs it is escaped.
    /// The path must be absolute.
    ///
    /// ```
    /// use objmapper_proto::UriBuf;
    /// let uri = UriBuf::from_path(b"/a b/100%").unwrap();
    /// assert_eq!(uri.as_uri().as_str(), "/a%20b/100%25");
    /// ```
    pub fn from_path(path: &[u8]) -> Result<Self, UriError> {
        let mut text = Vec::with_capacity(path.len());
        encode_path(path, &mut text);
        Self::parse(&text)
    }

    /// Borrowed.
    pub fn as_uri(&self) -> Uri<'_> {
        Uri(&self.0)
    }
}

impl FromStr for UriBuf {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Debug for UriBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.as_uri(), f)
    }
}

impl fmt::Display for UriBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_uri(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(raw: &str) -> Result<String, UriError> {
        raw.parse::<UriBuf>().map(|u| u.to_string())
    }

    #[test]
    fn one_spelling_for_each_name() {
        for normal_already in ["/a/b", "/a/", "/", "kv:..", "s3://bucket/key"] {
            assert_eq!(normal(normal_already).unwrap(), normal_already);
        }
        assert_eq!(normal("/%61/%7Eb").unwrap(), "/a/~b");
        assert_eq!(normal("/a%2fb").unwrap(), "/a%2Fb");
        assert_eq!(normal("/%40a%3ab").unwrap(), "/@a:b");
        assert_eq!(normal("KV:Users/42").unwrap(), "kv:Users/42");
    }

    #[test]
    fn what_needs_resolving_is_refused() {
        for raw in ["/..", "/a/../b", "/%2e%2e/etc", "/a/.", "/%2E", "file:///a/../b"] {
            assert!(matches!(normal(raw), Err(UriError::DotSegment { .. })), "{raw}");
        }
        for raw in ["//", "/a//b", "//host/x"] {
            assert!(matches!(normal(raw), Err(UriError::EmptySegment { .. })), "{raw}");
        }
    }

    #[test]
    fn malformed_names_say_what_to_write() {
        assert_eq!(normal(""), Err(UriError::Empty));
        assert_eq!(normal("a/b"), Err(UriError::NotAbsolute));
        assert_eq!(normal("1x:y"), Err(UriError::NotAbsolute));
        assert_eq!(
            normal("/a b").unwrap_err().to_string(),
            "byte 0x20 at 2 is not allowed in a URI: write it as %20"
        );
        assert_eq!(normal("/a?b").unwrap_err(), UriError::Byte { at: 2, byte: b'?' });
        assert_eq!(normal("/a%2"), Err(UriError::Escape { at: 2 }));
        assert_eq!(normal("/a%zz"), Err(UriError::Escape { at: 2 }));
        assert_eq!(normal("/%%41"), Err(UriError::Escape { at: 1 }));
        let long = format!("/{}", "x".repeat(limits::URI));
        assert_eq!(normal(&long), Err(UriError::TooLong { length: limits::URI + 1 }));
    }

    #[test]
    fn below_respects_segments() {
        let uri = |s: &str| s.parse::<UriBuf>().unwrap();
        let below = |u: &str, p: &str| uri(u).as_uri().below(uri(p).as_uri()).map(<[u8]>::to_vec);
        assert_eq!(below("/a/b", "/"), Some(b"a/b".to_vec()));
        assert_eq!(below("/a/b", "/a"), Some(b"b".to_vec()));
        assert_eq!(below("/a/b", "/a/b"), Some(vec![]));
        assert_eq!(below("/ab", "/a"), None);
        assert_eq!(below("kv:x/y", "kv:x"), Some(b"y".to_vec()));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_name_or_an_error(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = UriBuf::parse(&raw);
        }

        #[test]
        fn normalising_twice_changes_nothing(raw in "(/|[a-zA-Z][a-z0-9+.-]{0,3}:)[ -~]{0,60}") {
            if let Ok(once) = UriBuf::parse(raw.as_bytes()) {
                let again = UriBuf::parse(once.as_uri().as_bytes()).unwrap();
                prop_assert_eq!(once, again);
            }
        }

        #[test]
        fn what_decodes_alike_is_alike(raw in "/([a-c@:+ ]|%[2-7][0-9a-fA-F]){0,12}") {
            if let Ok(uri) = UriBuf::parse(raw.as_bytes()) {
                let mut path = Vec::new();
                decode_path(uri.as_uri().as_bytes(), &mut path);
                let hidden_slash = uri.to_string().contains("%2F");
                prop_assume!(!hidden_slash);
                prop_assert_eq!(UriBuf::from_path(&path), Ok(uri));
            }
        }

        #[test]
        fn a_path_survives_the_round_trip(segments in proptest::collection::vec("[^/\0]{1,12}", 1..5)) {
            let path = format!("/{}", segments.join("/"));
            prop_assume!(!segments.iter().any(|s| s == "." || s == ".."));
            let uri = UriBuf::from_path(path.as_bytes()).unwrap();
            let mut back = Vec::new();
            decode_path(uri.as_uri().as_bytes(), &mut back);
            prop_assert_eq!(back, path.into_bytes());
        }
    }
}
