//! Crashes: a short history is stopped at every byte and every step, and the disk keeps what it has to
//! and what it likes of the rest. What was promised must be there, whole, and nothing else but a
//! beginning of what was done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use objmapper::kv::{Expiry, JournalOptions, Keyspace, SyncPolicy};

use crate::disk::{Event, Fake};
use crate::town::{LATER, Map, NOW, SELDOM, abandon, all, journal, open, put};

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// Does a short history with everything in it; gives the disk and the map after each of its steps.
fn history(options: JournalOptions, compact_at: &[usize]) -> (Arc<Fake>, Vec<Map>) {
    let disk = Arc::new(Fake::default());
    let keys = open(&disk, options).unwrap().0;
    let mut maps = vec![all(&keys)];
    disk.told(0);
    for step in 0..12_usize {
        let (a, b) = (format!("key {}", step % 4), format!("other {}", step % 3));
        let both = [keys.key(0, a.as_bytes()), keys.key(1, b.as_bytes())];
        let mut hold = keys.hold_keys(&both, NOW);
        match step % 6 {
            5 => assert!(hold.remove(&both[0])),
            4 => drop(hold.write_at(&both[0], 3, b"written").unwrap()),
            3 => {
                // Two keys in two shards: both or none.
                let value = format!("value {step}").into_bytes();
                for key in &both {
                    hold.set(key, keys.content(&value).unwrap(), Expiry::At(LATER)).unwrap();
                }
            }
            _ => {
                let value = vec![b'0' + u8::try_from(step).unwrap(); step * 7];
                hold.set(&both[0], keys.content(&value).unwrap(), Expiry::Never).unwrap();
            }
        }
        let position = hold.finish();
        maps.push(all(&keys));
        keys.settle(position).unwrap();
        disk.told(step + 1);
        if compact_at.contains(&step) {
            keys.compact().unwrap();
            assert_eq!(all(&keys), maps[step + 1]);
        }
    }
    let events = disk.events().len();
    abandon(keys);
    // Where there is a thread that syncs, it may be about to.
    if options.sync == SyncPolicy::Always {
        assert_eq!(disk.events().len(), events);
    }
    (disk, maps)
}

/// A file as the running kernel shows it, and as it was when it was last synced.
#[derive(Default)]
struct Inode {
    bytes: Vec<u8>,
    /// Where the next byte goes that is appended.
    end: usize,
    synced: Vec<u8>,
    synced_end: usize,
}

impl Inode {
    fn append(&mut self, bytes: &[u8]) {
        write_over(&mut self.bytes, self.end, bytes);
        self.end += bytes.len();
    }

    fn sync(&mut self) {
        self.synced.clone_from(&self.bytes);
        self.synced_end = self.end;
    }

    /// As it was synced, and the first of the bytes that came since.
    fn with_the_first(&self, piece: usize) -> Vec<u8> {
        let mut image = self.synced.clone();
        let to = (self.synced_end + piece).min(self.end);
        write_over(&mut image, self.synced_end, &self.bytes[self.synced_end..to]);
        image
    }

    /// As it is, without the first of the bytes that came since.
    fn without_the_first(&self, piece: usize) -> Vec<u8> {
        let mut image = self.bytes.clone();
        let to = (self.synced_end + piece).min(self.end);
        image[self.synced_end..to].fill(0);
        image
    }
}

