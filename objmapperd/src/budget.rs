//! Budgets: what all connections together may use up, and how much of it one user may.
//!
//! A total alone is not enough: the first user could take all of it. Neither is a limit of one
//! half per user: two users could. So a user may have a multiple of what is *left*
//! ([`Share::Left`]): with a factor of one, a user alone gets about half, and the next one half
//! of the rest. That by itself would leave nothing after a dozen users, so an eighth is kept
//! back for users who have next to nothing; more than thirty greedy users are needed to use up
//! everything.
//!
//! Users are told apart by uid. The daemon's own and root count like any other, since their
//! programs break too; what is left over lets them in to see what is wrong.
//!
//! What must stay true: the sum over all users is what is used in all; who has nothing is
//! not remembered.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

/// How much of a whole one user may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// So much.
    AtMost(usize),
    /// So many times what nobody has and what is not kept back.
    Left(usize),
}

/// This part of the whole is kept back for those who have less than [`LITTLE`] of it.
const KEPT: usize = 8;

/// This part of the whole is next to nothing: `LITTLE / KEPT` users can have what is kept back.
const LITTLE: usize = 256;

impl Share {
    /// What a setting says: a number, or 0 for so many times what is left.
    pub const fn of_setting(number: usize, times: usize) -> Self {
        if number == 0 { Self::Left(times) } else { Self::AtMost(number) }
    }

    /// Whether one who has `mine` of the `used` may have one more, `limit` being the whole.
    #[inline]
    pub const fn allows(self, mine: usize, used: usize, limit: usize) -> bool {
        if used >= limit {
            return false;
        }
        match self {
            Self::AtMost(most) => mine < most,
            Self::Left(_) if mine == 0 || mine < limit / LITTLE => true,
            Self::Left(times) => {
                mine < (limit - limit / KEPT).saturating_sub(used).saturating_mul(times)
            }
        }
    }
}

/// What a budget is called, for those who are told about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// What is counted, in the plural.
    pub what: &'static str,
    /// The setting of the whole.
    pub limit: &'static str,
    /// The setting of one user's share; it may be the same.
    pub share: &'static str,
}

/// One kind of thing that can be used up.
#[derive(Debug)]
pub struct Budget {
    words: Words,
    limit: usize,
    share: Share,
    users: Mutex<HashMap<u32, usize>>,
    /// The sum of the above; written under its lock.
    used: AtomicUsize,
    /// How often somebody's share was used up.
    refusals: AtomicU64,
}

impl Budget {
    /// Nothing used.
    pub fn new(words: Words, limit: usize, share: Share) -> Arc<Self> {
        let users = Mutex::default();
        let (used, refusals) = (AtomicUsize::new(0), AtomicU64::new(0));
        Arc::new(Self { words, limit, share, users, used, refusals })
    }

    /// What is used of it.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// The whole.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// How often a user got nothing while others might have.
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// One for this user, as long as the permit lives.
    pub fn take(self: &Arc<Self>, uid: u32) -> Result<Permit, Over> {
        let mut users = self.users.lock();
        let mine = users.get(&uid).copied().unwrap_or(0);
        let used = self.used();
        if !self.share.allows(mine, used, self.limit) {
            if used < self.limit {
                self.refusals.fetch_add(1, Ordering::Relaxed);
            }
            let Self { words, limit, share, .. } = **self;
            return Err(Over { words, uid, mine, used, limit, share });
        }
        users.insert(uid, mine + 1);
        self.used.store(used + 1, Ordering::Release);
        Ok(Permit { budget: self.clone(), uid, held: 1 })
    }

    /// An account of this user that may go beyond the share, and is asked first whether
    /// it should.
    pub fn account(self: &Arc<Self>, uid: u32) -> Permit {
        Permit { budget: self.clone(), uid, held: 0 }
    }

    fn change(&self, uid: u32, from: usize, to: usize) {
        let mut users = self.users.lock();
        let mine = users.get(&uid).map_or(0, |mine| mine.saturating_sub(from)) + to;
        if mine == 0 {
            users.remove(&uid);
        } else {
            users.insert(uid, mine);
        }
        self.used.store(self.used().saturating_sub(from) + to, Ordering::Release);
    }
}

/// What one connection or body holds of a budget.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    uid: u32,
    held: usize,
}

impl Permit {
    /// Holds so much from now on.
    #[inline]
    pub fn set(&mut self, held: usize) {
        if held != self.held {
            self.budget.change(self.uid, self.held, held);
            self.held = held;
        }
    }

