//! A tree, what lies beside it, and every way to ask.

use std::fs;

use objmapper_proto::{Mode, Range, Status};

use crate::support::daemon::Place;
use crate::support::peer::{Answer, Peer};

pub(crate) const SECRET: &[u8] = b"this lies outside";
pub(crate) const INSIDE: &[u8] = b"this lies inside!";

/// A place with a secret beside its tree.
pub(crate) fn guarded() -> Place {
    let place = Place::new();
    fs::create_dir(place.outside("secrets")).unwrap();
    fs::write(place.outside("secrets/file"), SECRET).unwrap();
    place.write("file", INSIDE);
    place.write("dir/file", INSIDE);
    place
}

/// Asks in every way there is.
#[track_caller]
pub(crate) fn every_answer(peer: &mut Peer, uri: &[u8]) -> Vec<Answer> {
    let mut answers = vec![peer.stat(uri)];
    for mode in Mode::ALL {
        answers.push(peer.get(mode, uri, Range::ALL));
        answers.push(peer.get(mode, uri, Range { offset: 0, length: 0 }));
        answers.extend(peer.get_many(mode, &[b"/file", uri]).pop());
    }
    answers
}

/// Refused in every way, with this status and these words. Twice: not remembered wrongly either.
#[track_caller]
pub(crate) fn refused(peer: &mut Peer, uri: impl AsRef<[u8]>, status: Status, words: &str) {
    let uri = uri.as_ref();
    for answer in every_answer(peer, uri).into_iter().chain(every_answer(peer, uri)) {
        let shown = String::from_utf8_lossy(uri);
        assert_eq!(answer.status(), status, "{shown}: {:?}", answer.text);
        assert!(answer.text.contains(words), "{shown}: {:?}", answer.text);
        assert!(answer.file.is_none() && answer.bytes.is_empty());
    }
}

#[track_caller]
pub(crate) fn served(peer: &mut Peer, uri: &str) {
    for answer in every_answer(peer, uri.as_bytes()) {
        assert_eq!(answer.status(), Status::Ok, "{uri}: {:?}", answer.text);
        assert_eq!(answer.head.size, INSIDE.len() as u64);
    }
}
