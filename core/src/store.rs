//! The store: names in, deliveries out.
//!
//! ```text
//!  name ─▶ index ──hit──▶ mount, path ─▶ rule ─▶ open ─▶ plan ─▶ delivery
//!            └─miss─▶ normalise, route ──┘          └─▶ remembered, if it exists
//! ```
//!
//! What must stay true:
//! - every request goes through the index, and asks the backing all the same: an
//!   entry says where a name leads, never what is there;
//! - only a name that was opened is remembered: a flood of misses adds nothing;
//! - the index has the normal spelling of a name only; others are normalised first.

mod sharing;

use std::borrow::Cow;
use std::sync::Arc;

use arc_swap::ArcSwap;
use objmapper_os::opened::Opened;
use objmapper_proto::{Delivery as Form, Mode, Range, Reason, Uri, Version, limits};

use crate::backing::tree::Tree;
use crate::backing::{Found, MountId, Name, Names, Patience};
use crate::caller::Caller;
use crate::delivery::{Body, Delivered, Delivery};
use crate::index::{Bounds, Counters, Index};
use crate::mount::{Mount, Mounts};
use crate::object::Object;
use crate::plan::{Limits, plan};
use crate::refusal::{Miss, Refusal};
use crate::rule::Verbs;
use crate::shared::Shared;

/// What is wanted of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want<'a> {
    /// Its name, in any spelling.
    pub uri: &'a [u8],
    /// In which form.
    pub mode: Mode,
    /// Which bytes.
    pub range: Range,
    /// The most bytes that can be taken in one piece; more are streamed.
    pub room: u64,
    /// Whether a descriptor can be had now; if not, `auto` gets the bytes.
    pub descriptors: bool,
    /// Only if it is another version than this.
    pub unless: Option<Version>,
    /// Whether an open file description will do that others have as well, where the mount
    /// allows it. See [`Store::observe`].
    pub shared: bool,
}

impl Default for Want<'_> {
    fn default() -> Self {
        Self {
            uri: b"/",
            mode: Mode::default(),
            range: Range::ALL,
            room: u64::MAX,
            descriptors: true,
            unless: None,
            shared: false,
        }
    }
}

/// What is wanted of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listing<'a> {
    /// Its name, with or without a `/` at the end.
    pub prefix: &'a [u8],
    /// Empty, or what the page before gave.
    pub cursor: &'a [u8],
    /// At most so many names, 1 to [`limits::LIST`]; other numbers count as the nearest.
    pub limit: usize,
}

/// A page of names; see [`Names`].
pub type Page = Names;

/// Where a name leads, as the index remembers it.
#[derive(Debug, Clone)]
struct Route {
    epoch: u32,
    mount: u16,
    /// Where in the name the path begins; what `path` holds instead if it has escapes.
    tail: u16,
    path: Option<Arc<[u8]>>,
}

/// Mounts and index together. Shared by any number of threads.
#[derive(Debug)]
pub struct Store {
    mounts: ArcSwap<Mounts>,
    index: Option<Index<Route>>,
    limits: Limits,
    shared: Option<Shared>,
}

impl Store {
    /// A store with default limits.
    pub fn new(mounts: Mounts) -> Self {
        Self::with_limits(mounts, Limits::default(), Some(Bounds::default()))
    }

    /// A store with these limits. Without bounds there is no index and every name is
    /// resolved from scratch: for measuring what the index is worth.
    pub fn with_limits(mounts: Mounts, limits: Limits, index: Option<Bounds>) -> Self {
        let (mounts, index) = (ArcSwap::from_pointee(mounts), index.map(Index::new));
        Self { mounts, index, limits, shared: None }
    }

    /// With room for open file descriptions that are shared; without, none is.
    #[must_use]
    pub fn sharing(self, shared: Option<Shared>) -> Self {
        Self { shared, ..self }
    }

    /// Replaces all mounts at once; requests under way finish with the old ones.
    pub fn swap(&self, mounts: Mounts) {
        let mounts = Arc::new(mounts);
        self.mounts.store(mounts.clone());
        // A request under way may still add one of a tree that has gone; the next swap finds it.
        if let Some(shared) = &self.shared {
            let trees = mounts.iter().filter_map(|(_, mount)| mount.tree_to_share());
            shared.retain_trees(&trees.map(Tree::id).collect::<Vec<_>>());
        }
    }

    /// The mounts as they are now.
    pub fn mounts(&self) -> Arc<Mounts> {
        self.mounts.load_full()
    }

    /// The sizes at which deliveries turn.
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// What the index has done so far.
    pub fn index_counters(&self) -> Counters {
        self.index.as_ref().map(Index::counters).unwrap_or_default()
    }

