//! `accuracy`: a data set through the encrypted network, against the clear one.

mod plan;
pub(super) mod report;
pub(super) mod state;

use super::batch;
use super::compile::{Mode, drawn, input_shape, model};
use super::context::Context;
use super::demo::{largest_error, since};
use super::error::{Code, Failure};
use super::files;
use super::holder::Holder;
use super::tiles::{Cut, TileOptions, mask_of};
use super::units::{bytes, parse_bytes};
use anyhow::{Context as _, Result};
use cipherlens::client::Client;
use cipherlens::compile::batch::BatchOptions;
use cipherlens::compile::{CompileOptions, Compiled, ModelGraph, compile};
use cipherlens::datasets::{DataError, Dataset, Digits, Masked, Pictures, Split};
use cipherlens::encrypt::EncryptionKey;
use cipherlens::evaluate::{fingerprint, infer};
use cipherlens::keys::SecretKey;
use cipherlens::mask::Mask;
use cipherlens::models::{Task, by_name};
use cipherlens::pool::Pool;
use cipherlens::random::Random;
use cipherlens_kernel::engine::Engine;
use cipherlens_kernel::keys::{KeySource, MappedKeys, RamKeys};
use cipherlens_kernel::math::Detected;
use cipherlens_kernel::program::Program;
use clap::Args;
use plan::{Plan, Sizes};
use report::{Report, Run};
use state::{Answer, Outcome, State};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Embedded model (mnist, mnist-micro, tenseal-cnn, orion-mlp, cryptonets, melanoma, melanoma-kaggle10k,
    /// unet-lesion, unet-nuclei, unet-em) or path of an .onnx file
    model: String,
    /// Images to encrypt: the first N, or all [default: 100 digits, all of an image folder]
    #[arg(long, value_name = "all|N", value_parser = parse_count)]
    images: Option<Count>,
    /// Images for the clear network: all, or the first N
    #[arg(long, value_name = "all|N", default_value = "all", value_parser = parse_count)]
    clear_images: Count,
    /// Use the embedded drawn images instead of the model's data set
    #[arg(long, conflicts_with = "folder")]
    fixtures: bool,
    /// Use the test split of a folder of PNG and JPEG files: labels.csv (file, split, label), or test/CLASS/FILE; for
    /// masks images/FILE and masks/FILE of the same name, in the folder or in test/
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Keep what is done in FILE, and go on from there when the same command runs again
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// A program compiled from the model before; compiling again takes time and memory
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// How images are packed: one at a time, or one in each slot
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    /// Arena of a batch
    #[arg(long, value_name = "BYTES", default_value = "3GiB", value_parser = parse_bytes)]
    batch_memory: usize,
    /// Memory to evaluate within: weights and keys are kept ready for use as far as it goes
    #[arg(long, value_name = "BYTES", default_value = "600MiB", value_parser = parse_bytes)]
    memory: usize,
    #[command(flatten)]
    tiles: TileOptions,
}

#[derive(Debug, Clone, Copy)]
struct Count(Option<usize>);

fn parse_count(text: &str) -> Result<Count, String> {
    if text == "all" {
        return Ok(Count(None));
    }
    let count = text.parse().ok().filter(|&n| n > 0);
    count.map(|n| Count(Some(n))).ok_or_else(|| "all, or a number of images".into())
}

/// Digits that are encrypted unless asked otherwise.
const DIGITS: usize = 100;