    /// Whether its user may have more.
    #[inline]
    pub fn may_grow(&self) -> bool {
        let Budget { limit, share, .. } = *self.budget;
        let used = self.budget.used.load(Ordering::Relaxed);
        // Nobody has more than all have: mostly that is answer enough, and no lock.
        share.allows(used, used, limit) || self.may_grow_by_count()
    }

    /// Why its user may not have more, if it may not.
    pub fn over(&self) -> Option<Over> {
        if self.may_grow() {
            return None;
        }
        let Budget { words, limit, share, .. } = *self.budget;
        let mine = self.budget.users.lock().get(&self.uid).copied().unwrap_or(0);
        Some(Over { words, uid: self.uid, mine, used: self.budget.used(), limit, share })
    }

    /// The most that it could have if nobody had anything else.
    pub fn most(&self) -> usize {
        let Budget { limit, share, .. } = *self.budget;
        match share {
            Share::AtMost(most) => most.min(limit),
            // What it has is not left: with one times that, a half.
            Share::Left(times) => (limit - limit / KEPT) / (times + 1) * times,
        }
    }

    #[cold]
    fn may_grow_by_count(&self) -> bool {
        let users = self.budget.users.lock();
        let mine = users.get(&self.uid).copied().unwrap_or(0);
        self.budget.share.allows(mine, self.budget.used(), self.budget.limit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Why there is no more: name, use and limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over {
    words: Words,
    uid: u32,
    mine: usize,
    used: usize,
    limit: usize,
    share: Share,
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { words, uid, mine, used, limit, share } = self;
        let Words { what, limit: whole, share: part } = words;
        if used >= limit {
            return write!(f, "there are {used} {what}, {whole} is {limit}");
        }
        match share {
            Share::AtMost(most) => write!(f, "uid {uid} has {mine} {what}, {part} is {most}"),
            Share::Left(times) => write!(
                f,
                "uid {uid} has {mine} of {used} {what}, {whole} is {limit}: one user may have {times} \
                 times what is left ({part})"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: Words = Words { what: "things", limit: "limits.things", share: "limits.each" };

    /// How many a user gets.
    fn fill(budget: &Arc<Budget>, uid: u32) -> Vec<Permit> {
        std::iter::from_fn(|| budget.take(uid).ok()).collect()
    }

    #[test]
    fn however_many_come_something_is_left_for_the_next() {
        for times in [1, 3] {
            let budget = Budget::new(WORDS, 1000, Share::Left(times));
            let mut taken = Vec::new();
            for uid in 0..40 {
                let more = fill(&budget, uid);
                assert!(!more.is_empty(), "user {uid}, {} used", budget.used());
                taken.push(more);
            }
            assert!(budget.used() < 1000);
            taken.clear();
            assert_eq!((budget.used(), budget.users.lock().len()), (0, 0));
        }
    }

    #[test]
    fn one_alone_gets_its_part() {
        let alone = |share| fill(&Budget::new(WORDS, 1000, share), 7).len();
        assert_eq!(alone(Share::Left(1)), 438);
        assert_eq!(alone(Share::Left(3)), 657);
        assert_eq!(alone(Share::AtMost(20)), 20);
        assert_eq!(alone(Share::AtMost(2000)), 1000);
    }

    #[test]
    fn what_is_over_is_told_with_name_use_and_limit() {
        let told = |share, limit| {
            let budget = Budget::new(WORDS, limit, share);
            let _taken = fill(&budget, 7);
            budget.take(7).unwrap_err().to_string()
        };
        assert_eq!(told(Share::AtMost(9), 9), "there are 9 things, limits.things is 9");
        assert_eq!(told(Share::AtMost(3), 9), "uid 7 has 3 things, limits.each is 3");
        assert_eq!(
            told(Share::Left(1), 10),
            "uid 7 has 5 of 5 things, limits.things is 10: one user may have 1 times what is left \
             (limits.each)"
        );
    }

    #[test]
    fn an_account_may_go_over_and_is_asked_first() {
        let budget = Budget::new(WORDS, 100, Share::Left(1));
        let (mut one, mut other) = (budget.account(1), budget.account(2));
        one.set(60);
        assert!(!one.may_grow(), "60 are more than the 40 that are left");
        assert!(other.may_grow());
        other.set(30);
        assert!(!other.may_grow());
        one.set(0);
        assert!(one.may_grow() && other.may_grow());
        assert_eq!(budget.used(), 30);
    }
}
