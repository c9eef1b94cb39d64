//! The configuration file as it is written, and what environment and flags lay over it.
//!
//! These structs are the list of all keys: one that is not here is a mistake with its line. Their
//! values are [`Given`], not judged yet. Everything is optional, so that "nothing was said" is
//! the empty [`Raw`].
//!
//! What must stay true: reading goes on behind a mistake. What is no TOML is told alone, all of
//! it, since the rest cannot be trusted then; what stands in the wrong place is kept
//! ([`Raw::misfits`]) and told together with values that are wrong.

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::given::{Given, Origin, Scalar};
use super::sheet::{Problem, Problems};

/// A file that was read.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its name, for messages.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
}

/// Everything that was said, a later word in the place of an earlier one.
#[derive(Debug, Clone, Default)]
pub struct Raw {
    /// `drain_deadline`
    pub drain_deadline: Option<Given>,
    /// `[[mount]]`, those that say what a mount cannot do without.
    pub mounts: Vec<Mount>,
    /// `[listen]`
    pub listen: Listen,
    /// `[pool]`
    pub pool: Pool,
    /// `[delivery]`
    pub delivery: Delivery,
    /// `[limits]`
    pub limits: Limits,
    /// `[timeouts]`
    pub timeouts: Timeouts,
    /// `[kv]`, but for its rules.
    pub kv: Kv,
    /// `kv.allow`
    pub kv_allow: Vec<Given>,
    /// `[log]`
    pub log: Log,
    /// `[destinations]`: `allow`
    pub destinations: Vec<Given>,
    /// What the file says that has no place here.
    pub misfits: Vec<Problem>,
    /// Mounts that are written as `URI=DIR[,KEY=VALUE]...`, not in the file.
    pub mount_words: Vec<Given>,
    /// A directory to be mounted at `/`, not in the file.
    pub root: Option<Given>,
}

/// `[[mount]]`
#[derive(Debug, Clone)]
#[allow(missing_docs)] // config.rs says what they mean, under the same names
pub struct Mount {
    pub uri: Given,
    pub dir: Given,
    pub symlinks: Option<Given>,
    pub read_only_clone: Option<Given>,
    pub strict: Option<Given>,
    pub shared: Option<Given>,
    pub allow: Vec<Given>,
}

/// A table whose values are texts and numbers.
trait Section {
    /// Its keys.
    const KEYS: &'static [&'static str];

    /// Those that may be a bare `true` or `false`.
    const SWITCHES: &'static [&'static str] = &[];

    /// Where the value of this key goes; `None` if there is no such key.
    fn slot(&mut self, key: &str) -> Option<&mut Option<Given>>;
}

macro_rules! section {
    ($(#[$doc:meta])* $visibility:vis $name:ident: $($key:ident)* $(; $($switch:ident)*)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default)]
        #[allow(missing_docs)] // config.rs says what they mean, under the same names
        #[allow(clippy::struct_field_names)] // as the file has them
        $visibility struct $name {
            $($visibility $key: Option<Given>,)*
            $($($visibility $switch: Option<Given>,)*)?
        }

        impl Section for $name {
            const KEYS: &'static [&'static str] =
                &[$(stringify!($key),)* $($(stringify!($switch)),*)?];
            $(const SWITCHES: &'static [&'static str] = &[$(stringify!($switch)),*];)?

            fn slot(&mut self, key: &str) -> Option<&mut Option<Given>> {
                match key {
                    $(stringify!($key) => Some(&mut self.$key),)*
                    $($(stringify!($switch) => Some(&mut self.$switch),)*)?
                    _ => None,
                }
            }
        }
    };
}

section! {
    /// `[listen]`
    pub Listen: path mode owner group backlog stats
}

section! {
    /// `[pool]`
    pub Pool: workers helpers spin
}

section! {
    /// `[delivery]`
    pub Delivery: inline_limit auto_limit in_place_limit
}

section! {
    /// `[limits]`
    pub Limits: connections connections_per_uid descriptors_in_flight descriptors_per_uid
        descriptors_per_connection index_entries index_bytes index_shards send_buffer bodies
        queued_bytes shared_descriptors
}

section! {
    /// `[timeouts]`
    pub Timeouts: hello request idle send
}