pub fn run(arguments: &Arguments, context: &Context) -> Result<()> {
    let model = model(&arguments.model, None)?;
    if mask_of(&model).is_none() {
        arguments.tiles.refuse(&arguments.model)?;
    }
    let set = dataset(arguments, &model, context)?;
    let wanted = |count: Count| count.0.map_or(Ok(set.len()), |n| at_most(n, &*set));
    let images = match arguments.images {
        Some(count) => wanted(count)?,
        None if Task::of(&model) == Some(Task::Digits) => set.len().min(DIGITS),
        None => set.len(),
    };
    // The clear network also runs on every image that is encrypted, to compare with.
    let clear_images = wanted(arguments.clear_images)?.max(images);
    let job = Job { model: &model, set: &*set, arguments, context };
    let input = input_shape(&model).iter().product::<usize>();
    let values = job.cut(0)?.inputs.first().map_or(0, Vec::len);
    if input != values {
        let message = format!("{} takes {input} values; the {} have {values}", arguments.model, set.name());
        return Err(Failure::new(Code::Unsupported, message).into());
    }
    // Whoever asks for a run of minutes learns at once that its results cannot be kept.
    let resume = arguments.resume.as_deref();
    let mut state = resume.map(State::open).transpose()?.flatten();
    let clear = job.clear(clear_images)?;
    if arguments.mode == Mode::Batch {
        let options =
            BatchOptions { calibration: drawn(&model), ram: Some(arguments.batch_memory), ..Default::default() };
        let images = batch::accuracy::Images {
            set: &*set,
            count: images,
            cut: &|i| job.cut(i),
            answer: &|i, values| job.answer(i, values),
            clear: &clear,
        };
        return batch::accuracy::run(&model, &images, &options, context);
    }
    let blob = blob(arguments, &model, context)?;
    let program = Program::verify(&blob)?;
    let client = Client::new(program)?;
    if client.meta().model != model.name {
        let message = format!("the program is of the model {}, not {}", client.meta().model, model.name);
        return Err(Failure::new(Code::Mismatch, message)
            .hint("name the model that the program was compiled from")
            .into());
    }
    if let Some(path) = resume {
        let fresh = State::new(fingerprint(&program), set.digest()?);
        let state = state.get_or_insert_with(|| fresh.clone());
        state.belongs(&fresh, path)?;
        state.save(path, context)?;
    }
    let mut state = state.unwrap_or_default();
    let done = state.outcomes.iter().filter(|o| o.index < images).count();
    if done > 0 {
        context.note(&format!("{done} of {images} images were done before"));
    }
    let run = encrypted(&job, &client, blob.len(), images, &clear, &mut state)?;
    let clear: Vec<Answer> =
        clear.iter().enumerate().map(|(i, values)| job.answer(i, values)).collect::<Result<_>>()?;
    let report = Report::new(&model, &*set, &clear, &run, &program)?;
    context.result(&report, || report.text(&program))
}

/// What the clear and the encrypted run share.
struct Job<'a> {
    model: &'a ModelGraph,
    set: &'a dyn Dataset,
    arguments: &'a Arguments,
    context: &'a Context,
}

impl Job<'_> {
    /// Image `i` as inputs of the network.
    fn cut(&self, i: usize) -> Result<Cut> {
        let Self { model, arguments, .. } = self;
        Ok(Cut::new(&self.set.picture(i)?, model.view, mask_of(model), &arguments.tiles))
    }

    /// What values say of image `i`.
    fn answer(&self, i: usize, values: &[f32]) -> Result<Answer> {
        let values: Vec<f64> = values.iter().copied().map(f64::from).collect();
        if mask_of(self.model).is_none() {
            return Ok(Answer::Scores(values));
        }
        let [_, _, width] = self.set.picture(i)?.shape();
        Ok(Answer::Mask(Mask::of_logits(&values, width)))
    }

    /// Values of the clear network on the first `count` images.
    fn clear(&self, count: usize) -> Result<Vec<Vec<f32>>> {
        let bar = self.context.bar("clear", count);
        let indices: Vec<usize> = (0..count).collect();
        let values = parallel(self.context.threads(), &indices, || {
            |i| {
                let values: Vec<f32> = self.cut(i)?.clear(self.model)?.into_iter().map(|v| v as f32).collect();
                bar.inc(1);
                Ok((i, values))
            }
        });
        bar.finish_and_clear();
        let mut values = values?;
        values.sort_by_key(|(i, _)| *i);
        Ok(values.into_iter().map(|(_, values)| values).collect())
    }
}

/// The program: that of `--program`, else the model compiled.
fn blob(arguments: &Arguments, model: &ModelGraph, context: &Context) -> Result<Vec<u8>> {
    if let Some(path) = &arguments.program {
        let blob = files::read(path)?;
        files::program(path, &blob)?;
        return Ok(blob);
    }
    let spinner = context.spinner("compile");
    let options = CompileOptions { calibration: drawn(model), ..Default::default() };
    let Compiled { bytes, .. } = compile(model, &options).with_context(|| arguments.model.clone())?;
    spinner.finish_and_clear();
    Ok(bytes)
}

