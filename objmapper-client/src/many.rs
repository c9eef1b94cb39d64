//! Many objects in one round trip.
//!
//! One result for each URI, in the order of the URIs, whatever happens: a name that is no URI is
//! not sent, a refusal concerns its own URI only, and if the connection breaks in the middle the
//! results that had arrived stay, the next one says what broke, and the others that the connection
//! is closed. (If the daemon broke the protocol, nothing that came for that request stays.) More
//! URIs than one request can hold are asked for in several requests.

use crate::answer;
use crate::client::Client;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::name;
use crate::opened::{Object, Opened};
use crate::request::Wanted;
use objmapper_proto::{GetMany, Mode, Range, Request, limits};

/// Bytes of a GET_MANY before its URIs.
const FIXED: usize = 8;

impl Client {
    /// Opens many objects. Each costs a descriptor of this process: mind RLIMIT_NOFILE.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
    /// # fn main() { with_daemon(|| {
    /// # let mut client = objmapper_client::Client::connect()?;
    /// for shard in client.open_many(&["/shards/0", "/shards/1"]) {
    ///     println!("{} bytes", shard?.size());
    /// }
    /// # Ok(()) }) }
    /// ```
    pub fn open_many<S: AsRef<str>>(&mut self, uris: &[S]) -> Vec<Result<Opened>> {
        opened(self.many(uris, Mode::Fdpass, false))
    }

    /// As [`Client::open_many`], and descriptors may be ones whose open file description others have
    /// as well; each says whether it is. What that means: [`Client::open_shared`]. It is here that
    /// the daemon saves most by it.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
    /// # fn main() { with_daemon(|| {
    /// # let mut client = objmapper_client::Client::connect()?;
    /// for shard in client.open_many_shared(&["/shards/0", "/shards/1"]) {
    ///     let shard = shard?;
    ///     let whose = if shard.metadata().is_shared() { "shared" } else { "private" };
    ///     println!("{} bytes, {whose}", shard.read_to_vec()?.len());
    /// }
    /// # Ok(()) }) }
    /// ```
    pub fn open_many_shared<S: AsRef<str>>(&mut self, uris: &[S]) -> Vec<Result<Opened>> {
        opened(self.many(uris, Mode::Fdpass, true))
    }

    /// Reads many objects into memory.
    pub fn read_many<S: AsRef<str>>(&mut self, uris: &[S]) -> Vec<Result<Vec<u8>>> {
        let items = self.get_many(uris, Mode::Copy).into_iter();
        items.map(|item| item.and_then(Object::into_bytes)).collect()
    }

    /// Gets many objects in one mode; see [`Client::get`].
    pub fn get_many<S: AsRef<str>>(&mut self, uris: &[S], mode: Mode) -> Vec<Result<Object>> {
        self.many(uris, mode, false)
    }

    fn many<S: AsRef<str>>(&mut self, uris: &[S], mode: Mode, shared: bool) -> Vec<Result<Object>> {
        let mut results: Vec<Option<Result<Object>>> = uris.iter().map(|_| None).collect();
        let mut batch = Batch::default();
        for (uri, result) in uris.iter().map(AsRef::as_ref).zip(&mut results) {
            let name = match name::normal(uri) {
                Ok(name) => name,
                Err(error) => {
                    *result = Some(Err(error));
                    continue;
                }
            };
            let name = name.as_uri().as_bytes();
            if !batch.has_room(name.len(), self.connection.max_request()) {
                batch.ask(&mut self.connection, mode, shared);
            }
            batch.push(name, Waiting { uri, result });
        }
        batch.ask(&mut self.connection, mode, shared);
        let missing = || Err(Error::bad("OBJECTS", "an item is missing"));
        results.into_iter().map(|result| result.unwrap_or_else(missing)).collect()
    }
}

/// Of objects that were asked for by descriptor.
fn opened(objects: Vec<Result<Object>>) -> Vec<Result<Opened>> {
    let opened = |object| match object {
        Object::Descriptor(opened) => Ok(opened),
        Object::Bytes(..) => Err(Error::bad("OBJECTS", "no descriptor came")),
    };
    objects.into_iter().map(|item| item.and_then(opened)).collect()
}

/// A URI, and where its result belongs.
struct Waiting<'a> {
    uri: &'a str,
    result: &'a mut Option<Result<Object>>,
}

/// The URIs of one request.
#[derive(Default)]
struct Batch<'a> {
    list: Vec<u8>,
    waiting: Vec<Waiting<'a>>,
}

impl<'a> Batch<'a> {
    fn has_room(&self, uri: usize, max_request: usize) -> bool {
        self.waiting.len() < limits::MANY && FIXED + self.list.len() + 2 + uri <= max_request
    }

    fn push(&mut self, name: &[u8], waiting: Waiting<'a>) {
        GetMany::push_uri(&mut self.list, name);
        self.waiting.push(waiting);
    }

    /// Asks for all of them, distributes the answers, and is empty again.
    fn ask(&mut self, connection: &mut Connection, mode: Mode, shared: bool) {
        let Ok(many) = GetMany::new(mode, &self.list) else {
            return; // there are none
        };
        let many = many.sharing(shared);
        let wanted = Wanted::Object { mode, range: Range::ALL, unless: None, shared };
        let mut items = Vec::new();
        let asked = connection.exchange(Request::GetMany(many), |link, id| {
            items.clear(); // what came over a connection that is gone comes again
            answer::objects(link, id, wanted, many.count(), &mut items)
        });
        if let Err(Error::Protocol(_)) = asked {
            items.clear(); // which descriptor belongs to which item is no longer certain
        }
        let mut items = items.into_iter();
        let mut failure = asked.err();
        for Waiting { uri, result } in self.waiting.drain(..) {
            let item = items.next().or_else(|| next_failure(&mut failure).map(Err));
            *result = item.map(|item| item.map_err(|error| error.about(uri)));
        }
        self.list.clear();
    }
}

/// The failure itself for the first item that it concerns, then what it means for the others.
fn next_failure(failure: &mut Option<Error>) -> Option<Error> {
    let error = failure.take()?;
    *failure = Some(match &error {
        Error::Refused { status, text, retry_after, .. } => Error::Refused {
            status: *status,
            text: text.clone(),
            retry_after: *retry_after,
            uri: None,
        },
        Error::Closed { reason } => Error::Closed { reason: reason.clone() },
        Error::Forked => Error::Forked,
        other => Error::closed(&other.to_string()),
    });
    Some(error)
}
