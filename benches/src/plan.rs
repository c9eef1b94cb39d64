//! Everything that will be sent, encoded before the clock starts.
//!
//! ```text
//!  plan  = burst burst burst ...          a connection sends them in turn, for ever
//!  burst = request * pipeline             sent at once; the next when all are answered
//!  request = object * batch               GET, or GET_MANY; for the floor so many requests
//! ```
//!
//! Objects are asked for round robin. A latency is that of a request: from the send of its burst
//! to the last byte of its answer.

use anyhow::{Result, ensure};
use objmapper_proto::limits;
use objmapper_proto::{Get, GetMany, Mode, Range, Request};

use crate::tree::{Object, Tree};
use crate::wire::{FloorRequest, Job, Span};

/// Whom a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// A daemon.
    Objm,
    /// The floor; `held` allows it to keep files open.
    Floor {
        /// See [`FloorRequest::held`].
        held: bool,
    },
}

/// What the requests ask for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mix {
    /// All the same.
    Only(Job),
    /// This share by descriptor, the rest by copy.
    Fdpass(f64),
}

/// The form of the load on one connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Form {
    pub(crate) mix: Mix,
    pub(crate) pipeline: u32,
    pub(crate) batch: u32,
    /// Whether descriptors may be shared.
    pub(crate) shared: bool,
}

/// One request of a burst.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit {
    /// As the reply will echo it.
    pub(crate) id: u64,
    pub(crate) job: Job,
    /// Its first object, counted from the head of the plan.
    pub(crate) first: usize,
    /// Its objects.
    pub(crate) count: usize,
}

/// Requests that are sent together.
#[derive(Debug, Clone)]
pub(crate) struct Burst {
    bytes: Span,
    units: Span,
}

/// What a connection sends.
#[derive(Debug)]
pub(crate) struct Plan<'t> {
    pub(crate) dialect: Dialect,
    pub(crate) form: Form,
    pub(crate) tree: &'t Tree,
    bursts: Vec<Burst>,
    units: Vec<Unit>,
    bytes: Vec<u8>,
}

/// Bytes of all bursts together, more or less: beyond that, objects repeat earlier.
const BYTES: usize = 32 << 20;

/// Bytes of one burst: it must fit into a socket's send buffer as a whole.
const BURST: usize = 128 << 10;

/// Fewest bursts, so that a mix of modes comes out as asked.
const BURSTS_MIN: usize = 128;

impl<'t> Plan<'t> {
    /// Encodes enough bursts to ask for every object of the tree, within reason.
    pub(crate) fn new(dialect: Dialect, form: Form, tree: &'t Tree) -> Result<Self> {
        ensure!(!tree.objects.is_empty(), "there is no object to ask for");
        let mut plan =
            Self { dialect, form, tree, bursts: Vec::new(), units: Vec::new(), bytes: Vec::new() };
        let per_burst = form.pipeline as usize * form.batch as usize;
        let bursts = tree.objects.len().div_ceil(per_burst).max(BURSTS_MIN);
        while plan.bursts.len() < bursts && (plan.bytes.len() < BYTES || plan.bursts.is_empty()) {
            plan.push_burst()?;
        }
        Ok(plan)
    }

    pub(crate) fn len(&self) -> usize {
        self.bursts.len()
    }

    /// The burst with this number, counted round and round.
    pub(crate) fn burst(&self, number: usize) -> (&[u8], &[Unit]) {
        let burst = self.bursts.get(number % self.bursts.len());
        let (bytes, units) = burst.map_or((0..0, 0..0), |b| (b.bytes.clone(), b.units.clone()));
        (self.bytes.get(bytes).unwrap_or_default(), self.units.get(units).unwrap_or_default())
    }

