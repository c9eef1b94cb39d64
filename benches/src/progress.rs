//! What the answers to one burst still owe, and whether they are right.
//!
//! Bytes go in as they come, cut anywhere; out comes how many requests are now answered. A body is
//! counted and dropped, never collected. A refusal, or an object of another size than expected, is
//! an error that is counted; an answer that does not fit its request ends the run.
//!
//! While it is told to check, every descriptor and every byte is held against the file itself.

use anyhow::{Context, Result, bail, ensure};
use objmapper_os::file;
use objmapper_proto::frame::{self, Split};
use objmapper_proto::{Delivery, Frame, Header, HelloAck, Item, Op, Reply, Status, limits};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use crate::plan::{Dialect, Plan, Unit};
use crate::wire::FloorReply;

/// Figures that only grow.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// Objects that came as they should.
    pub(crate) objects: u64,
    /// Bytes of bodies.
    pub(crate) bytes: u64,
    /// Objects that did not.
    pub(crate) errors: u64,
    /// What was wrong with the first of them.
    pub(crate) first_error: Option<String>,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }

    fn error(&mut self, text: impl FnOnce() -> String) {
        self.errors += 1;
        self.first_error.get_or_insert_with(text);
    }
}

/// The state of one burst.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) counts: Counts,
    burst: usize,
    /// Requests of the burst that are answered.
    unit: usize,
    /// Objects of the current request that are answered.
    item: usize,
    /// A body is under way: bytes announced and bytes that came.
    body: Option<(u64, u64)>,
    /// The current GET_MANY has had its last part, up to the end of a body.
    last: bool,
    /// Bytes of body that come before the next header.
    skip: u64,
    /// A HELLO_ACK comes first.
    pub(crate) hello_due: bool,
    /// Descriptors that the frames so far have declared.
    fds_due: usize,
    check: Option<Check>,
}

/// What is needed to hold answers against the files.
#[derive(Debug, Default)]
struct Check {
    /// Objects whose descriptors came, by number in the plan.
    descriptors: Vec<usize>,
    /// The file whose body is under way, and how far it is.
    body: Option<(File, u64)>,
}

impl Progress {
    /// The answers to this burst come next.
    pub(crate) fn start(&mut self, burst: usize) {
        self.burst = burst;
        (self.unit, self.item) = (0, 0);
        self.fds_due = 0;
    }

    /// Holds everything against the files from now on, or no longer.
    pub(crate) fn set_check(&mut self, on: bool) {
        self.check = on.then(Check::default);
    }

    /// Whether every request of the burst is answered.
    pub(crate) fn is_done(&self, plan: &Plan<'_>) -> bool {
        self.current(plan).is_none()
    }

    /// Requests of the burst that are not answered yet.
    pub(crate) fn unanswered(&self, plan: &Plan<'_>) -> usize {
        plan.burst(self.burst).1.len().saturating_sub(self.unit)
    }

    /// The requests of the burst that were answered last, so many of them.
    pub(crate) fn last_answered<'p>(&self, plan: &'p Plan<'_>, count: usize) -> &'p [Unit] {
        let units = plan.burst(self.burst).1;
        units.get(self.unit.saturating_sub(count)..self.unit).unwrap_or_default()
    }

