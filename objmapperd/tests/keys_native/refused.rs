//! Who is refused, and when, and what they are told.

use std::process::Command;

use objmapper_client::{Applied, Batch, Status};

use crate::scene::{scene_with, status};
use crate::support::content::content;
use crate::support::daemon::{Daemon, Setup};
use crate::support::{is_root, skip};

#[test]
fn without_a_keyspace_there_are_no_verbs() {
    let daemon = Daemon::start();
    let error = daemon.client().keys(0).get("a").unwrap_err();
    assert_eq!(error.status(), Some(Status::Unsupported));
    assert!(error.to_string().contains("kv.socket"), "{error}");
    assert_eq!(daemon.client().keyspace_status().unwrap_err().status(), Some(Status::Unsupported));
}

/// What another user is told who asks for a key by a verb, and by its name, for a backup,
/// for a compaction, and how the keyspace is.
fn as_another(daemon: &Daemon) -> Option<String> {
    let script = "import os, socket, struct, sys\n\
        os.setgroups([]); os.setgid(12345); os.setuid(12345)\n\
        s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n\
        def frame(op, id, payload): s.sendall(struct.pack('<IBBHQ', len(payload), op, 0, 0, id) + payload)\n\
        def read(n):\n\
        \x20   data = b''\n\
        \x20   while len(data) < n: data += s.recv(n - len(data)) or sys.exit('the end')\n\
        \x20   return data\n\
        def reply():\n\
        \x20   length, op = struct.unpack('<IBxxxxxxxxxxx', read(16)); data = read(length)\n\
        \x20   return '%#x %#x %s' % (op, struct.unpack('<H', data[:2])[0], data[8:].decode() if op == 0x8f else '')\n\
        frame(1, 1, b'OBJM' + struct.pack('<HHQIIH6x', 1, 1, 0, 524288, 1024, 253)); reply()\n\
        frame(0x20, 2, bytes([0, 2, 0, 0, 0, 0, 0, 0]) + b'a'); print(reply())\n\
        uri = b'kv:a'\n\
        frame(2, 3, struct.pack('<BxHxxxxQQ', 2, len(uri), 0, 2**64 - 1) + uri); print(reply())\n\
        for op in (0x28, 0x29, 0x2a): frame(op, op, b''); print(reply())\n";
    let said = Command::new("python3").args(["-c", script]).arg(daemon.socket()).output();
    let said = said.ok()?;
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    Some(String::from_utf8(said.stdout).unwrap())
}

#[test]
fn for_whom() {
    if !is_root() {
        return skip("only root can be another user");
    }
    let config = "[listen]\nmode = \"0666\"\n";
    let (daemon, mut client, _resp) = scene_with(Setup::default().config(config));
    client.keys(0).set("a", "1").unwrap();
    let Some(said) = as_another(&daemon) else { return skip("python3 is not installed") };
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("0x8f 0x103 no rule of the keyspace allows uid 12345"), "{said}");
    assert!(lines[0].contains("kv.allow") && lines[1].starts_with("0x8f 0x103 "), "{said}");
    assert_eq!(lines[2..], [lines[0]; 3]);
    let config = "[listen]\nmode = \"0666\"\n[kv]\nallow = [\"uid:12345\"]\n";
    let (daemon, mut client, _resp) = scene_with(Setup::default().config(config));
    // Whom it names, and nobody else.
    assert_eq!(status(client.keys(0).set("a", "1")), Status::Denied);
    let said = as_another(&daemon).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[..2].iter().all(|line| line.starts_with("0x8f 0x102 ")), "NOT_FOUND: {said}");
    assert!(lines[2].starts_with("0x8f 0x103 backups are for root and the user"), "{said}");
    assert!(lines[3].starts_with("0x8f 0x103 compacting is for root and the user"), "{said}");
    assert!(lines[4].starts_with("0x88 "), "whoever may use keys: {said}");
}

#[test]
fn a_full_keyspace_says_so() {
    let (_daemon, mut client, mut resp) =
        scene_with(Setup::default().argument("--kv-maxmemory=1MiB"));
    let mut keys = client.keys(0);
    let error = (0..2000).find_map(|n| keys.set(format!("key {n}"), content(1000, 1)).err());
    let error = error.expect("it fills up");
    assert_eq!(error.status(), Some(Status::Busy));
    assert!(error.to_string().contains("maxmemory"), "{error}");
    assert!(keys.get("key 0").unwrap().is_some());
    let mut batch = Batch::new();
    batch.delete("key 0").set("key 1", "");
    assert_eq!(status(keys.apply(&batch)), Status::Busy);
    let mut batch = Batch::new();
    batch.delete("key 0").delete_present("key 1");
    assert_eq!(keys.apply(&batch).unwrap(), Applied::Made(2), "room can be made");
    let error = (2000..4000).find_map(|n| keys.set(format!("key {n}"), content(1000, 1)).err());
    assert_eq!(error.and_then(|error| error.status()), Some(Status::Busy));
    assert!(keys.delete(["key 2", "key 3"]).unwrap() == 2, "room can be made");
    resp.say("FLUSHALL");
    keys.set("a", "1").unwrap();
}
