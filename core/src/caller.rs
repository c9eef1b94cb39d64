//! Who asks, and what they were found to be allowed.
//!
//! A caller's credentials never change, so a mount's verdict is worked out once and
//! kept until the mounts are swapped (their epoch moves).

use objmapper_os::peer;

use crate::rule::{Rules, Verbs};

/// A process that asks, by the credentials the kernel gave for it.
#[derive(Debug, Clone)]
pub struct Caller {
    uid: u32,
    gid: u32,
    groups: Box<[u32]>,
    epoch: u32,
    verdicts: Vec<Option<Verbs>>,
}

impl Caller {
    /// A caller with these credentials.
    pub fn new(uid: u32, gid: u32, groups: &[u32]) -> Self {
        Self { uid, gid, groups: groups.into(), epoch: 0, verdicts: Vec::new() }
    }

    /// This process itself: its effective user and group, and its supplementary groups.
    pub fn own() -> Self {
        // If they cannot be had, rules for groups do not apply: fewer permissions, never more.
        let (gid, groups) = peer::own_groups().unwrap_or((u32::MAX, Vec::new()));
        Self::new(peer::own_uid(), gid, &groups)
    }

    /// Their user.
    pub const fn uid(&self) -> u32 {
        self.uid
    }

    /// Whether they belong to this group.
    pub fn is_in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }

    /// Whether `rules`, those of mount number `mount` in `epoch`, allow `verb`.
    #[inline]
    pub(crate) fn may(&mut self, verb: Verbs, epoch: u32, mount: usize, rules: &Rules) -> bool {
        if self.epoch == epoch
            && let Some(Some(known)) = self.verdicts.get(mount)
        {
            return known.contains(verb);
        }
        self.judge(epoch, mount, rules).contains(verb)
    }

    #[cold]
    fn judge(&mut self, epoch: u32, mount: usize, rules: &Rules) -> Verbs {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.verdicts.clear();
        }
        let verdict = rules.allowed(self.uid, |gid| self.is_in_group(gid));
        if self.verdicts.len() <= mount {
            self.verdicts.resize(mount + 1, None);
        }
        if let Some(slot) = self.verdicts.get_mut(mount) {
            *slot = Some(verdict);
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{Rule, Subject};

    #[test]
    fn this_process_is_in_its_own_groups() {
        let (gid, groups) = peer::own_groups().unwrap();
        let me = Caller::own();
        assert!(me.is_in_group(gid) && groups.iter().all(|&gid| me.is_in_group(gid)));
    }

    #[test]
    fn verdicts_are_kept_until_the_epoch_moves() {
        let none = Rules::default();
        let all = Rules::new(vec![Rule { subject: Subject::Anyone, verbs: Verbs::ALL }]);
        let mut caller = Caller::new(7, 7, &[]);
        assert!(!caller.may(Verbs::READ, 1, 3, &none));
        assert!(!caller.may(Verbs::READ, 1, 3, &all), "same epoch: the verdict stands");
        assert!(caller.may(Verbs::READ, 2, 3, &all));
    }
}
