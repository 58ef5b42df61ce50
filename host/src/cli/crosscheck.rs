//! `crosscheck`: the fidelity ladder of a model, layer by layer.

use super::compile::{drawn, input_shape, model};
use super::context::Context;
use super::error::{Code, Failure};
use super::units::table;
use anyhow::Result;
use cipherlens::compile::CompileOptions;
use cipherlens::crosscheck::{Ladder, Report, Rung, Search, html};
use cipherlens::datasets::calibration_images;
use cipherlens_kernel::params::{ParamSet, named};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Embedded model, or path of an .onnx file
    model: String,
    /// Images on every rung
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    images: u16,
    /// Images to take, a file or folder, instead of the embedded drawn ones
    #[arg(long, value_name = "PATH")]
    from: Option<PathBuf>,
    /// Search for the inputs with the largest error and the least head-room
    #[arg(long)]
    adversarial: bool,
    /// Page of tables and plots to write
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Parameter set [default: that of the model's program]
    #[arg(long, value_name = "SET")]
    set: Option<String>,
    /// Least precision of the outputs, in bits [default: that of the model's program]
    #[arg(long, value_name = "BITS")]
    precision: Option<f64>,
    /// Run the first layers on exact integers under TFHE, too
    // Hidden, so that the help is the same however the command was built.
    #[cfg(feature = "exact")]
    #[arg(long, hide = true)]
    exact: bool,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<()> {
    let model = model(&arguments.model, None)?;
    let shape = input_shape(&model).to_vec();
    let count = usize::from(arguments.images);
    let images = match &arguments.from {
        Some(path) => calibration_images(path, count, &shape, model.view)
            .map_err(|error| Failure::new(Code::BadFile, format!("--from: {error}")))?,
        None => drawn(&model).into_iter().take(count).collect(),
    };
    if images.is_empty() {
        let failure = Failure::new(Code::Usage, format!("no images are known for {}", arguments.model));
        return Err(failure.hint("name images with --from").into());
    }
    let options = CompileOptions {
        calibration: drawn(&model),
        set: arguments.set.as_deref().map(named_set).transpose()?,
        precision: arguments.precision,
        ..Default::default()
    };
    let spinner = context.spinner("compile");
    let ladder = Ladder::new(&model, &options)?;
    spinner.finish_and_clear();
    let bar = context.bar("ladder", images.len());
    let mut report = ladder.run(&images, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    if arguments.adversarial {
        let spinner = context.spinner("search");
        report.adversarial = ladder.adversarial(&images, &shape, &Search::default())?;
        spinner.finish_and_clear();
    }
    if let Some(path) = &arguments.html {
        context.write(path, html(&report).as_bytes(), false)?;
    }
    #[cfg(feature = "exact")]
    if arguments.exact {
        let exact = cipherlens::crosscheck::exact::run(&ladder, &images[0])?;
        return context.result(&serde_json::json!({ "ladder": report, "exact": exact }), || {
            text(&report) + "\n" + &exact.iter().map(|e| e.text() + "\n").collect::<String>()
        });
    }
    context.result(&report, || text(&report))
}

fn named_set(name: &str) -> Result<ParamSet> {
    let names: Vec<&str> = named::ALL.iter().map(ParamSet::name).collect();
    let found = named::ALL.iter().find(|set| set.name() == name).copied();
    let usage = || Failure::new(Code::Usage, format!("no set is called {name:?}")).hint(names.join(", "));
    found.ok_or_else(|| usage().into())
}

/// Two digits.
fn short(value: f64) -> String {
    format!("{value:.1e}")
}

fn ladder_text(report: &Report) -> String {
    let step = |layer: usize, to: Rung, from: Rung| {
        report.layers[layer].steps.iter().find(|s| (s.from, s.to) == (from, to)).expect("every pair is compared")
    };
    let rows = (0..report.layers.len()).map(|i| {
        let l = &report.layers[i];
        let (noisy, encrypted) = (step(i, Rung::Noisy, Rung::Simulated), step(i, Rung::Encrypted, Rung::Clear));
        let drawn = step(i, Rung::Encrypted, Rung::Noisy);
        let simulated = step(i, Rung::Simulated, Rung::Clear);
        let mark = |s: &cipherlens::crosscheck::Step| if s.inside { "" } else { "!" };
        vec![
            l.layer.clone(),
            l.elements.to_string(),
            short(l.range.max_abs),
            short(l.range.calibrated_max_abs),
            format!("{:.1}{}", l.range.headroom_bits, if l.wraps { " WRAPS" } else { "" }),
            short(l.predicted_sigma),
            short(l.expected_sigma),
            format!("{}{}", short(simulated.max), mark(simulated)),
            format!("{}{}", short(noisy.rms), mark(noisy)),
            format!("{}{}", short(encrypted.rms), mark(drawn)),
            short(encrypted.mean),
            short(encrypted.p999),
            short(encrypted.max),
            encrypted.precision_bits.map_or(String::new(), |b| format!("{b:.1}")),
            format!("{:+.2}", encrypted.deviation),
        ]
    });
    let header = [
        "layer",
        "elements",
        "largest",
        "calibrated",
        "head-room",
        "predicted",
        "own",
        "simulated",
        "noisy",
        "encrypted",
        "mean",
        "p99.9",
        "max",
        "bits",
        "off by",
    ];
    table(&header, &rows.collect::<Vec<_>>())
}

fn text(report: &Report) -> String {
    let mut text = format!(
        "{} on {} images, set {}: {:.1} bits of output precision predicted\n\n{}\n  {}\n",
        report.model,
        report.images,
        report.set,
        report.predicted_precision_bits,
        ladder_text(report),
        report.verdict()
    );
    text += &format!("  the imported model in f32 gives the same outputs within {:.1e}\n", report.imported_max_error);
    text += "  predicted and own: sigma by the noise model, for the calibration's values and for these; simulated: its largest\n  \
             difference from clear; noisy: root mean square against simulated; encrypted, mean, p99.9, max, bits: against clear;\n  \
             off by: bits from own; ! beyond the interval of a rung and the one below\n";
    if let Some(a) = &report.adversarial {
        text += &format!(
            "\nworst of {} inputs: error {:.1e} where the images have {:.1e}; head-room {:.1} bits in {} where the images have {:.1}\n\n{}\n  {}\n",
            a.tried,
            a.worst_error,
            a.mean_error,
            a.worst_headroom_bits,
            a.worst_layer,
            a.mean_headroom_bits,
            ladder_text(&a.ladder),
            a.ladder.verdict()
        );
    }
    text
}
