//! The study as a picture: images a second against the time until a result is there, both logarithmic. Of the least
//! times: what else the machine does only adds to them.

use super::Row;
use plotters::coord::combinators::IntoLogRange;
use plotters::prelude::*;

const SIZE: (u32, u32) = (960, 600);
/// What is varied, and its colour.
const STUDIES: [(&str, RGBColor); 5] = [
    ("packing", RGBColor(0, 114, 178)),
    ("threads", RGBColor(0, 158, 115)),
    ("plaintexts", RGBColor(230, 159, 0)),
    ("hoisting", RGBColor(213, 94, 0)),
    ("keys", RGBColor(204, 121, 167)),
];
const TEXT: i32 = 12;
/// Pixels from one line of labels to the next, and of a character: an estimate.
const LINE: i32 = 15;
const CHARACTER: i32 = 6;

/// The picture, as an SVG document; empty where there is nothing to draw.
pub fn svg(model: &str, rows: &[Row]) -> String {
    let mut svg = String::new();
    let drawn = draw(&mut svg, model, rows).is_ok();
    if drawn { svg } else { String::new() }
}

/// Images a second.
fn rate(row: &Row) -> f64 {
    row.images as f64 / row.min_ms * 1000.0
}

fn range(values: impl Iterator<Item = f64>, margins: [f64; 2]) -> std::ops::Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
    low / margins[0]..high * margins[1]
}

/// A whole number with its thousands apart, or a small one with a digit.
fn number(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn draw(svg: &mut String, model: &str, rows: &[Row]) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let xs = range(rows.iter().map(|r| r.min_ms), [1.6, 9.0]);
    let ys = range(rows.iter().map(rate), [1.8, 1.8]);
    let mut chart = ChartBuilder::on(&area)
        .caption(format!("{model}: ways to evaluate it"), ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(xs.log_scale(), ys.log_scale())?;
    chart
        .configure_mesh()
        .x_desc("milliseconds until the result is there, at least")
        .y_desc("images a second")
        .x_label_formatter(&|x| number(*x))
        .y_label_formatter(&|y| number(*y))
        .light_line_style(WHITE)
        .draw()?;
    let mut order: Vec<&Row> = rows.iter().collect();
    order.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
    // Labels go to the right of their points, and down where points or other labels are.
    let spot = |row: &&Row| {
        let (x, y) = chart.backend_coord(&(row.min_ms, rate(row)));
        (x - 6, x + 6, y)
    };
    let mut taken: Vec<(i32, i32, i32)> = order.iter().map(spot).collect();
    for row in order {
        let colour = STUDIES.iter().find(|s| s.0 == row.study).map_or(BLACK, |s| s.1);
        let point = (row.min_ms, rate(row));
        let (x, y) = chart.backend_coord(&point);
        let what = match row.study {
            "packing" | "threads" => String::new(),
            other => format!("{other}: "),
        };
        let label = format!("{what}{} ({} ms, {}/s)", row.strategy, number(row.min_ms), number(rate(row)));
        let (from, to) = (x + 24, x + 24 + label.chars().count() as i32 * CHARACTER);
        let mut at = y;
        while let Some(other) = taken.iter().find(|t| t.0 < to && from < t.1 && (t.2 - at).abs() < LINE) {
            at = other.2 + LINE;
        }
        taken.push((from, to, at));
        chart.draw_series(std::iter::once(
            EmptyElement::at(point)
                + PathElement::new(vec![(0, 0), (20, at - y)], colour.mix(0.5))
                + Circle::new((0, 0), 4, colour.filled())
                + Text::new(label, (24, at - y - TEXT / 2), ("sans-serif", TEXT).into_font().color(&colour)),
        ))?;
    }
    for &(study, colour) in STUDIES.iter().filter(|s| rows.iter().any(|r| r.study == s.0)) {
        chart
            .draw_series(std::iter::empty::<Circle<(f64, f64), i32>>())?
            .label(study)
            .legend(move |(x, y)| Circle::new((x + 8, y), 4, colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}
