//! Where the keyspace is served, and to whom: sockets of several kinds, clients that do not
//! read, that send half of what they began, or anything at all.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::content::Numbers;
use support::daemon::{Daemon, Place, Setup, counter};
use support::resp::{Reply, Resp, bulk, connect, encoded, error, keyspace, ok, socket};
use support::{skip, until, wait_for};

fn start_with(setup: Setup) -> Daemon {
    let place = Place::new();
    keyspace(setup, &place).start_in(place)
}

fn start() -> Daemon {
    start_with(Setup::default())
}

fn pong() -> Reply {
    Reply::Simple("PONG".to_owned())
}

/// An address that nobody listens at, probably.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn password(place: &Place) -> PathBuf {
    let path = place.outside("password");
    fs::write(&path, "secret\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn over_tcp_everybody_says_the_password() {
    let place = Place::new();
    let address = free_address();
    let file = password(&place);
    let daemon = keyspace(Setup::default(), &place)
        .config("[kv]\nallow = [\"any\"]\n")
        .argument(format!("--kv-listen={address}"))
        .argument(format!("--kv-password-file={}", file.display()))
        .start_in(place);
    assert_eq!(connect(&daemon).say("PING"), pong(), "the rules are about the socket");
    let mut client = Resp::tcp(address).unwrap();
    assert_eq!(client.say("PING"), error("NOAUTH Authentication required."));
    assert_eq!(client.say("AUTH secret"), ok());
    assert_eq!(client.say("SET a 1"), ok());
    assert_eq!(connect(&daemon).say("GET a"), bulk("1"));
    let info = client.say("CLIENT INFO").text();
    assert!(info.contains(&format!(" laddr={address} ")) && info.contains(" flags=N "), "{info}");
    assert!(info.contains(" addr=127.0.0.1:") && !info.contains(" uid="), "{info}");
    // However we run, over TCP nobody is its owner.
    assert!(client.say("SHUTDOWN").text().starts_with("NOPERM"));
    assert!(client.say("DEBUG SET-ACTIVE-EXPIRE 1").text().starts_with("ERR DEBUG command not"));
    assert_eq!(client.say("CONFIG GET port").array()[1], bulk(address.port().to_string()));
    let value = Numbers::new(1).bytes(3 << 20);
    assert_eq!(client.ask(&[&b"SET"[..], b"large", &value]), ok());
    assert_eq!(client.say("GET large"), Reply::Bulk(value));
    client.say("DEL large");
}

#[test]
fn over_tcp_without_a_password_only_if_that_was_said() {
    let place = Place::new();
    let address = free_address();
    let daemon = Setup::default()
        .config("[kv]\nlisten_without_password = true\n")
        .argument(format!("--kv-listen={address}"))
        .start_in(place);
    let mut client = Resp::tcp(address).unwrap();
    assert_eq!(client.say("PING"), pong());
    assert_eq!(client.say("AUTH default x"), ok());
    assert!(!socket(&daemon).exists(), "TCP alone will do");
}

#[test]
fn who_sends_http_is_cut_off() {
    let place = Place::new();
    let address = free_address();
    let daemon = Setup::default()
        .config("[kv]\nlisten_without_password = true\n")
        .argument(format!("--kv-listen={address}"))
        .start_in(place);
    let mut own = Resp::tcp(address).unwrap();
    for request in ["POST / HTTP/1.1\r\nHost: x\r\n\r\nSET a 1\r\n", "Host: x\r\nSET a 1\r\n"] {
        let mut client = Resp::tcp(address).unwrap();
        client.send(request.as_bytes());
        client.expect_end();
    }
    // GET is a command, and the next line ends it.
    let mut client = Resp::tcp(address).unwrap();
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\nSET a 1\r\n");
    assert_eq!(client.reply(), error("ERR wrong number of arguments for 'get' command"));
    client.expect_end();
    assert_eq!(own.say("EXISTS a"), Reply::Integer(0));
    assert!(daemon.log().contains("a client speaks HTTP to the keyspace"), "{}", daemon.log());
}

#[test]
fn a_keyspace_alone_will_do() {
    let place = Place::new();
    let keys = socket(&place);
    let mut child = Command::new(env!("CARGO_BIN_EXE_objmapperd"))
        .env_clear()
        .args(["--config", "/dev/null", "--kv-socket", keys.to_str().unwrap()])
        .stderr(fs::File::create(place.outside("log")).unwrap())
        .spawn()
        .unwrap();
    let mut client = wait_for("it listens", || Resp::connect(&keys).ok());
    assert_eq!(client.say("SET a 1"), ok());
    client.send(b"SHUTDOWN\r\n");
    client.expect_end();
    assert!(child.wait().unwrap().success());
    assert!(!keys.exists());
}

