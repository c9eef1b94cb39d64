//! INFO: what there is to say about the daemon, by the names that Redis has for it. What is not
//! known is not said.

use std::fmt::{Display, Write};
use std::fs;
use std::time::SystemTime;

use objmapper::kv::DATABASES;
use objmapper_proto::resp::Args;

use super::call::{Answer, Call};
use super::facts::{Inside, REDIS_VERSION};
use super::{KeyService, durability};

/// A section: its name, and what writes it.
type Section = (&'static str, Writer);

/// Writes a section.
#[derive(Clone, Copy)]
enum Writer {
    /// Of what is known without any lock.
    Outside(fn(&KeyService, &mut Page)),
    /// Of sums over the keyspace, too.
    Inside(fn(&KeyService, &Inside, &mut Page)),
}

/// All of them: there is none that has to be asked for.
static SECTIONS: [Section; 8] = [
    ("Server", Writer::Outside(server)),
    ("Clients", Writer::Outside(clients)),
    ("Memory", Writer::Inside(memory)),
    ("Persistence", Writer::Outside(persistence)),
    ("Stats", Writer::Inside(stats)),
    (
        "Replication",
        Writer::Outside(|_, page| {
            page.line("role", "master");
            page.line("connected_slaves", 0);
        }),
    ),
    ("Cluster", Writer::Outside(|_, page| page.line("cluster_enabled", 0))),
    ("Keyspace", Writer::Inside(keyspace)),
];

/// Those that are asked for.
fn asked(args: Args<'_>) -> impl Iterator<Item = &'static Section> {
    const ALL: [&[u8]; 3] = [b"all", b"everything", b"default"];
    let words = args.from(1);
    let all = words.iter().next().is_none()
        || words.iter().any(|word| ALL.iter().any(|all| word.eq_ignore_ascii_case(all)));
    SECTIONS.iter().filter(move |(name, _)| {
        all || words.iter().any(|word| word.eq_ignore_ascii_case(name.as_bytes()))
    })
}

/// Whether INFO with these arguments takes the locks of the keyspace.
pub(super) fn looks_inside(args: Args<'_>) -> bool {
    asked(args).any(|(_, writer)| matches!(writer, Writer::Inside(_)))
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, name: &str, value: impl Display) {
        // Into a String: cannot fail.
        let _ = write!(self.0, "{name}:{value}\r\n");
    }

    fn bytes(&mut self, name: &str, bytes: u64) {
        self.line(name, bytes);
        self.line(&format!("{name}_human"), human(bytes));
    }
}

pub(super) fn info(call: &mut Call<'_, '_>) -> Answer {
    let inside = looks_inside(call.args).then(|| call.inside());
    let mut page = Page::default();
    for (name, writer) in asked(call.args) {
        if !page.0.is_empty() {
            page.0.push_str("\r\n");
        }
        // Into a String: cannot fail.
        let _ = write!(page.0, "# {name}\r\n");
        match (writer, &inside) {
            (Writer::Outside(write), _) => write(call.key_service, &mut page),
            (Writer::Inside(write), Some(inside)) => write(call.key_service, inside, &mut page),
            (Writer::Inside(_), None) => {}
        }
    }
    call.out.verbatim(&page.0);
    Ok(())
}

impl Call<'_, '_> {
    /// Sums over the keyspace: by the locks that are held, within a transaction.
    pub(super) fn inside(&self) -> Inside {
        let all = &self.key_service.keyspace;
        let size = |db| if self.in_exec { self.hold.size(db) } else { all.size(db) };
        let databases = (0..DATABASES).map(|db| (db, size(db)));
        Inside {
            totals: if self.in_exec { self.hold.totals() } else { all.totals() },
            databases: databases
                .filter(|(_, (keys, _))| *keys > 0)
                .map(|(db, (keys, volatile))| (db, keys, volatile))
                .collect(),
        }
    }
}

fn server(key_service: &KeyService, page: &mut Page) {
    let facts = &key_service.facts;
    let up = facts.started.elapsed().as_secs();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    page.line("redis_version", REDIS_VERSION);
    page.line("objmapper_version", env!("CARGO_PKG_VERSION"));
    page.line("redis_mode", "standalone");
    page.line("os", format_args!("Linux {} {}", kernel.trim(), std::env::consts::ARCH));
    page.line("arch_bits", usize::BITS);
    page.line("process_id", std::process::id());
    page.line("run_id", &facts.run_id);
    page.line("tcp_port", facts.settings.kv.listen.map_or(0, |address| address.port()));
    page.line("server_time_usec", now.as_micros());
    page.line("uptime_in_seconds", up);
    page.line("uptime_in_days", up / 86_400);
}

fn clients(key_service: &KeyService, page: &mut Page) {
    page.line("connected_clients", key_service.clients.count());
    page.line("maxclients", key_service.facts.settings.limits.connections);
    page.line("blocked_clients", 0);
}

fn memory(key_service: &KeyService, inside: &Inside, page: &mut Page) {
    let memory = key_service.keyspace.memory();
    page.bytes("used_memory", memory.used());
    if let Some(resident) = resident() {
        page.bytes("used_memory_rss", resident);
    }
    page.bytes("used_memory_peak", memory.peak());
    page.bytes("maxmemory", memory.limit());
    page.line("maxmemory_policy", memory.policy().name());
    page.line("maxmemory_pressure", format!("{:?}", memory.pressure()).to_lowercase());
    page.line("sealed_values", inside.totals.sealed);
}

fn persistence(key_service: &KeyService, page: &mut Page) {
    for (name, value) in durability::figures(key_service) {
        page.line(name, value);
    }
}

fn stats(key_service: &KeyService, inside: &Inside, page: &mut Page) {
    let counted = key_service.facts.counted();
    page.line("total_connections_received", counted.connections);
    page.line("total_commands_processed", counted.commands);
    page.line("rejected_connections", counted.turned_away);
    page.line("expired_keys", inside.totals.expired);
    page.line("evicted_keys", inside.totals.evicted);
    page.line("keyspace_hits", inside.totals.hits);
    page.line("keyspace_misses", inside.totals.misses);
    page.line("total_error_replies", counted.errors);
}

fn keyspace(_: &KeyService, inside: &Inside, page: &mut Page) {
    for (db, keys, volatile) in &inside.databases {
        page.line(&format!("db{db}"), format_args!("keys={keys},expires={volatile}"));
    }
}

/// Bytes of memory that the daemon has, shared ones included. proc(5)
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// `1536` as `1.50K`.
fn human(bytes: u64) -> String {
    let units = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];
    match units.iter().find(|(_, shift)| bytes >= 1 << shift) {
        None => format!("{bytes}B"),
        Some((unit, shift)) => {
            let hundredths = (u128::from(bytes) * 100) >> shift;
            format!("{}.{:02}{unit}", hundredths / 100, hundredths % 100)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        let shown = [0, 1023, 1024, 1536, 1 << 20, 3 << 29, 5 << 40].map(human);
        assert_eq!(shown, ["0B", "1023B", "1.00K", "1.50K", "1.00M", "1.50G", "5.00T"]);
    }
}
