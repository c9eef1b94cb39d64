//! Answers where replies may overtake bodies: each is known by its id alone, and several bodies are
//! under way, a DATA frame each.
//!
//! ```text
//!  OBJECT, PONG, ERROR: ids of what is owed -> an answer, or one more body under way
//!  DATA:                ids of bodies       -> the body's own memory
//!  END:                 ids of bodies       -> an answer
//! ```
//!
//! An answer is given to the caller as soon as it is whole, so nothing that is complete waits here:
//! memory is what has come of at most [`MOST`] bodies. A frame for an id that is not owed, or not
//! in the place where it can come, ends the connection.

use crate::answer::{self, Arrived, Body};
use crate::error::{Error, Result};
use crate::link::{Link, Reach};
use crate::request::{Answer, Answered, Owed, Wanted};
use crate::sink::{Discard, Memory};
use objmapper_proto::Header;
use std::collections::VecDeque;

/// Bodies that a daemon may have under way on one connection (PROTOCOL.md, section 6).
const MOST: usize = 16;

/// An answer whose head has come and whose body is on its way.
#[derive(Debug)]
pub(crate) struct UnderWay {
    pub(crate) arrived: Arrived,
    pub(crate) body: Body,
    pub(crate) memory: Memory,
}

/// What has come of the answers that are owed.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    under_way: Vec<UnderWay>,
    /// The place of the one whose DATA frame has begun and may not be over.
    current: Option<usize>,
    /// The CLOSE that was sent and not answered.
    closing: Option<u64>,
    /// Whether nobody wants the bytes any more.
    unwanted: bool,
}

impl Bodies {
    /// From now on nobody wants the bytes of what is owed, and those that have come neither.
    pub(crate) fn discard(&mut self) {
        self.unwanted = true;
        for body in &mut self.under_way {
            body.memory = Memory::default();
        }
    }

    /// Nothing is owed any more: what comes next is wanted.
    pub(crate) fn keep(&mut self) {
        self.unwanted = false;
    }

    /// The CLOSE with this id was sent.
    pub(crate) fn close(&mut self, id: u64) {
        self.closing = Some(id);
    }

    /// The CLOSE whose answer has not come.
    pub(crate) fn closing(&self) -> Option<u64> {
        self.closing
    }

    /// Reads until one of the answers that are owed is whole, and takes it out of `owed`, which is in
    /// the order of the ids. Where the link must not wait this goes on where it stopped before.
    pub(crate) fn next(
        &mut self,
        link: &mut Link,
        owed: &mut VecDeque<Owed>,
    ) -> Result<(Owed, Answered)> {
        loop {
            self.finish_frame(link)?;
            let header = link.header(self.reach())?;
            if self.closing == Some(header.id) {
                answer::goodbye(link, header.id, owed.len())?;
                self.closing = None;
                continue;
            }
            let at = owed.binary_search_by_key(&header.id, |owed| owed.id).ok();
            let Some((at, asked)) = at.and_then(|at| Some((at, owed.get(at)?))) else {
                return Err(answer::stray(link));
            };
            let read = match self.under_way.iter().position(|body| body.body.id() == header.id) {
                Some(body) => self.frame(link, &header, body),
                None => self.head(link, asked),
            };
            let answered = match read {
                Ok(None) => continue,
                Ok(Some(answer)) => Ok(answer),
                Err(error) if error.ends_connection() => return Err(error),
                Err(refusal) => Err(refusal),
            };
            if let Some(asked) = owed.remove(at) {
                return Ok((asked, answered));
            }
        }
    }

    /// Reads what is left of a DATA frame that has begun.
    fn finish_frame(&mut self, link: &mut Link) -> Result<()> {
        let Some(at) = self.current else { return Ok(()) };
        if let Some(UnderWay { body, memory, .. }) = self.under_way.get_mut(at) {
            if self.unwanted {
                body.pull(link, &mut Discard)?;
            } else {
                body.pull(link, memory)?;
            }
        }
        self.current = None;
        Ok(())
    }

    /// The first frame of an answer, which is all of it unless a body follows.
    fn head(&mut self, link: &mut Link, asked: &Owed) -> Result<Option<Answer>> {
        if asked.wanted == Wanted::Pong {
            return answer::pong(link, asked.id).map(|()| Some(Answer::Pong));
        }
        let mut memory = Memory::default();
        let (arrived, body) = answer::head(link, asked.id, asked.wanted, &mut memory)?;
        let Some(body) = body else { return Ok(Some(arrived.into_answer(asked.wanted, memory))) };
        if self.under_way.len() == MOST {
            return Err(Error::bad("OBJECT", "more bodies are under way than there may be"));
        }
        self.under_way.push(UnderWay { arrived, body, memory });
        Ok(None)
    }

    /// The next frame of the body at this place: the answer if it is the last.
    fn frame(&mut self, link: &mut Link, header: &Header, at: usize) -> Result<Option<Answer>> {
        let Some(under_way) = self.under_way.get_mut(at) else { return Ok(None) };
        match under_way.body.frame(link, header) {
            Ok(false) => {
                self.current = Some(at);
                Ok(None)
            }
            Ok(true) => Ok(Some(self.under_way.swap_remove(at).into_answer())),
            Err(error @ Error::Timeout) => Err(error), // the rest of the END is still to come
            Err(error) => {
                self.under_way.swap_remove(at);
                Err(error)
            }
        }
    }

    /// Whether bytes of bodies had better go straight from the socket to where they belong.
    fn reach(&self) -> Reach {
        if self.under_way.is_empty() || self.unwanted { Reach::Far } else { Reach::Exact }
    }
}

impl UnderWay {
    /// All of the body has come. Only objects have one.
    pub(crate) fn into_answer(self) -> Answer {
        if self.body.is_elsewhere() {
            return Answer::Sent(self.arrived.metadata);
        }
        Answer::Object(self.arrived.into_object(self.memory))
    }
}
