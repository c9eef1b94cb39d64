//! Where a RESP connection is: what was agreed on, what is queued, what is watched.
//!
//! Plain data, as [`super::Session`] is for the other protocol; but what is watched is known to
//! the keyspace too, and forgotten there when it is dropped here.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use objmapper::kv::{Hold, Key, Keyspace, Wait, Watch};
use objmapper_proto::resp::{Args, Decoder};

use crate::admission::Resource;
use crate::budget::Over;
use crate::clients::Member;

/// One connection's state.
#[derive(Debug)]
pub struct Keys {
    /// What has come of the next request.
    pub decoder: Decoder,
    /// What is known of the client.
    pub talk: Talk,
}

/// What is known of a client before it says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trust {
    /// It need not say who it is.
    pub known: bool,
    /// It is the daemon's own user, or root.
    pub owner: bool,
}

/// What a client has said that holds for what it says later.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // each is about something else
pub struct Talk {
    /// Its place among all that are connected.
    pub member: Member,
    /// What was known at first.
    pub trust: Trust,
    /// It has said who it is, or need not.
    pub known: bool,
    /// Replies are in version 3.
    pub three: bool,
    /// The database that is selected.
    pub db: u8,
    /// MULTI was said.
    pub transaction: Option<Transaction>,
    /// What is watched, and whether any of it has changed.
    pub watched: Watched,
    /// What is not to be answered.
    pub mute: Mute,
    /// Its reads are no uses of keys.
    pub touches_nothing: bool,
    /// No more is to be answered: QUIT was.
    pub over: bool,
    /// How far the journal must be durable before the replies may leave.
    pub position: u64,
    /// What it was asked again for by the helper who serves it; a worker gives nothing.
    granted: Option<Resource>,
    /// What its request needs and was not granted.
    wanted: Option<Resource>,
    /// Since when its request waits for the journal, and for which position.
    waiting: Option<(Instant, u64)>,
    /// Why no more can be kept for it now.
    pub crowded: Option<Over>,
    /// Bytes of replies that may wait for it to read them.
    pub room: usize,
    /// When it said something last, and the row of the command.
    pub last: (i64, usize),
}

/// What is not answered, as `CLIENT REPLY` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mute {
    /// Nothing is left out.
    #[default]
    Never,
    /// This command, and the next.
    Next,
    /// This command.
    This,
    /// All.
    Always,
}

impl Talk {
    /// As it is at first.
    pub fn new(member: Member, trust: Trust) -> Self {
        Self {
            member,
            trust,
            known: trust.known,
            three: false,
            db: 0,
            transaction: None,
            watched: Watched::default(),
            mute: Mute::Never,
            touches_nothing: false,
            over: false,
            position: 0,
            granted: None,
            wanted: None,
            waiting: None,
            crowded: None,
            room: usize::MAX,
            last: (0, 0),
        }
    }

    /// Begins a turn: a helper grants what was wanted last, a worker nothing.
    pub fn serve(&mut self, by_helper: bool) {
        let wanted = self.wanted.take();
        self.granted = by_helper.then(|| wanted.unwrap_or(Resource::Locks));
        if self.granted != Some(Resource::Journal) {
            self.waiting = None;
        }
    }

    /// What a request needs that was therefore not answered.
    #[inline]
    pub fn wanted(&self) -> Option<Resource> {
        self.wanted
    }

    /// A request needs this, and has done nothing. Gives true, as an answer without an error does.
    #[cold]
    pub fn wants(&mut self, resource: Resource) -> bool {
        (self.granted, self.wanted) = (None, Some(resource));
        true
    }

    /// How long the locks of keys are waited for.
    #[inline]
    pub fn wait(&self) -> Wait {
        if self.granted.is_some() { Wait::Long } else { Wait::Briefly }
    }

    /// Whether a request has here and now what it needs: any helper may wait for locks, and who may take
    /// long may copy.
    pub fn has(&self, resource: Resource) -> bool {
        self.granted.is_some_and(|granted| match resource {
            Resource::Locks | Resource::Shards => true,
            Resource::Copies => matches!(granted, Resource::Copies | Resource::Time),
            resource => granted == resource,
        })
    }

