//! RESP requests: any split of the stream gives the same requests, any bytes end.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use objmapper_proto::resp::{Args, Caps, Decoder, Malformed, Step, whole};
use proptest::prelude::*;

/// All requests in the stream, given in pieces of these lengths; what was wrong at the end.
fn decode(stream: &[u8], pieces: &[usize], caps: Caps) -> (Vec<Vec<Vec<u8>>>, Option<Malformed>) {
    let (mut decoder, mut requests) = (Decoder::default(), Vec::new());
    let (mut start, mut end) = (0, 0);
    let mut pieces = pieces.iter().cycle();
    loop {
        match decoder.step(&stream[start..end], caps) {
            Ok(Step::Whole(used)) => {
                let args = decoder.args(&stream[start..end]);
                requests.push(args.iter().map(<[u8]>::to_vec).collect());
                start += used;
                decoder.reset();
            }
            Ok(Step::Nothing(used)) => {
                start += used;
                decoder.reset();
            }
            Ok(Step::Partial(wanted)) => {
                assert!(wanted > end - start, "it asks for what it has");
                if end == stream.len() {
                    return (requests, None);
                }
                end = (end + pieces.next().unwrap().max(&1)).min(stream.len());
            }
            Err(malformed) => return (requests, Some(malformed)),
        }
    }
}

fn array(args: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend(format!("${}\r\n", arg.len()).into_bytes());
        out.extend(arg);
        out.extend(b"\r\n");
    }
    out
}

proptest! {
    #[test]
    fn any_split_gives_the_same_requests(
        requests in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 1..8), 0..8),
        pieces in proptest::collection::vec(1_usize..50, 1..20),
    ) {
        let stream: Vec<u8> = requests.iter().flat_map(|args| array(args)).collect();
        prop_assert_eq!(decode(&stream, &pieces, Caps::KNOWN), (requests, None));
    }

    #[test]
    fn any_bytes_end(
        bytes in proptest::collection::vec(
            prop_oneof![Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'"'), b'0'..=b'9', any::<u8>()],
            0..300),
        pieces in proptest::collection::vec(1_usize..50, 1..20),
    ) {
        let whole = decode(&bytes, &[bytes.len().max(1)], Caps::KNOWN);
        prop_assert_eq!(decode(&bytes, &pieces, Caps::KNOWN), whole);
    }
}

proptest! {
    #[test]
    fn what_is_whole_is_what_the_decoder_gives(
        before in proptest::collection::vec(any::<u8>(), 0..20),
        requests in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 1..6), 1..4),
        cut in any::<prop::sample::Index>(),
        change in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
        most in 1_usize..6,
    ) {
        let mut stream: Vec<u8> = requests.iter().flat_map(|args| array(args)).collect();
        stream.truncate(cut.index(stream.len() + 1));
        if let Some((at, byte)) = change && !stream.is_empty() {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        let mut decoder = Decoder::default();
        let step = decoder.step(&stream, Caps::KNOWN);
        let args: Vec<&[u8]> = decoder.args(&stream).iter().collect();
        let bytes = [before.clone(), stream.clone()].concat();
        let mut ranges = Vec::from([7..9, 9..9]);
        let next = whole(&bytes, before.len(), most, &mut ranges);
        let same = Args::new(&bytes, &ranges[2..]);
        match step {
            Ok(Step::Whole(used)) if stream[0] == b'*' && args.len() <= most => {
                prop_assert_eq!(next, Some(before.len() + used));
                prop_assert_eq!(same.iter().collect::<Vec<_>>(), args);
            }
            _ => prop_assert_eq!((next, ranges.len()), (None, 2)),
        }
    }
}

#[test]
fn what_is_wrong_is_said_in_the_words_that_clients_know() {
    let said = |stream: &[u8], caps| decode(stream, &[1 << 20], caps).1.unwrap().to_string();
    for (stream, text) in [
        (&b"*1048577\r\n"[..], "invalid multibulk length"),
        (b"*x\r\n", "invalid multibulk length"),
        (b"*1\r\nx", "expected '$', got 'x'"),
        (b"*1\r\n$-10\r\n", "invalid bulk length"),
        (b"*1\r\n$2000000000\r\n", "invalid bulk length"),
        (b"*1\r\n$x\r\n", "invalid bulk length"),
        (b"SET k \"x\r\n", "unbalanced quotes in request"),
    ] {
        assert_eq!(said(stream, Caps::KNOWN), format!("Protocol error: {text}"));
    }
    let strange = |stream: &[u8]| said(stream, Caps::STRANGER);
    assert_eq!(strange(b"*100\r\n"), "Protocol error: unauthenticated multibulk length");
    assert_eq!(strange(b"*1\r\n$20000\r\n"), "Protocol error: unauthenticated bulk length");
    let long = vec![b'1'; 70_000];
    assert_eq!(said(&long, Caps::KNOWN), "Protocol error: too big inline request");
    let count = [b"*", &long[..]].concat();
    assert_eq!(said(&count, Caps::KNOWN), "Protocol error: too big mbulk count string");
    let bulk = [b"*1\r\n$", &long[..]].concat();
    assert_eq!(said(&bulk, Caps::KNOWN), "Protocol error: too big bulk count string");
}

#[test]
fn lines_and_arrays_may_follow_each_other() {
    let stream = b"PING\r\n\r\n*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\nset k \"a b\"\n";
    let (requests, wrong) = decode(stream, &[3], Caps::KNOWN);
    let ping = vec![b"PING".to_vec()];
    let set = vec![b"set".to_vec(), b"k".to_vec(), b"a b".to_vec()];
    assert_eq!((requests, wrong), (vec![ping.clone(), ping, set], None));
}
