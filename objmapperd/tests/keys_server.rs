//! What clients of Redis ask a server about itself and about their connections, and what they may
//! change.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use support::daemon::{Daemon, Place, Setup};
use support::resp::{Reply, Resp, bulk, connect, error, keyspace, ok};
use support::{is_root, skip, until};

fn start_with(setup: Setup) -> Daemon {
    let place = Place::new();
    keyspace(setup, &place).start_in(place)
}

fn start() -> Daemon {
    start_with(Setup::default())
}

/// A daemon that does not know us, with this password.
fn strange(password: Option<&str>) -> Daemon {
    let place = Place::new();
    let mut setup = keyspace(Setup::default(), &place).config("[kv]\nallow = [\"uid:4711\"]\n");
    if let Some(password) = password {
        let path = place.outside("password");
        fs::write(&path, password).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        setup = setup.argument("--kv-password-file").argument(path.to_str().unwrap());
    }
    setup.start_in(place)
}

fn integer(reply: &Reply) -> i64 {
    match reply {
        Reply::Integer(n) => *n,
        other => panic!("{other:?}"),
    }
}

/// One of INFO's figures.
#[track_caller]
fn figure(client: &mut Resp, name: &str) -> String {
    let info = client.say("INFO everything").text();
    let found = info.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    found.unwrap_or_else(|| panic!("no {name} in\n{info}")).to_owned()
}

#[test]
fn hello_chooses_the_version() {
    let daemon = start();
    let mut client = connect(&daemon);
    let two = client.say("HELLO 2");
    let pairs: Vec<_> = two.array().chunks(2).map(|pair| pair[0].text()).collect();
    assert_eq!(pairs, ["server", "version", "proto", "id", "mode", "role", "modules"]);
    assert_eq!(client.say("GET none"), Reply::Null);
    let Reply::Map(three) = client.say("HELLO 3 SETNAME me") else { panic!("no map") };
    assert_eq!(three[2], (bulk("proto"), Reply::Integer(3)));
    assert_eq!(client.say("CLIENT GETNAME"), bulk("me"));
    assert!(matches!(client.say("CONFIG GET maxmemory"), Reply::Map(_)));
    assert_eq!(client.say("HELLO 4"), error("NOPROTO unsupported protocol version"));
    let said = "ERR Protocol version is not an integer or out of range";
    assert_eq!(client.say("HELLO x"), error(said));
    assert_eq!(client.say("HELLO 3 NO"), error("ERR Syntax error in HELLO option 'NO'"));
    assert_eq!(client.say("HELLO 3 AUTH a"), error("ERR Syntax error in HELLO option 'AUTH'"));
    assert!(matches!(client.say("HELLO"), Reply::Map(_)), "nothing changes");
    // In a transaction it holds from there on.
    client.say("RESET");
    client.say("MULTI");
    client.say("HELLO 3");
    client.say("CONFIG GET maxmemory");
    let Reply::Array(replies) = client.say("EXEC") else { panic!("no array") };
    assert!(matches!(replies[1], Reply::Map(_)));
}

#[test]
fn who_is_not_known_says_the_password() {
    let daemon = strange(Some("open sesame\nnot this\n"));
    let mut client = connect(&daemon);
    let who = error("NOAUTH Authentication required.");
    for words in ["PING", "GET a", "SET a 1", "MULTI", "INFO", "CONFIG GET *", "SELECT 1"] {
        assert_eq!(client.say(words), who, "{words}");
    }
    let wrong = error("WRONGPASS invalid username-password pair or user is disabled.");
    for password in ["", "open", "open sesame\n", "not this"] {
        assert_eq!(client.ask(&["AUTH", password]), wrong);
    }
    assert_eq!(client.ask(&["AUTH", "somebody", "open sesame"]), wrong);
    assert_eq!(client.ask(&["HELLO", "3", "AUTH", "default", "open"]), wrong);
    assert!(client.say("HELLO 3").text().starts_with("NOAUTH HELLO must be called"));
    assert_eq!(client.say("PING"), who);
    assert!(daemon.log().contains("a wrong password for the keyspace"), "{}", daemon.log());
    assert!(!daemon.log().contains("sesame"));

    assert_eq!(client.ask(&["AUTH", "open sesame"]), ok());
    assert_eq!(client.say("SET a 1"), ok());
    assert_eq!(client.say("RESET"), Reply::Simple("RESET".to_owned()));
    assert_eq!(client.say("PING"), who, "after RESET it is unknown again");
    assert_eq!(client.ask(&["AUTH", "default", "open sesame"]), ok());
    let mut other = connect(&daemon);
    let hello = other.ask(&["HELLO", "3", "AUTH", "default", "open sesame"]);
    assert!(matches!(hello, Reply::Map(_)), "{hello:?}");
    assert_eq!(other.say("GET a"), bulk("1"));
}

