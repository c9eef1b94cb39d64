//! A disk that fails, or is full, under the daemon: what holds then, whatever the reason.

use super::daemon::{Daemon, Place, Setup};
use super::resp::{Reply, Resp, bulk, encoded, ok};
use super::wait_for;

/// What is written: with its head and its key no two records end at the same place of a block.
pub const VALUE: &str = "a value of forty-one bytes, more or less.";

/// Requests are sent this many times at most until one is refused.
const ROUNDS: usize = 20_000;

/// A daemon with a socket for Redis clients, whose keys are in `kv` beside its tree.
pub fn setup(place: &Place, sync: &str) -> Setup {
    let kv = format!(
        "[kv]\nsocket = \"{}\"\ndir = \"{}\"\nsync = \"{sync}\"\n",
        place.outside("run/kv").display(),
        place.outside("kv").display(),
    );
    Setup::default().config(&kv)
}

/// A client of that socket.
pub fn redis(daemon: &Daemon) -> Resp {
    wait_for("it takes clients", || Resp::connect(&daemon.outside("run/kv")).ok())
}

/// Writes until it is refused, in pipelines; gives the names that were acknowledged.
pub fn write_until_refused(client: &mut Resp) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let names: Vec<_> = (0..3).map(|n| format!("key {}", round * 3 + n)).collect();
        let set = |name: &String| encoded(&["SET", name, VALUE]);
        let mut pipeline: Vec<u8> = names.iter().flat_map(set).collect();
        pipeline.extend(encoded(&["GET", "before"]));
        client.send(&pipeline);
        let mut refused = 0;
        for name in names {
            match client.reply() {
                Reply::Error(error) => {
                    assert!(error.starts_with("MISCONF"), "{error}");
                    refused += 1;
                }
                reply => {
                    assert_eq!(reply, ok());
                    acknowledged.push(name);
                }
            }
        }
        // What was durable before is told, also in the middle of it.
        let before = client.reply();
        if refused > 0 {
            assert!(matches!(before, Reply::Bulk(_) | Reply::Error(_)), "{before:?}");
            return acknowledged;
        }
        assert_eq!(before, bulk("kept"));
    }
    panic!("nothing was refused");
}

/// A daemon whose disk will fail acknowledges nothing that is lost, then or later: `again` starts one
/// where it does not fail any more. Gives what was said of a change.
pub fn refuses_from_then_on(daemon: Daemon, again: impl FnOnce(Place) -> Daemon) -> String {
    let mut client = redis(&daemon);
    assert_eq!(client.ask(&["SET", "before", "kept"]), ok());
    let acknowledged = write_until_refused(&mut client);
    assert!(!acknowledged.is_empty());
    // It stays so; reads go on.
    let mut said = String::new();
    for _ in 0..3 {
        let refused = client.ask(&["SET", "later", "x"]);
        assert!(matches!(refused, Reply::Error(_)), "{refused:?}");
        said = refused.text();
        assert!(said.starts_with("MISCONF the journal cannot be written"), "{said}");
    }
    assert_eq!(client.ask(&["GET", "later"]), Reply::Null);
    assert_eq!(client.ask(&["GET", "before"]), bulk("kept"));
    assert!(daemon.log().contains("changes are answered with an error"), "{}", daemon.log());
    drop(client);
    let daemon = again(daemon.kill());
    let mut client = redis(&daemon);
    assert_eq!(client.ask(&["GET", "before"]), bulk("kept"));
    for name in &acknowledged {
        assert_eq!(client.ask(&["GET", name]), bulk(VALUE), "{name}");
    }
    assert_eq!(client.ask(&["SET", "later", "x"]), ok());
    said
}
