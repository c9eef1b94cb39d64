//! Names for what an epoll instance watches: a slot's number and how often it was
//! used. An event that was on its way when a slot changed hands carries the old
//! count and finds nobody.

use slab::Slab;

/// Slots of one epoll instance.
#[derive(Debug)]
pub struct Slots<T> {
    slab: Slab<(u32, T)>,
    uses: u32,
}

impl<T> Default for Slots<T> {
    /// None taken.
    fn default() -> Self {
        Self { slab: Slab::new(), uses: 0 }
    }
}

impl<T> Slots<T> {
    /// Takes a slot; `make` is told its token. Tokens are below `1 << 63`.
    pub fn add<E>(&mut self, make: impl FnOnce(usize) -> Result<T, E>) -> Result<usize, E> {
        self.uses = (self.uses + 1) & 0x7fff_ffff;
        let uses = self.uses;
        let entry = self.slab.vacant_entry();
        let token = entry.key() | (uses as usize) << 32;
        entry.insert((uses, make(token)?));
        Ok(token)
    }

    /// Who has this token.
    #[inline]
    pub fn at(&self, token: usize) -> Option<&T> {
        let (uses, value) = self.slab.get(token & 0xffff_ffff)?;
        (*uses as usize == token >> 32).then_some(value)
    }

    /// As [`Slots::at`], to change it.
    pub fn at_mut(&mut self, token: usize) -> Option<&mut T> {
        let (uses, value) = self.slab.get_mut(token & 0xffff_ffff)?;
        (*uses as usize == token >> 32).then_some(value)
    }

    /// Frees the slot.
    pub fn remove(&mut self, token: usize) -> Option<T> {
        self.at(token)?;
        Some(self.slab.remove(token & 0xffff_ffff).1)
    }

    /// All that are taken.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slab.iter().map(|(_, (_, value))| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_token_finds_nobody() {
        let mut slots = Slots::default();
        let old = slots.add(|_| Ok::<_, ()>("one")).unwrap();
        assert_eq!(slots.remove(old), Some("one"));
        let new = slots.add(|_| Ok::<_, ()>("two")).unwrap();
        assert_eq!(slots.at(old), None);
        assert_eq!(slots.remove(old), None);
        assert_eq!(slots.at(new), Some(&"two"));
    }

    #[test]
    fn what_cannot_be_made_takes_no_slot() {
        let mut slots = Slots::<u8>::default();
        assert_eq!(slots.add(|_| Err("no")), Err("no"));
        assert_eq!(slots.iter().count(), 0);
    }
}