#[test]
fn who_is_not_known_may_not_ask_for_much() {
    let daemon = strange(Some("secret"));
    for (sent, said) in [
        ("*11\r\n", "ERR Protocol error: unauthenticated multibulk length"),
        ("*2\r\n$4\r\nAUTH\r\n$16385\r\n", "ERR Protocol error: unauthenticated bulk length"),
    ] {
        let mut client = connect(&daemon);
        client.send(sent.as_bytes());
        assert_eq!(client.reply(), error(said));
        client.expect_end();
    }
}

#[test]
fn without_a_password_nobody_else_gets_in() {
    let daemon = strange(None);
    let mut client = connect(&daemon);
    let said = client.say("AUTH x").text();
    assert!(said.starts_with("ERR AUTH <password> called without any password"), "{said}");
    assert!(said.contains("kv.allow"), "{said}");
    let wrong = error("WRONGPASS invalid username-password pair or user is disabled.");
    assert_eq!(client.say("AUTH default x"), wrong);
    assert_eq!(client.say("PING"), error("NOAUTH Authentication required."));
}

#[test]
fn our_own_user_needs_no_password_and_may_say_one() {
    let daemon = start();
    let mut client = connect(&daemon);
    assert_eq!(client.say("PING"), Reply::Simple("PONG".to_owned()));
    assert_eq!(client.say("AUTH default x"), ok(), "as with Redis, if there is none");
    let said = client.say("AUTH x").text();
    assert!(said.starts_with("ERR AUTH <password> called without any password configured"));
    assert_eq!(client.say("ACL WHOAMI"), bulk("default"));
}

#[test]
fn what_is_for_the_owner_is_for_nobody_else() {
    if !is_root() {
        return skip("root is needed to be two users");
    }
    let place = Place::new();
    let setup = keyspace(Setup::default().unprivileged(), &place);
    let daemon = setup.config("[kv]\nmode = \"0666\"\nallow = [\"any\"]\n").start_in(place);
    // Root is an owner everywhere.
    let mut root = connect(&daemon);
    assert_eq!(root.say("DEBUG SET-ACTIVE-EXPIRE 1"), ok());
    assert!(root.say("DEBUG NO").text().ends_with("Try DEBUG HELP."));
    assert!(root.say("DEBUG HELP").array().iter().any(|line| line.text() == "RELOAD"));
    let script = format!(
        "printf 'PING\\r\\nDEBUG SET-ACTIVE-EXPIRE 0\\r\\nSHUTDOWN\\r\\nQUIT\\r\\n' | socat -t 10 - \
         UNIX-CONNECT:{}",
        support::resp::socket(&daemon).display()
    );
    let words = ["--reuid", "4242", "--regid", "4242", "--clear-groups", "sh", "-c", &script];
    let Ok(said) = std::process::Command::new("setpriv").args(words).output() else {
        return skip("setpriv is not installed");
    };
    let said = String::from_utf8(said.stdout).unwrap();
    if said.is_empty() {
        return skip("socat is not installed");
    }
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], "+PONG", "{said}");
    assert!(lines[1].starts_with("-ERR DEBUG command not allowed"), "{said}");
    assert!(lines[2].starts_with("-NOPERM SHUTDOWN"), "{said}");
    assert_eq!(root.say("PING"), Reply::Simple("PONG".to_owned()));
}

