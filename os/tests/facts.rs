//! The page of facts beside this file, and the table of features in lib.rs, name tests that are there,
//! and every test of a fact stands on the page.
#![allow(clippy::unwrap_used)] // fails its test

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(here(path)).unwrap()
}

/// File and name of each test in `kernel_*.rs`.
fn tests() -> BTreeSet<(String, String)> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(here("tests")).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        if !file.starts_with("kernel_") {
            continue;
        }
        let text = read(&format!("tests/{file}"));
        for test in text.split("#[test]").skip(1) {
            let name = test.trim_start().strip_prefix("fn ").unwrap();
            all.insert((file.clone(), name.split('(').next().unwrap().to_owned()));
        }
    }
    all
}

/// What stands between backticks in the last cell of a row.
fn named(row: &str) -> Vec<&str> {
    let last = row.trim_end().trim_end_matches('|').rsplit('|').next().unwrap_or_default();
    last.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_page_has_every_test_and_no_other() {
    let page = read("tests/README.md");
    let (mut file, mut on_page) = ("", BTreeSet::new());
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            file = heading.split(['(', ')']).nth(1).unwrap_or_default();
            if !file.starts_with("kernel_") {
                file = heading.rsplit(['(', ')']).nth(1).unwrap_or_default();
            }
        } else if line.starts_with("| ") && line.contains('`') && file.starts_with("kernel_") {
            let who = line.split('|').nth(2).unwrap().trim().trim_matches('`');
            assert!(here("..").join(who).exists(), "{who}: {line}");
            for name in named(line) {
                on_page.insert((file.to_owned(), name.to_owned()));
            }
        }
    }
    let tests = tests();
    let missing: Vec<_> = tests.difference(&on_page).collect();
    let invented: Vec<_> = on_page.difference(&tests).collect();
    assert!(missing.is_empty(), "not on the page: {missing:?}");
    assert!(invented.is_empty(), "on the page, and no tests: {invented:?}");
    assert!(tests.len() > 100);
}

#[test]
fn each_feature_names_its_test() {
    let there: BTreeSet<String> = tests().into_iter().map(|(_, name)| name).collect();
    let lib = read("src/lib.rs");
    let rows = lib.lines().filter(|line| line.starts_with("//! | `"));
    let mut features = 0;
    for row in rows {
        let own = named(row);
        assert!(!own.is_empty(), "{row}");
        for name in own {
            assert!(there.contains(name), "{name} is no test: {row}");
        }
        features += 1;
    }
    assert!(features >= 7);
}