fn dataset(arguments: &Arguments, model: &ModelGraph, context: &Context) -> Result<Box<dyn Dataset>> {
    let shape = input_shape(model);
    let embedded = by_name(&arguments.model);
    let task = Task::of(model);
    let labels = (!model.labels.is_empty()).then_some(&model.labels[..]);
    let missing = |error: DataError| match error {
        error @ DataError::Missing { .. } => {
            let hint = "name the data folder with --data DIR or CIPHERLENS_DATA; --fixtures runs on the embedded \
                        drawn images without it";
            Failure::new(Code::MissingData, error.to_string()).hint(hint).into()
        }
        error => anyhow::Error::from(error),
    };
    if let Some(folder) = &arguments.folder {
        let shape: [usize; 3] = shape.try_into().map_err(|_| {
            let message = format!("{} reads values of the shape {shape:?}, not pictures", arguments.model);
            Failure::new(Code::Unsupported, message)
        })?;
        if mask_of(model).is_none() {
            return Ok(Box::new(Pictures::open(folder, Split::Test, labels, shape)?));
        }
        let classes = labels.map_or_else(|| ["background", "foreground"].map(String::from).to_vec(), <[_]>::to_vec);
        return Ok(Box::new(Masked::open(folder, Split::Test, &classes, shape[0], None)?));
    }
    match (embedded, task) {
        (_, Some(task)) if arguments.fixtures => Ok(task.fixtures()),
        (Some(model), _) => model.test_set(&context.data()).map_err(missing),
        (None, Some(Task::Digits)) => Ok(Box::new(Digits::mnist_test(&context.data()).map_err(missing)?)),
        _ => {
            let message = format!("no data set is known for {}", arguments.model);
            Err(Failure::new(Code::Usage, message).hint("name labelled images with --folder DIR").into())
        }
    }
}

fn at_most(count: usize, set: &dyn Dataset) -> Result<usize> {
    if count <= set.len() {
        return Ok(count);
    }
    let message = format!("{count} images are asked for; the {} are {}", set.name(), set.len());
    Err(Failure::new(Code::Usage, message).into())
}

/// Encrypts, evaluates and decrypts those of the first `images` images that `state` does not have.
fn encrypted(
    job: &Job<'_>,
    client: &Client<'_>,
    program_bytes: usize,
    images: usize,
    clear: &[Vec<f32>],
    state: &mut State,
) -> Result<Run> {
    let Job { context, arguments, .. } = job;
    let (todo, program) = (state.missing(images), *client.program());
    let outcomes = |state: &State| state.outcomes.iter().filter(|o| o.index < images).cloned().collect();
    let tiles = job.cut(0)?.inputs.len();
    if todo.is_empty() {
        let sizes = Sizes { program: program_bytes, keys: 0, expanded: 0 };
        let plan = Plan::new(&program, sizes, context.threads(), arguments.memory);
        return Ok(Run { outcomes: outcomes(state), new: 0, seconds: 0.0, plan, tiles });
    }
    let Holder { secret, keys, words, .. } = Holder::new(client, context)?;
    let sizes = Sizes { program: program_bytes, keys: keys.len(), expanded: words * 4 };
    let plan = Plan::new(&program, sizes, context.threads().min(todo.len()), arguments.memory);
    if context.verbose {
        context.note(&plan.text());
    }
    let start = Instant::now();
    let mut expanded = vec![0u32; if plan.expanded { words } else { 0 }];
    let work = Work { job, client, secret: &secret, todo: &todo, plan: &plan, clear };
    if plan.expanded {
        work.evaluate(RamKeys::expand(&keys, program.set(), &mut expanded)?, state)?;
    } else {
        work.evaluate(MappedKeys::verify(&keys)?, state)?;
    }
    Ok(Run { outcomes: outcomes(state), new: todo.len(), seconds: since(start) / 1000.0, plan, tiles })
}

/// What the threads of a run share.
struct Work<'a> {
    job: &'a Job<'a>,
    client: &'a Client<'a>,
    secret: &'a SecretKey,
    todo: &'a [usize],
    plan: &'a Plan,
    /// The clear network's values, to compare with.
    clear: &'a [Vec<f32>],
}