#[test]
fn shutdown_is_a_stop_that_was_asked_for() {
    let mut daemon = start();
    let (mut client, mut other) = (connect(&daemon), connect(&daemon));
    for wrong in ["SHUTDOWN NO", "SHUTDOWN SAVE NOSAVE", "SHUTDOWN ABORT NOW"] {
        assert_eq!(client.say(wrong), error("ERR syntax error"));
    }
    assert_eq!(client.say("SHUTDOWN ABORT"), error("ERR No shutdown in progress."));
    assert!(client.say("SHUTDOWN SAVE").text().starts_with("ERR there is no journal"));
    other.say("PING");
    client.send(b"SHUTDOWN NOSAVE\r\n");
    client.expect_end();
    assert!(other.reply().text().starts_with("ERR the daemon is stopping"));
    other.expect_end();
    assert!(daemon.wait().success());
}

#[test]
fn connections_are_listed_named_and_ended() {
    let daemon = start();
    let (mut client, mut other) = (connect(&daemon), connect(&daemon));
    let (me, it) = (integer(&client.say("CLIENT ID")), integer(&other.say("CLIENT ID")));
    assert_ne!(me, it);
    assert_eq!(client.say("CLIENT GETNAME"), Reply::Null);
    assert_eq!(client.say("CLIENT SETNAME first"), ok());
    let said = "ERR Client names cannot contain spaces, newlines or special characters.";
    assert_eq!(client.ask(&["CLIENT", "SETNAME", "a b"]), error(said));
    assert_eq!(client.say("CLIENT SETINFO lib-name test"), ok());
    assert_eq!(client.say("CLIENT SETINFO lib-no x"), error("ERR Unrecognized option 'lib-no'"));
    other.say("SELECT 5");
    other.say("MULTI");
    other.say("GET a");
    let list = client.say("CLIENT LIST").text();
    let field = |line: &str, name: &str| {
        let word = line.split(' ').find_map(|word| word.strip_prefix(&format!("{name}=")));
        word.unwrap_or_else(|| panic!("no {name} in {line}")).to_owned()
    };
    let lines: Vec<_> = list.lines().collect();
    assert_eq!(lines.len(), 2, "{list}");
    assert_eq!((field(lines[0], "id"), field(lines[0], "name")), (me.to_string(), "first".into()));
    assert_eq!(
        (field(lines[0], "cmd"), field(lines[0], "lib-name")),
        ("client|list".into(), "test".into())
    );
    let path = format!("{}:0", support::resp::socket(&daemon).display());
    assert_eq!((field(lines[0], "addr"), field(lines[0], "laddr")), (path.clone(), path));
    let of_other = ["id", "db", "multi", "cmd", "flags"].map(|name| field(lines[1], name));
    assert_eq!(of_other, [it.to_string().as_str(), "5", "1", "get", "xU"]);
    assert_eq!(client.say(&format!("CLIENT LIST ID {it}")).text().lines().count(), 1);
    assert_eq!(client.say("CLIENT LIST TYPE pubsub"), bulk(""));
    assert!(client.say("CLIENT INFO").text().starts_with(&format!("id={me} ")));

    assert_eq!(client.say("CLIENT KILL 127.0.0.1:1"), error("ERR No such client"));
    assert_eq!(client.say("CLIENT KILL ID 4711"), Reply::Integer(0));
    assert_eq!(client.say(&format!("CLIENT KILL ID {me}")), Reply::Integer(0), "not oneself");
    assert_eq!(client.say(&format!("CLIENT KILL ID {it} TYPE normal")), Reply::Integer(1));
    other.expect_end();
    until("it is gone", || client.say("CLIENT LIST").text().lines().count() == 1);
    assert_eq!(client.say(&format!("CLIENT KILL ID {me} SKIPME no")), Reply::Integer(1));
    client.expect_end();
}