pub(crate) fn write_over(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    file.resize(file.len().max(at + bytes.len()), 0);
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// What is on the disk, and what may be.
#[derive(Default)]
struct Machine {
    inodes: Vec<Inode>,
    /// Names, as they are seen and as they are durable.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
}

impl Machine {
    fn take(&mut self, event: &Event) {
        match event {
            Event::Create(name) => {
                self.inodes.push(Inode::default());
                self.names.insert(name.clone(), self.inodes.len() - 1);
            }
            Event::Append(name, bytes) => self.inode(name).append(bytes),
            Event::Fill(name, n) => {
                let inode = self.inode(name);
                inode.bytes.resize(inode.bytes.len() + n, 0);
            }
            Event::Trim(name) => {
                let inode = self.inode(name);
                inode.bytes.truncate(inode.end);
            }
            // A file that was renamed or removed meanwhile is not synced any more.
            Event::SyncFile(name) => {
                if self.names.contains_key(name) {
                    self.inode(name).sync();
                }
            }
            Event::Cut(name, length) => {
                let inode = self.inode(name);
                inode.end = usize::try_from(*length).unwrap();
                inode.bytes.truncate(inode.end);
                inode.sync();
            }
            Event::Rename(from, to) => {
                let inode = self.names.remove(from).unwrap();
                self.names.insert(to.clone(), inode);
            }
            Event::Remove(name) => drop(self.names.remove(name).unwrap()),
            Event::SyncNames => self.durable_names = self.names.clone(),
            Event::Told(_) => {}
        }
    }

    fn inode(&mut self, name: &str) -> &mut Inode {
        &mut self.inodes[self.names[name]]
    }

    fn image(&self, names: &BTreeMap<String, usize>, keep: impl Fn(&Inode) -> Vec<u8>) -> Files {
        names.iter().map(|(name, &n)| (name.clone(), keep(&self.inodes[n]))).collect()
    }

    /// As the running kernel shows it.
    fn seen(&self) -> Files {
        self.image(&self.names, |inode| inode.bytes.clone())
    }

    /// What a power cut may leave: names as they are or as they are durable; of bytes that are not
    /// durable none, all, some at the front, or some at the back with zeros before.
    fn cuts(&self) -> Vec<Files> {
        let mut images = Vec::new();
        for names in [&self.names, &self.durable_names] {
            let longest = names.values().map(|&n| self.inodes[n].end - self.inodes[n].synced_end);
            for piece in 0..=longest.max().unwrap_or(0) {
                images.push(self.image(names, |inode| inode.with_the_first(piece)));
                images.push(self.image(names, |inode| inode.without_the_first(piece)));
            }
        }
        images
    }
}

/// Recovers from an image: a beginning of the history, at least up to what was promised.
pub(crate) fn check(image: &Files, maps: &[Map], promised: usize, done: usize, what: &str) {
    let disk = Arc::new(Fake::with(image.clone()));
    let (keys, report) =
        open(&disk, journal(SyncPolicy::Always)).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = all(&keys);
    let at = maps[promised..=done].iter().position(|map| *map == found);
    assert!(at.is_some(), "{what}: {found:?} is none of {promised}..={done}; {report:?}");
    // And again: the repair has left nothing behind.
    drop(keys);
    let (keys, report) = open(&Arc::new(disk.killed()), journal(SyncPolicy::Always)).unwrap();
    assert_eq!((all(&keys), report.torn), (found, None), "{what}");
}

/// The step that was done last before event `at`, promised or not.
pub(crate) fn done(events: &[Event], at: usize, steps: usize) -> usize {
    let told = events[..at].iter().rev().find_map(|event| match event {
        Event::Told(n) => Some(*n),
        _ => None,
    });
    (told.unwrap_or(0) + 1).min(steps)
}

pub(crate) fn told(events: &[Event], at: usize) -> usize {
    events[..at]
        .iter()
        .filter_map(|e| if let Event::Told(n) = e { Some(*n) } else { None })
        .max()
        .unwrap_or(0)
}

/// The process is killed at every byte that it writes: what it was told is kept, whatever the policy.
fn killed_everywhere(options: JournalOptions, compact_at: &[usize]) {
    let (disk, maps) = history(options, compact_at);
    let events = disk.events();
    let mut machine = Machine::default();
    for (at, event) in events.iter().enumerate() {
        let (promised, done) = (told(&events, at), done(&events, at, maps.len() - 1));
        if let Event::Append(name, bytes) = event {
            for cut in 0..bytes.len() {
                let mut image = machine.seen();
                let end = machine.inode(name).end;
                write_over(image.get_mut(name).unwrap(), end, &bytes[..cut]);
                check(&image, &maps, promised, done, &format!("event {at}, byte {cut}"));
            }
        }
        machine.take(event);
        check(&machine.seen(), &maps, promised, done, &format!("after event {at} {event:?}"));
    }
}

/// The power is cut at every step: under `always` what was told is kept.
fn cut_everywhere(options: JournalOptions, compact_at: &[usize]) {
    let (disk, maps) = history(options, compact_at);
    let events = disk.events();
    let mut machine = Machine::default();
    for (at, event) in events.iter().enumerate() {
        machine.take(event);
        let done = done(&events, at + 1, maps.len() - 1);
        let promised = match options.sync {
            SyncPolicy::Always => told(&events, at + 1),
            _ => 0,
        };
        for (n, image) in machine.cuts().iter().enumerate() {
            check(image, &maps, promised, done, &format!("after event {at} {event:?}, cut {n}"));
        }
    }
}

/// Of all ways to keep a journal each one, and `always` without zeros ahead.
fn ways() -> [JournalOptions; 4] {
    let [always, seldom, never] = [SyncPolicy::Always, SELDOM, SyncPolicy::Never].map(journal);
    [always, JournalOptions { prefill: 0, ..always }, seldom, never]
}

#[test]
fn killed_at_any_byte_it_loses_nothing_that_was_told() {
    for options in ways() {
        killed_everywhere(options, &[]);
    }
}

#[test]
fn killed_at_any_byte_of_a_compaction_as_well() {
    let segment = 200;
    for options in ways() {
        killed_everywhere(JournalOptions { segment, ..options }, &[3, 8]);
    }
}

#[test]
fn a_power_cut_leaves_what_was_promised_and_nothing_by_halves() {
    for options in ways() {
        cut_everywhere(options, &[]);
    }
}

#[test]
fn a_power_cut_during_a_compaction_as_well() {
    let segment = 200;
    for options in ways() {
        cut_everywhere(JournalOptions { segment, ..options }, &[3, 8]);
    }
}

/// A snapshot may hold one half of a record that is not in the journal yet: it must not count before.
#[test]
fn a_power_cut_after_a_snapshot_leaves_no_halves() {
    const ROUNDS: usize = 10;
    let disk = Arc::new(Fake::default());
    let keys = open(&disk, journal(SyncPolicy::Never)).unwrap().0;
    for n in 0..3000 {
        put(&keys, &format!("old {n}"), &"x".repeat(300)).unwrap();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0_u64.. {
                let value = n.to_le_bytes();
                let names = (0..8).map(|name| format!("one of all {name}")).collect::<Vec<_>>();
                let all: Vec<_> = names.iter().map(|name| keys.key(0, name.as_bytes())).collect();
                let mut hold = keys.hold_keys(&all, NOW);
                for key in &all {
                    hold.set(key, keys.content(&value).unwrap(), Expiry::Never).unwrap();
                }
                keys.settle(hold.finish()).unwrap();
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        for _ in 0..ROUNDS {
            let before = keys.journal().unwrap().appended();
            while keys.journal().unwrap().appended() == before {
                std::thread::yield_now();
            }
            keys.compact().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    });
    let mut machine = Machine::default();
    let mut checked = 0;
    let events = disk.events();
    // Whoever writes may come between the two.
    let mut renamed = false;
    for event in &events {
        machine.take(event);
        renamed |= matches!(event, Event::Rename(..));
        if !matches!(event, Event::SyncNames) || !std::mem::take(&mut renamed) {
            continue;
        }
        let image = machine.image(&machine.durable_names, |inode| inode.synced.clone());
        let keys = open(&Arc::new(Fake::with(image)), journal(SyncPolicy::Never)).unwrap().0;
        let map = all(&keys);
        let mut values = map
            .iter()
            .filter(|((_, name), _)| name.starts_with(b"one"))
            .map(|(_, (value, _))| value);
        if let Some(first) = values.next() {
            assert!(values.all(|other| other == first), "{map:?}");
        }
        checked += 1;
    }
    assert_eq!(checked, ROUNDS);
}

#[test]
fn a_snapshot_taken_while_others_write_loses_nothing() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("kv");
    let options = objmapper::kv::Options { shards: 8, ..Default::default() };
    let journal = JournalOptions { segment: 20_000, ..journal(SyncPolicy::Never) };
    let open = || Keyspace::open_with(&path, options, journal, |_, _| ()).unwrap().0;
    let keys = open();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3_u8)
            .map(|thread| {
                let keys = &keys;
                scope.spawn(move || {
                    for round in 0..4000_u32 {
                        let names =
                            [0, 1].map(|n| format!("{thread} {}", (round * 7 + n * 13) % 50));
                        let both = names.each_ref().map(|name| keys.key(0, name.as_bytes()));
                        let mut hold = keys.hold_keys(&both, NOW);
                        match round % 5 {
                            0 => drop(hold.remove(&both[0])),
                            1 => drop(hold.write_at(&both[0], u64::from(round % 30), b"xyz")),
                            _ => {
                                let value = round.to_le_bytes();
                                for key in &both {
                                    let content = keys.content(&value).unwrap();
                                    hold.set(key, content, Expiry::Never).unwrap();
                                }
                            }
                        }
                        keys.settle(hold.finish()).unwrap();
                    }
                })
            })
            .collect();
        let mut rounds = 0;
        while rounds < 3 || !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            keys.compact().unwrap();
            rounds += 1;
        }
    });
    let before = all(&keys);
    drop(keys);
    assert_eq!(all(&open()), before);
}
