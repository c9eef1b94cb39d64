//! Crashes as kernels leave them: a file's pages and its length reach the disk in any order, each as it
//! was at any moment since the last sync; where its length came first there may be zeros, or what the
//! disk held there before. Of names that are not durable any may be there. Histories are by chance, on
//! a disk that has no room or no descriptors now and then; and crashes come during recovery too.

use std::collections::BTreeMap;
use std::sync::Arc;

use objmapper::kv::{Expiry, JournalOptions, SyncPolicy};

use crate::crashes::{Files, check, told, write_over};
use crate::disk::{Event, Fake};
use crate::town::{Map, NOW, SELDOM, abandon, all, get, journal, open, put};

/// Numbers by chance, the same for the same beginning (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.word() % n as u64).unwrap()
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// A file as it was when it was last synced, and after each change since; the last is what is seen.
#[derive(Default, Clone)]
struct Inode {
    versions: Vec<Vec<u8>>,
    /// Where the next byte goes that is appended.
    end: usize,
}

impl Inode {
    fn change(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.versions.last().cloned().unwrap_or_default();
        change(&mut bytes);
        self.versions.push(bytes);
    }

    fn sync(&mut self) {
        let last = self.versions.pop().unwrap_or_default();
        self.versions = vec![last];
    }

    /// Some of it.
    fn torn(&self, dice: &mut Dice, stale: &[u8]) -> Vec<u8> {
        let Some(synced) = self.versions.first() else { return Vec::new() };
        let length = self.versions[dice.below(self.versions.len())].len();
        let page = dice.one_of(&[8, 32, 100, 512, 4096]);
        let (mostly, garbage) = (dice.below(3), dice.below(4) == 0);
        let mut image = vec![0; length];
        for from in (0..length).step_by(page) {
            let n = match mostly {
                0 => dice.below(self.versions.len()),
                1 if dice.below(8) > 0 => self.versions.len() - 1,
                _ if dice.below(8) > 0 => 0,
                _ => dice.below(self.versions.len()),
            };
            let to = (from + page).min(length);
            let bytes = self.versions[n].get(from..).unwrap_or_default();
            let bytes = &bytes[..bytes.len().min(to - from)];
            image[from..from + bytes.len()].copy_from_slice(bytes);
            if garbage && n == 0 && from >= synced.len() && !stale.is_empty() {
                for (at, byte) in image[from..to].iter_mut().enumerate() {
                    *byte = stale[(from + at) % stale.len()];
                }
            }
        }
        image
    }
}

#[derive(Default)]
struct Machine {
    inodes: Vec<Inode>,
    durable_names: BTreeMap<String, usize>,
    names: BTreeMap<String, usize>,
    /// What was done to names since they were durable: the name, and what it is of then.
    renames: Vec<(String, Option<usize>)>,
    /// What a file held that is gone.
    stale: Vec<u8>,
}

impl Machine {
    fn with(files: &Files) -> Self {
        let mut machine = Self::default();
        for (name, bytes) in files {
            machine.names.insert(name.clone(), machine.inodes.len());
            machine.inodes.push(Inode { versions: vec![bytes.clone()], end: bytes.len() });
        }
        machine.durable_names = machine.names.clone();
        machine
    }

    fn name(&mut self, name: &str, inode: Option<usize>) {
        match inode {
            Some(inode) => drop(self.names.insert(name.to_owned(), inode)),
            None => drop(self.names.remove(name)),
        }
        self.renames.push((name.to_owned(), inode));
    }

