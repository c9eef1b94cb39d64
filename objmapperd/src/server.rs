//! The daemon from start to stop: what is opened in which order, and how it ends.
//!
//! ```text
//!  signals ─▶ inherited sockets ─▶ limits ─▶ mounts ─▶ transfer, workers, helpers
//!     ─▶ listener ─▶ READY ─▶ accept … ─▶ SIGTERM ─▶ drain ─▶ stop
//!                                └── SIGHUP ─▶ reload, beside it
//! ```
//!
//! The main thread sits at the [`Front`] meanwhile.

use std::fmt::Display;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use objmapper::kv::{Keyspace, SyncPolicy};
use objmapper::{Mounts, Patience, Rules, Shared, Store, index, plan};
use objmapper_os as os;
use os::errno;
use os::service_manager;
use os::signal::{self, Signal, Signals};
use os::socket::{self, BindOptions, Listener};
use parking_lot::Mutex;

use crate::allowance::{self, Allowance};
use crate::attendant::{Attendant, Handoffs};
use crate::closers::Closers;
use crate::committer::Committer;
use crate::config::{self, Listen, Loaded, Settings};
use crate::connection::Connection;
use crate::deadline::Deadlines;
use crate::front::Front;
use crate::helpers::Helpers;
use crate::keeper;
use crate::ledger::Ledger;
use crate::listener::{Acceptor, Protocol};
use crate::metrics::Metrics;
use crate::mounts::Served;
use crate::pool::Pool;
use crate::reload::Reread;
use crate::service::keys::KeyService;
use crate::service::keys::access::{self, Access};
use crate::service::keys::facts::Facts;
use crate::service::keys::slowlog::SlowLog;
use crate::service::{Daemon, Service};
use crate::supervisor::Supervisor;
use crate::ticker::Ticker;
use crate::transfer_path;

/// Names of our sockets among those that a service manager passes (FileDescriptorName=).
const SOCKET_NAME: &str = "objmapper";
const KV_SOCKET_NAME: &str = "objmapper-kv";

/// How often a drain looks whether everybody has left. Nothing waits on it but the exit.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// Everything that runs.
struct Running {
    daemon: Arc<Daemon>,
    pool: Pool<Connection>,
    transfer: transfer_path::TransferPath,
    committer: Committer,
    threads: Vec<JoinHandle<()>>,
}

/// Runs the daemon until it is told to stop. `reread` gives the settings as they are
/// when it is called, for a reload.
pub fn run(
    settings: &Settings,
    reread: impl Fn() -> anyhow::Result<Loaded> + Send + Sync + 'static,
) -> anyhow::Result<()> {
    // Before any thread: they inherit the mask, and the environment may still change.
    let signals = Signals::block(&[Signal::Terminate, Signal::Interrupt, Signal::Hangup])?;
    signal::ignore_sigpipe()?;
    let inherited = service_manager::listen_fds()?;
    let supervisor = Supervisor::from_env()?;

    let nofile = match os::limits::raise_nofile() {
        Ok((_, nofile)) => nofile,
        Err(error) => {
            tracing::warn!(%error, "the soft limit of descriptors stays as it is");
            os::limits::nofile()?.0
        }
    };
    let keys = settings.kv.is_served() || inherited.iter().any(|(name, _)| name == KV_SOCKET_NAME);
    let keyspace = Arc::new(keeper::open(&settings.kv, keys)?);
    let (served, mounts) = mounts(settings, keys.then(|| keyspace.clone()))?;
    let daemon = daemon(settings, nofile, mounts, (keyspace, keys))?;
    let listeners = listeners(settings, inherited)?;
    let mut running = start(settings, &daemon)?;
    let mut acceptors = Vec::new();
    for (listener, protocol) in listeners {
        let at = described(&listener);
        match protocol {
            Protocol::Objm => {
                tracing::info!(socket = %at, mounts = served.len(), "listening for objects");
            }
            Protocol::Resp => tracing::info!(socket = %at, "listening for keys"),
        }
        acceptors.push(Acceptor::new(listener, &daemon, settings.limits.send_buffer, protocol)?);
    }
    tracing::info!("ready");
    let reread = checked(reread, nofile);
    let mut front = Front::new(&supervisor, &signals, &daemon, settings, served, reread)?;
    front.accept_until_told(&mut acceptors, &mut running.pool, &running.transfer)?;

    supervisor.stopping();
    drop(acceptors);
    if drain(&running, &mut front, &signals, settings.drain_deadline) {
        stop(running);
    }
    if let Err(fault) = daemon.key_service.keyspace.close() {
        tracing::error!(%fault, "the keyspace was not closed cleanly");
    }
    // Else threads may be waiting for a disk or a peer: they end with the process.
    tracing::info!("stopped");
    Ok(())
}