    /// Takes what it can from the front of `window`: gives the bytes taken and the requests that
    /// are answered by them. What is not taken must come again with more behind it.
    pub(crate) fn feed(&mut self, plan: &Plan<'_>, window: &[u8]) -> Result<(usize, usize)> {
        let before = self.unit;
        let mut rest = window;
        loop {
            if self.skip > 0 {
                let length = usize::try_from(self.skip).unwrap_or(usize::MAX).min(rest.len());
                let (body, behind) = rest.split_at(length);
                rest = behind;
                self.skip -= length as u64;
                self.take_body(body)?;
                if self.skip > 0 {
                    break;
                }
                if plan.dialect != Dialect::Objm {
                    self.end_item(plan);
                }
            }
            let used = match plan.dialect {
                Dialect::Objm => self.take_frame(plan, rest)?,
                Dialect::Floor { .. } => self.take_floor(plan, rest)?,
            };
            if used == 0 {
                break;
            }
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok((window.len() - rest.len(), self.unit - before))
    }

    /// The burst is answered: its descriptors must be as many as declared, and the right ones.
    pub(crate) fn check_descriptors(
        &mut self,
        plan: &Plan<'_>,
        fds: impl ExactSizeIterator<Item = OwnedFd>,
    ) -> Result<()> {
        ensure!(
            fds.len() == self.fds_due,
            "{} descriptors came and {} were declared",
            fds.len(),
            self.fds_due
        );
        let Some(check) = &mut self.check else { return Ok(()) };
        for (number, fd) in check.descriptors.drain(..).zip(fds) {
            let object = plan.object(number);
            let found = file::identity(fd.as_fd())?;
            let same = found.size == object.size && object.ino.is_none_or(|ino| ino == found.ino);
            if !same {
                self.counts
                    .error(|| format!("{}: the descriptor is of another file", text(&object.uri)));
            }
        }
        Ok(())
    }

    fn current<'p>(&self, plan: &'p Plan<'_>) -> Option<&'p Unit> {
        plan.burst(self.burst).1.get(self.unit)
    }

    fn expected<'p>(&self, plan: &'p Plan<'_>) -> Result<&'p Unit> {
        self.current(plan).context("an answer came that nobody asked for")
    }

    fn take_body(&mut self, bytes: &[u8]) -> Result<()> {
        self.counts.bytes += bytes.len() as u64;
        if let Some((_, came)) = &mut self.body {
            *came += bytes.len() as u64;
        }
        let Some((file, offset)) = self.check.as_mut().and_then(|check| check.body.as_mut()) else {
            return Ok(());
        };
        let mut expected = vec![0; bytes.len()];
        file.read_exact_at(&mut expected, *offset).context("cannot read the file to compare")?;
        *offset += bytes.len() as u64;
        if expected != bytes {
            self.counts.error(|| "the bytes are not those of the file".into());
        }
        Ok(())
    }

    // ---- the floor ----

    fn take_floor(&mut self, plan: &Plan<'_>, rest: &[u8]) -> Result<usize> {
        let Some(reply) = FloorReply::decode(rest) else { return Ok(0) };
        let unit = self.expected(plan)?;
        let number = unit.first + self.item;
        if reply.errno != 0 {
            self.counts.error(|| format!("the floor says errno {}", reply.errno));
            self.end_item(plan);
            return Ok(FloorReply::SIZE);
        }
        self.fds_due += reply.fds as usize;
        self.note(plan, number, reply.length, reply.fds > 0)?;
        if reply.fds == 0 && reply.length > 0 {
            self.skip = reply.length;
        } else {
            self.end_item(plan);
        }
        Ok(FloorReply::SIZE)
    }

    // ---- OBJM ----

    /// The frame at the front; 0 if it is not complete.
    fn take_frame(&mut self, plan: &Plan<'_>, rest: &[u8]) -> Result<usize> {
        let Some(header) = Header::decode(rest) else { return Ok(0) };
        if header.op == Op::Data as u8 && header.length as usize <= limits::DATA_PAYLOAD {
            ensure!(self.body.is_some(), "DATA came where no body was announced");
            self.skip = header.length.into();
            return Ok(limits::HEADER);
        }
        match frame::split(rest, limits::REPLY_PAYLOAD)? {
            Split::Partial(_) => Ok(0),
            Split::Whole(frame, used) => {
                self.take_reply(plan, frame)?;
                Ok(used)
            }
        }
    }

    fn take_reply(&mut self, plan: &Plan<'_>, frame: Frame<'_>) -> Result<()> {
        if self.hello_due && frame.header.op == Op::HelloAck as u8 {
            HelloAck::decode(frame.payload)?;
            self.hello_due = false;
            return Ok(());
        }
        let reply = Reply::decode(frame)?;
        if let (Reply::Error(error), 0) = (&reply, frame.header.id) {
            bail!("the daemon ends the connection: {} {}", error.status, error.text);
        }
        let unit = *self.expected(plan)?;
        ensure!(
            frame.header.id == unit.id,
            "a reply has id {}, {} comes next",
            frame.header.id,
            unit.id
        );
        self.fds_due += usize::from(frame.header.fds);
        match reply {
            Reply::Object(item) => self.take_item(plan, &unit, item),
            Reply::Objects(objects) => {
                self.last = objects.last;
                objects.items().try_for_each(|item| self.take_item(plan, &unit, item))
            }
            Reply::End(end) => self.take_end(plan, end.status, end.length, end.text),
            Reply::Error(error) => {
                self.counts.error(|| format!("{}: {}", error.status, error.text));
                self.item = unit.count - 1;
                self.end_item(plan);
                Ok(())
            }
            _ => bail!("a reply came that does not answer the request"),
        }
    }

    fn take_item(&mut self, plan: &Plan<'_>, unit: &Unit, item: Item<'_>) -> Result<()> {
        ensure!(self.body.is_none(), "a body was announced and another answer came");
        ensure!(self.item < unit.count, "more answers than objects");
        let number = unit.first + self.item;
        let head = item.head;
        if head.status != Status::Ok {
            let uri = &plan.object(number).uri;
            self.counts.error(|| format!("{}: {} {}", text(uri), head.status, item.text));
            self.end_item(plan);
            return Ok(());
        }
        self.note(plan, number, head.size, head.delivery == Delivery::Descriptor)?;
        match head.delivery {
            Delivery::Stream => self.body = Some((head.range.length, 0)),
            Delivery::Inline => {
                self.take_body(item.inline)?;
                self.end_item(plan);
            }
            Delivery::Descriptor | Delivery::None => self.end_item(plan),
            Delivery::Destination => bail!("a body goes elsewhere, and nobody asked for that"),
        }
        Ok(())
    }

    fn take_end(&mut self, plan: &Plan<'_>, status: Status, length: u64, why: &str) -> Result<()> {
        let Some((announced, came)) = self.body.take() else { bail!("END came without a body") };
        if status != Status::Ok || length != came || announced != came {
            self.counts.objects = self.counts.objects.saturating_sub(1);
            self.counts.error(|| {
                format!("a body of {announced} bytes ended with {status} after {came}: {why}")
            });
        }
        self.end_item(plan);
        Ok(())
    }

    // ---- both ----

    /// An object came: counts it and prepares the check of what comes with it.
    fn note(&mut self, plan: &Plan<'_>, number: usize, size: u64, by_fd: bool) -> Result<()> {
        let object = plan.object(number);
        if size == object.size {
            self.counts.objects += 1;
        } else {
            let wanted = object.size;
            self.counts.error(|| format!("{}: {size} bytes, not {wanted}", text(&object.uri)));
        }
        let Some(check) = &mut self.check else { return Ok(()) };
        if by_fd {
            check.descriptors.push(number);
        } else if let Some(path) = plan.tree.path(object) {
            check.body = Some((File::open(path)?, 0));
        }
        Ok(())
    }

    fn end_item(&mut self, plan: &Plan<'_>) {
        self.item += 1;
        if self.current(plan).is_some_and(|unit| self.item == unit.count) {
            self.unit += 1;
            self.item = 0;
        }
    }
}

fn text(uri: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(uri)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Form, Mix};
    use crate::tree::{Shape, Tree};
    use crate::wire::Job;
    use objmapper_proto::reply::End;
    use objmapper_proto::{Kind, ObjectHead, Range};

