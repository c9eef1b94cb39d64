//! COMMAND: what commands there are, from the table and what is written about them.

mod texts;

use objmapper::kv::glob;
use objmapper_proto::resp::Encoder;

use super::call::{Answer, Call, Oops};
use super::table::{self, COMMANDS, Command, Flags, SUBCOMMANDS};
use crate::service::effort::STEPS;
use texts::{Text, text};

/// A container without its second word; its row says that there must be one.
pub(super) fn bare(call: &mut Call<'_, '_>) -> Answer {
    Err(table::unknown(call.args))
}

pub(super) fn all(call: &mut Call<'_, '_>) -> Answer {
    call.out.array(COMMANDS.len());
    for command in COMMANDS {
        describe(command, &mut call.out);
    }
    Ok(())
}

pub(super) fn count(call: &mut Call<'_, '_>) -> Answer {
    call.out.integer(i64::try_from(COMMANDS.len()).unwrap_or(i64::MAX));
    Ok(())
}

/// The row of a full name: `get`, `config|get`.
fn named(name: &[u8]) -> Option<&'static Command> {
    let sub = || SUBCOMMANDS.iter().find(|row| row.name.as_bytes().eq_ignore_ascii_case(name));
    table::find(name).or_else(sub)
}

pub(super) fn info(call: &mut Call<'_, '_>) -> Answer {
    if call.args.len() == 2 {
        return all(call);
    }
    let names = call.args.from(2);
    call.out.array(names.len());
    for name in names.iter() {
        call.fits(0)?;
        match named(name) {
            Some(command) => describe(command, &mut call.out),
            None => call.out.null_array(),
        }
    }
    Ok(())
}

/// Name, arguments, flags, where the keys are, groups, and two lists of what is not said; the
/// second words.
fn describe(command: &Command, out: &mut Encoder<'_>) {
    out.array(10);
    out.text(command.name);
    out.integer(command.arity.into());
    words(&flags(command), out);
    let (first, last, step) = command.place;
    for place in [first, last, step] {
        out.integer(place.into());
    }
    words(&groups(command), out);
    out.array(0);
    out.array(0);
    let subs: Vec<_> = command.subcommands().collect();
    out.array(subs.len());
    for sub in subs {
        describe(sub, out);
    }
}

fn words(words: &[&str], out: &mut Encoder<'_>) {
    out.set(words.len());
    for word in words {
        out.simple(word);
    }
}

fn flags(command: &Command) -> Vec<&'static str> {
    let names = [
        (Flags::READS, "readonly"),
        (Flags::WRITES, "write"),
        (Flags::GROWS, "denyoom"),
        (Flags::ADMIN, "admin"),
        (Flags::FAST, "fast"),
        (Flags::NO_AUTH, "no_auth"),
        (Flags::NO_MULTI, "no_multi"),
    ];
    names.iter().filter(|(flag, _)| command.flags.has(*flag)).map(|(_, name)| *name).collect()
}

fn groups(command: &Command) -> Vec<&'static str> {
    let flags = command.flags;
    let mut groups = Vec::new();
    groups.extend(flags.has(Flags::READS).then_some("@read"));
    groups.extend(flags.has(Flags::WRITES).then_some("@write"));
    groups.extend(match text(command.name).map(|text| text.group) {
        Some("generic") => Some("@keyspace"),
        Some("string") => Some("@string"),
        Some("connection") => Some("@connection"),
        Some("transactions") => Some("@transaction"),
        _ => None,
    });
    if flags.has(Flags::ADMIN) {
        groups.extend(["@admin", "@dangerous"]);
    }
    groups.push(if flags.has(Flags::FAST) { "@fast" } else { "@slow" });
    groups
}

pub(super) fn list(call: &mut Call<'_, '_>) -> Answer {
    let filter = match (call.args.len(), call.args.at(2).to_ascii_lowercase().as_slice()) {
        (2, _) => None,
        (5, b"filterby") => Some((call.args.at(3).to_ascii_lowercase(), call.args.at(4))),
        _ => return Err(Oops::Syntax),
    };
    let names: usize = COMMANDS.iter().chain(SUBCOMMANDS).map(|row| row.name.len()).sum();
    call.may_take(((call.args.span() * names) as u64, STEPS))?;
    let fits = |command: &Command| -> Result<bool, Oops> {
        let Some((kind, value)) = &filter else { return Ok(true) };
        match kind.as_slice() {
            b"pattern" => Ok(glob::matches_in_any_case(value, command.name.as_bytes())),
            b"aclcat" => {
                let is = |group: &&str| group.trim_start_matches('@').as_bytes() == *value;
                Ok(groups(command).iter().any(is))
            }
            b"module" => Ok(false),
            _ => Err(Oops::Syntax),
        }
    };
    let mut names = Vec::new();
    for command in COMMANDS.iter().chain(SUBCOMMANDS) {
        if fits(command)? {
            names.push(command.name);
        }
    }
    call.out.array(names.len());
    for name in names {
        call.out.text(name);
    }
    Ok(())
}

