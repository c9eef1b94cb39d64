//! The program, run with a file, with flags, with variables.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A directory with an empty tree to serve, and perhaps a configuration file.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn tree(&self) -> String {
        self.path("tree").to_str().unwrap().to_owned()
    }

    /// `[[mount]]` for the tree, then what else the file shall say.
    pub(crate) fn file(&self, rest: &str) -> PathBuf {
        let path = self.path("objmapperd.toml");
        let mount = format!("[[mount]]\nuri = \"/\"\ndir = {:?}\n", self.tree());
        fs::write(&path, mount + rest).unwrap();
        path
    }
}

/// `objmapperd --config file ...`; without a file there is none at all.
pub(crate) fn objmapperd(
    file: Option<&Path>,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> Output {
    Command::new(env!("CARGO_BIN_EXE_objmapperd"))
        .env_clear()
        .envs(variables.iter().copied())
        .arg("--config")
        .arg(file.unwrap_or(Path::new("/dev/null")))
        .args(arguments)
        .output()
        .unwrap()
}

/// The settings that `--check-config` prints.
pub(crate) fn checked(
    file: Option<&Path>,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> String {
    let arguments = [&["--check-config"], arguments].concat();
    let output = objmapperd(file, &arguments, variables);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(said, "");
    String::from_utf8(output.stdout).unwrap()
}

/// What is said about settings that are refused.
pub(crate) fn refused(
    file: Option<&Path>,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> String {
    let output = objmapperd(file, arguments, variables);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}
