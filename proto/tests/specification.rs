//! PROTOCOL.md says what the code does, where a program can compare them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helpers of tests are tests

mod common;

use objmapper_proto::{Op, Status, limits, socket};

fn specification() -> String {
    common::text("PROTOCOL.md")
}

/// The cells of all table rows whose first cell passes `wanted`.
fn rows(text: &str, wanted: impl Fn(&str) -> bool) -> Vec<Vec<&str>> {
    text.lines()
        .filter(|line| line.starts_with("| "))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>())
        .filter(|cells| wanted(cells[0]))
        .collect()
}

#[test]
fn every_status_stands_in_the_table() {
    let text = specification();
    let said: Vec<String> = rows(&text, |first| first.len() == 6 && first.starts_with("0x"))
        .iter()
        .map(|row| row[..4].join(" "))
        .collect();
    let meant: Vec<String> = Status::ALL
        .iter()
        .map(|s| {
            let retry = if s.may_retry() { "yes" } else { "no" };
            format!("0x{:04x} {s} {} {retry}", s.to_u16(), s.errno_name())
        })
        .collect();
    assert_eq!(said, meant);
}

#[test]
fn every_op_stands_in_a_table() {
    let text = specification();
    let said: Vec<String> = rows(&text, |first| first.len() == 4 && first.starts_with("0x"))
        .iter()
        .map(|row| row[..2].join(" "))
        .collect();
    let meant: Vec<String> = (0..=u8::MAX)
        .filter_map(|n| Op::from_u8(n).map(|op| format!("0x{n:02x} {}", name(op))))
        .collect();
    assert_eq!(said, meant);
}

/// As the specification writes it. (A new op stops the compiler here.)
fn name(op: Op) -> &'static str {
    match op {
        Op::Hello => "HELLO",
        Op::Get => "GET",
        Op::GetMany => "GET_MANY",
        Op::Stat => "STAT",
        Op::List => "LIST",
        Op::Ping => "PING",
        Op::Stats => "STATS",
        Op::Close => "CLOSE",
        Op::Flush => "FLUSH",
        Op::KvGet => "KV_GET",
        Op::KvSet => "KV_SET",
        Op::KvDel => "KV_DEL",
        Op::KvMget => "KV_MGET",
        Op::KvBatch => "KV_BATCH",
        Op::KvIncr => "KV_INCR",
        Op::KvExpire => "KV_EXPIRE",
        Op::KvScan => "KV_SCAN",
        Op::KvBackup => "KV_BACKUP",
        Op::KvCompact => "KV_COMPACT",
        Op::KvStatus => "KV_STATUS",
        Op::HelloAck => "HELLO_ACK",
        Op::Object => "OBJECT",
        Op::Objects => "OBJECTS",
        Op::Data => "DATA",
        Op::End => "END",
        Op::Entries => "ENTRIES",
        Op::Pong => "PONG",
        Op::StatsText => "STATS_TEXT",
        Op::CloseAck => "CLOSE_ACK",
        Op::Flushed => "FLUSHED",
        Op::Error => "ERROR",
        Op::KvDone => "KV_DONE",
        Op::KvEntries => "KV_ENTRIES",
        Op::KvCompacted => "KV_COMPACTED",
    }
}

#[test]
fn the_limits_are_those_of_the_code() {
    let text = specification();
    let section = text.split("\n## ").find(|s| s.starts_with("16. Limits")).unwrap();
    let said: Vec<(&str, &str)> =
        rows(section, |_| true).iter().skip(1).map(|row| (row[0], row[1])).collect();
    let meant = [
        ("frame header", limits::HEADER),
        ("payload of a request", limits::REQUEST_PAYLOAD),
        ("payload of a reply", limits::REPLY_PAYLOAD),
        ("smallest `max_payload` of a client", limits::REPLY_PAYLOAD_MIN),
        ("payload of DATA", limits::DATA_PAYLOAD),
        ("inline body of an item", limits::INLINE),
        ("URI", limits::URI),
        ("URIs in GET_MANY, keys in KV_DEL, KV_MGET and KV_BATCH", limits::MANY),
        ("key", limits::KEY),
        ("entries in ENTRIES and in a page of KV_SCAN", limits::LIST),
        ("cursor of LIST", limits::CURSOR),
        ("text of a status", limits::TEXT),
        ("payload of PING", limits::PING),
        ("descriptors in one message", limits::DESCRIPTORS),
        ("unanswered requests before the daemon stops reading", limits::PIPELINE as usize),
    ];
    let meant: Vec<(&str, String)> = meant.iter().map(|(what, n)| (*what, n.to_string())).collect();
    assert_eq!(said.len(), meant.len());
    for (said, meant) in said.iter().zip(&meant) {
        assert_eq!(*said, (meant.0, meant.1.as_str()));
    }
}

#[test]
fn the_example_is_the_golden_files() {
    let text = specification();
    let mut shown = 0;
    for block in text.split("```hex ").skip(1) {
        let (name, rest) = block.split_once('\n').unwrap();
        let (hex, _) = rest.split_once("```").unwrap();
        let file = common::text(name);
        assert!(file.contains(hex), "{name} is shown otherwise than it is");
        shown += 1;
    }
    assert_eq!(shown, 4);
}

#[test]
fn links_lead_somewhere() {
    let text = specification();
    let anchors: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|title| {
            let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '_' | '-');
            let title: String = title.to_lowercase().chars().filter(kept).collect();
            format!("#{}", title.replace(' ', "-"))
        })
        .collect();
    for link in text.split("](").skip(1) {
        let target = link.split(')').next().unwrap();
        let found = anchors.iter().any(|a| a == target) || common::path(target).exists();
        assert!(found, "{target}");
    }
}

#[test]
fn both_sides_meet_where_the_specification_says() {
    let text = specification();
    let own = format!("`$XDG_RUNTIME_DIR/{}`", socket::IN_RUNTIME_DIR);
    for name in [format!("`{}`", socket::VARIABLE), format!("`{}`", socket::SYSTEM), own] {
        assert!(text.contains(&name), "{name}");
    }
}
