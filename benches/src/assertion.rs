//! Demands on figures, as given on the command line: `p50_us<10`, `server_cpu_ratio<=1.35`.

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
    /// What the figure is, if it is not as demanded; an error for a name that means nothing.
    pub(crate) fn miss(&self, figures: &[(&str, f64)]) -> Result<Option<f64>, String> {
        let Some((_, value)) = figures.iter().find(|(name, _)| *name == self.name) else {
            let names: Vec<_> = figures.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "there is no figure '{}' here: use {}",
                self.name,
                names.join(", ")
            ));
        };
        let holds = match self.than {
            Than::Less => *value < self.number,
            Than::AtMost => *value <= self.number,
            Than::More => *value > self.number,
            Than::AtLeast => *value >= self.number,
            Than::Exactly => (*value - self.number).abs() < f64::EPSILON,
        };
        Ok((!holds).then_some(*value))
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

    fn miss(text: &str) -> Result<Option<f64>, String> {
        text.parse::<Assertion>().unwrap().miss(&[("p50_us", 7.5), ("errors", 0.0)])
    }

    #[test]
    fn every_comparison_means_what_it_says() {
        for met in ["p50_us<10", "p50_us<=7.5", "p50_us>7", "p50_us >= 7.5", "errors==0"] {
            assert_eq!(miss(met), Ok(None), "{met}");
        }
        for missed in ["p50_us<7.5", "p50_us<=7", "p50_us>7.5", "p50_us>=8", "p50_us==0"] {
            assert_eq!(miss(missed), Ok(Some(7.5)), "{missed}");
        }
        assert!(miss("p51_us<1").unwrap_err().contains("p50_us"));
        assert!("p50_us".parse::<Assertion>().is_err());
        assert!("p50_us<x".parse::<Assertion>().is_err());
        assert_eq!("a >=1.5".parse::<Assertion>().unwrap().to_string(), "a>=1.5");
    }
}
