//! What the index is worth in its place: a name resolved by the store with it and without.
//!
//! The backing answers at once, so that nothing but resolving is left: with the index a look-up
//! and the caller's verdict; without it the name is checked and normalised, its mount found among
//! all, and its path decoded. The last rows open real files, as a request does.

use anyhow::{Context, Result};
use objmapper::index::Bounds;
use objmapper::{
    Backing, Caller, Found, Limits, Links, Miss, Mount, Mounts, Object, Patience, Refusal, Rules,
    Store, Tree, Want,
};
use objmapper_os::file::Identity;
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::report;
use crate::stop::Stop;
use crate::summary::round3;
use crate::tree;

/// Length of one measurement.
const SLICE: Duration = Duration::from_millis(20);

/// Names that are resolved in turn.
const NAMES: u32 = 1000;

/// One row.
#[derive(Debug, Serialize)]
pub(super) struct Cost {
    what: String,
    index_ns: f64,
    no_index_ns: f64,
}

/// Answers to everything without asking the kernel.
#[derive(Debug)]
struct Nothing;

impl Backing for Nothing {
    fn open(&self, _: &[u8], _: Patience) -> Result<Found, Miss> {
        Err(Refusal::NotFound.into())
    }

    fn stat(&self, path: &[u8], _: Patience) -> Result<Object, Miss> {
        let size = path.len() as u64; // so that the path has to be known
        Ok(Object::of_file(&Identity {
            dev: 1,
            ino: 1,
            size,
            mtime_ns: 0,
            ctime_ns: 0,
            mode: 0o100_444,
            nlink: 1,
            blocks: 0,
        }))
    }

    fn list(&self, _: &[u8], _: &[u8], _: usize) -> Result<objmapper::Page, Miss> {
        Err(Refusal::NotDirectory.into())
    }

    fn describe(&self) -> String {
        "nothing".into()
    }
}

/// Measures all rows.
pub(super) fn measure(rounds: u32, stop: &Stop) -> Result<Vec<Cost>> {
    let plain =
        |i: u32| format!("/m0/team-{}/release-2024/weights/part-{i:05}-of-01000.bin", i % 7);
    let escaped =
        |i: u32| format!("/m0/team {}/release 2024/weights/part {i:05} of 01000.bin", i % 7);
    let mut costs = Vec::new();
    for mounts in [1, 16] {
        for (kind, name) in
            [("plain name", &plain as &dyn Fn(u32) -> String), ("name with escapes", &escaped)]
        {
            stop.check()?;
            let uris = (0..NAMES).map(|i| encoded(&name(i))).collect::<Result<Vec<_>>>()?;
            let what =
                format!("resolve, {kind}, {mounts} mount{}", if mounts == 1 { "" } else { "s" });
            costs.push(row(what, rounds, &uris, |index| nothing_mounted(mounts, index), resolve)?);
        }
    }
    costs.push(open_files(rounds)?);
    Ok(costs)
}

/// Real files, opened and closed.
fn open_files(rounds: u32) -> Result<Cost> {
    let shape = tree::Shape { files: NAMES, size: 1, depth: 2, sparse: true };
    let files = tree::Tree::temporary(shape)?;
    let root = files.root().context("the tree has no root")?;
    let uris: Vec<_> = files.objects.iter().map(|object| object.uri.clone()).collect();
    let store = |index| {
        let tree = Tree::open(root, Links::Refuse)?;
        let mount = Mount::new("/".parse()?, Arc::new(tree), Rules::owner_only());
        Ok(Store::with_limits(Mounts::new(vec![mount])?, Limits::default(), index))
    };
    row("deliver a descriptor and close it".into(), rounds, &uris, store, deliver)
}

fn row(
    what: String,
    rounds: u32,
    uris: &[Vec<u8>],
    store: impl Fn(Option<Bounds>) -> Result<Store>,
    one: impl Fn(&Store, &mut Caller, &[u8]) -> Result<(), Miss>,
) -> Result<Cost> {
    let (with, without) = (store(Some(Bounds::default()))?, store(None)?);
    let mut caller = Caller::own();
    let mut ns = |store: &Store| nanoseconds(store, &mut caller, uris, &one);
    let (mut index, mut no_index) = (Vec::new(), Vec::new());
    ns(&with)?; // fills the index
    for _ in 0..rounds {
        index.push(ns(&with)?);
        no_index.push(ns(&without)?);
    }
    // The best of all rounds: what disturbs can only add.
    let least = |all: Vec<f64>| round3(all.into_iter().fold(f64::INFINITY, f64::min));
    Ok(Cost { what, index_ns: least(index), no_index_ns: least(no_index) })
}

fn nanoseconds(
    store: &Store,
    caller: &mut Caller,
    uris: &[Vec<u8>],
    one: impl Fn(&Store, &mut Caller, &[u8]) -> Result<(), Miss>,
) -> Result<f64> {
    let start = Instant::now();
    let mut count = 0_usize;
    while start.elapsed() < SLICE {
        for uri in uris {
            one(store, caller, uri).map_err(|miss| anyhow::anyhow!("{miss:?}"))?;
        }
        count += uris.len();
    }
    Ok(start.elapsed().as_secs_f64() * 1e9 / count as f64)
}

fn resolve(store: &Store, caller: &mut Caller, uri: &[u8]) -> Result<(), Miss> {
    std::hint::black_box(store.stat(caller, uri, Patience::Never)?);
    Ok(())
}

fn deliver(store: &Store, caller: &mut Caller, uri: &[u8]) -> Result<(), Miss> {
    let want = Want { uri, ..Want::default() };
    std::hint::black_box(store.deliver(caller, &want, Patience::Block)?);
    Ok(())
}

/// `/m0` is asked for; among its neighbours it is found last.
fn nothing_mounted(count: u32, index: Option<Bounds>) -> Result<Store> {
    let mount = |i: u32| {
        let prefix = if i == 0 { "/m0".to_owned() } else { format!("/m0-and-longer-{i}") };
        Ok(Mount::new(prefix.parse()?, Arc::new(Nothing), Rules::owner_only()))
    };
    let mounts = Mounts::new((0..count).map(mount).collect::<Result<_>>()?)?;
    Ok(Store::with_limits(mounts, Limits::default(), index))
}

fn encoded(path: &str) -> Result<Vec<u8>> {
    let uri = objmapper_proto::UriBuf::from_path(path.as_bytes())?;
    Ok(uri.as_uri().as_bytes().to_vec())
}

/// As a table.
pub(super) fn table(costs: &[Cost]) -> String {
    let mut table = report::table(&["ns", "with the index", "without"]);
    for cost in costs {
        table.add_row([
            cost.what.clone(),
            format!("{:.0}", cost.index_ns),
            format!("{:.0}", cost.no_index_ns),
        ]);
    }
    table.to_string()
}