    /// One object in the form that is wanted.
    #[inline]
    pub fn deliver(
        &self,
        caller: &mut Caller,
        want: &Want<'_>,
        patience: Patience,
    ) -> Result<Delivery, Miss> {
        if want.shared
            && let Some(shared) = &self.shared
        {
            return self.deliver_shared(shared, caller, want, patience);
        }
        let (found, whose) = self.at(caller, want.uri, |mount, path| {
            Ok((mount.backing().open(path, patience.at(mount.id()))?, whose(mount)))
        })?;
        Ok(self.outline(want, found.object())?.fill_in(found, whose))
    }

    /// The same of something that was found otherwise, by whom it is allowed: name and rules do not
    /// matter.
    pub fn deliver_found(&self, want: &Want<'_>, found: Found) -> Result<Delivery, Miss> {
        let whose = (MountId::default(), false);
        Ok(self.outline(want, found.object())?.fill_in(found, whose))
    }

    /// What is to be delivered of an object.
    #[inline]
    fn outline(&self, want: &Want<'_>, object: Object) -> Result<Outline, Miss> {
        if want.unless == Some(object.version) {
            let range = Range { offset: 0, length: 0 };
            return Ok(Outline { object, range, form: Form::None, reason: Reason::Asked });
        }
        let range = want
            .range
            .clamp(object.size)
            .ok_or(Refusal::BadRange { offset: want.range.offset, size: object.size })?;
        let (form, reason) =
            plan(want.mode, range.length, want.room, want.descriptors, self.limits);
        Ok(Outline { object, range, form, reason })
    }

    /// Metadata of one object.
    pub fn stat(
        &self,
        caller: &mut Caller,
        name: &[u8],
        patience: Patience,
    ) -> Result<Object, Miss> {
        self.at(caller, name, |mount, path| mount.backing().stat(path, patience.at(mount.id())))
    }

    /// Which mount answers for a name, if one does: whom to wait for.
    pub fn mount_of(&self, name: &[u8]) -> Option<MountId> {
        let mut scratch = Vec::new();
        let normal = Uri::normalise(name, &mut scratch).ok()?;
        self.mounts.load().route(normal).map(|(_, mount, _)| mount.id())
    }

    /// One page of the names one level below a prefix. May wait for a disk.
    ///
    /// Mounts that lie below the prefix are shown as prefixes, if `caller` may do
    /// anything there at all, and their name there is at most [`limits::CURSOR`] bytes long. The cost of a page is one pass over the directory.
    pub fn list(&self, caller: &mut Caller, listing: &Listing<'_>) -> Result<Page, Miss> {
        let mounts = self.mounts.load();
        let mut scratch = Vec::new();
        let prefix = Uri::normalise(listing.prefix, &mut scratch).map_err(Refusal::from)?;
        if listing.cursor.contains(&0) {
            return Err(Refusal::BadCursor.into());
        }
        let limit = listing.limit.clamp(1, limits::LIST);
        let below = mounts_below(&mounts, prefix, caller, listing.cursor);
        let own = match mounts.route(prefix) {
            Some((number, mount, rest)) => {
                if !caller.may(Verbs::LIST, mounts.epoch(), number, mount.rules()) {
                    return Err(Refusal::Denied { uid: caller.uid() }.into());
                }
                let rest = rest.strip_suffix(b"/").unwrap_or(rest);
                let path = mount.backing().path(rest)?;
                match mount.backing().list(&path, listing.cursor, limit) {
                    // Nothing there, but something is mounted further down.
                    Err(Miss::Refused(Refusal::NotFound)) if !below.is_empty() => Names::default(),
                    other => other?,
                }
            }
            None if below.is_empty() => return Err(Refusal::NotMounted.into()),
            None => Names::default(),
        };
        Ok(merge(own, below, limit))
    }

    /// Resolves a name, checks the rules, and lets `open` have mount and path.
    #[inline]
    fn at<T>(
        &self,
        caller: &mut Caller,
        name: &[u8],
        open: impl FnOnce(&Mount, &[u8]) -> Result<T, Miss>,
    ) -> Result<T, Miss> {
        let mounts = self.mounts.load();
        if let Some(index) = &self.index
            && let Some(route) = index.find(index.hash(name), name)
            && route.epoch == mounts.epoch()
            && let Some(mount) = mounts.at(route.mount.into())
        {
            allow(caller, &mounts, route.mount.into(), mount)?;
            let tail = name.get(usize::from(route.tail)..).unwrap_or_default();
            return open(mount, route.path.as_deref().unwrap_or(tail));
        }
        self.at_unknown(&mounts, caller, name, open)
    }

    #[inline(never)]
    fn at_unknown<T>(
        &self,
        mounts: &Mounts,
        caller: &mut Caller,
        name: &[u8],
        open: impl FnOnce(&Mount, &[u8]) -> Result<T, Miss>,
    ) -> Result<T, Miss> {
        let mut scratch = Vec::new();
        let normal = Uri::normalise(name, &mut scratch).map_err(Refusal::from)?;
        let (number, mount, rest) = mounts.route(normal).ok_or(Refusal::NotMounted)?;
        allow(caller, mounts, number, mount)?;
        let path = mount.backing().path(rest)?;
        let opened = open(mount, &path)?;
        if mount.backing().is_remembered() {
            self.remember(mounts, number, normal, rest, path);
        }
        Ok(opened)
    }

