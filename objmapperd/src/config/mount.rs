//! Mounts: from the file's tables and from `URI=DIR[,KEY=VALUE]...` to a list without repetition.
//!
//! A mount that is given later (environment, flags) replaces the one that the file has at the same
//! URI, rules included; two at the same URI in the same place are a mistake.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use objmapper::Links;
use objmapper_proto::{UriBuf, limits};

use super::allow::{AllowRule, rules};
use super::file::{Mount, Raw};
use super::given::{Given, Origin, Scalar};
use super::sheet::Sheet;
use super::value::{Absolute, Kind, Switch, Word, quoted};
use super::{MountSpec, ReadOnlyClone};

const SYMLINKS: Word<Links> = Word(&[("refuse", Links::Refuse), ("beneath", Links::Beneath)]);

const READ_ONLY_CLONE: Word<ReadOnlyClone> =
    Word(&[("auto", ReadOnlyClone::Auto), ("on", ReadOnlyClone::On), ("off", ReadOnlyClone::Off)]);

/// All mounts that were given, in order; none is a mistake unless there is something else to do.
pub(super) fn mounts(sheet: &mut Sheet<'_>, raw: Raw, may_be_none: bool) -> Vec<MountSpec> {
    sheet.enter("mount");
    let mut given = raw.mounts;
    let at_root = |dir: Given| Mount { uri: Given::text("/", &dir.origin), ..bare(dir) };
    given.extend(raw.root.into_iter().map(at_root));
    for word in raw.mount_words {
        match parse(&word) {
            Ok(mount) => given.push(mount),
            Err(why) => sheet.refuse("", &word, &why),
        }
    }
    // Later layers replace earlier ones, whatever the kind of mount they are written as.
    given.sort_by_key(|mount| mount.uri.origin.layer());
    let distinct = without_repetition(sheet, given);
    if distinct.is_empty() && !may_be_none && sheet.is_clean() {
        let file = sheet.file();
        sheet.complain(format!(
            "nothing to serve: no directory was given.\n    \
             Run `objmapperd --root DIR`, or write into {file}:\n        \
             [[mount]]\n        uri = \"/\"\n        dir = \"/the/directory\""
        ));
    }
    distinct.into_iter().filter_map(|(uri, mount)| fill_in(sheet, uri, &mount)).collect()
}

/// A mount of which nothing is known but its directory.
fn bare(dir: Given) -> Mount {
    let uri = dir.clone();
    Mount {
        uri,
        dir,
        symlinks: None,
        read_only_clone: None,
        strict: None,
        shared: None,
        allow: Vec::new(),
    }
}

/// Reads `URI=DIR[,KEY=VALUE]...`, the keys being those of the file.
fn parse(word: &Given) -> Result<Mount, String> {
    const FORM: &str = "must be URI=DIR, such as /models=/srv/models; options may follow: \
                        ,symlinks=beneath ,read_only_clone=off ,strict=true ,shared=true ,allow=group:video";
    let Scalar::Text(text) = &word.scalar else { return Err(FORM.to_owned()) };
    let within = Origin::Within(Box::new(word.origin.clone()));
    let piece = |bytes: &[u8]| Given::text(OsStr::from_bytes(bytes), &within);
    let (uri, rest) = split(text.as_bytes()).ok_or(FORM)?;
    let mut pieces = rest.split(|&byte| byte == b',');
    let mut dir = pieces.next().unwrap_or_default().to_vec();
    let mut mount = Mount { uri: piece(uri), ..bare(piece(b"")) };
    let mut options = 0;
    for part in pieces {
        match split(part) {
            // No option: the comma belongs to the name of the directory.
            None if options == 0 => dir.extend(b",".iter().chain(part)),
            Some((b"symlinks", value)) => mount.symlinks = Some(piece(value)),
            Some((b"read_only_clone", value)) => mount.read_only_clone = Some(piece(value)),
            Some((b"strict", value)) => mount.strict = Some(piece(value)),
            Some((b"shared", value)) => mount.shared = Some(piece(value)),
            Some((b"allow", value)) => mount.allow.push(piece(value)),
            _ => {
                return Err(format!(
                    "{FORM}; {:?} is not one of them",
                    String::from_utf8_lossy(part)
                ));
            }
        }
        options += usize::from(part.contains(&b'='));
    }
    mount.dir = piece(&dir);
    Ok(mount)
}

/// What is before and behind the first `=`.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&byte| byte == b'=')?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

/// One mount for each URI: the last that was given.
fn without_repetition(sheet: &mut Sheet<'_>, given: Vec<Mount>) -> Vec<(UriBuf, Mount)> {
    let mut distinct: Vec<(UriBuf, Mount)> = Vec::new();
    for mount in given {
        let Some(uri) = sheet.read("uri", &mount.uri, &Prefix) else { continue };
        match distinct.iter_mut().find(|(known, _)| *known == uri) {
            None => distinct.push((uri, mount)),
            Some((_, earlier)) if earlier.uri.origin.layer() < mount.uri.origin.layer() => {
                *earlier = mount;
            }
            Some((_, earlier)) => {
                let there = sheet.place(&earlier.uri.origin);
                let why = format!("must be mounted only once: {there} already mounts it");
                sheet.refuse("uri", &mount.uri, &why);
            }
        }
    }
    distinct
}

