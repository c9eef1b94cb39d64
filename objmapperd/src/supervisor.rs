//! What a service manager is told, in the words of sd_notify(3): ready, reloading,
//! stopping, alive, and a line of status for people.
//!
//! ```text
//!  READY ─▶ (SIGHUP) RELOADING with the time ─▶ READY ─▶ … ─▶ STOPPING
//!    └──── WATCHDOG, again and again, if it wants to hear that ────┘
//! ```
//!
//! What must stay true: each RELOADING is followed by a READY, whether or not the new
//! settings were taken over (the status says which), since the service manager waits
//! for it. Without a service manager all of this is nothing.

use objmapper_os as os;
use os::clock;
use os::service_manager::{self, Notify};

/// The longest status, in bytes; more would be cut anyway where it is shown. Not tuned.
const STATUS: usize = 400;

/// The way to the service manager, if there is one.
#[derive(Debug)]
pub struct Supervisor {
    notify: Option<Notify>,
    watchdog_usec: Option<u64>,
}

impl Supervisor {
    /// The one that the environment names.
    pub fn from_env() -> os::Result<Self> {
        let notify = Notify::from_env()?;
        let watchdog_usec = notify.as_ref().and_then(|_| service_manager::watchdog_usec());
        Ok(Self { notify, watchdog_usec })
    }

    /// Serving so many mounts; `trouble` is what people should know beside.
    pub fn ready(&self, mounts: usize, trouble: Option<&str>) {
        let noun = if mounts == 1 { "mount" } else { "mounts" };
        let trouble = trouble.map(|text| format!("; {text}")).unwrap_or_default();
        self.say(&format!("READY=1\n{}", status(&format!("Serving {mounts} {noun}{trouble}"))));
    }

    /// About to read the settings again. The time tells the service manager that this
    /// answers the signal it has just sent.
    pub fn reloading(&self) {
        let now = clock::monotonic_ns() / 1000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={now}\n{}", status("Reloading")));
    }

    /// No new connections any more.
    pub fn stopping(&self) {
        self.say(&format!("STOPPING=1\n{}", status("Draining")));
    }

    /// After how many microseconds without a sign of life it takes action, if it does.
    pub const fn watchdog_usec(&self) -> Option<u64> {
        self.watchdog_usec
    }

    /// All who serve get on with it.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    fn say(&self, message: &str) {
        if let Some(notify) = &self.notify
            && let Err(error) = notify.notify(message)
        {
            tracing::warn!(%error, "cannot tell the service manager");
        }
    }
}

/// A STATUS line: one line, whatever the text is.
fn status(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|c| !c.is_control()).take(STATUS).collect();
    format!("STATUS={line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(status("a\n  b\nREADY=1"), "STATUS=a b READY=1");
        assert_eq!(status(&"ä\u{1b}".repeat(1000)), format!("STATUS={}", "ä".repeat(STATUS)));
    }
}
