//! Reading the files of `golden/`.

#![allow(dead_code)] // each test binary uses a part of it

use std::path::{Path, PathBuf};

/// A file of byte vectors.
pub(crate) struct Vector {
    /// Without `.hex`.
    pub(crate) name: String,
    /// Whether a client sends it.
    pub(crate) from_client: bool,
    /// What its `expect` comment says.
    pub(crate) expect: String,
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
}

/// A file below the crate's directory.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Its text.
pub(crate) fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Hex digits, blanks and comments to bytes.
pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    let digits: String =
        hex.lines().map(|line| line.split('#').next().unwrap_or_default()).collect();
    let digits: Vec<u32> = digits
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).unwrap_or_else(|| panic!("'{c}' is no hex digit")))
        .collect();
    assert!(digits.len().is_multiple_of(2), "half a byte");
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

/// One of them.
pub(crate) fn vector(name: &str) -> Vector {
    let text = text(&format!("golden/{name}.hex"));
    let said = |what: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(what));
        line.unwrap_or_else(|| panic!("{name}: no line '{what}'")).trim().to_owned()
    };
    let from_client = match said("# from:").as_str() {
        "client" => true,
        "daemon" => false,
        other => panic!("{name}: from {other}"),
    };
    let expect = said("# expect:");
    Vector { name: name.to_owned(), from_client, expect, bytes: bytes(&text) }
}

/// All of them, by name.
pub(crate) fn vectors() -> Vec<Vector> {
    let files = std::fs::read_dir(path("golden")).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = files
        .filter(|file| file.extension().is_some_and(|e| e == "hex"))
        .map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names.iter().map(|name| vector(name)).collect()
}