/// Fills in one mount.
fn fill_in(sheet: &mut Sheet<'_>, uri: UriBuf, mount: &Mount) -> Option<MountSpec> {
    sheet.element("mount");
    sheet.show("uri", &Prefix.show(&uri), Some(&mount.uri.origin));
    let dir = sheet.take_if_given("dir", &mount.dir, &Directory)?;
    let symlinks = sheet.take("symlinks", &mount.symlinks, Links::Refuse, &SYMLINKS);
    let clone = &mount.read_only_clone;
    let read_only_clone =
        sheet.take("read_only_clone", clone, ReadOnlyClone::Auto, &READ_ONLY_CLONE);
    let strict = sheet.take("strict", &mount.strict, false, &Switch);
    let shared = sheet.take("shared", &mount.shared, false, &Switch);
    let allow = rules(sheet, &mount.allow, &AllowRule);
    Some(MountSpec { uri, dir, symlinks, read_only_clone, strict, shared, allow })
}

/// A URI prefix.
struct Prefix;

impl Kind for Prefix {
    type Value = UriBuf;

    fn read(&self, given: &Given) -> Result<UriBuf, String> {
        let text = given.as_str().ok_or("must be a URI such as /models, in quotes")?;
        let uri: UriBuf = text.parse().map_err(|error| format!("must be a URI: {error}"))?;
        // As a prefix in a listing it is named with a `/` behind it.
        let most = limits::CURSOR - 1;
        if uri.as_uri().as_str().split('/').any(|segment| segment.len() > most) {
            return Err(format!(
                "must have no segment of more than {most} bytes: it could not be listed"
            ));
        }
        // `/a/` and `/a` have the same names below them; the root is `/` itself.
        let normal = uri.to_string();
        match normal.strip_suffix('/') {
            Some(shorter) if !shorter.is_empty() && !shorter.ends_with(['/', ':']) => {
                shorter.parse().map_err(|error| format!("must be a URI: {error}"))
            }
            _ => Ok(uri),
        }
    }

    fn show(&self, uri: &UriBuf) -> String {
        quoted(uri.as_uri().as_str())
    }
}

/// The absolute path of a directory.
struct Directory;

impl Kind for Directory {
    type Value = std::path::PathBuf;

    fn read(&self, given: &Given) -> Result<Self::Value, String> {
        let path = Absolute.read(given)?;
        is_directory(&path).map(|()| path)
    }

    fn show(&self, path: &Self::Value) -> String {
        Absolute.show(path)
    }
}

/// Refuses what is certainly no directory. Whether the daemon may open it is seen at start: whoever
/// checks a configuration may be somebody else.
fn is_directory(path: &Path) -> Result<(), String> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => Err("must be a directory".to_owned()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err("must be a directory that exists: create it, or correct the path".to_owned())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Result<Mount, String> {
        parse(&Given::text(text, &Origin::Flag("--mount".into())))
    }

    fn prefix(text: &str) -> String {
        Prefix.read(&Given::text(text, &Origin::File(0))).unwrap().to_string()
    }

    #[test]
    fn a_word_is_a_uri_a_directory_and_options() {
        let mount = word("/a=/srv/x,y=z").unwrap_err();
        assert!(mount.ends_with("\"y=z\" is not one of them"), "{mount}");
        let mount = word("/a=/srv/x,y,symlinks=beneath,allow=any read,allow=uid:1").unwrap();
        assert_eq!(mount.uri.as_str(), Some("/a"));
        assert_eq!(mount.dir.as_str(), Some("/srv/x,y"));
        assert_eq!(mount.symlinks.as_ref().and_then(Given::as_str), Some("beneath"));
        assert_eq!(mount.allow.len(), 2);
        assert!(word("/srv/x").unwrap_err().starts_with("must be URI=DIR"));
        assert!(word("/a=/srv,symlinks=beneath,z").is_err());
    }

    #[test]
    fn a_segment_fits_into_the_cursor_of_a_listing() {
        let long = |bytes: usize| format!("/a/{}/b", "x".repeat(bytes));
        assert_eq!(prefix(&long(1023)), long(1023));
        let refused = Prefix.read(&Given::text(long(1024), &Origin::File(0))).unwrap_err();
        assert!(refused.contains("more than 1023 bytes"), "{refused}");
    }

    #[test]
    fn a_slash_at_the_end_changes_nothing() {
        assert_eq!(prefix("/a/"), "/a");
        assert_eq!(prefix("/"), "/");
        assert_eq!(prefix("file:///"), "file:///");
        assert_eq!(prefix("data:x/"), "data:x");
    }
}
