//! Goals on figures, as given on the command line: `p50_us<10`, `server_cpu_ratio<=1.35`.

use std::fmt;
use std::str::FromStr;

/// A figure, a comparison, a number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Assertion {
    name: String,
    than: Than,
    number: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Than {
    Less,
    AtMost,
    More,
    AtLeast,
    Exactly,
}

/// Longer signs first, so that `<=` is not read as `<`.
const SIGNS: [(&str, Than); 5] = [
    ("<=", Than::AtMost),
    (">=", Than::AtLeast),
    ("==", Than::Exactly),
    ("<", Than::Less),
    (">", Than::More),
];

impl FromStr for Assertion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = SIGNS.iter().find_map(|(sign, than)| Some((text.split_once(sign)?, *than)));
        let ((name, number), than) =
            found.ok_or("a comparison such as 'p50_us<10' is expected".to_owned())?;
        let number =
            number.trim().parse().map_err(|_| format!("'{}' is no number", number.trim()))?;
        Ok(Self { name: name.trim().to_owned(), than, number })
    }
}

impl Assertion {
    /// The figure's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether a figure of this value misses it.
    pub(crate) fn misses(&self, value: f64) -> bool {
        let holds = match self.than {
            Than::Less => value < self.number,
            Than::AtMost => value <= self.number,
            Than::More => value > self.number,
            Than::AtLeast => value >= self.number,
            Than::Exactly => (value - self.number).abs() < f64::EPSILON,
        };
        !holds
    }
}

impl fmt::Display for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = SIGNS.iter().find(|(_, than)| *than == self.than).map_or("", |(sign, _)| sign);
        write!(f, "{}{sign}{}", self.name, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_comparison_means_what_it_says() {
        let misses = |text: &str| text.parse::<Assertion>().unwrap().misses(7.5);
        for met in ["p50_us<10", "p50_us<=7.5", "p50_us>7", "p50_us >= 7.5", "p50_us==7.5"] {
            assert!(!misses(met), "{met}");
        }
        for missed in ["p50_us<7.5", "p50_us<=7", "p50_us>7.5", "p50_us>=8", "p50_us==0"] {
            assert!(misses(missed), "{missed}");
        }
        assert!("p50_us".parse::<Assertion>().is_err());
        assert!("p50_us<x".parse::<Assertion>().is_err());
        let goal = "a >=1.5".parse::<Assertion>().unwrap();
        assert_eq!((goal.to_string().as_str(), goal.name()), ("a>=1.5", "a"));
    }
}
