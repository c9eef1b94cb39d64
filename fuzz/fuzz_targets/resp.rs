//! Requests of Redis clients: in pieces as at once, by the decoder as by `whole`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use objmapper_proto::resp::{Caps, Decoder, Malformed, Step, whole};

type Requests = Vec<Vec<Vec<u8>>>;

/// Decodes all of it, given so many bytes more each time.
fn decode(bytes: &[u8], caps: Caps, piece: usize) -> (Requests, usize, Option<Malformed>) {
    let (mut decoder, mut requests, mut from, mut have) = (Decoder::default(), Vec::new(), 0, 0);
    loop {
        let seen = &bytes[from..have];
        let step = decoder.step(seen, caps);
        // What is kept is bounded by what was sent, not by what was announced.
        assert!(decoder.footprint() <= 64 * (seen.len() + 64), "{} for {}", decoder.footprint(), seen.len());
        match step {
            Ok(Step::Whole(used)) => {
                let args = decoder.args(seen);
                assert!(used <= seen.len() && !args.is_empty());
                requests.push(args.iter().map(<[u8]>::to_vec).collect());
                from += used;
                decoder.reset();
            }
            Ok(Step::Nothing(used)) => {
                assert!(used > 0 && used <= seen.len());
                from += used;
                decoder.reset();
            }
            Ok(Step::Partial(wanted)) => {
                assert!(wanted > seen.len());
                if have == bytes.len() {
                    return (requests, from, None);
                }
                have = (have + piece).min(bytes.len());
            }
            Err(malformed) => return (requests, from, Some(malformed)),
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let [how, bytes @ ..] = input else { return };
    let caps = if how & 1 == 0 { Caps::KNOWN } else { Caps::STRANGER };
    let at_once = decode(bytes, caps, bytes.len().max(1));
    let piece = usize::from(how >> 1) % 17 + 1;
    assert_eq!(decode(bytes, caps, piece), at_once, "in pieces of {piece}");

    // `whole` takes a part of what the decoder takes, and takes it as that does.
    let (requests, end, _) = decode(bytes, Caps::KNOWN, bytes.len().max(1));
    let (mut from, mut taken, mut ranges) = (0, 0, Vec::new());
    while let Some(next) = whole(bytes, from, 8, &mut ranges) {
        let args: Vec<_> = ranges.drain(..).map(|range| bytes[range].to_vec()).collect();
        assert_eq!(args, requests[taken]);
        assert!(next > from && next <= end && args.len() <= 8);
        (from, taken) = (next, taken + 1);
    }
    assert!(ranges.is_empty());
    if let Some(next) = requests.get(taken)
        && bytes.get(from) == Some(&b'*')
    {
        let skipped = decode(&bytes[from..], Caps::KNOWN, 1 << 30).0.len() < requests.len() - taken;
        let nothing = matches!(Decoder::default().step(&bytes[from..], Caps::KNOWN), Ok(Step::Nothing(_)));
        assert!(next.len() > 8 || nothing || skipped, "left to the decoder for nothing");
    }
});