#[test]
fn replies_can_be_left_out() {
    let daemon = start();
    let mut client = connect(&daemon);
    client.send(b"CLIENT REPLY SKIP\r\nSET a 1\r\nGET a\r\n");
    assert_eq!(client.reply(), bulk("1"));
    client.send(b"CLIENT REPLY OFF\r\nSET a 2\r\nNOSUCH\r\nCLIENT REPLY SKIP\r\nGET a\r\nPING\r\n");
    client.send(b"CLIENT REPLY ON\r\n");
    assert_eq!(client.reply(), ok());
    assert_eq!(client.say("GET a"), bulk("2"));
    assert_eq!(client.say("CLIENT REPLY maybe"), error("ERR syntax error"));
    // What ends that is not answered itself, if it is the one to be skipped.
    client.send(b"CLIENT REPLY SKIP\r\nRESET\r\nGET a\r\n");
    assert_eq!(client.reply(), bulk("2"));
    client.send(b"CLIENT REPLY OFF\r\nRESET\r\nGET a\r\n");
    assert_eq!(client.reply(), Reply::Simple("RESET".to_owned()));
    assert_eq!(client.reply(), bulk("2"));
}

#[test]
fn settings_are_told_and_some_are_changed() {
    let daemon = start_with(Setup::default().argument("--kv-maxmemory").argument("100MiB"));
    let mut client = connect(&daemon);
    let mut get = |pattern: &str| -> Vec<String> {
        client.say(&format!("CONFIG GET {pattern}")).array().iter().map(Reply::text).collect()
    };
    assert_eq!(get("maxmemory"), ["maxmemory", "104857600"]);
    assert_eq!(get("MAXMEMORY"), ["MAXMEMORY", "104857600"]);
    assert_eq!(get("maxmemory*").len(), 4);
    assert_eq!(get("maxmemory max*y databases databases").len(), 6);
    assert_eq!(get("save"), ["save", ""]);
    assert_eq!(get("appendonly"), ["appendonly", "no"]);
    assert_eq!(get("nosuch"), [""; 0]);
    assert_eq!(client.say("CONFIG SET maxmemory 2gb maxmemory-policy allkeys-lru"), ok());
    assert_eq!(figure(&mut client, "maxmemory"), "2147483648");
    assert_eq!(figure(&mut client, "maxmemory_policy"), "allkeys-lru");
    for (words, said) in [
        (
            "maxmemory x",
            "ERR CONFIG SET failed (possibly related to argument 'maxmemory') - argument must be a memory value",
        ),
        (
            "maxmemory 1 maxmemory 2",
            "ERR CONFIG SET failed (possibly related to argument 'maxmemory') - duplicate parameter",
        ),
        (
            "maxmemory 1 databases 3",
            "ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config",
        ),
        (
            "maxmemory 1 nosuch 3",
            "ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'",
        ),
        ("maxmemory 1 nosuch", "ERR syntax error"),
    ] {
        assert_eq!(client.say(&format!("CONFIG SET {words}")), error(said));
        assert_eq!(figure(&mut client, "maxmemory"), "2147483648", "all or nothing");
    }
    assert_eq!(client.say("CONFIG SET databases 16"), ok(), "that it is already");
    assert!(client.say("CONFIG REWRITE").text().starts_with("ERR The server is running without"));
}

