//! The store's way to open file descriptions that are shared: beside the ordinary way, which it
//! falls back to whenever something cannot be shared.

use objmapper_proto::{Delivery as Form, Mode, Uri};

use super::{Store, Want, whose};
use crate::backing::tree::Tree;
use crate::backing::{Backing, MountId, Patience};
use crate::caller::Caller;
use crate::delivery::Delivery;
use crate::object::Object;
use crate::refusal::{Miss, Refusal};
use crate::rule::{Rules, Verbs};
use crate::shared::{Counters, Shared};

impl Store {
    /// What can be shared, if anything can.
    pub const fn shared(&self) -> Option<&Shared> {
        self.shared.as_ref()
    }

    /// What sharing has done so far.
    pub fn shared_counters(&self) -> Counters {
        self.shared.as_ref().map(Shared::counters).unwrap_or_default()
    }

    /// Makes shared descriptions current, up to this moment: to be called after requests have
    /// arrived and before the first of them with [`Want::shared`] is asked for here.
    pub fn observe(&self) {
        if let Some(shared) = &self.shared {
            shared.observe();
        }
    }

    /// Closes shared descriptions of objects at or below a name, so that what they lie on can be
    /// unmounted; gives how many. For root and the daemon's own user. Those that are being
    /// sent at this moment close when they have left; receivers keep theirs.
    pub fn flush(&self, caller: &Caller, prefix: &[u8]) -> Result<usize, Miss> {
        let uid = caller.uid();
        if !Rules::owner_only().allowed(uid, |_| false).contains(Verbs::ALL) {
            return Err(Refusal::NotOwner { uid }.into());
        }
        // `/a/` and `/a` name the same collection.
        let prefix = match prefix.strip_suffix(b"/") {
            Some([]) | None => prefix,
            Some(shorter) if shorter.ends_with(b"/") || shorter.ends_with(b":") => prefix,
            Some(shorter) => shorter,
        };
        let mut scratch = Vec::new();
        let prefix = Uri::normalise(prefix, &mut scratch).map_err(Refusal::from)?;
        let mounts = self.mounts.load();
        let Some(shared) = &self.shared else { return Ok(0) };
        let mut flushed = 0;
        for (_, mount) in mounts.iter() {
            let Some(tree) = mount.tree_to_share() else { continue };
            if mount.prefix().below(prefix).is_some() {
                flushed += shared.flush(tree.id(), b"");
            } else if let Some(rest) = prefix.below(mount.prefix()) {
                let path = mount.backing().path(rest)?;
                flushed += shared.flush(tree.id(), &path);
            }
        }
        Ok(flushed)
    }

    /// As [`Store::deliver`] for somebody who shares.
    pub(super) fn deliver_shared(
        &self,
        shared: &Shared,
        caller: &mut Caller,
        want: &Want<'_>,
        patience: Patience,
    ) -> Result<Delivery, Miss> {
        let bytes = matches!(want.mode, Mode::Copy | Mode::Splice);
        self.at(caller, want.uri, |mount, path| {
            let (patience, whose) = (patience.at(mount.id()), whose(mount));
            match mount.tree_to_share() {
                Some(tree) if !bytes => self.share(shared, (tree, whose), path, want, patience),
                _ => {
                    let found = mount.backing().open(path, patience)?;
                    Ok(self.outline(want, found.object())?.fill_in(found, whose))
                }
            }
        })
    }

    fn share(
        &self,
        shared: &Shared,
        (tree, whose): (&Tree, (MountId, bool)),
        path: &[u8],
        want: &Want<'_>,
        patience: Patience,
    ) -> Result<Delivery, Miss> {
        if let Some((file, identity)) = shared.find(tree, path) {
            let outline = self.outline(want, Object::of_file(&identity))?;
            // Bytes are never read from it: a receiver could have set O_DIRECT on it (fcntl(2)).
            if matches!(outline.form, Form::Descriptor | Form::None) {
                return Ok(outline.share(file));
            }
        }
        // Where the directory is watched already one open will do. Else the first one tells
        // whether there is anything to share: what is refused, or goes as bytes, watches nothing.
        let pinned = shared.pin(tree, path);
        let first = match &pinned {
            Some(_) => tree.open_unlinked(path, patience),
            None => tree.open(path, patience),
        };
        let (pinned, found) = match first {
            Err(Miss::Refused(Refusal::Symlink)) if pinned.is_some() => {
                (None, tree.open(path, patience)?)
            }
            found => (pinned, found?),
        };
        let outline = self.outline(want, found.object())?;
        if outline.form != Form::Descriptor {
            return Ok(outline.fill_in(found, whose));
        }
        let kept = match pinned {
            Some(pin) => shared.keep(pin, path, found),
            None if !Shared::may_keep(&found) => Err(found),
            None => match shared.prepare(tree, path, patience) {
                Some(pin) => match tree.open_unlinked(path, patience) {
                    Ok(again) => shared.keep(pin, path, again),
                    Err(_) => Err(found),
                },
                None => Err(found),
            },
        };
        match kept {
            // By the second open it may be another file, or another version.
            Ok((file, identity)) => Ok(self.outline(want, Object::of_file(&identity))?.share(file)),
            Err(found) => Ok(self.outline(want, found.object())?.fill_in(found, whose)),
        }
    }
}
