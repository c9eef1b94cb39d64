//! Answers of the floor: what was asked for is opened, and its answer sent.

use anyhow::Result;
use hashbrown::HashMap;
use objmapper_os::root::{Links, Resolve, Root};
use objmapper_os::socket::Stream;
use objmapper_os::{Error, file};
use std::os::fd::{AsFd, OwnedFd};

use super::out::Out;
use crate::wire::{FloorRequest, Job};

/// A file and its size.
pub(super) type Opened = (OwnedFd, u64);

pub(super) struct Answers {
    root: Root,
    /// Files that are kept open because the request allows it.
    held: HashMap<Vec<u8>, Opened, foldhash::fast::FixedState>,
    out: Out,
}

impl Answers {
    pub(super) fn new(root: Root) -> Self {
        Self { root, held: HashMap::default(), out: Out::new() }
    }

    /// Does what a request asks; sends only what cannot wait for [`Answers::flush`].
    pub(super) fn add(&mut self, stream: &Stream, request: FloorRequest<'_>) -> Result<()> {
        let Self { root, held, out } = self;
        let name = request.name;
        if request.held && !held.contains_key(name) {
            match open(root, name) {
                Ok(opened) => held.insert(name.to_vec(), opened),
                Err(error) => return out.refuse(stream, &error),
            };
        }
        if let Some(opened) = held.get(name).filter(|_| request.held) {
            return out.body(stream, opened, request.job);
        }
        match open(root, name) {
            Ok((fd, size)) if request.job == Job::Fdpass => out.descriptor(stream, fd, size),
            Ok(opened) => out.body(stream, &opened, request.job),
            Err(error) => out.refuse(stream, &error),
        }
    }

    /// One send for all replies since the last; then the descriptors are closed.
    pub(super) fn flush(&mut self, stream: &Stream) -> Result<()> {
        self.out.flush(stream)
    }

    /// Forgets answers that cannot be sent.
    pub(super) fn discard(&mut self) {
        self.out.discard();
    }
}

fn open(root: &Root, name: &[u8]) -> Result<Opened, Error> {
    let fd = root.open_file(name, Links::Refuse, Resolve::MayBlock)?;
    let size = file::identity(fd.as_fd())?.size;
    Ok((fd, size))
}
