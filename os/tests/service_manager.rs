//! What a service manager passes at start, taken by a process that it starts.
//!
//! The environment can be changed only while a process has one thread, so each case runs this
//! program again, by way of a shell that plays the service manager. Its own small harness speaks
//! as much of the usual one's command line as cargo test and cargo nextest use.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test, and its harness

use objmapper_os::fds::count_open;
use objmapper_os::service_manager::{Notify, listen_fds, watchdog_usec};
use rustix::io::{FdFlags, fcntl_getfd};
use std::process::Command;

const CHILD: &str = "--as-a-service";

const CASES: [(&str, fn()); 6] = [
    ("passed_descriptors_are_taken_once_with_their_names", passed),
    ("descriptors_passed_to_another_process_are_left", for_another),
    ("a_descriptor_of_our_own_making_is_refused", our_own),
    ("a_number_that_makes_no_sense_is_refused", senseless),
    ("with_other_threads_running_the_environment_stays", threads),
    ("the_watchdog_is_known", watchdog),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    if has(CHILD) {
        return as_a_service(arguments.last().map_or("", String::as_str));
    }
    let filters: Vec<_> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|word| name.contains(*word));
    for (name, case) in CASES.into_iter().filter(|(name, _)| wanted(name) && !has("--ignored")) {
        if has("--list") {
            println!("{name}: test");
        } else {
            case();
            println!("test {name} ... ok");
        }
    }
}

/// What this program says when the shell has run `setup` and replaced itself by it.
fn service(setup: &str, mode: &str) -> String {
    let exe = std::env::current_exe().unwrap();
    let script = format!("{setup} exec \"$0\" {CHILD} {mode}");
    let output = Command::new("sh").arg("-c").arg(script).arg(exe).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The service: takes what was passed and says what it sees.
fn as_a_service(mode: &str) {
    if mode == "watchdog" {
        println!("{:?} {}", watchdog_usec(), Notify::from_env().unwrap().is_some());
        return;
    }
    let (wait, waited) = std::sync::mpsc::channel::<()>();
    let other = (mode == "threads").then(|| std::thread::spawn(move || waited.recv()));
    let opened = (mode == "own").then(|| std::fs::File::open("/dev/null").unwrap());
    let before = count_open().unwrap();
    match listen_fds() {
        Ok(fds) => {
            assert_eq!(count_open().unwrap(), before);
            for (name, fd) in &fds {
                assert!(fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC));
                println!("{name}");
            }
        }
        Err(error) => println!("{error}"),
    }
    let left = std::env::vars_os().any(|(name, _)| name.to_string_lossy().starts_with("LISTEN_"));
    println!("variables left: {left}, again: {}", listen_fds().map_or(99, |fds| fds.len()));
    drop((wait, opened));
    other.map(std::thread::JoinHandle::join);
}

fn passed() {
    let setup = "export LISTEN_PID=$$ LISTEN_FDS=3 LISTEN_FDNAMES=api:kv;";
    let files = "exec 3</dev/null 4</dev/zero 5</dev/null;";
    let said = service(&format!("{setup} {files}"), "plain");
    assert_eq!(said, "api\nkv\nunknown\nvariables left: false, again: 0\n");
    assert_eq!(service("", "plain"), "variables left: false, again: 0\n");
}

fn for_another() {
    let said = service("export LISTEN_PID=1 LISTEN_FDS=1; exec 3</dev/null;", "plain");
    assert_eq!(said, "variables left: true, again: 0\n");
}

fn our_own() {
    let said = service("export LISTEN_PID=$$ LISTEN_FDS=1; exec 3<&-;", "own");
    assert!(said.contains("descriptor 3 is not inherited"), "{said}");
    let said = service("export LISTEN_PID=$$ LISTEN_FDS=1; exec 3<&-;", "plain");
    assert!(said.contains("descriptor 3") && said.contains("EBADF"), "{said}");
}

fn senseless() {
    for number in ["-1", "x", "70000", ""] {
        let said = service(&format!("export LISTEN_PID=$$ LISTEN_FDS={number};"), "plain");
        assert!(said.contains("EINVAL") && said.contains("LISTEN_FDS="), "{said}");
    }
}

fn threads() {
    let said = service("export LISTEN_PID=$$ LISTEN_FDS=1; exec 3</dev/null;", "threads");
    assert!(said.contains("other threads are running"), "{said}");
    assert!(said.ends_with("variables left: true, again: 99\n"), "{said}");
}

fn watchdog() {
    let said = service("unset NOTIFY_SOCKET; export WATCHDOG_USEC=5000000;", "watchdog");
    assert_eq!(said, "Some(5000000) false\n");
    let said = service("export WATCHDOG_USEC=7 WATCHDOG_PID=$$;", "watchdog");
    assert!(said.starts_with("Some(7)"), "{said}");
    for other in ["WATCHDOG_USEC=7 WATCHDOG_PID=1", "WATCHDOG_USEC=0", "WATCHDOG_USEC=x"] {
        assert!(service(&format!("export {other};"), "watchdog").starts_with("None"), "{other}");
    }
}
