//! Patterns: what `*`, `?` and `\` mean is said by what the rest of the pattern fits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use objmapper::kv::glob::{matches, matches_in_any_case};

fuzz_target!(|input: &[u8]| {
    let [cut, rest @ ..] = input else { return };
    let (pattern, text) = rest.split_at(usize::from(*cut).min(rest.len()));
    let with = |front: &[u8]| [front, pattern].concat();

    let fits = matches(pattern, text);
    let tail = text.get(1..);
    let any_tail = (0..=text.len()).any(|at| matches(pattern, &text[at..]));
    assert_eq!(matches(&with(b"*"), text), any_tail, "a star");
    assert_eq!(matches(&with(b"?"), text), tail.is_some_and(|tail| matches(pattern, tail)), "any byte");
    if let [first, tail @ ..] = text {
        assert_eq!(matches(&with(&[b'\\', *first]), text), matches(pattern, tail), "this byte");
    }
    let escaped: Vec<u8> = text.iter().flat_map(|&byte| [b'\\', byte]).collect();
    assert!(matches(&escaped, text));

    let upper = text.to_ascii_uppercase();
    // A bracket that excludes a byte excludes its other case, too.
    if !pattern.contains(&b'[') {
        assert!(!fits || matches_in_any_case(pattern, text));
    }
    assert_eq!(matches_in_any_case(pattern, &upper), matches_in_any_case(pattern, text));
});
