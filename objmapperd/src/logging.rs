//! The log: events of `tracing`, a line each, on standard error.
//!
//! ```text
//!  2026-11-21T10:43:00.123Z  INFO ready    plain
//!  <6>ready                                 journal
//! ```
//!
//! What must stay true: an event is one line and one write, whatever it contains. Control
//! characters are escaped, so that no name that a client sends can colour a terminal, begin a
//! line of its own, or give itself a priority.
//!
//! Under the journal (sd-daemon(3)) a line begins with its priority and has no time, which the
//! journal adds. The module an event comes from is told from `debug` on.

mod seldom;

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, IsTerminal, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::time::SystemTime;

use anyhow::Context;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields, MakeWriter};
use tracing_subscriber::registry::{LookupSpan, Scope};

use crate::config::{Log, LogFormat};

pub use seldom::{Now, Seldom};

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain { colours: bool },
    Journal,
}

/// What [`start`] settled on, for [`complain`].
static STYLE: OnceLock<Style> = OnceLock::new();

/// Begins to log. Once per process.
pub fn start(log: &Log) -> anyhow::Result<()> {
    let style = *STYLE.get_or_init(|| Style::choose(log.format));
    let filter = EnvFilter::builder()
        .parse(&log.filter)
        .with_context(|| format!("the log filter {:?} is not understood", log.filter))?;
    tracing::subscriber::set_global_default(subscriber(style, filter, io::stderr))
        .context("the log was started already")
}

/// Says on standard error why the program ends, in the style of the log. For people: several
/// lines, each with the priority of an error under the journal.
pub fn complain(text: &str) {
    let style = STYLE.get().copied().unwrap_or_else(|| Style::choose(LogFormat::Auto));
    let prefix = if style == Style::Journal { "<3>" } else { "" };
    let lines = text.lines().fold(String::new(), |lines, line| lines + prefix + line + "\n");
    // Nobody is left to be told if this fails.
    let _ = io::stderr().write_all(lines.as_bytes());
}

impl Style {
    fn choose(format: LogFormat) -> Self {
        match format {
            LogFormat::Journal => Self::Journal,
            LogFormat::Auto if is_journal() => Self::Journal,
            LogFormat::Auto | LogFormat::Plain => Self::Plain { colours: wants_colours() },
        }
    }
}

/// Whether standard error is the stream that the service manager connected to the journal, and
/// not one that was put in its place. systemd.exec(5), `JOURNAL_STREAM`
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let stderr = io::stderr().as_fd().try_clone_to_owned().map(File::from);
    let Ok(metadata) = stderr.and_then(|file| file.metadata()) else { return false };
    stream == format!("{}:{}", metadata.dev(), metadata.ino())
}

/// On a terminal that knows colours, unless <https://no-color.org> is asked for.
fn wants_colours() -> bool {
    let is = |name: &str, test: fn(&str) -> bool| std::env::var(name).is_ok_and(|v| test(&v));
    io::stderr().is_terminal() && !is("NO_COLOR", |v| !v.is_empty()) && !is("TERM", |v| v == "dumb")
}

fn subscriber<W>(style: Style, filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .fmt_fields(format::debug_fn(write_field).delimited(" "))
        .event_format(style)
        .with_writer(writer)
        .finish()
}

impl<S, N> FormatEvent<S, N> for Style
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        self.write_head(&mut out, level)?;
        if level >= Level::DEBUG {
            write!(out, "{}: ", event.metadata().target())?;
        }
        for span in context.event_scope().into_iter().flat_map(Scope::from_root) {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>().map_or("", |f| f.fields.as_str());
            write!(out, "{}{{{fields}}}: ", span.name())?;
        }
        context.format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

impl Style {
    fn write_head(self, out: &mut Writer<'_>, level: Level) -> fmt::Result {
        // Priorities of syslog(3), and colours of a terminal.
        let (priority, colour) = match level {
            Level::ERROR => (3, 31),
            Level::WARN => (4, 33),
            Level::INFO => (6, 32),
            Level::DEBUG => (7, 34),
            Level::TRACE => (7, 35),
        };
        let now = || humantime::format_rfc3339_millis(SystemTime::now());
        match self {
            Self::Journal => write!(out, "<{priority}>"),
            Self::Plain { colours: false } => write!(out, "{} {level:>5} ", now()),
            Self::Plain { colours: true } => {
                write!(out, "\x1b[2m{}\x1b[0m \x1b[{colour}m{level:>5}\x1b[0m ", now())
            }
        }
    }
}

fn write_field(
    out: &mut Writer<'_>,
    field: &tracing::field::Field,
    value: &dyn fmt::Debug,
) -> fmt::Result {
    if field.name() != "message" {
        write!(out, "{}=", field.name())?;
    }
    write!(Clean(out), "{value:?}")
}

/// Escapes control characters on the way.
struct Clean<'a, 'w>(&'a mut Writer<'w>);

impl fmt::Write for Clean<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(char::is_control) {
            let mut rest = piece.chars();
            match rest.next_back().filter(|last| last.is_control()) {
                Some(control) => write!(self.0, "{}{}", rest.as_str(), control.escape_default())?,
                None => self.0.write_str(piece)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<Vec<u8>>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written, one string for each write.
    fn logged(style: Style, filter: &str, work: fn()) -> Vec<String> {
        let memory = Memory::default();
        let writer = memory.clone();
        let filter = EnvFilter::builder().parse(filter).unwrap();
        let subscriber = subscriber(style, filter, move || writer.clone());
        tracing::subscriber::with_default(subscriber, work);
        let lines = memory.0.lock().unwrap();
        lines.iter().map(|bytes| String::from_utf8(bytes.clone()).unwrap()).collect()
    }

    #[test]
    fn the_journal_gets_priorities_and_no_time() {
        let lines = logged(Style::Journal, "info", || {
            tracing::error!("it is broken");
            tracing::warn!(limit = 7, "near it");
            tracing::info!(path = %"/a/b", name = "c d", "listening");
            tracing::debug!("not asked for");
        });
        assert_eq!(
            lines,
            ["<3>it is broken\n", "<4>near it limit=7\n", "<6>listening path=/a/b name=\"c d\"\n"]
        );
    }

    #[test]
    fn spans_and_modules_are_told() {
        let lines = logged(Style::Journal, "trace", || {
            tracing::info_span!("connection", id = 3).in_scope(|| tracing::debug!("gone"));
        });
        assert_eq!(lines, [format!("<7>{}: connection{{id=3}}: gone\n", module_path!())]);
    }

    #[test]
    fn nothing_that_is_logged_can_begin_a_line_or_a_colour() {
        let lines = logged(Style::Journal, "info", || {
            tracing::info!(uri = %"/a\n<0>panic\x1b[31m", "two\r\nlines\u{9b}1m");
        });
        assert_eq!(lines, ["<6>two\\r\\nlines\\u{9b}1m uri=/a\\n<0>panic\\u{1b}[31m\n"]);
    }

    #[test]
    fn plain_lines_have_the_time_and_colours_only_if_wanted() {
        let hello = || tracing::info!("hello");
        let plain = logged(Style::Plain { colours: false }, "info", hello).concat();
        assert!(plain.starts_with("20") && plain.ends_with("Z  INFO hello\n"), "{plain:?}");
        let coloured = logged(Style::Plain { colours: true }, "info", hello).concat();
        assert!(coloured.contains("\x1b[32m INFO\x1b[0m hello\n"), "{coloured:?}");
    }
}
