//! Latencies as a picture: percentile by percentile, one curve for each server.
//!
//! Both axes are logarithmic: to the right the share of requests that take longer shrinks by ten
//! with each step, upwards the time grows. Below each mark stand the figures themselves. Colours
//! follow the reader's light or dark scheme; the curves also differ in how they are dashed.

use std::fmt::Write;

use crate::record::Latency;

/// A curve.
pub(crate) struct Curve<'a> {
    pub(crate) name: &'a str,
    pub(crate) latency: &'a Latency,
}

/// Marks of the axis to the right.
const MARKS: [(f64, &str); 5] =
    [(0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %")];

// Pixels.
const WIDTH: f64 = 820.0;
const LEFT: f64 = 172.0;
const RIGHT: f64 = 40.0;
const TOP: f64 = 96.0;
const PLOT: f64 = 264.0;
const ROW: f64 = 20.0;

/// Points of a curve.
const POINTS: u32 = 160;

// No variables: not every program that draws knows them.
const STYLE: &str = "\
text{font:13px system-ui,'DejaVu Sans',sans-serif;fill:#1f2328}.title{font-size:16px;font-weight:600}\
.faint{fill:#59636e}.paper{fill:#fff}.grid{stroke:#d8dee4}.figure{font-variant-numeric:tabular-nums}\
path{fill:none;stroke-width:2.2;stroke-linejoin:round}\
.c0{stroke:#0b62c4}.c1{stroke:#b54708;stroke-dasharray:7 4}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.faint{fill:#9198a1}.paper{fill:#0d1117}\
.grid{stroke:#30363d}.c0{stroke:#58a6ff}.c1{stroke:#f0a35e}}";

/// How far to the right a percentile stands, 0 at the median to 1 at 99.99 %.
fn across(quantile: f64) -> f64 {
    let of = |quantile: f64| -(1.0 - quantile).log10();
    (of(quantile) - of(0.5)) / (of(0.9999) - of(0.5))
}

/// The inverse of [`across`].
fn quantile(across: f64) -> f64 {
    let (from, to) = (0.5_f64.log10(), 0.0001_f64.log10());
    1.0 - 10_f64.powf(from + across * (to - from))
}

/// Whether so many requests say anything about a percentile: at least one must lie above it.
fn is_known(latency: &Latency, quantile: f64) -> bool {
    latency.count() as f64 * (1.0 - quantile) >= 1.0
}

/// The whole picture, as text.
pub(crate) fn plot(title: &str, subtitle: &str, curves: &[Curve<'_>]) -> String {
    let scale = Scale::of(curves);
    let bottom = TOP + PLOT;
    let height = bottom + 34.0 + ROW * curves.len() as f64 + 20.0;
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\"/>\n\
         <text class=\"title\" x=\"20\" y=\"30\">{}</text>\n\
         <text class=\"faint\" x=\"20\" y=\"52\">{}</text>\n",
        escaped(title),
        escaped(subtitle),
    );
    axes(&mut out, &scale, bottom);
    for (number, curve) in curves.iter().enumerate() {
        let _ = writeln!(out, "<path class=\"c{number}\" d=\"{}\"/>", path(curve, &scale));
        row(&mut out, number, curve, bottom + 34.0 + ROW * (number as f64 + 1.0));
    }
    out.push_str("</svg>\n");
    out
}

/// From microseconds to pixels.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// From the fastest median to the slowest known percentile, with a little room.
    fn of(curves: &[Curve<'_>]) -> Self {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for curve in curves.iter().filter(|curve| curve.latency.count() > 0) {
            low = low.min(curve.latency.percentile_us(0.5));
            for (quantile, _) in MARKS.iter().filter(|(q, _)| is_known(curve.latency, *q)) {
                high = high.max(curve.latency.percentile_us(*quantile));
            }
        }
        if low > high {
            return Self { low: 1.0, high: 10.0 };
        }
        Self { low: low.max(0.001) / 1.3, high: high.max(0.001) * 1.3 }
    }

    fn y(&self, us: f64) -> f64 {
        let share = (us.max(1e-6) / self.low).ln() / (self.high / self.low).ln();
        TOP + PLOT * (1.0 - share.clamp(0.0, 1.0))
    }

    /// 1, 2 and 5 of each power of ten that lie inside; the ones alone where that is too many.
    fn ticks(&self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        let steps: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let mut ticks = Vec::new();
        for power in -3..9 {
            ticks.extend(steps.iter().map(|step| step * 10_f64.powi(power)));
        }
        ticks.retain(|tick| (self.low..=self.high).contains(tick));
        ticks
    }
}

fn x(quantile: f64) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * across(quantile)
}