#[test]
fn figures_are_true() {
    let daemon = start();
    let mut client = connect(&daemon);
    client.say("SET a 1");
    client.say("GET a");
    client.say("GET b");
    client.say("NOSUCH");
    for (name, value) in [
        ("connected_clients", "1"),
        ("keyspace_hits", "1"),
        ("keyspace_misses", "1"),
        ("total_error_replies", "1"),
        ("total_connections_received", "2"), // and the one that looked whether it is ready
        ("process_id", &daemon.pid().to_string()),
        ("db0", "keys=1,expires=0"),
        ("loading", "0"),
        ("role", "master"),
        ("redis_version", "7.0.15"),
        ("aof_enabled", "0"),
    ] {
        assert_eq!(figure(&mut client, name), value, "{name}");
    }
    let sections = |client: &mut Resp, words: &str| -> Vec<String> {
        let info = client.say(words).text();
        info.lines().filter_map(|line| line.strip_prefix("# ")).map(str::to_owned).collect()
    };
    assert_eq!(sections(&mut client, "INFO SERVER keyspace"), ["Server", "Keyspace"]);
    assert_eq!(sections(&mut client, "INFO nosuch"), [""; 0]);
    assert_eq!(sections(&mut client, "INFO default"), sections(&mut client, "INFO"));
    assert_eq!(client.say("CONFIG RESETSTAT"), ok());
    assert_eq!(figure(&mut client, "total_connections_received"), "0");
    assert_eq!(figure(&mut client, "keyspace_hits"), "0");
    // The same within a transaction, which holds all locks.
    for words in ["MULTI", "SET b 1", "INFO", "CONFIG RESETSTAT", "MEMORY STATS", "GET b"] {
        client.say(words);
    }
    let Reply::Array(replies) = client.say("EXEC") else { panic!("no array") };
    assert!(replies[1].text().contains("db0:keys=2,expires=0"), "{replies:?}");
}

#[test]
fn commands_are_described() {
    let daemon = start();
    let mut client = connect(&daemon);
    let count = integer(&client.say("COMMAND COUNT"));
    let count = usize::try_from(count).unwrap();
    assert_eq!(client.say("COMMAND").array().len(), count);
    assert_eq!(client.say("COMMAND DOCS").array().len(), 2 * count);
    let info = client.say("COMMAND INFO get nosuch");
    let get = info.array()[0].array();
    assert_eq!((&get[0], &get[1]), (&bulk("get"), &Reply::Integer(2)));
    assert_eq!(
        (&get[3], &get[4], &get[5]),
        (&Reply::Integer(1), &Reply::Integer(1), &Reply::Integer(1))
    );
    assert_eq!(info.array()[1], Reply::Null);
    let keys = client.say("COMMAND GETKEYS DEL a b c");
    assert_eq!(keys, Reply::Array(vec![bulk("a"), bulk("b"), bulk("c")]));
    assert_eq!(client.say("COMMAND GETKEYS NOSUCH a"), error("ERR Invalid command specified"));
    let no_keys = client.say("COMMAND GETKEYS ECHO a");
    assert_eq!(no_keys, error("ERR The command has no key arguments"));
    let list = client.say("COMMAND LIST FILTERBY PATTERN config|*");
    assert_eq!(list.array().len(), 5);
    assert!(client.say("CONFIG HELP").array().len() > 5);
    for not_offered in ["LPUSH a b", "HSET a b c", "SUBSCRIBE a", "EVAL x 0", "CLUSTER INFO"] {
        let said = client.say(not_offered).text();
        let name = not_offered.split(' ').next().unwrap();
        let begin = format!("ERR unknown command '{name}', with args beginning with: ");
        assert!(said.starts_with(&begin), "{said}");
    }
}

#[test]
fn without_a_journal_that_is_said() {
    let daemon = start();
    let mut client = connect(&daemon);
    for words in ["SAVE", "BGSAVE", "BGSAVE SCHEDULE", "BGREWRITEAOF", "DEBUG RELOAD"] {
        let said = client.say(words).text();
        assert!(said.starts_with("ERR there is no journal") && said.contains("kv.dir"), "{said}");
    }
    assert_eq!(client.say("BGSAVE now"), error("ERR syntax error"));
    let started = figure(&mut client, "rdb_last_save_time").parse::<i64>().unwrap();
    assert_eq!(client.say("LASTSAVE"), Reply::Integer(started));
    let said = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
    assert_eq!(client.say("WAITAOF 1 0 0"), error(said));
    assert_eq!(client.say("WAITAOF 0 0 0").array().len(), 2);
}

