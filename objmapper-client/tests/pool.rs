//! Connections shared by threads.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::daemon::Daemon;
use common::no_leak;
use objmapper_client::{Client, Error, Mode, Pool, Reconnect};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// Connections that the daemon has accepted, this one included.
fn accepted(daemon: &Daemon) -> u64 {
    let stats = daemon.client().stats().unwrap();
    let (_, value) = stats.iter().find(|(name, _)| name == "connections.accepted").unwrap();
    value.parse().unwrap()
}

#[test]
fn many_threads_share_a_few() {
    let _no_leak = no_leak();
    let Some(daemon) = Daemon::start() else { return };
    for i in 0..10 {
        daemon.put(&i.to_string(), &[i; 10_000]);
    }
    let before = accepted(&daemon);
    let pool = Pool::new(daemon.builder(), 3);
    let (lent, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..12_u8 {
            let (pool, lent, most) = (&pool, &lent, &most);
            scope.spawn(move || {
                for i in 0..100_u8 {
                    let mut client = pool.checkout().unwrap();
                    most.fetch_max(lent.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    let object = (thread + i) % 10;
                    assert_eq!(client.read(&format!("/{object}")).unwrap(), [object; 10_000]);
                    lent.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert!(most.into_inner() <= 3);
    let made = pool.idle() as u64;
    assert!((1..=3).contains(&made));
    assert_eq!(accepted(&daemon), before + made + 1, "what is idle is used before one is made");
}

#[test]
fn a_thread_waits_for_one_that_comes_back() {
    let _no_leak = no_leak();
    let Some(daemon) = Daemon::start() else { return };
    let pool = Pool::new(daemon.builder().no_timeout(), 1);
    let (asking, asked) = mpsc::channel();
    std::thread::scope(|scope| {
        let first = pool.checkout().unwrap();
        let second = scope.spawn(|| {
            asking.send(()).unwrap();
            pool.checkout().unwrap().ping().unwrap();
        });
        asked.recv().unwrap();
        assert!(!second.is_finished());
        drop(first);
    });
    assert_eq!(pool.idle(), 1);
    let pool = Pool::new(daemon.builder().timeout(Duration::from_millis(20)), 1);
    let held = pool.checkout().unwrap();
    let error = pool.checkout().unwrap_err();
    assert!(matches!(error, Error::Exhausted { limit: 1 }), "{error}");
    assert!(error.may_retry() && !error.ends_connection() && !error.is_daemon_fault());
    drop(held);
    pool.checkout().unwrap().ping().unwrap();
}

#[test]
fn what_is_not_fit_for_the_next_is_closed() {
    let _no_leak = no_leak();
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.put("a", b"a");
    let pool = Pool::new(daemon.builder().reconnect(Reconnect::Never), 1);
    pool.checkout().unwrap().ping().unwrap();
    assert_eq!(pool.idle(), 1);
    // The daemon has closed it meanwhile.
    daemon.restart();
    assert_eq!(pool.checkout().unwrap().read("/a").unwrap(), b"a");
    // It broke while it was lent.
    let mut client = pool.checkout().unwrap();
    daemon.restart();
    assert!(client.ping().unwrap_err().ends_connection());
    drop(client);
    assert_eq!(pool.idle(), 0);
    // An answer is on its way.
    let mut client = pool.checkout().unwrap();
    let mut pipeline = client.pipeline().unwrap();
    pipeline.get("/a", Mode::Copy).unwrap();
    pipeline.flush().unwrap();
    drop(pipeline);
    drop(client);
    assert_eq!(pool.idle(), 0);
    // A refusal is no reason.
    assert!(pool.checkout().unwrap().read("/none").unwrap_err().is_not_found());
    assert_eq!(pool.idle(), 1);
}

#[test]
fn a_connection_that_fails_takes_no_place() {
    let _no_leak = no_leak();
    let builder = Client::builder().path("/no/such/socket").timeout(Duration::from_millis(20));
    let pool = Pool::new(builder, 0); // one is the least
    for _ in 0..3 {
        assert!(matches!(pool.checkout(), Err(Error::Unreachable(_))));
    }
}

#[test]
fn a_panic_gives_back_what_was_lent() {
    let _no_leak = no_leak();
    let Some(daemon) = Daemon::start() else { return };
    let pool = Pool::new(daemon.builder(), 1);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let _client = pool.checkout().unwrap();
            panic!("as threads do");
        });
        assert!(thread.join().is_err());
    });
    pool.checkout().unwrap().ping().unwrap();
}

#[test]
fn a_client_may_move_to_another_thread() {
    fn is_send<T: Send + 'static>() {}
    is_send::<objmapper_client::Client>();
    is_send::<objmapper_client::Opened>();
    is_send::<objmapper_client::Error>();
}