#[test]
fn both_sockets_come_from_a_service_manager() {
    let place = Place::new();
    let (objects, keys) = (place.outside("objects"), place.outside("given"));
    let listen = |path: &PathBuf| format!("--listen={}", path.display());
    let (one, other) = (listen(&keys), listen(&objects));
    let words = ["systemd-socket-activate", &one, &other, "--fdname=objmapper-kv:objmapper"];
    if Command::new(words[0]).arg("--version").output().is_err() {
        return skip("systemd-socket-activate is not installed");
    }
    let mut child = Setup::default().wrapper(&words).spawn(&place);
    let mut client = wait_for("somebody listens", || Resp::connect(&keys).ok());
    assert_eq!(client.say("PING"), pong());
    let peer = objmapper_client::Client::builder().path(&objects).connect();
    peer.unwrap().ping().unwrap();
    assert!(!place.socket().exists(), "no socket of its own");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_socket_for_keys_alone_is_not_taken_for_the_other() {
    let place = Place::new();
    let keys = place.outside("given");
    let listen = format!("--listen={}", keys.display());
    let words = ["systemd-socket-activate", &listen, "--fdname=objmapper-kv"];
    if Command::new(words[0]).arg("--version").output().is_err() {
        return skip("systemd-socket-activate is not installed");
    }
    let mut child = Setup::default().wrapper(&words).spawn(&place);
    let mut client = wait_for("somebody listens", || Resp::connect(&keys).ok());
    assert_eq!(client.say("PING"), pong());
    assert!(place.socket().exists(), "objects have one of their own");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_long_pipeline_is_answered_in_order() {
    let daemon = start();
    let mut client = connect(&daemon);
    let mut bytes = Vec::new();
    for n in 0..10_000 {
        bytes.extend(encoded(&["INCR".to_owned(), "n".to_owned()]));
        if n % 100 == 0 {
            bytes.extend(b"PING\r\n");
        }
    }
    // All of it is sent before anything is read: the replies fit the kernel's buffers.
    client.send(&bytes);
    for n in 0..10_000 {
        assert_eq!(client.reply(), Reply::Integer(n + 1));
        if n % 100 == 0 {
            assert_eq!(client.reply(), pong());
        }
    }
}

#[test]
fn a_hundred_megabytes_are_one_value() {
    let daemon = start();
    let mut client = connect(&daemon);
    let before = daemon.memory("RssAnon");
    let value = Numbers::new(7).bytes(100 << 20);
    assert_eq!(client.ask(&[&b"SET"[..], b"a", &value]), ok());
    client.send(b"GET a\r\n");
    assert!(client.reply() == Reply::Bulk(value), "it comes back as it was");
    assert_eq!(client.say("DEL a"), Reply::Integer(1));
    until("the memory is given back", || daemon.memory("RssAnon") < before + (16 << 20));
    let mut client = daemon.client();
    until("nothing is queued", || counter(&mut client, "queued.bytes") == 0);
}

#[test]
fn a_request_that_could_never_fit_is_told_the_limit() {
    let daemon = start_with(Setup::default().config("[limits]\nqueued_bytes = \"1MiB\"\n"));
    let mut client = connect(&daemon);
    client.send(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100000000\r\nxyz");
    let said = client.reply().text();
    assert!(said.starts_with("ERR this request has 100000034 bytes"), "{said}");
    assert!(said.contains("limits.queued_bytes"), "{said}");
    client.expect_end();
}

#[test]
fn who_does_not_read_is_parked_and_then_cut_off() {
    let config = "[timeouts]\nsend = \"300ms\"\n[limits]\nsend_buffer = \"64KiB\"\n";
    let daemon = start_with(Setup::default().config(config));
    let mut other = connect(&daemon);
    other.ask(&[&b"SET"[..], b"a", &vec![b'x'; 1 << 20]]);
    let mut lazy = connect(&daemon);
    let before = daemon.memory("RssAnon");
    lazy.send(&b"GET a\r\n".repeat(1000));
    until("it is cut off", || {
        daemon.log().contains("the client read nothing of what was sent within 300ms")
    });
    let grown = daemon.memory("RssAnon").saturating_sub(before);
    assert!(grown < 16 << 20, "a thousand megabytes were asked for, {grown} bytes were kept");
    assert_eq!(other.say("PING"), pong());
    until("it is gone", || other.say("CLIENT LIST").text().lines().count() == 1);
    other.say("DEL a");
    drop(lazy);
}

#[test]
fn half_a_request_does_no_harm_wherever_it_ends() {
    let daemon = start();
    let mut own = connect(&daemon);
    let whole = encoded(&["SET", "key", "value"]);
    // Twice, so that the second time shows what stays.
    let mut sizes = Vec::new();
    for _ in 0..2 {
        for end in 0..whole.len() {
            let mut client = connect(&daemon);
            client.send(&whole[..end]);
            drop(client);
        }
        until("all are gone", || own.say("CLIENT LIST").text().lines().count() == 1);
        daemon.settles_with(1);
        sizes.push(daemon.memory("RssAnon"));
    }
    assert!(sizes[1] <= sizes[0] + (1 << 20), "{sizes:?}");
    assert_eq!(own.say("EXISTS key"), Reply::Integer(0));
    // And byte by byte it is a request all the same.
    for byte in &whole {
        own.send(&[*byte]);
    }
    assert_eq!(own.reply(), ok());
}

#[test]
fn what_was_asked_before_the_stop_is_answered() {
    let mut daemon = start();
    let (mut client, mut idle) = (connect(&daemon), connect(&daemon));
    let value = vec![b'x'; 1 << 20];
    client.ask(&[&b"SET"[..], b"a", &value]);
    idle.say("MULTI");
    client.send(&b"GET a\r\n".repeat(20));
    daemon.signal("TERM");
    assert!(idle.reply().text().starts_with("ERR the daemon is stopping"));
    idle.expect_end();
    for _ in 0..20 {
        assert!(client.reply() == bulk(&value));
    }
    assert!(client.reply().text().starts_with("ERR the daemon is stopping"));
    client.expect_end();
    assert!(daemon.wait().success());
}

#[test]
fn keys_end_by_themselves_and_an_idle_daemon_sleeps() {
    let daemon = start();
    let mut client = connect(&daemon);
    let switches = || -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
        tasks
            .map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap())
            .filter(|status| status.starts_with("Name:\tticker\n"))
            .filter_map(|status| {
                let line = status.lines().find_map(|line| {
                    line.strip_prefix("voluntary_ctxt_switches:").map(str::to_owned)
                });
                line.and_then(|count| count.trim().parse::<u64>().ok())
            })
            .sum()
    };
    client.say("SET a 1");
    let before = switches();
    for n in 0..1000 {
        client.say(&format!("SET key:{n} 1"));
    }
    assert_eq!(switches(), before, "without an expiry nobody ticks");
}

/// Anything that could be sent: garbage, commands, and commands with something wrong.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    static NAMES: [&str; 41] = [
        "GET",
        "SET",
        "DEL",
        "MULTI",
        "EXEC",
        "WATCH",
        "DISCARD",
        "HELLO",
        "CLIENT",
        "CONFIG",
        "COMMAND",
        "INFO",
        "SELECT",
        "RESET",
        "AUTH",
        "INCR",
        "LIST",
        "KILL",
        "ID",
        "SETNAME",
        "REPLY",
        "OFF",
        "3",
        "2",
        "-1",
        "99999999999999999999",
        "",
        "\u{0}",
        "a",
        "maxmemory",
        "0",
        "GETKEYS",
        "DOCS",
        "*",
        "[",
        "SCAN",
        "KEYS",
        "EXPIRE",
        "LCS",
        "APPEND",
        "SETRANGE",
    ];
    let word = proptest::sample::select(&NAMES[..]).prop_map(|word| word.as_bytes().to_vec());
    let word = prop_oneof![4 => word, 1 => proptest::collection::vec(any::<u8>(), 0..40)];
    let command = proptest::collection::vec(word.clone(), 1..7).prop_map(|words| encoded(&words));
    let line = proptest::collection::vec(word, 0..5).prop_map(|words| {
        let mut line = words.join(&b' ');
        line.extend(b"\r\n");
        line
    });
    let broken = (command.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(
        |(mut command, at, byte)| {
            let at = at.index(command.len());
            command[at] = byte;
            command
        },
    );
    let garbage = proptest::collection::vec(any::<u8>(), 0..200);
    let head = prop_oneof![
        Just(b"*1048577\r\n".to_vec()),
        Just(b"*-1\r\n".to_vec()),
        Just(b"*3\r\n$536870912\r\nx".to_vec()),
        Just(b"*1\r\n$-5\r\n".to_vec()),
        Just(b"$5\r\nhello\r\n".to_vec()),
    ];
    prop_oneof![6 => command, 2 => line, 2 => broken, 1 => garbage, 1 => head]
}

#[test]
fn anything_at_all_ends_no_daemon() {
    let daemon = start();
    let mut own = connect(&daemon);
    let path = socket(&daemon);
    let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
    let pieces = proptest::collection::vec(anything(), 1..30);
    let result = TestRunner::new(config).run(&pieces, |pieces| {
        let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        for piece in &pieces {
            // It may have been ended already, and rightly so.
            if stream.write_all(piece).is_err() {
                break;
            }
        }
        drop(stream);
        Ok(())
    });
    result.unwrap();
    assert_eq!(own.say("PING"), pong());
    until("all are gone", || own.say("CLIENT LIST").text().lines().count() == 1);
    daemon.settles_with(1);
    let mut client = daemon.client();
    until("nothing is queued", || counter(&mut client, "queued.bytes") == 0);
    assert!(!daemon.log().contains("panic"), "{}", daemon.log());
}