    fn take(&mut self, event: &Event) {
        match event {
            Event::Create(name) => {
                self.inodes.push(Inode { versions: vec![Vec::new()], end: 0 });
                self.name(name, Some(self.inodes.len() - 1));
            }
            Event::Append(name, bytes) => {
                let inode = self.inode(name);
                let end = inode.end;
                inode.change(|file| write_over(file, end, bytes));
                inode.end += bytes.len();
            }
            Event::Fill(name, n) => self.inode(name).change(|file| file.resize(file.len() + n, 0)),
            Event::Trim(name) => {
                let inode = self.inode(name);
                let end = inode.end;
                inode.change(|file| file.truncate(end));
            }
            // One that a compaction has removed meanwhile is nobody's.
            Event::SyncFile(name) => {
                if let Some(&n) = self.names.get(name) {
                    self.inodes[n].sync();
                }
            }
            Event::Cut(name, length) => {
                let inode = self.inode(name);
                inode.end = usize::try_from(*length).unwrap();
                let end = inode.end;
                inode.change(|file| file.truncate(end));
                inode.sync();
            }
            Event::Rename(from, to) => {
                let inode = self.names[from];
                self.name(from, None);
                self.name(to, Some(inode));
            }
            Event::Remove(name) => {
                let gone = self.inode(name).versions.last().unwrap().clone();
                self.stale = gone;
                self.name(name, None);
            }
            Event::SyncNames => {
                self.durable_names = self.names.clone();
                self.renames.clear();
            }
            Event::Told(_) => {}
        }
    }

    fn inode(&mut self, name: &str) -> &mut Inode {
        &mut self.inodes[self.names[name]]
    }

    /// What a power cut leaves.
    fn cut(&self, dice: &mut Dice) -> Files {
        let mut names = self.durable_names.clone();
        let (first, some) = (dice.below(self.renames.len() + 1), dice.below(2) == 0);
        for (at, (name, inode)) in self.renames.iter().enumerate() {
            if if some { dice.below(2) == 0 } else { at < first } {
                match inode {
                    Some(inode) => drop(names.insert(name.clone(), *inode)),
                    None => drop(names.remove(name)),
                }
            }
        }
        let torn = |(name, n): (String, usize)| (name, self.inodes[n].torn(dice, &self.stale));
        names.into_iter().map(torn).collect()
    }
}

/// Writes by chance on a disk that lacks this and that now and then, until a write fails or it is closed.
fn history(dice: &mut Dice, options: JournalOptions) -> (Arc<Fake>, Vec<Map>) {
    let disk = Arc::new(Fake::default());
    let keys = open(&disk, options).unwrap().0;
    let mut maps = vec![all(&keys)];
    disk.told(0);
    for _ in 0..30 {
        match dice.below(24) {
            0 | 1 => disk.has_no_descriptors(true),
            2 | 3 => disk.has_no_descriptors(false),
            4 => disk.fill_up(dice.below(600)),
            5 | 6 => disk.is_roomy_again(),
            7 => disk.cannot_trim(dice.below(2) == 0),
            8 | 9 => drop(keys.compact()),
            10 => disk.fail_syncs_after(dice.below(40)),
            11 => drop(keys.journal().unwrap().write_out(keys.journal().unwrap().appended())),
            _ => {}
        }
        let both = [dice.below(5), dice.below(5)].map(|n| format!("key {n}").into_bytes());
        let both = both.each_ref().map(|name| keys.key(0, name));
        let mut hold = keys.hold_keys(&both, NOW);
        let length = dice.one_of(&[1, 10, 30, 150, 400]);
        let value = vec![dice.one_of(&[0, 0, b'x']); length];
        // What is refused has changed nothing.
        match dice.below(4) {
            0 => drop(hold.remove(&both[0])),
            1 => drop(hold.write_at(&both[0], 7, &value)),
            _ => both.iter().for_each(|key| {
                let _ = hold.set(key, keys.content(&value).unwrap(), Expiry::Never);
            }),
        }
        let position = hold.finish().max(keys.journal().unwrap().appended());
        maps.push(all(&keys));
        // Now and then nobody waits for it.
        if dice.below(4) > 0 {
            if keys.may_write().is_err() || keys.settle(position).is_err() {
                break;
            }
            disk.told(maps.len() - 1);
        }
    }
    let _ = keys.close();
    abandon(keys);
    (disk, maps)
}

