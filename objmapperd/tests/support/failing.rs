//! System calls that fail for the daemon, as the kernel would let them: strace(1) answers in its place.

use std::path::Path;

use super::daemon::Setup;
use super::skip;

const STRACE: &str = "/usr/bin/strace";

/// One of these calls fails with this error: the nth of each thread, or from there on all (`n+`), as strace
/// takes it; if it is about this file, or any. `None` where strace is missing.
pub fn failing(
    setup: Setup,
    file: Option<&Path>,
    (calls, error, when): (&str, &str, &str),
) -> Option<Setup> {
    if !Path::new(STRACE).exists() {
        skip("strace is not installed");
        return None;
    }
    let inject = format!("inject={calls}:error={error}:when={when}");
    let trace = format!("trace={calls}");
    let mut words = vec![STRACE, "-D", "-f", "-qq", "-o", "/dev/null"];
    words.extend(file.into_iter().flat_map(|file| ["-P", file.to_str().unwrap()]));
    words.extend(["-e", &trace, "-e", &inject]);
    // Where it was built with it: LeakSanitizer would trace what is traced already.
    Some(setup.variable("LSAN_OPTIONS", "detect_leaks=0").wrapper(&words))
}