pub(super) fn getkeys(call: &mut Call<'_, '_>) -> Answer {
    let asked = call.args.from(2);
    let command = table::of(asked).ok_or(Oops::Text("ERR Invalid command specified"))?;
    if command.place.0 == 0 {
        return Err(Oops::Text("ERR The command has no key arguments"));
    }
    if !command.takes(asked.len()) {
        return Err(Oops::Text("ERR Invalid number of arguments specified for command"));
    }
    let keys = command.keys(&call.key_service.keyspace, call.talk.db, asked);
    call.out.array(keys.len());
    for key in &keys {
        call.out.bulk(key.name());
    }
    Ok(())
}

pub(super) fn docs(call: &mut Call<'_, '_>) -> Answer {
    let found: Vec<_> = if call.args.len() == 2 {
        COMMANDS.iter().collect()
    } else {
        call.args.from(2).iter().filter_map(named).collect()
    };
    let found: Vec<_> = found.into_iter().filter_map(|row| Some((row, text(row.name)?))).collect();
    call.out.map(found.len());
    for (command, text) in found {
        call.fits(0)?;
        document(command, text, &mut call.out);
    }
    Ok(())
}

fn document(command: &Command, about: &Text, out: &mut Encoder<'_>) {
    let subs: Vec<_> =
        command.subcommands().filter_map(|row| Some((row, text(row.name)?))).collect();
    out.text(command.name);
    out.map(3 + usize::from(!subs.is_empty()));
    for (name, value) in
        [("summary", about.summary), ("since", about.since), ("group", about.group)]
    {
        out.text(name);
        out.text(value);
    }
    if !subs.is_empty() {
        out.text("subcommands");
        out.map(subs.len());
        for (sub, about) in subs {
            document(sub, about, out);
        }
    }
}

/// The second words of a container, a line for each with what it does.
pub(super) fn help(call: &mut Call<'_, '_>) -> Answer {
    let Some(container) = table::find(call.args.at(0)) else { return Ok(()) };
    let name = container.name.to_ascii_uppercase();
    let mut lines =
        vec![format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")];
    for sub in container.subcommands() {
        let (_, word) = sub.name.split_once('|').unwrap_or_default();
        lines.push(word.to_ascii_uppercase());
        lines.extend(text(sub.name).map(|text| format!("    {}.", text.summary)));
    }
    call.out.array(lines.len());
    for line in &lines {
        call.out.simple(line);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_written_about() {
        for command in COMMANDS.iter().chain(SUBCOMMANDS) {
            assert!(text(command.name).is_some(), "no text for {}", command.name);
        }
    }

    #[test]
    fn the_manual_names_every_command() {
        let manual = include_str!("../../../../docs/keyspace.md");
        let has =
            |name: &str| ["`", " "].iter().any(|end| manual.contains(&format!("`{name}{end}")));
        for command in COMMANDS.iter().chain(SUBCOMMANDS) {
            let name = command.name.to_ascii_uppercase();
            let (first, second) = name.split_once('|').unwrap_or_default();
            let named = match second {
                "" => has(&name),
                "HELP" => true,
                _ => has(second) || has(&format!("{first} {second}")),
            };
            assert!(named, "docs/keyspace.md does not name {name}");
        }
    }

    #[test]
    fn second_words_belong_to_a_first_that_asks_for_them() {
        assert!(SUBCOMMANDS.is_sorted_by_key(|command| command.name));
        for sub in SUBCOMMANDS {
            let (first, _) = sub.name.split_once('|').unwrap_or_default();
            let first = table::find(first.as_bytes());
            assert!(first.is_some_and(|row| row.flags.has(Flags::CONTAINER)), "{}", sub.name);
        }
        for first in COMMANDS.iter().filter(|row| row.flags.has(Flags::CONTAINER)) {
            assert!(first.subcommands().count() > 0, "{}", first.name);
        }
    }
}
