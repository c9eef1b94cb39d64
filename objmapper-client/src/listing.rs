//! Names below a prefix, a page at a time.
//!
//! A page is asked for when the one before is used up. Names that appear or vanish between two
//! pages may be listed or not; every other name is listed once. After an error the listing is over.

use crate::answer;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::metadata::system_time;
use objmapper_proto::request::List;
use objmapper_proto::{Entries, Kind, Reply, Request, UriBuf, limits};
use std::time::SystemTime;

/// Entries in a page if nobody says otherwise. Not tuned.
const PAGE: usize = 1024;

/// One name of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    uri: UriBuf,
    name_at: usize,
    kind: Kind,
    size: u64,
    mtime_ns: i64,
}

impl Entry {
    /// Its whole URI; of a prefix, with a `/` at the end.
    pub fn uri(&self) -> &str {
        self.uri.as_uri().as_str()
    }

    /// Its name below the listed prefix, in URI syntax.
    pub fn name(&self) -> &str {
        self.uri().get(self.name_at..).unwrap_or_default()
    }

    /// Whether other names lie below it: then it is no object.
    pub fn is_prefix(&self) -> bool {
        self.kind == Kind::Prefix
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Size in bytes; 0 for a prefix.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Last modification.
    pub fn mtime(&self) -> SystemTime {
        system_time(self.mtime_ns)
    }

    /// Last modification, nanoseconds since 1970.
    pub fn mtime_ns(&self) -> i64 {
        self.mtime_ns
    }
}

/// Made by [`crate::Client::list`]; gives the entries in the order of their names' bytes. It has the
/// client until it is dropped: to ask for what it lists, collect it, or take another client.
#[derive(Debug)]
#[must_use = "nothing is asked for until it is iterated over"]
pub struct Listing<'a> {
    connection: &'a mut Connection,
    prefix: UriBuf,
    page_size: u32,
    page: std::vec::IntoIter<Entry>,
    cursor: Vec<u8>,
    over: bool,
}

/// A page, and the cursor for the next.
type Page = (Vec<Entry>, Vec<u8>);

impl<'a> Listing<'a> {
    pub(crate) fn new(connection: &'a mut Connection, prefix: UriBuf) -> Self {
        let page = Vec::new().into_iter();
        Self { connection, prefix, page_size: 0, page, cursor: Vec::new(), over: false }
            .page_size(PAGE)
    }

    /// How many entries are asked for at a time, 1 to 4096.
    pub fn page_size(mut self, entries: usize) -> Self {
        let entries = entries.clamp(1, limits::LIST);
        self.page_size = u32::try_from(entries).unwrap_or(1);
        self
    }

    fn next_page(&mut self) -> Result<()> {
        let name = self.prefix.as_uri();
        let (limit, cursor) = (self.page_size, self.cursor.as_slice());
        let list = List { limit, prefix: name.as_bytes(), cursor };
        let max = limit as usize;
        let (page, next) = self
            .connection
            .exchange(Request::List(list), |link, id| {
                answer::plain(link, id, |reply| match reply {
                    Reply::Entries(entries) if entries.cursor == cursor && !cursor.is_empty() => {
                        Some(Err(Error::bad("ENTRIES", "the cursor leads to the same page again")))
                    }
                    Reply::Entries(entries) => Some(read_page(entries, name.as_str(), max)),
                    _ => None,
                })
            })
            .map_err(|error| error.about(name.as_str()))?;
        self.over = next.is_empty();
        self.cursor = next;
        self.page = page.into_iter();
        Ok(())
    }
}

impl Iterator for Listing<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.page.next() {
                return Some(Ok(entry));
            }
            if self.over {
                return None;
            }
            if let Err(error) = self.next_page() {
                self.over = true;
                return Some(Err(error));
            }
        }
    }
}

fn read_page(entries: &Entries<'_>, prefix: &str, max: usize) -> Result<Page> {
    if entries.count() > max {
        return Err(Error::bad("ENTRIES", "there are more of them than were asked for"));
    }
    if entries.cursor.len() > limits::CURSOR {
        return Err(Error::bad("ENTRIES", "the cursor is too long"));
    }
    let mut base = prefix.as_bytes().to_vec();
    if !matches!(base.last(), Some(b'/' | b':')) {
        base.push(b'/');
    }
    let page: Result<Vec<Entry>> =
        entries.entries().map(|entry| read_entry(&entry, &base)).collect();
    Ok((page?, entries.cursor.to_vec()))
}

fn read_entry(entry: &objmapper_proto::Entry<'_>, base: &[u8]) -> Result<Entry> {
    let text = [base, entry.name].concat();
    // Parsing it makes sure that it is a URI that can be asked for, and safe to print.
    let uri = UriBuf::parse(&text).map_err(|_| Error::bad("ENTRIES", "a name is not URI text"))?;
    let (segment, is_prefix) = match entry.name.split_last() {
        Some((b'/', segment)) => (segment, true),
        _ => (entry.name, false),
    };
    let one_segment = !segment.is_empty() && !segment.contains(&b'/');
    if uri.as_uri().as_bytes() != text || !one_segment {
        return Err(Error::bad("ENTRIES", "a name is not one segment in its normal form"));
    }
    if is_prefix != (entry.kind == Kind::Prefix) {
        return Err(Error::bad("ENTRIES", "a name ends with '/', or its kind is prefix, not both"));
    }
    Ok(Entry {
        uri,
        name_at: base.len(),
        kind: entry.kind,
        size: entry.size,
        mtime_ns: entry.mtime_ns,
    })
}