    /// Whether a request is timed: not by a worker, where it was estimated to be short, nor while it
    /// waits for a disk.
    #[inline]
    pub fn may_be_slow(&self) -> bool {
        self.granted.is_some_and(|granted| granted != Resource::Journal)
    }

    /// What a request needs and does not have here and now.
    #[inline]
    pub fn lacks(&self, resource: Option<Resource>) -> Option<Resource> {
        resource.filter(|resource| !self.has(*resource))
    }

    /// From when on, and for which position of the journal, a request may wait here and now that is
    /// about what there is now. `None`: it is asked again where it may.
    pub fn may_wait(&mut self, position: u64) -> Option<(Instant, u64)> {
        let now = (Instant::now(), position);
        if self.has(Resource::Journal) {
            return Some(self.waiting.take().unwrap_or(now));
        }
        if self.wanted.is_none() {
            self.wants(Resource::Journal);
            self.waiting = Some(now);
        }
        None
    }

    /// As it was at first. That this command is not answered stays.
    pub fn reset(&mut self) {
        self.known = self.trust.known;
        (self.three, self.db) = (false, 0);
        if self.mute != Mute::This {
            self.mute = Mute::Never;
        }
        self.transaction = None;
        self.watched.release();
        self.touches_nothing = false;
        *self.member.names.lock() = crate::clients::Names::default();
    }

    /// Takes back the reply that begins at `at`, if it is not to be given.
    #[inline]
    pub fn mute(&mut self, out: &mut Vec<u8>, at: usize) {
        if self.mute != Mute::Never {
            self.mute = match self.mute {
                Mute::Next => Mute::This,
                Mute::Always => Mute::Always,
                Mute::This | Mute::Never => Mute::Never,
            };
            out.truncate(at);
        }
    }

    /// Too much is kept: what was queued is forgotten, and what was watched counts as changed. Else
    /// it could not even be told, since nothing more is read for it.
    #[cold]
    pub fn give_way(&mut self, over: Over) {
        self.crowded = Some(over);
        if let Some(transaction) = &mut self.transaction
            && transaction.bytes > 0
        {
            *transaction = Transaction { broken: true, over: Some(over), ..Transaction::default() };
        }
        self.watched.give_way(over);
    }

    /// Bytes that are kept for it.
    #[inline]
    pub fn footprint(&self) -> usize {
        self.transaction.as_ref().map_or(0, |transaction| transaction.bytes) + self.watched.bytes
    }

    /// Lets others see what it is doing.
    pub fn show(&self) {
        let doing = &self.member.doing;
        doing.seen.store(self.last.0, Ordering::Relaxed);
        doing.command.store(self.last.1, Ordering::Relaxed);
        doing.db.store(self.db.into(), Ordering::Relaxed);
        doing.version.store(if self.three { 3 } else { 2 }, Ordering::Relaxed);
        let queued = self.transaction.as_ref().map_or(0, |queued| queued.requests.len() + 1);
        doing.queued.store(queued, Ordering::Relaxed);
        doing.watched.store(self.watched.count(), Ordering::Relaxed);
    }
}

/// What was said between MULTI and EXEC.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // each is about something else
pub struct Transaction {
    /// In order.
    pub requests: Vec<Request>,
    /// One of them was refused: none will be done.
    pub broken: bool,
    /// One of them changes keys.
    pub writes: bool,
    /// One of them may need room.
    pub grows: bool,
    /// One of them takes long by itself, or takes all locks.
    pub long: bool,
    /// What they may make of values.
    pub making: Making,
    /// Bytes that they take.
    pub bytes: usize,
    /// Why none is kept any more.
    pub over: Option<Over>,
}

/// What the commands of a transaction may make of values that are not there yet, and how often they are
/// read: told from their arguments alone.
#[derive(Debug, Default)]
pub struct Making {
    /// Keys that they name, each as often as it is named.
    pub keys: u64,
    /// Bytes of the longest value that one of them makes.
    pub longest: u64,
    /// Bytes that they append, each of them behind the other.
    pub appended: u64,
    /// Zeros that they may put before what they write.
    pub zeros: u64,
    /// They give a value another key.
    pub moves: bool,
}