/// Opens what is to be served.
fn mounts(settings: &Settings, keys: Option<Arc<Keyspace>>) -> anyhow::Result<(Served, Mounts)> {
    anyhow::ensure!(
        os::probe::features().open_beneath,
        "openat2(2) does not work here, and nothing is opened without it: it takes Linux 5.6, and a \
         service manager that does not filter it (systemd does with RestrictSUIDSGID= or DynamicUser=)"
    );
    let none = Served::keys(keys.map(|keys| (keys, access::rules(&settings.kv))));
    let (served, mounts) = none.renew(&settings.mounts)?;
    served.log_changes_since(&none);
    Ok((served, mounts))
}

/// Settings that are read again, if their mounts fit into the limits of the start.
fn checked(
    reread: impl Fn() -> anyhow::Result<Loaded> + Send + Sync + 'static,
    nofile: u64,
) -> Box<Reread> {
    Box::new(move || {
        let loaded = reread()?;
        allowance::room_for_mounts(loaded.settings.mounts.len(), nofile)?;
        Ok(loaded)
    })
}

/// Builds what all threads share.
fn daemon(
    settings: &Settings,
    nofile: u64,
    mounts: Mounts,
    (keyspace, keys): (Arc<Keyspace>, bool),
) -> anyhow::Result<Arc<Daemon>> {
    let limits =
        plan::Limits { inline: settings.delivery.inline_limit, auto: settings.delivery.auto_limit };
    let bounds = index::Bounds {
        entries: settings.limits.index_entries,
        bytes: settings.limits.index_bytes,
        shards: settings.limits.index_shards,
    };
    let bounds = (bounds.entries > 0).then_some(bounds);
    let allowance = Allowance::new(settings, nofile, keys)?;
    allowance.tell(settings, nofile);
    let metrics = Arc::default();
    Ok(Arc::new(Daemon {
        store: Store::with_limits(mounts, limits, bounds).sharing(shared(settings, &allowance)),
        key_service: key_service(settings, (keyspace, keys), &metrics)?,
        in_place: settings.delivery.in_place_limit,
        ledger: Ledger::new(allowance.in_flight),
        budgets: allowance.budgets(&settings.limits),
        deadlines: Deadlines::new(settings.timeouts),
        destinations: destinations(settings),
        closers: Closers::default(),
        stats_for: settings.listen.stats,
        metrics,
        helpers: Helpers::new(settings.pool.helpers, long_at_once(settings.pool, cpus())),
        draining: AtomicBool::new(false),
    }))
}

/// Commands on keys that take long and run at the same time: half of the CPUs stay for whoever serves,
/// and a second user need not wait for the first.
fn long_at_once(pool: config::Pool, cpus: usize) -> usize {
    (workers(pool, cpus) / 2).max(2)
}

/// Whoever answers those that speak RESP.
fn key_service(
    settings: &Settings,
    (keyspace, served): (Arc<Keyspace>, bool),
    metrics: &Arc<Metrics>,
) -> anyhow::Result<KeyService> {
    Ok(KeyService {
        access: Access::new(&settings.kv, served)?,
        clients: Arc::default(),
        ticker: Ticker::new(keyspace.clone()),
        facts: Facts::new(settings, metrics),
        slow: SlowLog::default(),
        totals: Mutex::default(),
        keyspace,
    })
}

