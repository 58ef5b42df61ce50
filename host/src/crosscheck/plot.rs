//! One self-contained page: the ladder's figures as tables and inline SVG.

use super::report::{PAIRS, Report};
use plotters::prelude::*;
use std::fmt::Write;

const SIZE: (u32, u32) = (860, 340);
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(230, 159, 0), RGBColor(0, 158, 115), RGBColor(213, 94, 0)];

/// A curve: its name, and its value on each layer, if there is one.
type Curve = (String, Vec<Option<f64>>);

/// Curves over the layers, as an SVG element; empty where nothing can be drawn.
fn chart(title: &str, unit: &str, layers: &[String], curves: &[Curve]) -> String {
    let values = || curves.iter().flat_map(|c| c.1.iter().flatten().copied()).filter(|v| v.is_finite());
    let (low, high) = values().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low > high {
        return String::new();
    }
    let mut svg = String::new();
    let drawn = (|| -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let last = layers.len().saturating_sub(1).max(1) as f64;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 17))
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(56)
            .build_cartesian_2d(-0.3..last + 0.3, low - 1.0..high + 1.0)?;
        let name = |x: &f64| {
            let whole = (x.round() - x).abs() < 0.01 && *x >= 0.0;
            let name = if whole { layers.get(x.round() as usize) } else { None };
            name.map_or(String::new(), |n| n.chars().rev().take(14).collect::<Vec<_>>().into_iter().rev().collect())
        };
        chart
            .configure_mesh()
            .x_labels(2 * layers.len() + 1)
            .x_label_formatter(&name)
            .y_desc(unit)
            .light_line_style(WHITE)
            .draw()?;
        for (i, (name, values)) in curves.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let points: Vec<(f64, f64)> = values
                .iter()
                .enumerate()
                .filter_map(|(x, v)| v.filter(|v| v.is_finite()).map(|v| (x as f64, v)))
                .collect();
            chart
                .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
            chart.draw_series(points.iter().map(|&p| Circle::new(p, 3, colour.filled())))?;
        }
        chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
        area.present()?;
        Ok(())
    })();
    if drawn.is_ok() { svg } else { String::new() }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn charts(report: &Report) -> String {
    let names: Vec<String> = report.layers.iter().map(|l| l.layer.clone()).collect();
    let log = |value: f64| (value > 0.0).then(|| value.log2());
    let errors = [0usize, 1, 3].map(|pair| {
        let (from, to) = PAIRS[pair];
        let name = format!("{to:?} against {from:?}").to_lowercase();
        (name, report.layers.iter().map(|l| log(l.steps[pair].rms)).collect())
    });
    let predicted = ("predicted".to_owned(), report.layers.iter().map(|l| log(l.predicted_sigma)).collect());
    let deviations = [1usize, 2].map(|pair| {
        let name = ["", "noisy over expected", "encrypted over noisy"][pair].to_owned();
        (name, report.layers.iter().map(|l| Some(l.steps[pair].deviation)).collect())
    });
    let room = ("least head-room".to_owned(), report.layers.iter().map(|l| Some(l.range.headroom_bits)).collect());
    let grown = report.layers.iter().map(|l| log(l.range.max_abs / l.range.calibrated_max_abs)).collect();
    let ranges = [room, ("largest value over calibration".to_owned(), grown)];
    let all: Vec<Curve> = errors.into_iter().chain([predicted]).collect();
    [
        chart("Error by layer", "log2 of the root mean square", &names, &all),
        chart("Measured noise against the model", "bits", &names, &deviations),
        chart("Values against head-room", "bits", &names, &ranges),
    ]
    .concat()
}

fn rows(report: &Report) -> String {
    let mut html = String::from(
        "<table><tr><th>layer<th>elements<th>rms<th>max<th>calibrated<th>head-room<th>predicted &sigma;<th>own &sigma;\
         <th>step<th>max<th>mean<th>p99.9<th>rms<th>bits<th>deviation<th></tr>\n",
    );
    for l in &report.layers {
        for (i, s) in l.steps.iter().enumerate() {
            let head = if i == 0 {
                format!(
                    "<td>{}<td>{}<td>{:.3e}<td>{:.3e}<td>{:.3e}<td>{:.1}<td>{:.2e}<td>{:.2e}",
                    escaped(&l.layer),
                    l.elements,
                    l.rms,
                    l.range.max_abs,
                    l.range.calibrated_max_abs,
                    l.range.headroom_bits,
                    l.predicted_sigma,
                    l.expected_sigma
                )
            } else {
                "<td colspan=8>".to_owned()
            };
            let _ = writeln!(
                html,
                "<tr>{head}<td>{:?} &rarr; {:?}<td>{:.2e}<td>{:.2e}<td>{:.2e}<td>{:.2e}<td>{}<td>{:.2e}<td>{}</tr>",
                s.from,
                s.to,
                s.max,
                s.mean,
                s.p999,
                s.rms,
                s.precision_bits.map_or(String::new(), |b| format!("{b:.1}")),
                s.deviation,
                if s.inside { "" } else { "<b>beyond</b>" }
            );
        }
    }
    html + "</table>\n"
}

/// The page.
pub fn html(report: &Report) -> String {
    let mut body = format!(
        "<h1>{}: the fidelity ladder</h1>\n<p>{} images, set {}, N = {}; {:.1} bits of output precision predicted; {}</p>\n{}{}",
        escaped(&report.model),
        report.images,
        escaped(&report.set),
        report.n,
        report.predicted_precision_bits,
        escaped(&report.verdict()),
        charts(report),
        rows(report)
    );
    if let Some(a) = &report.adversarial {
        let _ = write!(
            body,
            "<h2>Worst inputs of {} tried</h2>\n<p>error {:.2e} (images {:.2e}); least head-room {:.1} bits in {} (images {:.1}); {}</p>\n{}{}",
            a.tried,
            a.worst_error,
            a.mean_error,
            a.worst_headroom_bits,
            escaped(&a.worst_layer),
            a.mean_headroom_bits,
            escaped(&a.ladder.verdict()),
            charts(&a.ladder),
            rows(&a.ladder)
        );
    }
    format!(
        "<!doctype html>\n<html lang=en><meta charset=utf-8><title>{}</title>\n<style>body{{font:14px sans-serif;margin:2em}}\
         table{{border-collapse:collapse}}td,th{{padding:2px 8px;text-align:right;border-top:1px solid #ddd}}\
         svg{{display:block;margin:1em 0;max-width:100%}}</style>\n{body}</html>\n",
        escaped(&report.model)
    )
}

impl Report {
    /// The outcome in a line.
    pub fn verdict(&self) -> String {
        let mut found: Vec<String> = Vec::new();
        for (pair, layer) in self.first_beyond.iter().enumerate() {
            if let Some(layer) = layer {
                let (from, to) = PAIRS[pair];
                found
                    .push(format!("{to:?} differs from {from:?} beyond its interval, first in {layer}").to_lowercase());
            }
        }
        if !self.wrapped.is_empty() {
            found.push(format!("values out of head-room wrap in {}", self.wrapped.join(", ")));
        }
        if found.is_empty() { "every layer is within its interval on every rung".into() } else { found.join("; ") }
    }
}