fn axes(out: &mut String, scale: &Scale, bottom: f64) {
    let right = WIDTH - RIGHT;
    for us in scale.ticks() {
        let y = scale.y(us);
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"faint figure\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 10.0,
            y + 4.5,
            time(us).replace(".00", "").replace(".0", ""),
        );
    }
    for (quantile, name) in MARKS {
        let x = x(quantile);
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
            bottom + 22.0,
        );
    }
    let _ =
        writeln!(out, "<text class=\"faint\" x=\"20\" y=\"{}\">of requests</text>", bottom + 22.0);
}

fn path(curve: &Curve<'_>, scale: &Scale) -> String {
    let mut d = String::new();
    if curve.latency.count() == 0 {
        return d;
    }
    for point in 0..=POINTS {
        let quantile = quantile(f64::from(point) / f64::from(POINTS));
        // The last point is the last mark, and rounding must not lose it.
        if !is_known(curve.latency, quantile.min(MARKS[4].0)) && point > 0 {
            break;
        }
        let y = scale.y(curve.latency.percentile_us(quantile));
        let _ = write!(d, "{}{:.1} {y:.1}", if point == 0 { "M" } else { "L" }, x(quantile));
    }
    d
}

/// The figures below the marks, behind a sample of the curve.
fn row(out: &mut String, number: usize, curve: &Curve<'_>, y: f64) {
    let middle = y - 4.5;
    let _ = write!(
        out,
        "<path class=\"c{number}\" d=\"M20 {middle:.1}H40\"/><text x=\"48\" y=\"{y:.1}\">{}</text>",
        escaped(curve.name)
    );
    for (quantile, _) in MARKS {
        let known = is_known(curve.latency, quantile);
        let text = if known { time(curve.latency.percentile_us(quantile)) } else { "–".into() };
        let x = x(quantile);
        let _ = write!(
            out,
            "<text class=\"figure\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{text}</text>"
        );
    }
    out.push('\n');
}

/// Three digits that count, and a unit.
fn time(us: f64) -> String {
    let (value, unit) = match us {
        _ if us < 1.0 => (us * 1e3, "ns"),
        _ if us < 1e3 => (us, "µs"),
        _ if us < 1e6 => (us / 1e3, "ms"),
        _ => (us / 1e6, "s"),
    };
    let digits = if value >= 100.0 { 0 } else { usize::from(value < 10.0) + 1 };
    format!("{value:.digits$} {unit}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn latency(count: u64) -> Latency {
        let mut latency = Latency::new().unwrap();
        for n in 0..count {
            latency.record(Duration::from_nanos(10_000 + n * 100), 1);
        }
        latency
    }

    #[test]
    fn marks_stand_where_their_percentiles_do() {
        for (share, name) in MARKS {
            assert!((quantile(across(share)) - share).abs() < 1e-9, "{name}");
        }
        assert!(across(0.5).abs() < 1e-9 && (across(0.9999) - 1.0).abs() < 1e-9);
        let step = across(0.99) - across(0.9);
        assert!((across(0.999) - across(0.99) - step).abs() < 1e-9);
    }

    #[test]
    fn times_have_units() {
        let times = [0.25, 1.0, 15.26, 100.4, 1234.0, 2e6].map(time);
        assert_eq!(times, ["250 ns", "1.00 µs", "15.3 µs", "100 µs", "1.23 ms", "2.00 s"]);
    }

    #[test]
    fn what_too_few_requests_cannot_say_is_not_drawn() {
        let (many, few) = (latency(20_000), latency(50));
        let curves = [Curve { name: "ours", latency: &many }, Curve { name: "a<b", latency: &few }];
        let text = plot("fdpass", "1 connection", &curves);
        assert_eq!(text.matches("<path class=\"c0\"").count(), 2);
        assert_eq!(text.matches(">–<").count(), 3, "99, 99.9 and 99.99 % of 50 requests");
        assert!(text.contains("a&lt;b") && !text.contains("NaN") && !text.contains("inf"));
        assert!(text.ends_with("</svg>\n"));
        let none = latency(0);
        let text = plot("t", "s", &[Curve { name: "none", latency: &none }]);
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}