/// Who may pass descriptors: the daemon's own user and root, unless somebody was named.
fn destinations(settings: &Settings) -> Rules {
    match &settings.destinations.allow[..] {
        [] => Rules::owner_only(),
        rules => Rules::new(rules.to_vec()),
    }
}

/// Room for descriptions that are shared; none where nothing can be watched.
fn shared(settings: &Settings, allowance: &Allowance) -> Option<Shared> {
    let made = (allowance.shared > 0).then(|| Shared::new(allowance.shared))?;
    let wanted = settings.mounts.iter().any(|mount| mount.shared);
    match made {
        Ok(shared) => Some(shared),
        Err(error) if wanted => {
            tracing::warn!(%error, "changes cannot be watched: no descriptor is shared");
            None
        }
        Err(error) => {
            tracing::debug!(%error, "changes cannot be watched; no mount is shared anyway");
            None
        }
    }
}

/// On one CPU nobody could give it work meanwhile.
fn spin(settings: &Settings) -> Duration {
    if cpus() > 1 { settings.pool.spin } else { Duration::ZERO }
}

/// Threads that serve: as many as were asked for, or one for each CPU.
fn workers(pool: config::Pool, cpus: usize) -> usize {
    match pool.workers {
        0 => cpus,
        n => n,
    }
}

/// CPUs that we may use.
fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// All sockets, those that the service manager passed and our own.
fn listeners(
    settings: &Settings,
    mut inherited: Vec<(String, OwnedFd)>,
) -> anyhow::Result<Vec<(Listener, Protocol)>> {
    let keys = inherited.iter().position(|(name, _)| name == KV_SOCKET_NAME);
    let keys = keys.map(|at| inherited.remove(at));
    let only = inherited.len() == 1;
    let objects = inherited.into_iter().find(|(name, _)| only || name == SOCKET_NAME);
    let (listen, kv) = (&settings.listen, &settings.kv);
    let mut all = Vec::new();
    let objects = match objects {
        Some(passed) => Some(inherit(passed)?),
        None if listen.is_wanted => Some(bind(&listen.path, listen, listen.mode, "--socket")?),
        None => None,
    };
    all.extend(objects.map(|listener| (listener, Protocol::Objm)));
    let keys = match (keys, &kv.socket) {
        (Some(passed), _) => Some(inherit(passed)?),
        (None, Some(path)) => Some(bind(path, listen, kv.mode, "--kv-socket")?),
        (None, None) => None,
    };
    all.extend(keys.map(|listener| (listener, Protocol::Resp)));
    if let Some(address) = kv.listen {
        let told = |error| unheard(error, &address, None, "--kv-listen");
        let listener = Listener::bind_tcp(address, listen.backlog).map_err(told)?;
        all.push((listener, Protocol::Resp));
    }
    Ok(all)
}

/// A socket that the service manager passed.
fn inherit((name, fd): (String, OwnedFd)) -> anyhow::Result<Listener> {
    let listener = Listener::from_fd(fd)
        .with_context(|| format!("the inherited socket '{name}' cannot be used"))?;
    // As early as can be; the `Acceptor` asks again whether the kernel can.
    socket::refuse_descriptors(listener.as_fd())?;
    Ok(listener)
}

/// A socket of our own.
fn bind(path: &Path, listen: &Listen, mode: u32, flag: &str) -> anyhow::Result<Listener> {
    let Listen { owner, group, backlog, .. } = *listen;
    let told = |error| {
        let missing = path.parent().filter(|dir| !dir.as_os_str().is_empty() && !dir.exists());
        unheard(error, &path.display(), missing, flag)
    };
    let options = BindOptions { mode, owner, group, backlog };
    let listener = Listener::bind(path, options).map_err(told)?;
    socket::refuse_descriptors(listener.as_fd())?;
    Ok(listener)
}

