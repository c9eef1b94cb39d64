//! The list of all settings: name, default, kind and range of each.
//!
//! Sizes for which the core has measured defaults take them from there.

use std::path::PathBuf;
use std::time::Duration;

use objmapper::index::Bounds;
use objmapper::kv::journal::Damage;
use objmapper::kv::{JournalOptions, Policy};
use objmapper_os::peer;
use objmapper_proto::limits::{DESCRIPTORS, INLINE};
use objmapper_proto::socket;

use super::allow::{Group, User, Whom, rules};
use super::file::{self, Document, Raw};
use super::given::Given;
use super::mount::mounts;
use super::sheet::{Problems, Sheet};
use super::value::{
    Absolute, Bytes, Filter, Loopback, Number, Permissions, PowerOfTwo, SocketName, Switch, UpTo,
    Word, ZeroOr, ZeroOrBytes,
};
use super::{
    Delivery, Destinations, Kv, KvSync, Limits, Listen, Loaded, Log, LogFormat, Pool, Settings,
    Stats, Timeouts,
};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// More than any kernel grants (`fs.nr_open` is at most about this).
const MOST_DESCRIPTORS: usize = 1 << 30;

const DAY: Duration = Duration::from_hours(24);

const LOG_FORMAT: Word<LogFormat> = Word(&[
    ("auto", LogFormat::Auto),
    ("plain", LogFormat::Plain),
    ("journal", LogFormat::Journal),
]);

const EVICTION: Word<Policy> = Word(&[
    ("noeviction", Policy::NoEviction),
    ("allkeys-lru", Policy::AllKeysLru),
    ("allkeys-lfu", Policy::AllKeysLfu),
    ("allkeys-random", Policy::AllKeysRandom),
    ("volatile-lru", Policy::VolatileLru),
    ("volatile-lfu", Policy::VolatileLfu),
    ("volatile-random", Policy::VolatileRandom),
    ("volatile-ttl", Policy::VolatileTtl),
]);

const KV_SYNC: Word<KvSync> =
    Word(&[("always", KvSync::Always), ("interval", KvSync::Interval), ("never", KvSync::Never)]);

const DAMAGE: Word<Damage> = Word(&[("refuse", Damage::Refuse), ("skip", Damage::Skip)]);

const STATS: Word<Stats> = Word(&[("any", Stats::Any), ("owner", Stats::Owner)]);

/// Settings from all that was said; `document` is the file that `raw` began with.
pub fn resolve(mut raw: Raw, document: Option<&Document>) -> Result<Loaded, Problems> {
    let mut sheet = Sheet::new(document, std::mem::take(&mut raw.misfits));
    let drain_deadline = sheet.take(
        "drain_deadline",
        &raw.drain_deadline,
        Duration::from_secs(10), // long enough for bodies under way, short for a restart; not tuned
        &UpTo(DAY),
    );
    let mut listen = listen(&mut sheet, &raw.listen);
    sheet.section("destinations");
    let destinations = Destinations { allow: rules(&mut sheet, &raw.destinations, &Whom) };
    let pool = pool(&mut sheet, &raw.pool);
    let delivery = delivery(&mut sheet, &raw.delivery);
    let limits = limits(&mut sheet, &raw.limits);
    let timeouts = timeouts(&mut sheet, &raw.timeouts);
    let kv = kv(&mut sheet, &raw.kv, &raw.kv_allow);
    let log = log(&mut sheet, &raw.log);
    let mounts = mounts(&mut sheet, raw, kv.is_served());
    let keys_alone = kv.dir.is_some() && kv.socket.is_none() && kv.listen.is_none();
    listen.is_wanted |= !mounts.is_empty() || keys_alone;
    if listen.is_wanted && kv.socket.as_ref() == Some(&listen.path) {
        let path = listen.path.display();
        sheet.complain(format!(
            "{path} cannot be the socket for objects and for Redis clients at once: choose another \
             path with --socket (listen.path) or --kv-socket (kv.socket)"
        ));
    }
    let effective = sheet.finish()?;
    let settings = Settings {
        mounts,
        listen,
        destinations,
        pool,
        delivery,
        limits,
        timeouts,
        drain_deadline,
        kv,
        log,
    };
    Ok(Loaded { settings, effective, warnings: Vec::new() })
}

