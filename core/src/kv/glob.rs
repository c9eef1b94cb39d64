//! Patterns for names, as `KEYS` and `SCAN` take them.
//!
//! ```text
//!  *        any bytes, also none        [abc] [a-z]   one of these bytes
//!  ?        one byte                    [^abc]        any but these
//!  \x       the byte x                  (a bracket that is not closed ends with the pattern)
//! ```
//!
//! Time is bounded by the length of the pattern times that of the text: everything but `*` takes
//! one byte, so it is enough to go back to the last `*`.

/// Whether all of the text fits the pattern.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    compare(pattern, text, |a, b| a == b)
}

/// The same where `A` is `a`.
pub fn matches_in_any_case(pattern: &[u8], text: &[u8]) -> bool {
    compare(pattern, text, |a, b| a.eq_ignore_ascii_case(&b))
}

/// What one step of a pattern takes.
enum Step<'a> {
    /// Any number of bytes.
    Star,
    /// One byte, any.
    Any,
    /// This byte.
    Byte(u8),
    /// A byte that the bracket has, or has not.
    Bracket { inside: &'a [u8], not: bool },
}

fn compare(pattern: &[u8], text: &[u8], same: impl Fn(u8, u8) -> bool) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Behind the last star, and where the text goes on if the star takes one byte more.
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        let fits = match (step(pattern), text) {
            (Some((Step::Star, rest)), _) => {
                again = Some((rest, text));
                pattern = rest;
                continue;
            }
            (None, []) => return true,
            (Some((step, rest)), [byte, tail @ ..]) if takes(&step, *byte, &same) => {
                Some((rest, tail))
            }
            _ => None,
        };
        if let Some(next) = fits {
            (pattern, text) = next;
        } else if let Some((behind, [_, tail @ ..])) = again {
            again = Some((behind, tail));
            (pattern, text) = (behind, tail);
        } else {
            return false;
        }
    }
}

/// The first step of a pattern, and what comes behind it.
fn step(pattern: &[u8]) -> Option<(Step<'_>, &[u8])> {
    Some(match pattern {
        [] => return None,
        [b'*', rest @ ..] => (Step::Star, rest),
        [b'?', rest @ ..] => (Step::Any, rest),
        [b'[', rest @ ..] => {
            let (not, inside) = match rest {
                [b'^', inside @ ..] => (true, inside),
                inside => (false, inside),
            };
            let mut at = 0;
            while let Some((length, _)) = item(inside.get(at..).unwrap_or_default()) {
                at += length;
            }
            let rest = inside.get(at + 1..).unwrap_or_default();
            (Step::Bracket { inside: inside.get(..at).unwrap_or_default(), not }, rest)
        }
        [b'\\', byte, rest @ ..] | [byte, rest @ ..] => (Step::Byte(*byte), rest),
    })
}

/// The first item of what stands in a bracket: how long it is, and from which byte to which it
/// goes. `None` where the bracket ends.
fn item(inside: &[u8]) -> Option<(usize, (u8, u8))> {
    match inside {
        [] | [b']', ..] => None,
        [b'\\', byte, ..] => Some((2, (*byte, *byte))),
        [from, b'-', to, ..] => Some((3, (*from.min(to), *from.max(to)))),
        [byte, ..] => Some((1, (*byte, *byte))),
    }
}

fn takes(step: &Step<'_>, byte: u8, same: &impl Fn(u8, u8) -> bool) -> bool {
    match step {
        Step::Star | Step::Any => true,
        Step::Byte(wanted) => same(*wanted, byte),
        Step::Bracket { inside, not } => {
            let mut rest = *inside;
            let mut found = false;
            while let Some((length, (from, to))) = item(rest) {
                let cases = [byte, byte.to_ascii_lowercase(), byte.to_ascii_uppercase()];
                found |= cases.iter().any(|&b| from <= b && b <= to && same(b, byte));
                rest = rest.get(length..).unwrap_or_default();
            }
            found != *not
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_fits_and_what_does_not() {
        for (pattern, fits, not) in [
            ("", &[""][..], &["a"][..]),
            ("*", &["", "a", "abc"], &[]),
            ("**", &["", "a"], &[]),
            ("a*", &["a", "ab", "a*"], &["", "ba"]),
            ("*a", &["a", "ba", "aa"], &["", "ab"]),
            ("a*b*c", &["abc", "aXbYc", "abbcc"], &["ab", "acb"]),
            ("?", &["a", "?"], &["", "ab"]),
            ("a?c", &["abc", "a?c"], &["ac"]),
            ("[abc]x", &["ax", "cx"], &["dx", "x", "a"]),
            ("[a-c]", &["a", "b", "c"], &["d", "-"]),
            ("[c-a]", &["a", "b", "c"], &["d"]),
            ("[^a-c]", &["d", "-"], &["a", "", "dd"]),
            ("[\\]]", &["]"], &["\\", "a"]),
            ("[a-]", &["a", "]", "_"], &["-", "b"]),
            ("[a", &["a"], &["[a", "b"]),
            ("[", &[], &["[", ""]),
            ("[^", &["x"], &[""]),
            ("[]x", &[], &["]x", "x"]),
            ("\\*", &["*"], &["a", "\\*"]),
            ("\\", &["\\"], &[""]),
            ("a\\", &["a\\"], &["a"]),
        ] {
            for text in fits {
                assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
            }
            for text in not {
                assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
            }
        }
        assert!(matches_in_any_case(b"MAX*[a-z]", b"maxmemorY") && !matches(b"MAX*", b"max"));
    }

    #[test]
    fn many_stars_end_soon() {
        // With a try for each way to part the text this would outlast the universe.
        let (pattern, text) = ("a*".repeat(2000) + "b", "a".repeat(20_000));
        assert!(!matches(pattern.as_bytes(), text.as_bytes()));
        assert!(matches(pattern.as_bytes(), (text + "b").as_bytes()));
    }

    /// As it is defined, however long it takes.
    fn defined(pattern: &[u8], text: &[u8]) -> bool {
        match step(pattern) {
            None => text.is_empty(),
            Some((Step::Star, rest)) => {
                (0..=text.len()).any(|at| defined(rest, text.get(at..).unwrap()))
            }
            Some((step, rest)) => text.split_first().is_some_and(|(byte, tail)| {
                takes(&step, *byte, &|a, b| a == b) && defined(rest, tail)
            }),
        }
    }

    proptest! {
        #[test]
        fn going_back_to_the_last_star_is_enough(
            pattern in "[ab*?\\[\\]^\\-\\\\]{0,12}", text in "[ab\\-]{0,12}",
        ) {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(pattern, text), defined(pattern, text));
        }

        #[test]
        fn a_text_with_all_its_bytes_escaped_fits_itself(text: Vec<u8>) {
            let pattern: Vec<u8> = text.iter().flat_map(|&b| [b'\\', b]).collect();
            prop_assert!(matches(&pattern, &text));
        }
    }
}
