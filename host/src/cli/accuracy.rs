//! `accuracy`: a data set through the encrypted network, against the clear one.

use super::compile::{drawn, model};
use super::context::Context;
use super::demo::since;
use super::error::{Code, Failure};
use super::report::security_line;
use super::units::{duration, pairs};
use anyhow::{Context as _, Result};
use cipherlens::client::{Client, argmax};
use cipherlens::compile::report::moduli;
use cipherlens::compile::{CompileOptions, ModelGraph, compile};
use cipherlens::datasets::Digits;
use cipherlens::encrypt::EncryptionKey;
use cipherlens::evaluate::infer;
use cipherlens::keys::{SecretKey, evaluation_keys};
use cipherlens::random::Random;
use cipherlens_kernel::engine::Engine;
use cipherlens_kernel::keys::RamKeys;
use cipherlens_kernel::parallel::Serial;
use cipherlens_kernel::program::Program;
use cipherlens_kernel::wire::KeyBundle;
use clap::Args;
use serde::Serialize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Embedded model (mnist, mnist-micro, tenseal-cnn, orion-mlp, cryptonets) or path of an .onnx file
    model: String,
    /// Images to encrypt: the first N
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    images: u32,
    /// Images for the clear network: all, or the first N
    #[arg(long, value_name = "all|N", default_value = "all", value_parser = parse_count)]
    clear_images: Count,
    /// Use the 300 embedded drawn digits instead of the MNIST test images
    #[arg(long)]
    fixtures: bool,
}

#[derive(Debug, Clone, Copy)]
struct Count(Option<usize>);

fn parse_count(text: &str) -> Result<Count, String> {
    if text == "all" {
        return Ok(Count(None));
    }
    text.parse().map(|n| Count(Some(n))).map_err(|_| "all, or a number of images".into())
}

/// Field names are stable.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    data: String,
    set: String,
    images: usize,
    clear_images: usize,
    clear_accuracy: f64,
    clear_interval: [f64; 2],
    encrypted_accuracy: f64,
    encrypted_interval: [f64; 2],
    agreement: f64,
    agreement_interval: [f64; 2],
    max_error: f64,
    disagreements: Vec<Disagreement>,
    infer_ms_median: f64,
    images_per_second: f64,
    threads: usize,
}

/// An image that the encrypted network sees otherwise.
#[derive(Debug, Clone, Serialize)]
struct Disagreement {
    index: usize,
    label: u8,
    clear: usize,
    encrypted: usize,
    /// Difference of the clear network's two largest scores.
    margin: f64,
}

