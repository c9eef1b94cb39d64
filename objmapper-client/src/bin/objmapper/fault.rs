//! What went wrong: the text, a hint, and the exit code.
//!
//! The codes are part of `--help`; change both or none. A reader that has gone (`| head`) is no
//! fault: there is nobody left to tell.

use anyhow::Error;
use objmapper::kv::journal::Failure;
use objmapper_client::{Error as Refusal, OsError, Status, UriBuf, UriError};
use objmapper_os::error::text;
use std::fmt;
use std::io::{self, IsTerminal, Write};

/// A refusal of this very request.
const REFUSED: u8 = 1;
/// The same code that clap uses.
const USAGE: u8 = 2;
const UNREACHABLE: u8 = 3;
const DAEMON: u8 = 4;
const HERE: u8 = 5;
/// Nothing was wrong and nothing was written.
const NOTHING_DONE: u8 = 6;

/// What is wrong with the command line where its parser could not see it.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// How the library says that a value is too long for a request.
const PASS: &str = "pass it as memory";

/// What a kernel calls the users that a user namespace does not map. user_namespaces(7)
const OVERFLOW_UID: &str = "uid 65534";

/// The worst that has happened so far, as an exit code.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    code: u8,
}

impl Outcome {
    /// Reports an error that does not keep the others from being done; one that does is given back.
    pub(crate) fn note(&mut self, error: Error) -> Result<(), Error> {
        if is_closed_pipe(&error) || ends_everything(&error) {
            return Err(error);
        }
        report(&error);
        self.code = self.code.max(exit_code(&error));
        Ok(())
    }

    /// Says that the caller has what there is.
    pub(crate) fn note_not_modified(&mut self, uri: &str) {
        self.note_nothing_done(&format!("not modified: {uri}"));
    }

    /// Says why nothing was to be done.
    pub(crate) fn note_nothing_done(&mut self, why: &str) {
        tell(&format!("{why}\n"));
        self.code = NOTHING_DONE;
    }

    /// Reports what is wrong with a part of the input, when the rest is wanted all the same.
    pub(crate) fn note_mistake(&mut self, error: &Error) {
        report(error);
        self.code = self.code.max(exit_code(error));
    }

    pub(crate) fn code(&self) -> u8 {
        self.code
    }
}

/// The last word on an error: told and turned into an exit code.
pub(crate) fn conclude(error: &Error) -> u8 {
    if is_closed_pipe(error) {
        return 0;
    }
    report(error);
    exit_code(error)
}

fn refusal(error: &Error) -> Option<&Refusal> {
    error.downcast_ref()
}

fn ends_everything(error: &Error) -> bool {
    refusal(error).is_some_and(Refusal::ends_connection) || exit_code(error) == HERE
}

fn is_closed_pipe(error: &Error) -> bool {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    match refusal(error) {
        Some(Refusal::Output(error)) => gone(error),
        Some(_) => false,
        None => error.downcast_ref().is_some_and(gone),
    }
}

fn exit_code(error: &Error) -> u8 {
    // Files are as they are; a disk that fails is another matter.
    if error.downcast_ref().is_some_and(|failure| !matches!(failure, Failure::Disk { .. })) {
        return REFUSED;
    }
    if error.is::<Usage>() {
        return USAGE;
    }
    match refusal(error) {
        None | Some(Refusal::Output(_) | Refusal::Os(_) | Refusal::DescriptorsLost) => HERE,
        Some(Refusal::Unreachable(_)) => UNREACHABLE,
        Some(Refusal::Uri { .. }) => USAGE,
        Some(error) if error.is_daemon_fault() => DAEMON,
        Some(_) => REFUSED,
    }
}

