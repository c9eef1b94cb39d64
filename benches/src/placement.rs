//! Where client and server run.
//!
//! Both on one CPU shows work and hides wake-ups: on two, a virtual machine takes tens of
//! microseconds to wake the other core, whatever is done. On one CPU both run under SCHED_BATCH,
//! so that neither takes the CPU from the other the moment it is woken: each request would hold one
//! or two needless switches, more or fewer by accident.
//!
//! Children take over place and policy of the thread that starts them.

use anyhow::{Context, Result, ensure};
use objmapper_os::sched;
use std::process::{Child, Command};

use crate::cli::Pin;

/// Where to put what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placement {
    /// `None` leaves it to the kernel.
    pin: Option<Pin>,
    /// A CPU that neither client nor server is put on, if there is one.
    spare: Option<usize>,
}

impl Placement {
    /// As asked for; an error if the calling thread may not use one of the CPUs. Before any thread
    /// is moved: then it may use no other.
    pub(crate) fn of(pin: Option<Pin>) -> Result<Self> {
        let allowed = sched::allowed_cpus()?;
        for cpu in pin.iter().flat_map(|pin| [pin.client, pin.server]) {
            ensure!(
                allowed.contains(&cpu),
                "CPU {cpu} cannot be used: choose from {}",
                allowed.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
            );
        }
        let taken = |cpu: &usize| pin.is_some_and(|pin| [pin.client, pin.server].contains(cpu));
        let spare = allowed.into_iter().rev().find(|cpu| pin.is_some() && !taken(cpu));
        Ok(Self { pin, spare })
    }

    /// Wherever the kernel puts them.
    pub(crate) fn anywhere() -> Self {
        Self { pin: None, spare: None }
    }

    /// Both on this CPU.
    pub(crate) fn together(cpu: usize) -> Result<Self> {
        Self::of(Some(Pin { client: cpu, server: cpu }))
    }

    /// The server on this CPU, the client on another; `None` if there is no other.
    pub(crate) fn apart(server: usize) -> Result<Option<Self>> {
        let client = sched::allowed_cpus()?.into_iter().find(|cpu| *cpu != server);
        client.map(|client| Self::of(Some(Pin { client, server }))).transpose()
    }

    /// Moves the calling thread, and what it starts from now on, to the client's place.
    pub(crate) fn become_client(self) -> Result<()> {
        self.pin.map_or(Ok(()), |pin| put(pin.client, pin))
    }

    /// Moves the calling thread out of the way of what is measured, if there is another CPU.
    pub(crate) fn become_neighbour(self) -> Result<()> {
        Ok(self.spare.map_or(Ok(()), sched::pin_to_cpu)?)
    }

    /// Starts a process in the server's place.
    pub(crate) fn spawn_server(self, command: &mut Command) -> Result<Child> {
        let name = command.get_program().to_string_lossy().into_owned();
        // A thread for it, since its place cannot be taken back.
        std::thread::scope(|scope| {
            let starter = scope.spawn(|| {
                if let Some(pin) = self.pin {
                    put(pin.server, pin)?;
                }
                command.spawn().with_context(|| format!("cannot start {name}"))
            });
            starter.join().unwrap_or_else(|_| Err(anyhow::anyhow!("cannot start {name}")))
        })
    }

    /// The one CPU that both share, if they do.
    pub(crate) fn shared_cpu(self) -> Option<usize> {
        self.pin.filter(|pin| pin.client == pin.server).map(|pin| pin.client)
    }
}

fn put(cpu: usize, pin: Pin) -> Result<()> {
    sched::pin_to_cpu(cpu)?;
    if pin.client == pin.server {
        sched::batch()?;
    }
    Ok(())
}

/// The last CPU that this process may use: the first often serves interrupts.
pub(crate) fn last_cpu() -> Result<usize> {
    sched::allowed_cpus()?.last().copied().context("no CPU may be used")
}