#[test]
fn commands_that_took_long_are_listed() {
    let daemon = start();
    // What a helper has begun to answer it may go on with.
    let of_its_own = |words: &str| connect(&daemon).say(words);
    let entries = |count: &str| of_its_own(&format!("SLOWLOG GET {count}"));
    let names = |reply: &Reply| {
        reply.array().iter().map(|entry| entry.array()[3].array()[0].text()).collect::<Vec<_>>()
    };
    let usual = of_its_own("CONFIG GET slowlog*");
    let usual: Vec<_> = usual.array().iter().map(Reply::text).collect();
    assert_eq!(usual, ["slowlog-log-slower-than", "10000", "slowlog-max-len", "128"]);
    of_its_own("DBSIZE");
    assert_eq!(of_its_own("SLOWLOG LEN"), Reply::Integer(0));

    assert_eq!(of_its_own("CONFIG SET slowlog-log-slower-than 0"), ok());
    let keys: Vec<String> = (0..1000).map(|n| format!("key:{n}")).collect();
    let mut client = connect(&daemon);
    client.say("CLIENT SETNAME one");
    client.say(&format!("EXISTS {} {}", "x".repeat(200), keys.join(" ")));
    of_its_own("DBSIZE");
    let all = entries("-1");
    assert_eq!(names(&all), ["DBSIZE", "EXISTS"], "the newest first");
    let [id, at, took, args, peer, name] = all.array()[1].array() else { panic!("{all}") };
    assert_eq!((id.integer(), name.text().as_str()), (0, "one"));
    assert!(at.integer() > 1_700_000_000 && took.integer() > 0, "{at} {took}");
    assert!(!peer.text().is_empty());
    let args = args.array();
    assert_eq!((args.len(), args[2].text()), (32, "key:0".to_owned()));
    assert_eq!(args[1].text(), format!("{}... (72 more bytes)", "x".repeat(128)));
    assert_eq!(args[31].text(), "... (971 more arguments)");
    assert_eq!(names(&entries("1")), ["DBSIZE"]);
    assert_eq!(entries("-2"), error("ERR count should be greater than or equal to -1"));

    assert_eq!(of_its_own("CONFIG SET slowlog-max-len 1"), ok());
    assert_eq!(names(&entries("-1")), ["DBSIZE"]);
    of_its_own("RANDOMKEY");
    assert_eq!(names(&entries("-1")), ["RANDOMKEY"]);
    let said = of_its_own("CONFIG SET slowlog-max-len 100000").text();
    assert!(said.ends_with("must be between 0 and 1024 inclusive"), "{said}");
    assert_eq!(of_its_own("CONFIG SET slowlog-log-slower-than -1"), ok());
    of_its_own("DBSIZE");
    assert_eq!(of_its_own("SLOWLOG LEN"), Reply::Integer(1), "none is noted");
    assert_eq!(of_its_own("SLOWLOG RESET"), ok());
    assert_eq!(entries("-1"), Reply::Array(vec![]));
    let help = of_its_own("SLOWLOG HELP");
    assert!(help.array().iter().any(|line| line.text() == "GET"), "{help}");
}

#[test]
fn what_clients_ask_at_the_beginning_is_answered() {
    let daemon = start();
    let mut client = connect(&daemon);
    for words in
        ["SLOWLOG GET", "SLOWLOG GET -1", "LATENCY LATEST", "LATENCY HISTORY x", "MODULE LIST"]
    {
        assert_eq!(client.say(words), Reply::Array(vec![]), "{words}");
    }
    assert_eq!(client.say("SLOWLOG LEN"), Reply::Integer(0));
    assert_eq!(client.say("SLOWLOG RESET"), ok());
    assert_eq!(client.say("CLIENT NO-EVICT on"), ok());
    assert_eq!(client.say("CLIENT NO-TOUCH on"), ok());
    assert_eq!(client.say("ROLE").array()[0], bulk("master"));
    let time: Vec<i64> =
        client.say("TIME").array().iter().map(|n| n.text().parse().unwrap()).collect();
    assert!(time[0] > 1_700_000_000 && time[1] < 1_000_000, "{time:?}");
    assert!(client.say("MEMORY DOCTOR").text().contains("bytes are in use"));
    assert_eq!(client.say("MEMORY PURGE"), ok());
}
