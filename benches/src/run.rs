//! One measurement from the command line: tree, servers, plans, turns, report.

use anyhow::{Context, Result, bail, ensure};
use std::path::Path;

use crate::cli::{FloorOpen, LoadArgs, RunArgs, RunMode, TargetArgs};
use crate::lines::Lines;
use crate::load::Load;
use crate::neighbour::Neighbour;
use crate::placement::Placement;
use crate::plan::{Dialect, Form, Mix, Plan};
use crate::report::{self, Needs, Report, Settings};
use crate::servers::{Server, find_daemon};
use crate::stop::Stop;
use crate::tree::{Shape, Tree};
use crate::turns::{self, Rules, Side};
use crate::wire::Job;

/// Size of an object that does not fit into a socket.
const LARGE: u64 = 1 << 30;

/// Measures and prints; whether there was no error and no missed goal.
pub(crate) fn run(args: &RunArgs) -> Result<bool> {
    report::check_names(&args.assert, &given(args))?;
    let mut lines = args.report.as_deref().map(Lines::open).transpose()?;
    let stop = Stop::install(args.time_limit)?;
    objmapper_os::limits::raise_nofile()?;
    let place = Placement::of(args.target.pin)?;
    place.become_client()?;
    let (ours, tree) = target(args, place)?;
    let with_floor = args.against.floor || args.against.floor_only;
    let floor = if with_floor { Some(floor(&tree, place)?) } else { None };
    let form = form(args)?;
    let plan = Plan::new(Dialect::Objm, form, &tree)?;
    let held = args.against.floor_open == FloorOpen::Held;
    let floor_plan = Plan::new(Dialect::Floor { held }, form, &tree)?;
    let (load, beside) = (load(&args.load, args.rounds), args.load.beside);
    descriptors_suffice(load.conns + beside.map_or(0, Neighbour::connections))?;
    let ours =
        ours.iter().map(|server| Side { name: "objmapperd", server, plan: &plan, load, beside });
    let beside = beside.filter(|neighbour| neighbour.suits_floor());
    let floor =
        floor.iter().map(|server| Side { name: "floor", server, plan: &floor_plan, load, beside });
    let sides: Vec<_> = ours.chain(floor).collect();
    let rules = Rules { rounds: args.rounds, place, stop: &stop };
    let asked = sides.first().map(|side| side.server).filter(|_| args.stats);
    let before = asked.map(Server::stats).transpose()?;
    let outcome = turns::take(&sides, rules)?;
    let after = asked.map(Server::stats).transpose()?;
    let names = sides.iter().map(|side| side.name).collect();
    let mut report = Report::new(&outcome, names, settings(args, form, &tree));
    report.stats = before.zip(after).map(|(before, after)| after.since(&before));
    if let Some(lines) = &mut lines {
        for (rounds, side) in outcome.sides.iter().zip(&sides) {
            lines.add("run", &report.line(side.name, rounds))?;
        }
    }
    if let Some(path) = &args.svg {
        let text = report.picture(&outcome)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if args.json {
        report::print_json(&report)?;
    } else {
        report::print(&report.table())?;
    }
    let met = report.check(&args.assert)?;
    Ok(met && report.ours.errors == 0 && report.floor.is_none_or(|floor| floor.errors == 0))
}

/// What the figures of this run can be made of.
fn given(args: &RunArgs) -> Vec<Needs> {
    let mut given = vec![Needs::Nothing];
    given.extend(args.against.floor.then_some(Needs::Both));
    given.extend(args.load.rate.map(|_| Needs::Rate));
    given.extend((args.against.floor || args.against.floor_only).then_some(Needs::Floor));
    given
}

/// The daemon, started or found (or none, if only the floor is measured), and the files to ask it for.
fn target(args: &RunArgs, place: Placement) -> Result<(Option<Server>, Tree)> {
    let files = args.files.files as usize;
    let TargetArgs { socket, root, daemon, .. } = &args.target;
    if let Some(socket) = socket {
        let server = Server::running(socket, args.target.pid)?;
        let tree = match root {
            Some(root) => Tree::existing(root, files)?,
            None => Tree::remote(server.list(files)?),
        };
        return Ok((Some(server), tree));
    }
    let tree = match root {
        Some(root) => Tree::existing(root, files)?,
        None => Tree::temporary(Shape {
            files: args.files.files,
            size: args.files.file_size.as_u64(),
            depth: args.files.depth,
            sparse: args.files.sparse,
        })?,
    };
    let large = root.is_none() && args.load.beside.is_some_and(Neighbour::needs_large);
    let tree = if large { tree.with_spare(LARGE)? } else { tree };
    if args.against.floor_only {
        return Ok((None, tree));
    }
    let program = find_daemon(daemon.as_deref())?;
    let arguments = daemon_arguments(&args.target.daemon_arg, args.target.workers);
    let root = tree.root().context("the tree has no root")?;
    let server = Server::daemon(&program, root, args.load.shared, &arguments, place)?;
    Ok((Some(server), tree))
}

/// An error if this process, and a server that it starts, cannot have so many connections. Beside
/// them it needs descriptors that have come and a few of its own.
pub(crate) fn descriptors_suffice(connections: usize) -> Result<()> {
    let (soft, _) = objmapper_os::limits::nofile()?;
    let needed = connections as u64 + 512;
    ensure!(
        needed <= soft,
        "{connections} connections take {needed} descriptors, and RLIMIT_NOFILE is {soft}: raise it \
         (ulimit -Hn {needed}, LimitNOFILE=)"
    );
    Ok(())
}

/// What a daemon is told beyond its tree and socket. The machine's own configuration file is not
/// read unless asked for: figures would depend on it.
pub(crate) fn daemon_arguments(more: &[String], workers: Option<u32>) -> Vec<String> {
    let mut arguments = more.to_vec();
    if !more.iter().any(|argument| argument.starts_with("--config")) {
        arguments.extend(["--config".to_owned(), "/dev/null".to_owned()]);
    }
    if let Some(workers) = workers {
        arguments.extend(["--pool-size".to_owned(), workers.to_string()]);
    }
    arguments
}

fn floor(tree: &Tree, place: Placement) -> Result<Server> {
    let root: Option<&Path> = tree.root();
    let root = root.context("--floor needs to see the files: name their directory by --root")?;
    Server::floor(root, place)
}

fn form(args: &RunArgs) -> Result<Form> {
    let mix = match args.mode {
        RunMode::Fdpass => Mix::Only(Job::Fdpass),
        RunMode::Copy => Mix::Only(Job::Copy),
        RunMode::Splice => Mix::Only(Job::Splice),
        RunMode::Mixed => Mix::Fdpass(args.load.fdpass_ratio),
        RunMode::Kv | RunMode::Index => bail!("these are measured elsewhere"),
    };
    let LoadArgs { pipeline, batch, shared, .. } = args.load;
    Ok(Form { mix, pipeline, batch, shared })
}

fn load(args: &LoadArgs, rounds: u32) -> Load {
    Load {
        conns: args.conns as usize,
        threads: args.threads as usize,
        active: args.active.map_or(usize::MAX, |n| n as usize).min(args.conns as usize),
        rate: args.rate,
        warmup: args.warmup,
        time: args.duration / rounds,
        requests: args.requests.map(|all| all.div_ceil(rounds.into())),
        per_conn: args.requests_per_conn,
    }
}

fn settings(args: &RunArgs, form: Form, tree: &Tree) -> Settings {
    let (mode, fdpass_ratio) = match form.mix {
        Mix::Only(job) => (Some(job), None),
        Mix::Fdpass(share) => (None, Some(share)),
    };
    let own_tree = args.target.root.is_none() && args.target.socket.is_none();
    Settings {
        mode,
        conns: args.load.conns,
        threads: args.load.threads.min(args.load.conns),
        pipeline: form.pipeline,
        batch: form.batch,
        shared: form.shared,
        files: tree.objects.len(),
        file_size: own_tree.then(|| args.files.file_size.as_u64()),
        fdpass_ratio,
        requests_per_conn: args.load.requests_per_conn,
        active: args.load.active,
        rate: args.load.rate,
        beside: args.load.beside.map(|neighbour| neighbour.to_string()),
        rounds: args.rounds,
        pin: args.target.pin,
        workers: args.target.workers,
        floor_open: (args.against.floor || args.against.floor_only)
            .then_some(args.against.floor_open),
    }
}
