//! The sheet on which settings are filled in: each is read, shown and remembered here.
//!
//! One pass gives three things: the checked values, the list of everything that is wrong, and the
//! effective settings as text. So none of the three can be about another set of settings.

use std::error::Error;
use std::fmt::{self, Write};
use std::path::Path;

use super::DEFAULT_FILE;
use super::file::Document;
use super::given::{Given, Origin};
use super::value::Kind;

/// One thing that is wrong, with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it is in the file, in bytes from its beginning; `None` if it is not in the file.
    offset: Option<usize>,
    text: String,
}

impl Problem {
    /// In these words.
    pub fn new(text: impl Into<String>) -> Self {
        Self { offset: None, text: text.into() }
    }

    /// The same, about this place in the file.
    pub(super) fn at(self, offset: usize) -> Self {
        Self { offset: Some(offset), ..self }
    }
}

/// All that is wrong; at least one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Only this.
    pub fn one(problem: Problem) -> Self {
        Self(vec![problem])
    }

    /// These, if there are any: those of the file first, in its order.
    pub(super) fn of(mut problems: Vec<Problem>) -> Option<Self> {
        problems.sort_by_key(|problem| (problem.offset.is_none(), problem.offset));
        (!problems.is_empty()).then_some(Self(problems))
    }
}

impl fmt::Display for Problems {
    /// A heading and a line for each; some go on in further, indented lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "there is a mistake in the configuration:")?,
            n => write!(f, "there are {n} mistakes in the configuration:")?,
        }
        self.0.iter().try_for_each(|problem| write!(f, "\n  {}", problem.text))
    }
}

impl Error for Problems {}

/// The sheet.
#[derive(Debug)]
pub(super) struct Sheet<'a> {
    document: Option<&'a Document>,
    section: &'static str,
    problems: Vec<Problem>,
    effective: String,
}

impl<'a> Sheet<'a> {
    /// An empty sheet for what is said in this file, in the environment and by flags; `problems`
    /// are known already.
    pub(super) fn new(document: Option<&'a Document>, problems: Vec<Problem>) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let file = match document {
            Some(document) => format!("{}, then environment, then flags", document.path.display()),
            None => "no file; environment, then flags".to_owned(),
        };
        let effective = format!(
            "# Effective settings of objmapperd {version}, from: {file}.\n\
             # A remark says where a value comes from; one without a remark is the default.\n\n"
        );
        Self { document, section: "", problems, effective }
    }

    /// What follows is about this section, and is not written down yet.
    pub(super) fn enter(&mut self, name: &'static str) {
        self.section = name;
    }

    /// What follows is in `[name]`.
    pub(super) fn section(&mut self, name: &'static str) {
        self.enter(name);
        let _ = writeln!(self.effective, "\n[{name}]"); // into a String: cannot fail
    }

    /// What follows is in one more `[[name]]`.
    pub(super) fn element(&mut self, name: &'static str) {
        self.enter(name);
        let _ = writeln!(self.effective, "\n[[{name}]]");
    }

    /// Fills in a setting: what was given if it is acceptable, else the default.
    pub(super) fn take<'g, K: Kind>(
        &mut self,
        key: &str,
        given: impl Into<Option<&'g Given>>,
        default: K::Value,
        kind: &K,
    ) -> K::Value {
        let given = given.into();
        let value = given.and_then(|given| self.read(key, given, kind)).unwrap_or(default);
        self.show(key, &kind.show(&value), given.map(|given| &given.origin));
        value
    }

    /// Fills in a setting that may be left open.
    pub(super) fn take_if_given<'g, K: Kind>(
        &mut self,
        key: &str,
        given: impl Into<Option<&'g Given>>,
        kind: &K,
    ) -> Option<K::Value> {
        let given = given.into();
        let value = given.and_then(|given| self.read(key, given, kind));
        match (&value, given) {
            (Some(value), Some(given)) => self.show(key, &kind.show(value), Some(&given.origin)),
            _ => drop(writeln!(self.effective, "# {key} is not set")),
        }
        value
    }

    /// The value, or a problem and nothing.
    pub(super) fn read<K: Kind>(&mut self, key: &str, given: &Given, kind: &K) -> Option<K::Value> {
        kind.read(given).map_err(|why| self.refuse(key, given, &why)).ok()
    }

    /// Writes down a line of the effective settings; `value` is as in a file.
    pub(super) fn show(&mut self, key: &str, value: &str, origin: Option<&Origin>) {
        let _ = match origin {
            None => writeln!(self.effective, "{key} = {value}"),
            Some(origin) => {
                let origin = self.place(origin);
                writeln!(self.effective, "{key} = {value}  # {origin}")
            }
        };
    }

    /// Notes that a value cannot stand: where, which, and why.
    pub(super) fn refuse(&mut self, key: &str, given: &Given, why: &str) {
        let place = self.place(&given.origin);
        let value = &given.scalar;
        // In the words of whoever gave it: a flag has a name of its own.
        let what = match (&given.origin, self.section) {
            (Origin::File(_), "") => format!("{place}: {key} = {value}"),
            (Origin::File(_), section) => format!("{place}: {section}.{key} = {value}"),
            (Origin::Within(_), _) => format!("{place}, {key} {value}"),
            (Origin::Variable(_) | Origin::Flag(_), _) => format!("{place} {value}"),
        };
        let problem = Problem::new(format!("{what}: {why}"));
        self.problems.push(match given.origin {
            Origin::File(offset) => problem.at(offset),
            _ => problem,
        });
    }

    /// Notes any other problem.
    pub(super) fn complain(&mut self, text: impl Into<String>) {
        self.problems.push(Problem::new(text));
    }

    /// The file in which something could be said.
    pub(super) fn file(&self) -> String {
        let path = self.document.map_or(Path::new(DEFAULT_FILE), |document| &document.path);
        path.display().to_string()
    }

    /// Where something was said, for people.
    pub(super) fn place(&self, origin: &Origin) -> String {
        match (origin, self.document) {
            (Origin::File(offset), Some(document)) => document.place(*offset),
            (Origin::File(_), None) => "file".to_owned(),
            (Origin::Variable(name) | Origin::Flag(name), _) => name.clone(),
            (Origin::Within(whole), _) => self.place(whole),
        }
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// The effective settings, or all that is wrong.
    pub(super) fn finish(self) -> Result<String, Problems> {
        Problems::of(self.problems).map_or(Ok(self.effective), Err)
    }
}