/// What is recovered, and what two more writes make of it, wherever the power is cut meanwhile.
fn again(image: &Files, dice: &mut Dice, options: JournalOptions, map: &[Map], what: &str) {
    let disk = Arc::new(Fake::with(image.clone()));
    let keys = open(&disk, options).unwrap().0;
    let mut maps = vec![all(&keys)];
    assert!(map.contains(&maps[0]), "{what}");
    disk.told(0);
    for n in 0..2 {
        put(&keys, "again", &n.to_string()).unwrap();
        maps.push(all(&keys));
        disk.told(n + 1);
    }
    abandon(keys);
    let events = disk.events();
    let mut machine = Machine::with(image);
    for (at, event) in events.iter().enumerate() {
        machine.take(event);
        let promised = told(&events, at + 1);
        // What was not durable before may be lost by a second cut only if nobody was told of it since.
        let what = format!("{what}, then after event {at} {event:?}");
        check(&machine.cut(dice), &maps, promised, 2, &what);
    }
}

/// How many histories; more if that is asked for.
fn seeds(otherwise: u64) -> u64 {
    std::env::var("OBJMAPPER_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

fn cut_anywhere(seed: u64) {
    let mut dice = Dice(seed);
    let sync = dice.one_of(&[SyncPolicy::Always, SyncPolicy::Always, SELDOM, SyncPolicy::Never]);
    let segment = dice.one_of(&[100, 700, 3000, 1 << 20]);
    let prefill = dice.one_of(&[0, 300, 2000, 9000]);
    let options = JournalOptions { segment, prefill, ..journal(sync) };
    let (disk, maps) = history(&mut dice, options);
    let events = disk.events();
    let mut machine = Machine::default();
    for (at, event) in events.iter().enumerate() {
        machine.take(event);
        let promised = if sync == SyncPolicy::Always { told(&events, at + 1) } else { 0 };
        for n in 0..4 {
            let what = format!("seed {seed}, after event {at} {event:?}, cut {n}");
            let image = machine.cut(&mut dice);
            check(&image, &maps, promised, maps.len() - 1, &what);
            if dice.below(20) == 0 {
                let always = JournalOptions { sync: SyncPolicy::Always, ..options };
                again(&image, &mut dice, always, &maps[promised..], &what);
            }
        }
    }
}

#[test]
fn a_power_cut_may_leave_pages_lengths_and_names_in_any_order() {
    for seed in 0..seeds(40) {
        cut_anywhere(seed);
    }
}

/// Three who write, each a key of its own, one who compacts, and the thread that begins segments, or not.
fn cut_while_many_write(seed: u64, attended: bool) {
    const EACH: usize = 60;
    let mut dice = Dice(seed);
    let segment = dice.one_of(&[200, 1000, 5000]);
    let options = JournalOptions { segment, ..journal(SyncPolicy::Always) };
    let disk = Arc::new(Fake::default());
    let keys = open(&disk, options).unwrap().0;
    if attended {
        keys.attend().unwrap();
    }
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let (keys, disk) = (&keys, &disk);
                scope.spawn(move || {
                    for n in 1..=EACH {
                        put(keys, &writer.to_string(), &n.to_string()).unwrap();
                        disk.told(writer * 1000 + n);
                    }
                })
            })
            .collect();
        while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            keys.compact().unwrap();
        }
    });
    drop(keys);
    let (mut machine, mut told) = (Machine::default(), [0; 3]);
    for (at, event) in disk.events().iter().enumerate() {
        machine.take(event);
        if let Event::Told(n) = event {
            told[n / 1000] = n % 1000;
        }
        if dice.below(4) > 0 {
            continue;
        }
        let what = format!("seed {seed}, {attended}, after event {at} {event:?}");
        let disk = Arc::new(Fake::with(machine.cut(&mut dice)));
        let keys = open(&disk, options).unwrap_or_else(|error| panic!("{what}: {error}")).0;
        for (writer, told) in told.iter().enumerate() {
            let found = get(&keys, &writer.to_string()).map_or(0, |n| n.parse().unwrap());
            assert!((*told..=told + 1).contains(&found), "{what}: {found} for {told}");
        }
    }
}

#[test]
fn a_power_cut_while_many_write_loses_nothing_that_was_told() {
    for seed in 0..seeds(40) / 4 {
        cut_while_many_write(seed, false);
        cut_while_many_write(seed, true);
    }
}