/// One image under encryption.
struct Outcome {
    index: usize,
    class: usize,
    max_error: f64,
    infer_ms: f64,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<()> {
    let model = model(&arguments.model, None)?;
    let digits = digits(arguments, context)?;
    let images = at_most(arguments.images as usize, &digits)?;
    // The clear network also runs on every image that is encrypted, to compare with.
    let clear_images = arguments.clear_images.0.map_or(Ok(digits.len()), |n| at_most(n, &digits))?.max(images);
    let input = model.inputs.first().map_or(0, |&i| model.tensors[i].len());
    let pixels = digits.pixels(0).map_or(0, <[u8]>::len);
    if input != pixels {
        let message = format!("{} takes {input} values; the {} have {pixels}", arguments.model, digits.name());
        return Err(Failure::new(Code::Unsupported, message).into());
    }
    let clear = clear(&model, &digits, clear_images, context)?;
    let spinner = context.spinner("compile");
    let compiled = compile(&model, &CompileOptions { calibration: drawn(), ..Default::default() })
        .with_context(|| arguments.model.clone())?;
    spinner.finish_and_clear();
    let program = Program::verify(&compiled.bytes)?;
    let (outcomes, seconds) = encrypted(program, &digits, &clear[..images], context)?;
    let report = Report::new(&model.name, &digits, &clear, &outcomes, seconds, &program, context);
    context.result(&report, || report.text(&program))
}

fn digits(arguments: &Arguments, context: &Context) -> Result<Digits> {
    if arguments.fixtures {
        return Ok(Digits::drawn());
    }
    Digits::mnist_test(&context.data()).map_err(|error| match error {
        error @ cipherlens::datasets::DataError::Missing { .. } => Failure::new(Code::MissingData, error.to_string())
            .hint(
                "name the data folder with --data DIR or CIPHERLENS_DATA; --fixtures runs on the embedded drawn \
                 digits without it",
            )
            .into(),
        error => error.into(),
    })
}

fn at_most(count: usize, digits: &Digits) -> Result<usize> {
    if count <= digits.len() {
        return Ok(count);
    }
    let message = format!("{count} images are asked for; the {} are {}", digits.name(), digits.len());
    Err(Failure::new(Code::Usage, message).into())
}

/// Scores of the clear network on the first `count` images.
fn clear(model: &ModelGraph, digits: &Digits, count: usize, context: &Context) -> Result<Vec<Vec<f64>>> {
    let bar = context.bar("clear", count);
    let scores = parallel(context.threads(), count, || {
        |i| {
            let image = digits.image(i).context("an image is missing")?;
            let scores: Vec<f64> = model.evaluate(&image)?.into_iter().map(f64::from).collect();
            bar.inc(1);
            Ok((i, scores))
        }
    });
    bar.finish_and_clear();
    let mut scores = scores?;
    scores.sort_by_key(|(i, _)| *i);
    Ok(scores.into_iter().map(|(_, scores)| scores).collect())
}

/// Encrypts, evaluates and decrypts one image for each of the `clear` scores; also the seconds that took.
fn encrypted(
    program: Program<'_>,
    digits: &Digits,
    clear: &[Vec<f64>],
    context: &Context,
) -> Result<(Vec<Outcome>, f64)> {
    let client = Client::new(program)?;
    let mut random = Random::from_os()?;
    let secret = SecretKey::generate(*program.set(), &mut random);
    let requests = client.requests();
    let bar = context.bar("keys", requests.len());
    let keys = evaluation_keys(&secret, client.ring(), &requests, &mut random, |done| bar.set_position(done as u64));
    bar.finish_and_clear();
    let mut words = vec![0u32; RamKeys::words(&KeyBundle::new_checked(&keys)?)];
    let keys = RamKeys::expand(&keys, program.set(), &mut words)?;
    let threads = context.threads().min(clear.len());
    let mut memory: Vec<(Vec<u32>, Vec<u32>)> =
        (0..threads).map(|_| (vec![0; program.arena_bytes() / 4], vec![0; program.cache_bytes() / 4])).collect();
    let mut engines = Vec::new();
    for (arena, cache) in &mut memory {
        let mut engine = Engine::new(program, keys, bytemuck::cast_slice_mut(arena))?;
        engine.set_cache(bytemuck::cast_slice_mut(cache))?;
        engine.prepare()?;
        engines.push((engine, Random::from_os()?));
    }
    let engines = Mutex::new(engines);
    let bar = context.bar("encrypted", clear.len());
    let start = Instant::now();
    let outcomes = parallel(threads, clear.len(), || {
        let mut mine = engines.lock().ok().and_then(|mut engines| engines.pop());
        let (client, secret, bar) = (&client, &secret, &bar);
        move |index| {
            let (engine, random) = mine.as_mut().context("every thread has an engine")?;
            let image = digits.image(index).context("an image is missing")?;
            let inputs = client.encrypt(0, &image, EncryptionKey::Secret(secret), random)?;
            let (outputs, infer_ms) = infer(engine, &inputs, &Serial)?;
            let result = client.decrypt(outputs.first().context("the program has no output")?, secret)?;
            let errors = result.scores.iter().zip(&clear[index]).map(|(a, b)| (a - b).abs());
            bar.inc(1);
            Ok(Outcome { index, class: result.class(), max_error: errors.fold(0.0, f64::max), infer_ms })
        }
    });
    let seconds = since(start) / 1000.0;
    bar.finish_and_clear();
    Ok((outcomes?, seconds))
}

/// The results of `work` on `0..count` from several threads, in any order. `worker` is called on each thread.
fn parallel<T: Send, W: FnMut(usize) -> Result<T>>(
    threads: usize,
    count: usize,
    worker: impl Fn() -> W + Sync,
) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let run = || {
        let mut work = worker();
        let mut results = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return Ok(results);
            }
            // The others stop at once where one fails.
            results.push(work(i).inspect_err(|_| next.store(count, Ordering::Relaxed))?);
        }
    };
    let parts: Vec<Result<Vec<T>>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(run)).collect();
        handles.into_iter().map(|handle| handle.join().expect("a worker does not panic")).collect()
    });
    Ok(parts.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

impl Report {
    fn new(
        model: &str,
        digits: &Digits,
        clear: &[Vec<f64>],
        outcomes: &[Outcome],
        seconds: f64,
        program: &Program<'_>,
        context: &Context,
    ) -> Self {
        let label = |i: usize| digits.label(i).unwrap_or(u8::MAX);
        let count = outcomes.len();
        let clear_right = clear.iter().enumerate().filter(|(i, s)| argmax(s) == usize::from(label(*i))).count();
        let right = outcomes.iter().filter(|o| o.class == usize::from(label(o.index))).count();
        let mut disagreements: Vec<Disagreement> = outcomes
            .iter()
            .filter_map(|o| {
                let scores = &clear[o.index];
                let class = argmax(scores);
                let second = scores.iter().enumerate().filter(|(i, _)| *i != class).map(|(_, &s)| s);
                let margin = scores[class] - second.fold(f64::NEG_INFINITY, f64::max);
                let index = o.index;
                (class != o.class).then(|| Disagreement {
                    index,
                    label: label(index),
                    clear: class,
                    encrypted: o.class,
                    margin,
                })
            })
            .collect();
        disagreements.sort_by_key(|d| d.index);
        let mut times: Vec<f64> = outcomes.iter().map(|o| o.infer_ms).collect();
        times.sort_by(f64::total_cmp);
        let ratio = |k: usize, n: usize| k as f64 / n as f64;
        let agree = count - disagreements.len();
        Self {
            model: model.into(),
            data: digits.name().into(),
            set: program.set().name().into(),
            images: count,
            clear_images: clear.len(),
            clear_accuracy: ratio(clear_right, clear.len()),
            clear_interval: wilson(clear_right, clear.len()),
            encrypted_accuracy: ratio(right, count),
            encrypted_interval: wilson(right, count),
            agreement: ratio(agree, count),
            agreement_interval: wilson(agree, count),
            max_error: outcomes.iter().map(|o| o.max_error).fold(0.0, f64::max),
            disagreements,
            infer_ms_median: times[count / 2],
            images_per_second: count as f64 / seconds,
            threads: context.threads().min(count),
        }
    }

    fn text(&self, program: &Program<'_>) -> String {
        let percent = |ratio: f64, [low, high]: [f64; 2], count: usize| {
            format!("{:.2} %  ({:.2} to {:.2} %, {count} images)", ratio * 100.0, low * 100.0, high * 100.0)
        };
        let largest = moduli(program).first().map_or(0.0, |m| m.log_qp);
        let mut text = format!("  {} on {}, intervals are Wilson's at 95 %\n\n", self.model, self.data);
        text += &pairs(&[
            ("clear", percent(self.clear_accuracy, self.clear_interval, self.clear_images)),
            ("encrypted", percent(self.encrypted_accuracy, self.encrypted_interval, self.images)),
            ("same class", percent(self.agreement, self.agreement_interval, self.images)),
            ("largest error", format!("{:.1e} of a score", self.max_error)),
            ("one image", format!("{} median, evaluation only, one thread each", duration(self.infer_ms_median))),
            (
                "throughput",
                format!(
                    "{:.1} images/s with encryption and decryption, {} side by side",
                    self.images_per_second, self.threads
                ),
            ),
            ("security", security_line(&self.set, program.set().n(), "QP", largest)),
        ]);
        for d in &self.disagreements {
            let Disagreement { index, label, clear, encrypted, margin } = d;
            text += &format!(
                "  image {index} (label {label}): clear {clear}, encrypted {encrypted}, margin {margin:.1e}\n"
            );
        }
        text
    }
}

/// Wilson's 95 % interval of a proportion.
fn wilson(hits: usize, count: usize) -> [f64; 2] {
    const Z: f64 = 1.959_963_984_540_054;
    let (n, p) = (count as f64, hits as f64 / count as f64);
    let centre = p + Z * Z / (2.0 * n);
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    let low = if hits == 0 { 0.0 } else { (centre - spread) / scale };
    let high = if hits == count { 1.0 } else { (centre + spread) / scale };
    [low, high]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_matches_published_values() {
        // Model card of `mnist`: 9942 of 10,000.
        let [low, high] = wilson(9942, 10_000);
        assert_eq!((format!("{low:.4}"), format!("{high:.4}")), ("0.9925".into(), "0.9955".into()));
        assert_eq!(wilson(0, 10)[0], 0.0);
        assert_eq!(wilson(10, 10)[1], 1.0);
    }

    #[test]
    fn every_item_is_done_once_and_an_error_is_reported() {
        let mut done = parallel(3, 100, || |i| Ok(i)).unwrap();
        done.sort_unstable();
        assert_eq!(done, (0..100).collect::<Vec<_>>());
        assert!(parallel(2, 100, || |i| if i == 7 { Err(anyhow::anyhow!("seven")) } else { Ok(i) }).is_err());
    }
}
