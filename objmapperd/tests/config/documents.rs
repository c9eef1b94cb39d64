//! The example, the manual and the help say what is so.

use std::path::Path;

use objmapperd::config::{Document, Raw, Settings, resolve};

use crate::scene::{Place, checked, objmapperd};

const EXAMPLE: &str = include_str!("../../../systemd/objmapperd.toml");
const MANUAL: &str = include_str!("../../../docs/operating.md");

fn settings(text: &str) -> Settings {
    let document = Document { path: "test.toml".into(), text: text.to_owned() };
    let raw = Raw::parse(&document).unwrap_or_else(|problems| panic!("{problems}"));
    resolve(raw, Some(&document)).unwrap_or_else(|problems| panic!("{problems}")).settings
}

#[test]
fn the_example_is_made_of_the_defaults_and_leaves_none_out() {
    let place = Place::new();
    let quoted = format!("{:?}", place.tree());
    let example = EXAMPLE.replace("\"/srv/objmapper\"", &quoted);
    // "#name = value" is a setting, "# text" is text.
    let is_setting = |line: &str| {
        line.strip_prefix('#')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
    };
    let uncover =
        |line: &str| line.strip_prefix('#').filter(|_| is_setting(line)).unwrap_or(line).to_owned();
    let uncovered = example.lines().map(uncover).collect::<Vec<_>>().join("\n");
    let mount = format!("[[mount]]\nuri = \"/\"\ndir = {quoted}\n");
    let root = "[listen]\npath = \"/run/objmapper/objmapper.sock\"\n";
    let defaults = settings(&format!("{mount}{root}"));
    assert_eq!(settings(&uncovered), defaults);
    let example_at_root = example.replace("[listen]\n", root);
    assert_eq!(settings(&example_at_root), defaults);

    let file = place.file("");
    let effective = checked(Some(&file), &[], &[]);
    for key in effective.lines().filter_map(key_of) {
        assert!(example.contains(&format!("{key} = ")), "{key} is not in the example");
        assert!(MANUAL.contains(&format!("`{key}`")), "{key} is not in the manual");
    }
}

#[test]
fn the_manual_explains_every_counter() {
    let mut lines = String::new();
    objmapperd::metrics::Metrics::default().write(&mut lines);
    for name in lines.lines().filter_map(|line| line.split(' ').next()) {
        assert!(MANUAL.contains(&format!("`{name}`")), "{name} is not in the manual");
    }
}

/// The name of the setting that a line of the effective settings is about, set or not.
fn key_of(line: &str) -> Option<&str> {
    let (key, rest) = line.trim_start_matches("# ").split_once(' ')?;
    (rest.starts_with("= ") || rest == "is not set").then_some(key)
}

#[test]
fn help_tells_the_defaults_that_hold() {
    let place = Place::new();
    let effective = checked(Some(&place.file("")), &[], &[]);
    let output = objmapperd(None, &["--help"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for (flag, key) in [
        ("--socket-mode", "mode"),
        ("--max-connections", "connections"),
        ("--pool-size", "workers"),
        ("--helpers", "helpers"),
        ("--inline-limit", "inline_limit"),
        ("--auto-limit", "auto_limit"),
        ("--in-place-limit", "in_place_limit"),
        ("--drain-deadline", "drain_deadline"),
        ("--log", "filter"),
        ("--log-format", "format"),
    ] {
        let (_, after) = words.split_once(&format!("{flag} <")).unwrap();
        let default = after.split_once("[default: ").unwrap().1.split(']').next().unwrap();
        let line = effective.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
        assert_eq!(line.replace('"', ""), format!("{key} = {default}"), "{flag}");
    }
    let output = objmapperd(None, &["--version"], &[]);
    let version = String::from_utf8(output.stdout).unwrap();
    assert_eq!(version, format!("objmapperd {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_manual_page_needs_no_settings_and_has_every_flag() {
    let output = objmapperd(Some(Path::new("/none")), &["--man"], &[]);
    let page = String::from_utf8(output.stdout).unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    for part in [
        ".TH objmapperd 8",
        ".SH EXAMPLES\n.nf\n",
        "objmapperd \\-\\-root /srv/objects",
        ".SH NOTES\nFlags override the environment",
        "\n.PP\nSIGHUP reloads mounts",
        ".I /etc/objmapper/objmapperd.toml",
        ".SH SIGNALS",
        "docs/operating.md",
    ] {
        assert!(page.contains(part), "{part} is missing in {page}");
    }
    let help = String::from_utf8(objmapperd(None, &["--help"], &[]).stdout).unwrap();
    let flags = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
    for flag in flags.filter_map(|line| line.split_whitespace().next()) {
        let escaped = format!("\\-\\-{}", flag.replace('-', "\\-"));
        assert!(page.contains(&escaped), "--{flag} is missing");
    }
}