fn listen(sheet: &mut Sheet<'_>, raw: &file::Listen) -> Listen {
    sheet.section("listen");
    Listen {
        path: sheet.take("path", &raw.path, default_socket(), &SocketName),
        is_wanted: raw.path.is_some(),
        mode: sheet.take("mode", &raw.mode, 0o660, &Permissions),
        owner: sheet.take_if_given("owner", &raw.owner, &User),
        group: sheet.take_if_given("group", &raw.group, &Group),
        // The kernel's own cap by default (`net.core.somaxconn`).
        backlog: sheet.take("backlog", &raw.backlog, 4096, &Number(1..=65535)),
        stats: sheet.take("stats", &raw.stats, Stats::Any, &STATS),
    }
}

fn pool(sheet: &mut Sheet<'_>, raw: &file::Pool) -> Pool {
    sheet.section("pool");
    Pool {
        workers: sheet.take("workers", &raw.workers, 0, &Number(0..=1024)),
        helpers: sheet.take("helpers", &raw.helpers, 4, &Number(1..=1024)), // not tuned
        // A ping-pong over two CPUs takes 30 us instead of 50, for about the same CPU; longer is
        // no better. (`objmapper-bench --daemon-arg=--spin=..`)
        spin: sheet.take(
            "spin",
            &raw.spin,
            Duration::from_micros(30),
            &UpTo(Duration::from_millis(10)),
        ),
    }
}

fn delivery(sheet: &mut Sheet<'_>, raw: &file::Delivery) -> Delivery {
    let objmapper::Limits { inline, auto } = objmapper::Limits::default();
    let room = Bytes(0..=INLINE as u64); // of a reply
    sheet.section("delivery");
    Delivery {
        inline_limit: sheet.take("inline_limit", &raw.inline_limit, inline, &room),
        auto_limit: sheet.take("auto_limit", &raw.auto_limit, auto, &Bytes(0..=GIB as u64)),
        // A hand-over and back costs as much as moving 256 KiB; where a body is 1 MiB it is a fifth
        // (`objmapper-bench bars --only "1 MiB" --daemon-arg=--in-place-limit=..`).
        in_place_limit: sheet.take(
            "in_place_limit",
            &raw.in_place_limit,
            MIB as u64,
            &Bytes(0..=MIB as u64),
        ),
    }
}

#[rustfmt::skip] // a table
fn limits(sheet: &mut Sheet<'_>, raw: &file::Limits) -> Limits {
    let Bounds { entries, bytes, shards } = Bounds::default();
    // One message must fit, or it could never be sent.
    let message = DESCRIPTORS..=MOST_DESCRIPTORS;
    let or_auto = ZeroOr(message.clone());
    sheet.section("limits");
    Limits {
        connections:
            sheet.take("connections", &raw.connections, 16384, &Number(1..=MIB)),
        connections_per_uid:
            sheet.take("connections_per_uid", &raw.connections_per_uid, 0, &Number(0..=MIB)),
        descriptors_in_flight:
            sheet.take("descriptors_in_flight", &raw.descriptors_in_flight, 0, &or_auto),
        descriptors_per_uid:
            sheet.take("descriptors_per_uid", &raw.descriptors_per_uid, 0, &or_auto),
        descriptors_per_connection:
            sheet.take("descriptors_per_connection", &raw.descriptors_per_connection, 1024, &Number(message)),
        // Each entry is remembered in four bytes even after it has gone.
        index_entries:
            sheet.take("index_entries", &raw.index_entries, entries, &Number(0..=GIB / 4)),
        index_bytes:
            sheet.take("index_bytes", &raw.index_bytes, bytes, &Bytes(64 * KIB..=1024 * GIB)),
        index_shards:
            sheet.take("index_shards", &raw.index_shards, shards, &PowerOfTwo(4096)),
        // The kernel keeps the size doubled, in an int.
        send_buffer:
            sheet.take("send_buffer", &raw.send_buffer, MIB, &Bytes(0..=512 * MIB)),
        bodies:
            sheet.take("bodies", &raw.bodies, 0, &Number(0..=MOST_DESCRIPTORS)),
        // At least a few requests of the largest size.
        queued_bytes:
            sheet.take("queued_bytes", &raw.queued_bytes, 0, &ZeroOrBytes(MIB..=1024 * GIB)),
        // Not tuned.
        shared_descriptors:
            sheet.take("shared_descriptors", &raw.shared_descriptors, 1024, &Number(0..=MIB)),
    }
}