/// That nobody can be heard at `place`, and what to do about it: perhaps its directory is missing.
fn unheard(
    error: os::Error,
    place: &dyn Display,
    missing: Option<&Path>,
    flag: &str,
) -> anyhow::Error {
    let remedy = match (missing, error.errno()) {
        (Some(dir), _) => format!("create the directory {}, or ", dir.display()),
        (None, errno::EADDRINUSE) => "stop the process that listens there, or ".to_owned(),
        (None, errno::ENOTSOCK) => "move what is there away, or ".to_owned(),
        (None, _) => String::new(),
    };
    let what = format!("cannot listen at {place}: {remedy}choose another place with {flag}");
    anyhow::Error::new(error).context(what)
}

fn described(listener: &Listener) -> String {
    match (listener.address(), listener.path()) {
        (Some(address), _) => address.to_string(),
        (None, Some(path)) => path.display().to_string(),
        (None, None) => "inherited".to_owned(),
    }
}

fn start(settings: &Settings, daemon: &Arc<Daemon>) -> anyhow::Result<Running> {
    let metrics: &Arc<Metrics> = &daemon.metrics;
    let helpers = &daemon.helpers;
    let (transfer, thread) =
        transfer_path::TransferPath::start(helpers.clone(), metrics.answers())?;
    let mut threads = vec![thread, daemon.deadlines.start()?, daemon.key_service.ticker.start()?];
    let committer = Committer::default();
    threads.extend(keepers(&daemon.key_service.keyspace, &committer)?);
    let handoffs = Handoffs {
        transfer: transfer.clone(),
        helpers: helpers.clone(),
        committer: committer.clone(),
    };
    let kept = daemon.clone();
    let attendant =
        move |patience| Attendant::new(Service::new(kept.clone(), patience), handoffs.clone());
    let pool = Pool::start(workers(settings.pool, cpus()), spin(settings), |_| {
        (attendant(Patience::Never), daemon.metrics.worker())
    })?;
    threads.extend(helpers.start(settings.pool.helpers, move || attendant(Patience::Block))?);
    Ok(Running { daemon: daemon.clone(), pool, transfer, committer, threads })
}

/// The threads that the journal needs, if there is one.
fn keepers(keyspace: &Arc<Keyspace>, committer: &Committer) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::new();
    threads.extend(keeper::start(keyspace.clone())?);
    keyspace.attend()?;
    if let Some(journal) = keyspace.journal()
        && journal.options().sync == SyncPolicy::Always
    {
        threads.push(committer.start(journal.clone())?);
    }
    Ok(threads)
}

/// Lets every connection finish what it was asked, until the deadline or another
/// signal; returns whether all did.
fn drain(running: &Running, front: &mut Front<'_>, signals: &Signals, deadline: Duration) -> bool {
    let daemon = &running.daemon;
    daemon.draining.store(true, Ordering::SeqCst);
    running.pool.rouse();
    let end = Instant::now() + deadline;
    let open = || daemon.budgets.connections.used();
    while open() > 0 {
        if Instant::now() >= end {
            tracing::warn!(connections = open(), ?deadline, "drain deadline passed; cutting off");
            return false;
        }
        if matches!(signals.next(), Ok(Some(Signal::Terminate | Signal::Interrupt))) {
            tracing::warn!(connections = open(), "second signal; cutting off");
            return false;
        }
        front.show_life(&running.pool, &running.transfer);
        std::thread::sleep(DRAIN_LOOK);
    }
    true
}

fn stop(running: Running) {
    running.transfer.stop();
    running.committer.stop();
    if let Some(journal) = running.daemon.key_service.keyspace.journal() {
        journal.stop();
    }
    running.daemon.helpers.stop();
    running.pool.stop();
    running.daemon.deadlines.stop();
    running.daemon.key_service.ticker.stop();
    for thread in running.threads {
        if thread.join().is_err() {
            tracing::error!("a thread ended in a panic");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_as_many_commands_take_long_as_there_are_workers() {
        for (set, cpus, long) in [(0, 16, 8), (0, 2, 2), (0, 1, 2), (1, 16, 2), (12, 2, 6)] {
            let pool = config::Pool { workers: set, helpers: 8, spin: Duration::ZERO };
            assert_eq!(long_at_once(pool, cpus), long, "{set} workers, {cpus} CPUs");
        }
    }
}