section! {
    /// `[kv]`
    pub Kv: socket mode listen password_file max_memory eviction dir sync sync_interval damage
        segment compact_from compact_percent compact_every; listen_without_password
}

section! {
    /// `[log]`
    pub Log: filter format
}

section! {
    /// What of a mount is no list.
    MountScalars: uri dir symlinks read_only_clone; strict shared
}

/// All keys that stand outside of a table.
const TOP: &[&str] = &[
    "drain_deadline",
    "mount",
    "listen",
    "destinations",
    "pool",
    "delivery",
    "limits",
    "timeouts",
    "kv",
    "log",
];

impl Raw {
    /// What the file says.
    pub fn parse(document: &Document) -> Result<Self, Problems> {
        let (table, mut errors) = DeTable::parse_recoverable(&document.text);
        errors.sort_by_key(|error| error.span().map(|span| span.start));
        let problems = errors.iter().map(|error| no_toml(document, error)).collect();
        if let Some(problems) = Problems::of(problems) {
            return Err(problems);
        }
        let mut raw = Self::default();
        let mut reader = Reader { document, misfits: Vec::new() };
        for (key, value) in table.into_inner() {
            match &**key.get_ref() {
                "drain_deadline" => raw.drain_deadline = reader.scalar(&value),
                "mount" => raw.mounts = reader.mounts(&value),
                "listen" => reader.section(&value, &mut raw.listen),
                "destinations" => raw.destinations = reader.destinations(&value),
                "pool" => reader.section(&value, &mut raw.pool),
                "delivery" => reader.section(&value, &mut raw.delivery),
                "limits" => reader.section(&value, &mut raw.limits),
                "timeouts" => reader.section(&value, &mut raw.timeouts),
                "kv" => raw.kv_allow = reader.rules(&value, &mut raw.kv),
                "log" => reader.section(&value, &mut raw.log),
                unknown => reader.unknown(key.span().start, unknown, TOP),
            }
        }
        raw.misfits = reader.misfits;
        Ok(raw)
    }
}

/// Takes values to their places, and notes what has none.
struct Reader<'a> {
    document: &'a Document,
    misfits: Vec<Problem>,
}