/// None of them tuned: long for a peer that means well, however slow, and short for what it holds.
fn timeouts(sheet: &mut Sheet<'_>, raw: &file::Timeouts) -> Timeouts {
    let seconds = Duration::from_secs;
    sheet.section("timeouts");
    Timeouts {
        hello: sheet.take("hello", &raw.hello, seconds(10), &UpTo(DAY)),
        request: sheet.take("request", &raw.request, seconds(30), &UpTo(DAY)),
        idle: sheet.take("idle", &raw.idle, Duration::ZERO, &UpTo(DAY)),
        send: sheet.take("send", &raw.send, seconds(60), &UpTo(DAY)),
    }
}

fn kv(sheet: &mut Sheet<'_>, raw: &file::Kv, allow: &[Given]) -> Kv {
    let journal = JournalOptions::default();
    sheet.section("kv");
    let kv = Kv {
        socket: sheet.take_if_given("socket", &raw.socket, &SocketName),
        mode: sheet.take("mode", &raw.mode, 0o660, &Permissions),
        listen: sheet.take_if_given("listen", &raw.listen, &Loopback),
        listen_without_password: sheet.take(
            "listen_without_password",
            &raw.listen_without_password,
            false,
            &Switch,
        ),
        password_file: sheet.take_if_given("password_file", &raw.password_file, &Absolute),
        allow: rules(sheet, allow, &Whom),
        max_memory: sheet.take("max_memory", &raw.max_memory, 0, &Bytes(0..=1 << 50)),
        eviction: sheet.take("eviction", &raw.eviction, Policy::default(), &EVICTION),
        dir: sheet.take_if_given("dir", &raw.dir, &Absolute),
        sync: sheet.take("sync", &raw.sync, KvSync::Interval, &KV_SYNC),
        // Less makes each sync smaller and no more seldom; not tuned.
        sync_interval: sheet.take(
            "sync_interval",
            &raw.sync_interval,
            Duration::from_millis(100),
            &UpTo(Duration::from_mins(1)),
        ),
        damage: sheet.take("damage", &raw.damage, journal.damage, &DAMAGE),
        segment: sheet.take(
            "segment",
            &raw.segment,
            journal.segment,
            &Bytes(4 * KIB as u64..=4 * GIB as u64),
        ),
        compact_from: sheet.take(
            "compact_from",
            &raw.compact_from,
            journal.compact_from,
            &Bytes(0..=1 << 50),
        ),
        compact_percent: sheet.take(
            "compact_percent",
            &raw.compact_percent,
            journal.compact_percent,
            &Number(0..=1_000_000),
        ),
        compact_every: sheet.take(
            "compact_every",
            &raw.compact_every,
            journal.compact_every,
            &UpTo(30 * DAY),
        ),
    };
    check_kv(sheet, raw, &kv);
    kv
}

/// What each setting may be, and not together with others.
fn check_kv(sheet: &mut Sheet<'_>, raw: &file::Kv, kv: &Kv) {
    if let (Some(given), Some(_)) = (&raw.listen, kv.listen)
        && kv.password_file.is_none()
        && !kv.listen_without_password
    {
        let why = "must have a password, since every user of this machine can connect: write it \
                   into a file and name that with kv.password_file (--kv-password-file), or say \
                   kv.listen_without_password = true";
        sheet.refuse("listen", given, why);
    }
    if let (Some(given), KvSync::Always, None) = (&raw.sync, kv.sync, &kv.dir) {
        let why = "must have a directory to sync: name one with kv.dir (--kv-dir), or keys are \
                   lost when the daemon stops";
        sheet.refuse("sync", given, why);
    }
}

fn log(sheet: &mut Sheet<'_>, raw: &file::Log) -> Log {
    sheet.section("log");
    Log {
        filter: sheet.take("filter", &raw.filter, "info".to_owned(), &Filter),
        format: sheet.take("format", &raw.format, LogFormat::Auto, &LOG_FORMAT),
    }
}

/// For root and for services the system's socket, for a person their own.
fn default_socket() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    match runtime.filter(|dir| dir.is_absolute() && peer::own_uid() != 0) {
        Some(dir) => dir.join(socket::IN_RUNTIME_DIR),
        None => PathBuf::from(socket::SYSTEM),
    }
}
