//! What the caller writes, as the wire wants it: names of objects, ranges of bytes.

use crate::error::{Error, Result};
use objmapper_proto::{Range, UriBuf};
use std::ops::{Bound, RangeBounds};

/// The normal form of a name, or what is wrong with it.
pub(crate) fn normal(uri: &str) -> Result<UriBuf> {
    UriBuf::parse(uri.as_bytes()).map_err(|error| Error::Uri { uri: uri.into(), error })
}

/// `a..b` and its relatives, as offset and length. One that ends before it begins is empty.
pub(crate) fn wire_range(range: &impl RangeBounds<u64>) -> Range {
    let offset = match range.start_bound() {
        Bound::Included(&first) => first,
        Bound::Excluded(&before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let length = match range.end_bound() {
        Bound::Included(&last) => last.saturating_add(1).saturating_sub(offset),
        Bound::Excluded(&end) => end.saturating_sub(offset),
        Bound::Unbounded => Range::TO_END,
    };
    Range { offset, length }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_as_rust_writes_them() {
        let range = |offset, length| Range { offset, length };
        assert_eq!(wire_range(&(..)), Range::ALL);
        assert_eq!(wire_range(&(5..9)), range(5, 4));
        assert_eq!(wire_range(&(5..=9)), range(5, 5));
        assert_eq!(wire_range(&(..7)), range(0, 7));
        assert_eq!(wire_range(&(7..)), range(7, Range::TO_END));
        #[allow(clippy::reversed_empty_ranges)] // this is what is tested
        let backwards = 9..5;
        assert_eq!(wire_range(&backwards), range(9, 0));
    }
}