impl Work<'_> {
    /// Adds an outcome for each image to do, and keeps the state in its file as it goes.
    fn evaluate<K: KeySource + Copy + Sync + Send>(&self, keys: K, state: &mut State) -> Result<()> {
        let Self { client, plan, job, .. } = self;
        let context = job.context;
        let program = *client.program();
        let arena_words = program.arena_bytes_for(plan.workers) / 4;
        let cache_words = plan.cache_bytes / 4;
        let mut memory: Vec<(Vec<u32>, Vec<u32>)> =
            (0..plan.engines).map(|_| (vec![0; arena_words], vec![0; cache_words])).collect();
        let mut engines = Vec::new();
        for (arena, cache) in &mut memory {
            let arena = bytemuck::cast_slice_mut(arena);
            let mut engine = Engine::with_workers(program, keys, arena, Detected::new(), plan.workers)?;
            if !cache.is_empty() {
                engine.set_cache(bytemuck::cast_slice_mut(cache))?;
            }
            engine.prepare()?;
            engines.push((engine, Random::from_os()?, Pool::new(plan.workers)?));
        }
        let engines = Mutex::new(engines);
        let bar = context.bar("encrypted", state.outcomes.len() + self.todo.len());
        bar.set_position(state.outcomes.len() as u64);
        bar.reset_eta();
        let kept = Mutex::new((state, Instant::now()));
        let path = job.arguments.resume.as_deref();
        let result = parallel(plan.engines, self.todo, || {
            let mut mine = engines.lock().ok().and_then(|mut engines| engines.pop());
            let (bar, kept) = (&bar, &kept);
            move |index| {
                let (engine, random, pool) = mine.as_mut().context("every thread has an engine")?;
                let cut = job.cut(index)?;
                let (mut parts, mut infer_ms) = (Vec::new(), 0.0);
                for input in &cut.inputs {
                    let inputs = self.client.encrypt(0, input, EncryptionKey::Secret(self.secret), random)?;
                    let (outputs, ms) = infer(engine, &inputs, pool)?;
                    let output = outputs.first().context("the program has no output")?;
                    parts.push(self.client.decrypt(output, self.secret)?.scores.to_vec());
                    infer_ms += ms;
                }
                let values = cut.joined(parts);
                let clear: Vec<f64> = self.clear[index].iter().copied().map(f64::from).collect();
                let max_error = largest_error(&values, &clear);
                let answer = match &cut.tiling {
                    Some(tiling) => Answer::Mask(Mask::of_logits(&values, tiling.picture[0])),
                    None => Answer::Scores(values),
                };
                let mut kept = kept.lock().map_err(|_| anyhow::anyhow!("a worker has panicked"))?;
                kept.0.outcomes.push(Outcome { index, infer_ms, max_error, answer });
                if let Some(path) = path.filter(|_| kept.1.elapsed() >= state::INTERVAL) {
                    kept.0.save(path, context)?;
                    kept.1 = Instant::now();
                }
                bar.inc(1);
                Ok(())
            }
        });
        bar.finish_and_clear();
        let (state, _) = kept.into_inner().map_err(|_| anyhow::anyhow!("a worker has panicked"))?;
        state.outcomes.sort_by_key(|o| o.index);
        // What is done is kept where another image failed, too.
        if let Some(path) = path {
            state.save(path, context)?;
        }
        result.map(|_| ())
    }
}

/// The results of `work` on `items` from several threads, in any order. `worker` is called on each thread.
fn parallel<T: Send, W: FnMut(usize) -> Result<T>>(
    threads: usize,
    items: &[usize],
    worker: impl Fn() -> W + Sync,
) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let run = || {
        let mut work = worker();
        let mut results = Vec::new();
        while let Some(&item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            // The others stop at once where one fails.
            results.push(work(item).inspect_err(|_| next.store(items.len(), Ordering::Relaxed))?);
        }
        Ok(results)
    };
    let parts: Vec<Result<Vec<T>>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(run)).collect();
        handles.into_iter().map(|handle| handle.join().expect("a worker does not panic")).collect()
    });
    Ok(parts.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

impl Plan {
    /// The plan in a line.
    fn text(&self) -> String {
        let Self { engines, workers, cache_bytes, expanded, estimate } = self;
        format!(
            "{engines} images side by side on {workers} thread(s) each, {} of weights ready for use, keys {}: about {}",
            bytes(*cache_bytes),
            if *expanded { "ready for use" } else { "expanded on every use" },
            bytes(*estimate)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_done_once_and_an_error_is_reported() {
        let items: Vec<usize> = (0..100).rev().collect();
        let mut done = parallel(3, &items, || |i| Ok(i)).unwrap();
        done.sort_unstable();
        assert_eq!(done, (0..100).collect::<Vec<_>>());
        assert!(parallel(2, &items, || |i| if i == 7 { Err(anyhow::anyhow!("seven")) } else { Ok(i) }).is_err());
    }
}