    /// The object with this number, counted as in [`Unit::first`].
    pub(crate) fn object(&self, number: usize) -> &'t Object {
        let objects = &self.tree.objects;
        // `new` made sure that there is one.
        #[allow(clippy::indexing_slicing)]
        &objects[number % objects.len()]
    }

    fn push_burst(&mut self) -> Result<()> {
        let (from, first) = (self.bytes.len(), self.units.len());
        for _ in 0..self.form.pipeline {
            self.push_unit()?;
        }
        let bytes = from..self.bytes.len();
        let max = BURST / 1024;
        ensure!(
            bytes.len() <= BURST,
            "one burst takes {} bytes, more than {max} KiB: lower --pipeline or --batch",
            bytes.len()
        );
        self.bursts.push(Burst { bytes, units: first..self.units.len() });
        Ok(())
    }

    fn push_unit(&mut self) -> Result<()> {
        let number = self.units.len();
        let count = self.form.batch as usize;
        let job = match self.form.mix {
            Mix::Only(job) => job,
            Mix::Fdpass(share) if is_due(number, share) => Job::Fdpass,
            Mix::Fdpass(_) => Job::Copy,
        };
        let unit = Unit { id: number as u64 + 1, job, first: number * count, count };
        match self.dialect {
            Dialect::Objm => self.push_objm(unit)?,
            Dialect::Floor { held } => {
                let held = held && job != Job::Fdpass; // a descriptor is always a new one
                for i in 0..count {
                    let name = &self.object(unit.first + i).name;
                    FloorRequest { job, held, name }.encode(&mut self.bytes);
                }
            }
        }
        self.units.push(unit);
        Ok(())
    }

    fn push_objm(&mut self, unit: Unit) -> Result<()> {
        let mode = match unit.job {
            Job::Fdpass => Mode::Fdpass,
            Job::Copy => Mode::Copy,
            Job::Splice => Mode::Splice,
        };
        if unit.count == 1 {
            let uri = &self.object(unit.first).uri;
            let get = Get { shared: self.form.shared, ..Get::new(mode, Range::ALL, uri) };
            Request::Get(get).encode(unit.id, &mut self.bytes);
            return Ok(());
        }
        let mut uris = Vec::new();
        for i in 0..unit.count {
            GetMany::push_uri(&mut uris, &self.object(unit.first + i).uri);
        }
        ensure!(uris.len() <= limits::REQUEST_PAYLOAD - 8, "the URIs of a batch are too long");
        let many = GetMany::new(mode, &uris)?.sharing(self.form.shared);
        Request::GetMany(many).encode(unit.id, &mut self.bytes);
        Ok(())
    }
}

/// Whether the n-th of a row is among the share, spread evenly.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // n is small, share 0 to 1
fn is_due(n: usize, share: f64) -> bool {
    let up_to = |n: usize| (n as f64 * share).floor() as u64;
    up_to(n + 1) > up_to(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use objmapper_proto::frame::{self, Split};

    fn tree(files: usize) -> Tree {
        let object = |i| Object {
            uri: format!("/o{i}").into_bytes(),
            name: format!("o{i}").into_bytes(),
            size: 1,
            ino: None,
        };
        Tree::remote((0..files).map(object).collect())
    }

    #[test]
    fn a_share_is_spread_evenly() {
        let due = |share| (0..100).filter(|&n| is_due(n, share)).count();
        assert_eq!([due(0.0), due(0.25), due(0.5), due(1.0)], [0, 25, 50, 100]);
    }

    #[test]
    fn a_burst_holds_its_requests_and_the_plan_all_objects() {
        let tree = tree(1000);
        let form = Form { mix: Mix::Only(Job::Fdpass), pipeline: 3, batch: 2, shared: false };
        let plan = Plan::new(Dialect::Objm, form, &tree).unwrap();
        assert_eq!(plan.len(), 167);
        let (mut bytes, units) = plan.burst(plan.len() + 1);
        assert_eq!(units.iter().map(|u| u.first).collect::<Vec<_>>(), [6, 8, 10]);
        for unit in units {
            let Ok(Split::Whole(frame, used)) = frame::split(bytes, 1 << 20) else { panic!() };
            let Ok(Request::GetMany(many)) = Request::decode(frame) else { panic!() };
            assert_eq!(frame.header.id, unit.id);
            assert_eq!(many.uris().next(), Some(plan.object(unit.first).uri.as_slice()));
            assert_eq!(many.count(), 2);
            bytes = &bytes[used..];
        }
        assert!(bytes.is_empty());
    }

    #[test]
    fn a_burst_that_cannot_be_sent_at_once_is_refused() {
        let tree = tree(10);
        let form = Form { mix: Mix::Only(Job::Copy), pipeline: 1024, batch: 4096, shared: false };
        assert!(Plan::new(Dialect::Objm, form, &tree).is_err());
    }
}
