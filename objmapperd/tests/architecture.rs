//! The laws of the architecture that the compiler does not hold: who may list which crate, and
//! that the modules of a crate form a ladder. ARCHITECTURE.md states them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const CRATES: [&str; 6] = ["proto", "os", "core", "objmapper-client", "objmapperd", "benches"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn dependencies(krate: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(krate).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    let section = manifest.get("dependencies").and_then(toml::Value::as_table);
    section.map(|deps| deps.keys().cloned().collect()).unwrap_or_default()
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn a_crate_depends_only_on_crates_below_it() {
    let ours = |deps: BTreeSet<String>| -> BTreeSet<String> {
        deps.into_iter().filter(|name| name.starts_with("objmapper")).collect()
    };
    let allowed: [(&str, &[&str]); 6] = [
        ("proto", &[]),
        ("os", &[]),
        ("core", &["objmapper-proto", "objmapper-os"]),
        // The core for its command alone, see below.
        ("objmapper-client", &["objmapper", "objmapper-proto", "objmapper-os"]),
        ("objmapperd", &["objmapper", "objmapper-proto", "objmapper-os"]),
        ("benches", &["objmapper", "objmapper-proto", "objmapper-os", "objmapper-client"]),
    ];
    for (krate, below) in allowed {
        for dep in ours(dependencies(krate)) {
            assert!(below.contains(&dep.as_str()), "{krate} must not depend on {dep}");
        }
    }
}

#[test]
fn the_client_library_does_not_know_the_core() {
    let manifest = fs::read_to_string(root().join("objmapper-client/Cargo.toml")).unwrap();
    assert!(manifest.contains("\nobjmapper = { workspace = true, optional = true }\n"));
    for file in sources(&root().join("objmapper-client/src")) {
        let is_command = file.components().any(|part| part.as_os_str() == "bin");
        let text = fs::read_to_string(&file).unwrap();
        let mut code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let knows = code.any(|line| line.contains("objmapper::"));
        assert!(is_command || !knows, "{} uses the core", file.display());
    }
}

#[test]
fn only_os_lists_the_crates_that_make_system_calls() {
    for krate in CRATES.into_iter().filter(|&krate| krate != "os") {
        for raw in ["libc", "nix", "rustix", "sendfd", "mio"] {
            assert!(
                !dependencies(krate).contains(raw),
                "{krate} lists {raw}: that is os' business"
            );
        }
    }
}

#[test]
fn unsafe_code_stands_in_one_file() {
    for krate in CRATES {
        for file in sources(&root().join(krate).join("src")) {
            let text = fs::read_to_string(&file).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let has_unsafe = code.clone().any(|line| {
                line.contains("unsafe {")
                    || line.contains("unsafe impl")
                    || line.contains("unsafe fn")
            });
            let allowed = file.ends_with("os/src/raw.rs") || file.ends_with("pool/task.rs");
            assert!(!has_unsafe || allowed, "{} has unsafe code", file.display());
        }
    }
}

/// The modules of a library, bottom-up, as its lib.rs declares them.
fn ladder(lib: &str) -> Vec<String> {
    let name = |line: &str| {
        let line = line.trim_end().strip_suffix(';')?;
        let line = line.strip_prefix("pub ").or(line.strip_prefix("pub(crate) ")).unwrap_or(line);
        line.strip_prefix("mod ").map(str::to_owned)
    };
    lib.lines().filter_map(name).collect()
}

/// The modules of its own crate that a file names: `crate::a` and `crate::{a, b}`.
fn named(text: &str) -> BTreeSet<String> {
    let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let mut names = BTreeSet::new();
    // Tests at a file's foot may look up.
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    for line in lines {
        for (at, found) in line.match_indices("crate::") {
            let rest = &line[at + found.len()..];
            if let Some(list) = rest.strip_prefix('{') {
                names.extend(list.split(',').map(|item| word(item.trim())));
            } else {
                names.insert(word(rest));
            }
        }
    }
    names
}

#[test]
fn the_modules_of_a_crate_form_a_ladder() {
    for krate in ["proto", "os", "core", "objmapper-client", "objmapperd"] {
        let src = root().join(krate).join("src");
        let rungs = ladder(&fs::read_to_string(src.join("lib.rs")).unwrap());
        assert!(!rungs.is_empty(), "{krate}");
        let rung = |name: &str| rungs.iter().position(|r| r == name);
        for file in sources(&src) {
            let inside = file.strip_prefix(&src).unwrap();
            let first = inside.components().next().unwrap().as_os_str().to_string_lossy();
            let Some(own) = rung(first.trim_end_matches(".rs")) else { continue };
            for name in named(&fs::read_to_string(&file).unwrap()) {
                if let Some(used) = rung(&name) {
                    assert!(
                        used <= own,
                        "{krate}: {} uses {name}, which stands above it",
                        inside.display()
                    );
                }
            }
        }
    }
}

#[test]
fn files_stay_of_a_size_to_be_read() {
    for krate in CRATES {
        for file in sources(&root().join(krate).join("src")) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= 450, "{} has {lines} lines: two files in one?", file.display());
        }
    }
}