impl Reader<'_> {
    fn misfit(&mut self, offset: usize, what: &str) {
        self.misfits.push(self.document.problem(offset, what));
    }

    fn unknown(&mut self, offset: usize, key: &str, known: &[&str]) {
        let quoted: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
        let expected = match &quoted[..] {
            [one] => one.clone(),
            [one, other] => format!("{one} or {other}"),
            many => format!("one of {}", many.join(", ")),
        };
        self.misfit(offset, &format!("unknown key `{key}`, expected {expected}"));
    }

    fn scalar(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Given> {
        let offset = value.span().start;
        let scalar = match value.get_ref() {
            DeValue::String(text) => Scalar::Text(text.as_ref().into()),
            DeValue::Integer(number) => {
                let Ok(number) = i64::from_str_radix(number.as_str(), number.radix()) else {
                    self.misfit(offset, "a number as large as this is not understood");
                    return None;
                };
                Scalar::Number(number)
            }
            other => {
                let what = other.type_str();
                let wanted = "a text in quotes or a whole number";
                self.misfit(offset, &format!("must be {wanted}, this is {what}"));
                return None;
            }
        };
        Some(Given { scalar, origin: Origin::File(offset) })
    }

    fn section<S: Section>(&mut self, value: &Spanned<DeValue<'_>>, section: &mut S) {
        let Some(table) = value.get_ref().as_table() else {
            return self.misfit(value.span().start, "must be a table");
        };
        for (key, value) in table {
            self.entry(key, value, section, S::KEYS);
        }
    }

    /// Fills in one key of a section; `known` are all that could stand there.
    fn entry<S: Section>(
        &mut self,
        key: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
        section: &mut S,
        known: &[&str],
    ) {
        let name: &str = key.get_ref();
        let given = match (section.slot(name), value.get_ref()) {
            (None, _) => return self.unknown(key.span().start, name, known),
            (Some(_), DeValue::Boolean(on)) if S::SWITCHES.contains(&name) => {
                Some(Given::text(on.to_string(), &Origin::File(value.span().start)))
            }
            (Some(_), _) => self.scalar(value),
        };
        if let Some(slot) = section.slot(name) {
            *slot = given;
        }
    }

    /// A section that has a list of rules as well.
    fn rules<S: Section>(&mut self, value: &Spanned<DeValue<'_>>, section: &mut S) -> Vec<Given> {
        let Some(table) = value.get_ref().as_table() else {
            self.misfit(value.span().start, "must be a table");
            return Vec::new();
        };
        let known = [S::KEYS, &["allow"]].concat();
        let mut allow = Vec::new();
        for (key, value) in table {
            match (&**key.get_ref(), value.get_ref()) {
                ("allow", DeValue::Array(rules)) => {
                    allow = rules.iter().filter_map(|rule| self.scalar(rule)).collect();
                }
                ("allow", _) => self.misfit(value.span().start, "must be a list of texts in [ ]"),
                _ => self.entry(key, value, section, &known),
            }
        }
        allow
    }

    fn list(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<Given> {
        if let Some(list) = value.get_ref().as_array() {
            return list.iter().filter_map(|value| self.scalar(value)).collect();
        }
        self.misfit(value.span().start, "must be a list of texts in [ ]");
        Vec::new()
    }

    fn destinations(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<Given> {
        let Some(table) = value.get_ref().as_table() else {
            self.misfit(value.span().start, "must be a table");
            return Vec::new();
        };
        let mut allow = Vec::new();
        for (key, value) in table {
            match &**key.get_ref() {
                "allow" => allow = self.list(value),
                unknown => self.unknown(key.span().start, unknown, &["allow"]),
            }
        }
        allow
    }

    fn mounts(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<Mount> {
        let Some(list) = value.get_ref().as_array() else {
            self.misfit(value.span().start, "must be [[mount]]: there can be several");
            return Vec::new();
        };
        list.iter().filter_map(|value| self.mount(value)).collect()
    }

    fn mount(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Mount> {
        let offset = value.span().start;
        let Some(table) = value.get_ref().as_table() else {
            self.misfit(offset, "must be a table with uri and dir");
            return None;
        };
        let mut scalars = MountScalars::default();
        let allow = self.rules(value, &mut scalars);
        for name in ["uri", "dir"] {
            if !table.keys().any(|key| key.get_ref() == name) {
                self.misfit(offset, &format!("missing key `{name}`"));
            }
        }
        let MountScalars { uri, dir, symlinks, read_only_clone, strict, shared } = scalars;
        Some(Mount { uri: uri?, dir: dir?, symlinks, read_only_clone, strict, shared, allow })
    }
}

impl Document {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let why = objmapper_os::error::text(&error);
            Problems::one(Problem::new(format!("{}: cannot be read: {why}", path.display())))
        })?;
        Ok(Self { path: path.to_owned(), text })
    }

    /// `file:line` of the byte at `offset`.
    pub(super) fn place(&self, offset: usize) -> String {
        let before = self.text.as_bytes().iter().take(offset);
        let line = 1 + before.filter(|&&byte| byte == b'\n').count();
        format!("{}:{line}", self.path.display())
    }

    /// What is wrong at the byte at `offset`, with the line.
    fn problem(&self, offset: usize, what: &str) -> Problem {
        let text = format!("{}: {what}\n    {}", self.place(offset), self.line(offset));
        Problem::new(text).at(offset)
    }

    /// The line that the byte at `offset` is in.
    fn line(&self, offset: usize) -> &str {
        let (before, after) = self.text.split_at_checked(offset).unwrap_or((&self.text, ""));
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let end = offset + after.find('\n').unwrap_or(after.len());
        self.text.get(start..end).unwrap_or_default().trim()
    }
}

/// What the parser says, with the line.
fn no_toml(document: &Document, error: &toml::de::Error) -> Problem {
    match error.span() {
        // An error at the end of the file points behind its last line.
        Some(span) => {
            let end = document.text.trim_end().len();
            let what = match error.message() {
                // `mode = 0660`, as one is used to writing it.
                said if said.contains("leading zero") => {
                    format!("{said}: write octal digits in quotes, such as \"0660\"")
                }
                said => said.to_owned(),
            };
            document.problem(span.start.min(end), &what)
        }
        None => Problem::new(format!("{}: {}", document.path.display(), error.message())),
    }
}
