//! Bytes that need not be text: for people with backslashes, in JSON by base64 (RFC 4648, section 4).

use std::borrow::Cow;
use std::fmt::Write;

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// As text without control characters: what is none, and a backslash, is written with one. Two that
/// differ look different.
pub(super) fn shown(bytes: &[u8]) -> Cow<'_, str> {
    let plain = |c: char| !c.is_control() && c != '\\';
    if let Ok(text) = std::str::from_utf8(bytes)
        && text.chars().all(plain)
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    let byte = |out: &mut String, byte: u8| {
        // Writing to a String does not fail.
        let _ = write!(out, "\\x{byte:02x}");
    };
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\\' => out.push_str("\\\\"),
                c if plain(c) => out.push(c),
                c => c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| byte(&mut out, b)),
            }
        }
        chunk.invalid().iter().for_each(|&b| byte(&mut out, b));
    }
    Cow::Owned(out)
}

/// With padding.
pub(super) fn to_base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |n: usize| u32::from(three.get(n).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for n in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * n)) as usize & 63).copied().unwrap_or(b'=');
            out.push(if n <= three.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// With or without padding; `None` if it is not base64, or not as anybody writes it.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let padding = text.bytes().rev().take_while(|&byte| byte == b'=').count();
    let digits = text.as_bytes().get(..text.len() - padding)?;
    if padding > 0 && (padding > 2 || !text.len().is_multiple_of(4)) {
        return None;
    }
    let value = |digit: &u8| match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for four in digits.chunks(4) {
        let mut bits = 0_u32;
        for digit in four {
            bits = bits << 6 | u32::from(value(digit)?);
        }
        bits <<= 6 * (4 - four.len());
        let [_, bytes @ ..] = bits.to_be_bytes();
        let count = match four.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        let (kept, rest) = bytes.split_at_checked(count)?;
        if rest.iter().any(|&byte| byte != 0) {
            return None; // another text for the same bytes
        }
        out.extend_from_slice(kept);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"fooba", "Zm9vYmE="),
            (b"foobar", "Zm9vYmFy"),
            (b"\xff\xfe\x00", "//4A"),
        ] {
            assert_eq!(to_base64(bytes), text);
            assert_eq!(from_base64(text).as_deref(), Some(bytes));
            assert_eq!(from_base64(text.trim_end_matches('=')).as_deref(), Some(bytes));
        }
        for bad in
            ["Z", "Zg=", "Zg===", "Zh==", "Zm9=", "Z!==", "Zm9v=", "Zg==Zg==", "====", "Zm 9"]
        {
            assert_eq!(from_base64(bad), None, "{bad}");
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(from_base64(&to_base64(&all)), Some(all));
    }

    #[test]
    fn what_is_no_text_has_a_backslash() {
        assert_eq!(shown(b"users/42 \xc3\xa4"), "users/42 ä");
        assert_eq!(shown(b"a\nb\t\r\\\x00\x7f\xff\xc3"), "a\\nb\\t\\r\\\\\\x00\\x7f\\xff\\xc3");
        assert_eq!(shown("\u{9b}".as_bytes()), "\\xc2\\x9b", "a terminal would obey it");
        assert_eq!(shown(b"\\n"), "\\\\n");
    }
}