    const SIZE: u64 = 5000;

    fn tree() -> Tree {
        Tree::temporary(Shape { files: 2, size: SIZE, depth: 0, sparse: false }).unwrap()
    }

    fn plan(tree: &Tree, dialect: Dialect, job: Job) -> Plan<'_> {
        Plan::new(dialect, Form { mix: Mix::Only(job), pipeline: 2, batch: 1, shared: false }, tree)
            .unwrap()
    }

    fn head(delivery: Delivery) -> Item<'static> {
        let range = Range { offset: 0, length: SIZE };
        let ok = ObjectHead::failed(Status::Ok);
        let head = ObjectHead { kind: Kind::File, delivery, size: SIZE, range, ..ok };
        Item { head, text: "", inline: &[] }
    }

    /// The answer to request `id` with the bytes of a file.
    fn streamed(id: u64, body: &[u8], status: Status) -> Vec<u8> {
        let mut bytes = Vec::new();
        Reply::Object(head(Delivery::Stream)).encode(id, 0, &mut bytes);
        for piece in body.chunks(1000) {
            Reply::Data(piece).encode(id, 0, &mut bytes);
        }
        let length = body.len() as u64;
        Reply::End(End { status, length, text: "" }).encode(id, 0, &mut bytes);
        bytes
    }

    /// Feeds the answers in pieces of this many bytes.
    fn fed(plan: &Plan<'_>, answers: &[u8], piece: usize) -> Result<Progress> {
        let mut progress = Progress::default();
        progress.set_check(true);
        progress.start(0);
        let mut window = Vec::new();
        let mut answered = 0;
        for bytes in answers.chunks(piece) {
            window.extend_from_slice(bytes);
            let (used, done) = progress.feed(plan, &window)?;
            window.drain(..used);
            answered += done;
        }
        assert!(window.is_empty() && progress.is_done(plan), "{answered} answers");
        Ok(progress)
    }

    fn contents(tree: &Tree, number: usize) -> Vec<u8> {
        std::fs::read(tree.path(&tree.objects[number]).unwrap()).unwrap()
    }

    #[test]
    fn how_answers_are_cut_changes_nothing() {
        let tree = tree();
        let bodies = [contents(&tree, 0), contents(&tree, 1)];
        let ours = [streamed(1, &bodies[0], Status::Ok), streamed(2, &bodies[1], Status::Ok)];
        let reply = FloorReply { length: SIZE, fds: 0, errno: 0 }.encode();
        let floor = [&reply[..], &bodies[0], &reply[..], &bodies[1]];
        for piece in [1, 7, 1024, 100_000] {
            let held = Dialect::Floor { held: true };
            for (dialect, answers) in [(Dialect::Objm, ours.concat()), (held, floor.concat())] {
                let counts = fed(&plan(&tree, dialect, Job::Copy), &answers, piece).unwrap().counts;
                assert_eq!((counts.objects, counts.errors), (2, 0), "{counts:?}");
                assert_eq!(counts.bytes, 2 * SIZE);
            }
        }
    }

    #[test]
    fn wrong_bytes_and_bodies_that_failed_are_counted() {
        let tree = tree();
        let plan = plan(&tree, Dialect::Objm, Job::Copy);
        let (first, second) = (contents(&tree, 0), contents(&tree, 1));
        let swapped = [streamed(1, &second, Status::Ok), streamed(2, &second, Status::Ok)];
        assert!(fed(&plan, &swapped.concat(), 4096).unwrap().counts.errors > 0);
        let changed = [streamed(1, &first, Status::Ok), streamed(2, &second, Status::Changed)];
        let counts = fed(&plan, &changed.concat(), 4096).unwrap().counts;
        assert_eq!((counts.objects, counts.errors), (1, 1), "{counts:?}");
        let short = [streamed(1, &first, Status::Ok), streamed(2, &second[..4000], Status::Ok)];
        assert_eq!(fed(&plan, &short.concat(), 4096).unwrap().counts.errors, 1);
    }

    #[test]
    fn an_answer_to_another_request_ends_the_run() {
        let tree = tree();
        let plan = plan(&tree, Dialect::Objm, Job::Copy);
        assert!(fed(&plan, &streamed(2, &contents(&tree, 0), Status::Ok), 4096).is_err());
    }

    #[test]
    fn descriptors_are_counted_and_held_against_their_files() {
        let tree = tree();
        let plan = plan(&tree, Dialect::Objm, Job::Fdpass);
        let open = |n: usize| File::open(tree.path(&tree.objects[n]).unwrap()).unwrap().into();
        let mut answers = Vec::new();
        for id in [1, 2] {
            Reply::Object(head(Delivery::Descriptor)).encode(id, 1, &mut answers);
        }
        for (fds, errors) in [([0, 1], 0), ([1, 0], 2), ([0, 0], 1)] {
            let mut progress = fed(&plan, &answers, 50).unwrap();
            progress.check_descriptors(&plan, fds.map(open).into_iter()).unwrap();
            assert_eq!(progress.counts.errors, errors, "{fds:?}");
        }
        let mut progress = fed(&plan, &answers, 50).unwrap();
        assert!(progress.check_descriptors(&plan, [open(0)].into_iter()).is_err());
    }
}
