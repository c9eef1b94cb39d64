//! What runs in the machine: the daemon, its clients, and one that looks what is there. What it says goes
//! over the serial line, a line each:
//!
//! ```text
//! starting                      the daemon is being started
//! key W K TURN LONG ENDS        this is there; ENDS is 1 or 0
//! sum N                         so is this
//! found                         and that is all
//! sent W                        writer W sends its next pipeline
//! done W                        one more request of it is acknowledged
//! tick                          time passes
//! compacted                     the daemon has compacted its journal
//! ```
//!
//! A request is told before it is sent, and its reply when it has come: so what is known outside is
//! never more than what was acknowledged, and never less than what was sent.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{env, panic, thread};

use super::TICK;
use super::support::resp::{Reply, Resp};
use super::support::wait_for;
use super::support::writers::{Found, Writer};

/// Says to this program that it runs in the machine, and where its files are.
pub const HERE: &str = "OBJMAPPER_POWER_CUTS";

/// The daemon's configuration.
pub const CONFIG: &str = "objmapperd.toml";

/// A line for each writer: where it goes on.
pub const TURNS: &str = "turns";

const SOCKET: &str = "/run/kv";
const LOG: &str = "/run/log";

/// The daemon's configuration, in part.
pub fn config(policy: &str, interval: u64) -> String {
    format!(
        "[kv]\nsocket = \"{SOCKET}\"\ndir = \"/run/disk/kv\"\nsync = \"{policy}\"\nsync_interval = \"{interval}ms\"\n"
    )
}

/// The serial line.
#[derive(Debug, Clone)]
struct Serial(Arc<Mutex<File>>);

impl Serial {
    fn say(&self, line: &str) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

/// Until the power is cut.
pub fn run() -> ! {
    let serial = File::options().write(true).open("/dev/ttyS0").unwrap();
    let serial = Serial(Arc::new(Mutex::new(serial)));
    let told = serial.clone();
    panic::set_hook(Box::new(move |info| {
        let log = fs::read_to_string(LOG).unwrap_or_default();
        told.say(&format!("{info}; the daemon's log: {log}").replace('\n', " | "));
    }));
    let here = env::var(HERE).unwrap();
    serial.say("starting");
    let log = File::create(LOG).unwrap();
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_objmapperd"))
        .arg("--config")
        .arg(Path::new(&here).join(CONFIG))
        .args(["--socket", "/run/socket", "--pool-size", "2", "--helpers", "2"])
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut redis = wait_for("it takes clients", || {
        assert_eq!(daemon.try_wait().unwrap(), None, "the daemon has ended");
        Resp::connect(Path::new(SOCKET)).ok()
    });
    let found = Found::read(&mut redis);
    for (writer, map) in found.maps.iter().enumerate() {
        for (key, (value, ends)) in map {
            let ends = u8::from(*ends);
            serial.say(&format!("key {writer} {key} {} {} {ends}", value.turn, value.long));
        }
    }
    serial.say(&format!("sum {}", found.sum));
    serial.say("found");
    for (number, turn) in
        fs::read_to_string(Path::new(&here).join(TURNS)).unwrap().lines().enumerate()
    {
        let (writer, serial) = (Writer::new(number, turn.parse().unwrap()), serial.clone());
        thread::spawn(move || write(writer, number, &serial));
    }
    let mut told = 0;
    loop {
        thread::sleep(Duration::from_millis(TICK));
        serial.say("tick");
        assert_eq!(daemon.try_wait().unwrap(), None, "the daemon has ended");
        let compacted = fs::read_to_string(LOG).unwrap().matches("compacted the journal").count();
        for _ in told..compacted {
            serial.say("compacted");
        }
        told = compacted;
    }
}

fn write(mut writer: Writer, number: usize, serial: &Serial) {
    let mut redis = Resp::connect(Path::new(SOCKET)).unwrap();
    loop {
        let (count, pipeline) = writer.pipeline();
        serial.say(&format!("sent {number}"));
        redis.send(&pipeline);
        for _ in 0..count {
            match redis.reply() {
                Reply::Error(error) => panic!("{error}"),
                _ => serial.say(&format!("done {number}")),
            }
        }
        // Only its turn counts here.
        writer.promise(count);
    }
}