impl Making {
    /// Bytes that are copied at most, where there are values of so many bytes in all under these keys,
    /// the longest of so many.
    pub fn effort(&self, all: u64, longest: u64) -> u64 {
        let made = self.longest.saturating_add(self.appended);
        let there = if self.moves { self.keys.saturating_mul(longest) } else { all };
        self.keys.saturating_mul(made).saturating_add(there).saturating_add(self.zeros)
    }
}

impl Transaction {
    /// One more, if any is to be done.
    pub fn push(&mut self, args: Args<'_>) {
        if self.broken {
            return;
        }
        let request = Request::new(args);
        self.bytes += request.footprint();
        self.requests.push(request);
    }
}

/// One request, kept.
#[derive(Debug)]
pub struct Request {
    bytes: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

impl Request {
    /// A copy of these arguments.
    pub fn new(args: Args<'_>) -> Self {
        let (mut bytes, mut ranges) = (Vec::new(), Vec::with_capacity(args.len()));
        bytes.reserve_exact(args.iter().map(<[u8]>::len).sum());
        for arg in args.iter() {
            let at = bytes.len();
            bytes.extend_from_slice(arg);
            ranges.push(at..bytes.len());
        }
        Self { bytes, ranges }
    }

    /// The arguments.
    pub fn args(&self) -> Args<'_> {
        Args::new(&self.bytes, &self.ranges)
    }

    /// Bytes that it takes, its place in a list included.
    pub fn footprint(&self) -> usize {
        let ranges = self.ranges.capacity() * size_of::<Range<usize>>();
        // The list may have grown to twice what is in it.
        self.bytes.capacity() + ranges + 2 * size_of::<Self>()
    }
}

/// Bytes that a watched key takes beside its name, there and here. Counted generously.
const WATCHED: usize = 160;

/// Keys that are watched.
#[derive(Debug, Default)]
pub struct Watched {
    /// Database and name of each.
    keys: BTreeSet<(u8, Box<[u8]>)>,
    /// Set when one has changed.
    told: Watch,
    /// Where they are.
    keyspace: Option<Arc<Keyspace>>,
    /// Bytes that they take.
    bytes: usize,
    /// They were forgotten, and count as changed: why.
    pub lost: Option<Over>,
}

impl Watched {
    /// Keys.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// Watches one more, whose lock is held.
    pub fn add(&mut self, keyspace: &Arc<Keyspace>, hold: &mut Hold<'_>, db: u8, key: &Key<'_>) {
        if self.keys.insert((db, key.name().into())) {
            self.bytes += 2 * key.name().len() + WATCHED;
            self.keyspace.get_or_insert_with(|| keyspace.clone());
            hold.watch(key, &self.told);
        }
    }

    /// The keys, hashed.
    pub fn keys<'a>(&'a self, keyspace: &Keyspace) -> Vec<Key<'a>> {
        self.keys.iter().map(|(db, name)| keyspace.key(*db, name)).collect()
    }

    /// Whether one has changed since it was watched, or has come to its end; the keys' locks are
    /// held. None is watched any more then.
    pub fn settle(&mut self, hold: &mut Hold<'_>) -> bool {
        let keyspace = hold.keyspace();
        for (db, name) in &self.keys {
            let key = keyspace.key(*db, name);
            // One whose time is up goes now, and tells.
            hold.has(&key);
            hold.unwatch(&key, &self.told);
        }
        let changed = self.lost.is_some() || self.told.load(Ordering::Acquire);
        self.forget();
        changed
    }

    /// None is watched any more.
    pub fn release(&mut self) {
        if let Some(keyspace) = self.keyspace.take() {
            for (db, name) in &self.keys {
                keyspace.unwatch(&keyspace.key(*db, name), &self.told);
            }
            self.forget();
        }
        self.lost = None;
    }

    fn give_way(&mut self, over: Over) {
        if self.bytes > 0 {
            self.release();
            self.lost = Some(over);
        }
    }

    fn forget(&mut self) {
        self.keys.clear();
        (self.told, self.keyspace, self.bytes, self.lost) = (Watch::default(), None, 0, None);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.release();
    }
}