    fn remember(
        &self,
        mounts: &Mounts,
        mount: usize,
        name: Uri<'_>,
        rest: &[u8],
        path: Cow<'_, [u8]>,
    ) {
        let Some(index) = &self.index else { return };
        let name = name.as_bytes();
        let tail = u16::try_from(name.len() - rest.len());
        let (Ok(mount), Ok(tail)) = (u16::try_from(mount), tail) else { return };
        let (path, weight) = match path {
            Cow::Borrowed(_) => (None, 0),
            Cow::Owned(bytes) => (Some(Arc::from(bytes.as_slice())), bytes.len()),
        };
        let route = Route { epoch: mounts.epoch(), mount, tail, path };
        index.put(index.hash(name), name, route, weight);
    }
}

/// A delivery but for the file.
struct Outline {
    object: Object,
    range: Range,
    /// None: the caller has that version.
    form: Form,
    reason: Reason,
}

impl Outline {
    /// The delivery of a file that was opened for it.
    #[inline]
    fn fill_in(self, Found { file, identity, .. }: Found, whose: (MountId, bool)) -> Delivery {
        let Self { object, range, form, reason } = self;
        let delivered = match form {
            // Where to is the business of whoever sends it.
            Form::Stream | Form::Destination => {
                Delivered::Stream(Body::new(file, identity, range, whose))
            }
            Form::Inline => Delivered::Inline(Body::new(file, identity, range, whose)),
            Form::Descriptor => Delivered::Descriptor(file),
            Form::None => Delivered::NotModified,
        };
        Delivery { object, range, reason, delivered }
    }

    /// The delivery of a description that others have, too.
    fn share(self, file: Arc<Opened>) -> Delivery {
        let Self { object, range, form, reason } = self;
        let delivered =
            if form == Form::None { Delivered::NotModified } else { Delivered::Shared(file) };
        Delivery { object, range, reason, delivered }
    }
}

/// What a body has to know of its mount.
fn whose(mount: &Mount) -> (MountId, bool) {
    (mount.id(), mount.is_strict())
}

#[inline]
fn allow(caller: &mut Caller, mounts: &Mounts, number: usize, mount: &Mount) -> Result<(), Miss> {
    if caller.may(Verbs::READ, mounts.epoch(), number, mount.rules()) {
        Ok(())
    } else {
        Err(Refusal::Denied { uid: caller.uid() }.into())
    }
}

/// A name that is there because of mounts further down.
struct Below {
    name: Name,
    /// One of them lies right there, and hides what it is mounted over.
    hides: bool,
}

/// The next segment of every mount that lies below `prefix`, after `cursor`.
fn mounts_below(
    mounts: &Mounts,
    prefix: Uri<'_>,
    caller: &mut Caller,
    cursor: &[u8],
) -> Vec<Below> {
    let mut names: Vec<Below> = Vec::new();
    for (number, mount) in mounts.iter() {
        let Some(rest) = mount.prefix().below(prefix) else { continue };
        let Some(segment) = rest.split(|&b| b == b'/').find(|s| !s.is_empty()) else { continue };
        let (epoch, rules) = (mounts.epoch(), mount.rules());
        let visible = caller.may(Verbs::READ, epoch, number, rules)
            || caller.may(Verbs::LIST, epoch, number, rules);
        let name: Box<[u8]> = [segment, b"/"].concat().into();
        // A page could not go on behind a longer name: it fits into no cursor.
        if !visible || *name <= *cursor || name.len() > limits::CURSOR {
            continue;
        }
        let hides = rest.strip_suffix(b"/").unwrap_or(rest) == segment;
        if let Some(known) = names.iter_mut().find(|known| known.name.name == name) {
            known.hides |= hides;
        } else {
            let kind = objmapper_proto::Kind::Prefix;
            names.push(Below { name: Name { name, kind, size: 0, mtime_ns: 0 }, hides });
        }
    }
    names
}

/// Puts mounts among the names of a page; a mount hides what it is mounted over, also
/// where its own name, with the `/`, comes on a later page only.
fn merge(own: Names, below: Vec<Below>, limit: usize) -> Page {
    if below.is_empty() {
        return own;
    }
    let hidden = |n: &Name| {
        below.iter().any(|m| {
            m.name.name == n.name || m.hides && m.name.name.strip_suffix(b"/") == Some(&*n.name)
        })
    };
    let mut names: Vec<Name> = own.names.into_iter().filter(|n| !hidden(n)).collect();
    let mut next = own.next;
    let in_page = |n: &Name| next.as_ref().is_none_or(|next| n.name <= *next);
    names.extend(below.into_iter().map(|m| m.name).filter(in_page));
    names.sort_by(|a, b| a.name.cmp(&b.name));
    if names.len() > limit {
        names.truncate(limit);
        next = names.last().map(|n| n.name.clone());
    }
    Names { names, next }
}
