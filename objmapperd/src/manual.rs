//! The daemon's own manual page, for section 8: its flags as `--help` has them, and in short what
//! stands around them. `docs/operating.md` has the whole.

use std::io;

use clap::builder::Resettable;

use crate::config::DEFAULT_FILE;

/// What stands behind the notes, as roff; see man(7).
const REST: &str = r#".SH FILES
.TP
.I DEFAULT_FILE
Settings, in TOML: mounts (\fB[[mount]]\fR with \fBuri\fR, \fBdir\fR and rules in \fBallow\fR),
\fB[listen]\fR, \fB[kv]\fR, \fB[limits]\fR, \fB[timeouts]\fR, \fB[log]\fR and others. A name that is not known is
an error. \fBobjmapperd \-\-check\-config\fR prints all of them with their values.
.TP
.I /run/objmapper/objmapper.sock
The socket of root and services, if nothing else is said.
.TP
.I $XDG_RUNTIME_DIR/objmapper.sock
The socket of other users' daemons.
.SH SIGNALS
.TP
.BR SIGTERM ", " SIGINT
Accept no new connections, finish what is under way until \fB\-\-drain\-deadline\fR at most, and stop; the
same again: stop at once.
.TP
.B SIGHUP
Read mounts and rules again; nobody is disconnected.
.SH SEE ALSO
.BR objmapper (1),
.BR systemd.socket (5)
.PP
.IR docs/operating.md ,
.IR docs/keyspace.md " and"
.IR proto/PROTOCOL.md " in the source: every setting, counter and limit; keys; the protocol."
"#;

/// The page. What `command` says behind its flags begins with examples under a line `Examples:`; each
/// paragraph after them is one of the notes.
pub(crate) fn page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let more = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    // A line that begins with one of these would be a request to the formatter.
    let more = more.replace('\\', "\\e").replace('-', "\\-");
    let more = more.replace("\n.", "\n\\&.").replace("\n'", "\n\\&'");
    let (examples, notes) = more.split_once("\n\n").unwrap_or((&more, ""));
    let examples = examples.strip_prefix("Examples:\n").unwrap_or(examples);
    let notes = notes.replace("\n\n", "\n.PP\n");
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone().after_help(Resettable::Reset))
        .section("8")
        .source(concat!("objmapper ", env!("CARGO_PKG_VERSION")))
        .render(&mut page)?;
    let rest = REST.replace("DEFAULT_FILE", DEFAULT_FILE);
    let text = format!(".SH EXAMPLES\n.nf\n{examples}\n.fi\n.SH NOTES\n{notes}\n{rest}");
    page.extend_from_slice(text.as_bytes());
    Ok(page)
}