fn report(error: &Error) {
    let stderr = io::stderr();
    let (red, plain) = if colours(&stderr) { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    // Everybody else says what they were about.
    let bare = error.chain().len() == 1 && error.is::<io::Error>();
    let what = if bare { "cannot write to standard output: " } else { "" };
    let told = error.chain().map(text).collect::<Vec<_>>().join(": ");
    let mut text = format!("{red}error:{plain} {what}{told}\n");
    let hint = refusal(error).and_then(hint).or_else(|| error.downcast_ref().and_then(file_hint));
    if let Some(hint) = hint {
        text.push_str(&hint_line(&hint));
    }
    tell(&text);
}

/// Says what may help, behind an error that was told.
pub(crate) fn advise(what: &str) {
    tell(&hint_line(what));
}

/// Says what is waited for, to who sits before a terminal and may not know.
pub(crate) fn tell_of_terminal(what: &str) {
    if io::stdin().is_terminal() && io::stderr().is_terminal() {
        tell(&format!("reading {what} from the terminal; Ctrl-D on a new line ends it\n"));
    }
}

fn hint_line(hint: &str) -> String {
    format!("hint: {hint}\n")
}

fn tell(text: &str) {
    // If even this cannot be written, the exit code has to do.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Whether to colour what goes there. <https://no-color.org>
pub(crate) fn colours(stream: &impl IsTerminal) -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !unwanted && stream.is_terminal()
}

fn hint(error: &Refusal) -> Option<String> {
    match error {
        Refusal::Unreachable(error) => Some(unreachable_hint(error)),
        Refusal::Uri { uri, error } => {
            suggestion(uri, error).map(|better| format!("did you mean '{better}'?"))
        }
        Refusal::Refused { status: Status::TooLarge, text, .. } if text.contains(PASS) => Some(
            "the daemon's operator allows it by destinations.allow = [\"uid:YOURS\"] in its \
             configuration"
                .to_owned(),
        ),
        Refusal::Timeout => Some("--timeout SECONDS waits longer".to_owned()),
        Refusal::Refused { status: Status::Denied, text, .. } if text.contains(OVERFLOW_UID) => Some(
            "65534 is how the daemon sees users of another user namespace (a container's, mostly) \
             that its own does not map: no rule for a user or group matches them, only 'any' does"
                .to_owned(),
        ),
        // One with a time says it itself.
        Refusal::Refused { retry_after: None, .. } | Refusal::Closed { .. } if error.may_retry() => {
            Some("trying again may help".to_owned())
        }
        _ => None,
    }
}

fn file_hint(failure: &Failure) -> Option<String> {
    match failure {
        Failure::Locked { .. } => Some(
            "stop that daemon first; or copy its keys while it runs, with 'objmapper kv backup FILE'"
                .to_owned(),
        ),
        Failure::Damaged { file, .. }
            if file.starts_with("journal-") || file.starts_with("snapshot-") =>
        {
            Some(
                "restore a backup into another directory; without one, copy this directory and start \
                 objmapperd with --kv-damage skip, which goes on without what is damaged"
                    .to_owned(),
            )
        }
        Failure::NoBackup { .. } => {
            Some("'objmapper kv backup FILE' writes one, while the daemon runs".to_owned())
        }
        Failure::Damaged { .. } => {
            Some("this file cannot be restored: take another backup".to_owned())
        }
        _ => None,
    }
}

fn unreachable_hint(error: &OsError) -> String {
    use objmapper_os::errno;
    match error.errno() {
        errno::EACCES | errno::EPERM => {
            "this user may not connect to that socket: its owner, group and mode say who may".into()
        }
        errno::ETIMEDOUT => "objmapperd is there and accepts nobody: it may be overloaded".into(),
        errno::ENOTSOCK => {
            "this is no socket: name objmapperd's with --socket or OBJMAPPER_SOCKET".into()
        }
        errno::ENAMETOOLONG => "name a shorter path with --socket or OBJMAPPER_SOCKET".into(),
        _ => "is objmapperd running? Start it with 'objmapperd --root DIR --socket PATH', \
              or name its socket with --socket or OBJMAPPER_SOCKET"
            .into(),
    }
}

/// The URI that somebody may have meant who wrote a file's name.
fn suggestion(given: &str, error: &UriError) -> Option<String> {
    let path = match error {
        UriError::NotAbsolute => format!("/{given}"),
        UriError::Byte { .. } | UriError::Escape { .. } => given.to_owned(),
        _ => return None,
    };
    let better = UriBuf::from_path(path.as_bytes()).ok()?.to_string();
    (better != given).then_some(better)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggested(given: &str) -> Option<String> {
        suggestion(given, &given.parse::<UriBuf>().unwrap_err())
    }

    #[test]
    fn a_file_name_is_shown_as_a_uri() {
        assert_eq!(suggested("/a b/c").as_deref(), Some("/a%20b/c"));
        assert_eq!(suggested("/100%").as_deref(), Some("/100%25"));
        assert_eq!(suggested("a/b").as_deref(), Some("/a/b"));
        assert_eq!(suggested("/a/../b"), None);
        assert_eq!(suggested(""), None);
    }

    #[test]
    fn a_reader_that_left_is_no_fault() {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(conclude(&gone().into()), 0);
        assert_eq!(conclude(&Refusal::Output(gone()).into()), 0);
    }
}
