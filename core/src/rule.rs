//! What is allowed to whom: default deny, a list of permissions for each mount.
//!
//! Nothing said means the daemon's own user and root. The overflow uid and gid
//! (65534: what a user namespace shows for ids it does not map) match no rule but
//! [`Subject::Anyone`]: they stand for many different users.

use objmapper_os::peer;

/// Linux's `/proc/sys/kernel/overflowuid`, and overflowgid, by default.
const OVERFLOW_ID: u32 = 65534;

/// What can be allowed; a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verbs(u8);

impl Verbs {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Open, copy and stat objects.
    pub const READ: Self = Self(1);
    /// List names.
    pub const LIST: Self = Self(2);
    /// All of them.
    pub const ALL: Self = Self(3);

    /// Whether all of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// To whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Everybody who can connect.
    Anyone,
    /// One user.
    User(u32),
    /// All members of a group.
    Group(u32),
}

/// A permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// To whom.
    pub subject: Subject,
    /// What.
    pub verbs: Verbs,
}

/// The permissions of one mount. Order does not matter: they only add up.
#[derive(Debug, Clone, Default)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// These; with none, nobody may do anything.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self(rules)
    }

    /// What holds when nothing is said: this process's own user, and root.
    pub fn owner_only() -> Self {
        let all = |uid| Rule { subject: Subject::User(uid), verbs: Verbs::ALL };
        Self(vec![all(peer::own_uid()), all(0)])
    }

    /// Everything that a user who is in these groups may do.
    pub fn allowed(&self, uid: u32, is_in_group: impl Fn(u32) -> bool) -> Verbs {
        let matches = |rule: &&Rule| match rule.subject {
            Subject::Anyone => true,
            Subject::User(user) => user == uid && uid != OVERFLOW_ID,
            Subject::Group(gid) => is_in_group(gid) && gid != OVERFLOW_ID,
        };
        self.0.iter().filter(matches).fold(Verbs::NONE, |sum, rule| sum.with(rule.verbs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(subject: Subject, verbs: Verbs) -> Rule {
        Rule { subject, verbs }
    }

    fn allowed(rules: &Rules, uid: u32, groups: &[u32]) -> Verbs {
        rules.allowed(uid, |gid| groups.contains(&gid))
    }

    #[test]
    fn nothing_said_means_nobody() {
        assert_eq!(allowed(&Rules::default(), 0, &[0]), Verbs::NONE);
    }

    #[test]
    fn permissions_add_up() {
        let rules = Rules::new(vec![
            rule(Subject::User(7), Verbs::READ),
            rule(Subject::Group(100), Verbs::LIST),
        ]);
        assert_eq!(allowed(&rules, 7, &[7]), Verbs::READ);
        assert_eq!(allowed(&rules, 7, &[7, 100]), Verbs::ALL);
        assert_eq!(allowed(&rules, 8, &[100]), Verbs::LIST);
        assert_eq!(allowed(&rules, 8, &[8]), Verbs::NONE);
    }

    #[test]
    fn unmapped_ids_match_no_name() {
        let rules = Rules::new(vec![
            rule(Subject::User(OVERFLOW_ID), Verbs::ALL),
            rule(Subject::Group(OVERFLOW_ID), Verbs::ALL),
        ]);
        assert_eq!(allowed(&rules, OVERFLOW_ID, &[OVERFLOW_ID]), Verbs::NONE);
    }
}
