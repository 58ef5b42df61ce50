//! `inspect`: what a file is, with all its digests checked.

mod batch_program;

use super::batch::{self, is_batch};
use super::context::Context;
use super::files;
use super::report::{SECURITY_BITS, primes_line, security_line};
use super::units::{bytes, pairs, table};
use anyhow::{Context as _, Result};
use cipherlens::compile::report::{bits, key_bytes, moduli};
use cipherlens::files::{FileError, hex, set_by_fingerprint};
use cipherlens::keys::{PublicKey, SecretKey};
use cipherlens::meta::Meta;
use cipherlens::random::SIGMA;
use cipherlens::security::{CostModel, estimate};
use cipherlens_kernel::keys::KeyRequest;
use cipherlens_kernel::params::{ParamSet, max_log_qp};
use cipherlens_kernel::program::{Instruction, Operation, Port, Program};
use cipherlens_kernel::wire::{
    BundleShape, CheckpointHeader, CiphertextView, FileKind, Header, KeyBundle, Role, Stage,
};
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct Arguments {
    /// A program, evaluation keys, a ciphertext, a secret key (of which nothing secret is shown) or a public key
    file: PathBuf,
    /// List every modulus in use with its bound, the level estimated for it, and what both assume
    #[arg(long)]
    security: bool,
    /// The program that the file belongs to, for the parameter set of keys and ciphertexts
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// What there is to say of a file: for scripts and for people.
struct Findings {
    object: Map<String, Value>,
    lines: Vec<(&'static str, String)>,
    tables: String,
    /// The set of the program that the file belongs to.
    custom: Option<ParamSet>,
}

/// A modulus in use.
#[derive(Serialize)]
struct Modulus {
    used_by: String,
    limbs: usize,
    n: usize,
    log_qp: f64,
    /// The most that the table allows for this N.
    max_log_qp: u32,
    /// Bits that the table's bound stands for.
    security_bits: u32,
    /// Level by an estimate of its own.
    estimated_bits: f64,
}

impl Modulus {
    fn new(used_by: String, set: &ParamSet, limbs: usize, log_qp: f64) -> Self {
        Self {
            used_by,
            limbs,
            n: set.n(),
            log_qp,
            max_log_qp: max_log_qp(set.log_n()),
            security_bits: SECURITY_BITS,
            estimated_bits: estimate(set.n(), log_qp, CostModel::Matzov).bits(),
        }
    }
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<()> {
    let path = &arguments.file;
    let file = files::secret_bytes(path, context)?;
    let custom = match &arguments.program {
        Some(path) => {
            let blob = files::read(path)?;
            Some(if is_batch(&blob) {
                *batch::program(path, &blob)?.set()
            } else {
                *files::program(path, &blob)?.set()
            })
        }
        None => None,
    };
    let found = Findings::of(path, &file, custom, arguments.security, context.verbose)?;
    context.result(&Value::Object(found.object.clone()), || pairs(&found.lines) + &found.tables)
}

impl Findings {
    fn of(path: &Path, file: &[u8], custom: Option<ParamSet>, security: bool, verbose: bool) -> Result<Self> {
        let inside = || path.display().to_string();
        let header = Header::peek(file).with_context(inside)?;
        let mut found = Self { object: Map::new(), lines: Vec::new(), tables: String::new(), custom };
        found.say("file", "path", path.display().to_string(), json!(path));
        found.say("kind", "kind", header.kind.name().into(), json!(kind(header.kind)));
        found.say("size", "bytes", format!("{}, digests verified", bytes(file.len())), json!(file.len()));
        let moduli = match header.kind {
            FileKind::Program => found.program(&files::program(path, file)?, file.len(), verbose),
            FileKind::BatchProgram => found.batch_program(&batch::program(path, file)?),
            FileKind::BatchCheckpoint => {
                Header::peek(file).and_then(|h| h.check_digest(file, file.len())).with_context(inside)?;
                Vec::new()
            }
            FileKind::Keys => found.keys(file, &header).with_context(inside)?,
            FileKind::Ciphertext => found.ciphertext(file).with_context(inside)?,
            FileKind::Checkpoint => found.checkpoint(file).with_context(inside)?,
            FileKind::SecretKey => {
                let key = SecretKey::from_bytes(file, found.custom.as_ref()).map(|key| (*key.set(), key.id()));
                found.key(key, "secret key: full set").with_context(inside)?
            }
            _ => {
                let key = PublicKey::from_bytes(file, found.custom.as_ref()).map(|key| (*key.set(), key.id()));
                found.key(key, "public key").with_context(inside)?
            }
        };
        if security {
            found.security(&moduli);
        }
        Ok(found)
    }

    /// A line for people and a field for scripts.
    fn say(&mut self, name: &'static str, field: &str, text: String, value: Value) {
        self.lines.push((name, text));
        self.object.insert(field.into(), value);
    }

    fn field(&mut self, field: &str, value: Value) {
        self.object.insert(field.into(), value);
    }

    fn set(&mut self, set: &ParamSet, modulus: &str, log_qp: f64) {
        self.say("set", "set", security_line(set.name(), set.n(), modulus, log_qp), json!(set.name()));
        self.field("set_fingerprint", json!(hex(&set.fingerprint())));
        self.field("n", json!(set.n()));
        self.field("log_qp", json!(log_qp));
        self.field("max_log_qp", json!(max_log_qp(set.log_n())));
        self.field("security_bits", json!(SECURITY_BITS));
    }

    /// The set with this fingerprint, or what can be said without it.
    fn known_set(&mut self, fingerprint: &[u8; 16], limbs: usize, special: bool) -> Option<ParamSet> {
        let set = set_by_fingerprint(fingerprint, self.custom.as_ref()).ok();
        match &set {
            Some(set) => self.set(set, if special { "QP" } else { "Q" }, set.log_modulus(limbs, special)),
            None => {
                let text = format!("{}, made for a program: name it with --program", hex(fingerprint));
                self.say("set", "set", text, Value::Null);
                self.field("set_fingerprint", json!(hex(fingerprint)));
            }
        }
        set
    }

    fn program(&mut self, program: &Program<'_>, len: usize, verbose: bool) -> Vec<Modulus> {
        let used = moduli(program);
        let set = program.set();
        let fingerprint = hex(&program.fingerprint());
        self.say("program", "fingerprint", fingerprint.clone(), json!(fingerprint));
        self.set(set, "QP", used.first().map_or(0.0, |m| m.log_qp));
        let (q, p) = (bits(set.q()), bits(set.p()));
        self.say("primes", "prime_bits", primes_line(&q, &p, set.digit()), json!(q));
        self.field("special_bits", json!(p));
        self.field("digit", json!(set.digit()));
        let meta: Option<Meta> = serde_json::from_slice(program.meta()).ok();
        if let Some(meta) = &meta {
            self.say("model", "model", format!("{}, for {}", meta.model, meta.mode), json!(meta.model));
            self.field("mode", json!(meta.mode));
            let inputs = meta.inputs.iter().map(|i| (&i.name, &i.shape, i.ciphertexts.len()));
            let outputs = meta.outputs.iter().map(|o| (&o.name, &o.shape, 1));
            let text = |(name, shape, count): (&String, &Vec<usize>, usize)| {
                format!("{name} {shape:?} in {count} ciphertext{}", if count == 1 { "" } else { "s" })
            };
            let shape = |(name, shape, count): (&String, &Vec<usize>, usize)| json!({ "name": name, "shape": shape, "ciphertexts": count });
            let values = |v: Vec<Value>| Value::Array(v);
            let join = |v: Vec<String>| v.join("; ");
            self.say("input", "inputs", join(inputs.clone().map(text).collect()), values(inputs.map(shape).collect()));
            self.say(
                "output",
                "outputs",
                join(outputs.clone().map(text).collect()),
                values(outputs.map(shape).collect()),
            );
            self.say(
                "predicted",
                "predicted_ms",
                format!("{:.1} ms on one thread, {:.1} bits at the output", meta.predicted_ms, meta.precision_bits),
                json!(meta.predicted_ms),
            );
            self.field("precision_bits", json!(meta.precision_bits));
            self.field("output_error", json!(meta.output_error));
        }
        let (row, tables) = (set.n() * 4, program.table_rows());
        let buffers =
            (0..program.buffers()).filter_map(|i| program.buffer(i)).map(|b| b.limbs * 2 * row).sum::<usize>();
        self.say(
            "memory",
            "arena_bytes",
            format!(
                "arena {} (tables {}, {} buffers in {}, scratch {}); optional cache {}",
                bytes(program.arena_bytes()),
                bytes(tables * row),
                program.buffers(),
                bytes(program.scratch_row() * row),
                bytes(program.arena_bytes().saturating_sub((tables + program.scratch_row()) * row)),
                bytes(program.cache_bytes())
            ),
            json!(program.arena_bytes()),
        );
        self.field("buffer_bytes", json!(buffers));
        self.field("cache_bytes", json!(program.cache_bytes()));
        self.field("program_bytes", json!(len));
        self.say(
            "keys",
            "key_bytes",
            format!("{} evaluation keys in {}", program.keys(), bytes(key_bytes(program))),
            json!(key_bytes(program)),
        );
        let instructions: Vec<_> = (0..program.instructions()).filter_map(|i| program.instruction(i)).collect();
        self.say(
            "code",
            "instruction_count",
            format!("{} instructions, {} plaintexts", instructions.len(), program.plaintexts()),
            json!(instructions.len()),
        );
        self.stages(meta.as_ref());
        self.instructions(program, &instructions, verbose);
        let requests: Vec<_> = (0..program.keys()).filter_map(|i| program.key(i)).collect();
        self.manifest(&requests, set.special(), set.digit(), set.log_n(), verbose);
        let ports = |count: usize, port: &dyn Fn(usize) -> Option<Port>| {
            let ports = (0..count).filter_map(port);
            ports.map(|p| json!({ "limbs": p.limbs, "log_scale": p.scale.log2() })).collect::<Vec<_>>()
        };
        self.field("input_ciphertexts", json!(ports(program.inputs(), &|i| program.input(i))));
        self.field("output_ciphertexts", json!(ports(program.outputs(), &|i| program.output(i))));
        used.into_iter().map(|m| Modulus::new(m.used_by, set, m.limbs, m.log_qp)).collect()
    }

    fn stages(&mut self, meta: Option<&Meta>) {
        let stages = meta.map_or(&[][..], |m| &m.stages);
        if !stages.is_empty() {
            let row = |s: &cipherlens::meta::MetaStage| vec![s.name.clone(), s.limbs.to_string(), s.strategy.clone()];
            let rows: Vec<_> = stages.iter().map(row).collect();
            self.tables += &format!("\n{}", table(&["layer", "limbs", "evaluated as"], &rows));
        }
        self.field("layers", json!(stages));
    }

    fn instructions(&mut self, program: &Program<'_>, list: &[Instruction<'_>], verbose: bool) {
        let rows: Vec<[String; 6]> = list
            .iter()
            .map(|i| {
                [
                    program.layer_name(i.layer).to_string(),
                    operation(&i.operation),
                    i.limbs.to_string(),
                    if i.rescale { "yes".into() } else { String::new() },
                    format!("{:.1}", i.scale.log2()),
                    i.dst.to_string(),
                ]
            })
            .collect();
        if verbose {
            let cells: Vec<Vec<String>> = rows.iter().map(|r| r.to_vec()).collect();
            let header = ["layer", "instruction", "limbs", "rescale", "log2 scale", "buffer"];
            self.tables += &format!("\n{}", table(&header, &cells));
        }
        let objects = list.iter().zip(&rows).map(|(i, [layer, operation, ..])| {
            json!({
                "layer": layer, "operation": operation, "limbs": i.limbs, "rescale": i.rescale,
                "log_scale": i.scale.log2(), "buffer": i.dst,
            })
        });
        self.field("instructions", Value::Array(objects.collect()));
    }

    fn manifest(&mut self, requests: &[KeyRequest], special: usize, digit: usize, log_n: u32, verbose: bool) {
        let shape = BundleShape { log_n, special, digit, requests };
        let size = |r: &KeyRequest| (r.limbs + special) * shape.block_bytes(r.limbs);
        if verbose {
            let row = |r: &KeyRequest| vec![r.kind.to_string(), r.limbs.to_string(), bytes(size(r))];
            let rows: Vec<_> = requests.iter().map(row).collect();
            self.tables += &format!("\n{}", table(&["key", "limbs", "size"], &rows));
        }
        let object = |r: &KeyRequest| json!({ "rotation": r.kind.code(), "limbs": r.limbs, "bytes": size(r) });
        self.field("keys", Value::Array(requests.iter().map(object).collect()));
    }

    fn keys(&mut self, file: &[u8], header: &Header) -> Result<Vec<Modulus>> {
        let bundle = KeyBundle::new_checked(file)?;
        bundle.verify()?;
        let requests: Vec<_> = (0..bundle.len()).filter_map(|i| bundle.entry(i)).map(|e| e.request).collect();
        let most = requests.iter().map(|r| r.limbs).max().unwrap_or(0);
        self.say("key", "key_id", hex(&bundle.key_id()), json!(hex(&bundle.key_id())));
        let set = self.known_set(&header.set, most, true);
        self.say(
            "keys",
            "key_count",
            format!("{} evaluation keys of up to {most} limbs, seeded", requests.len()),
            json!(requests.len()),
        );
        let digit =
            (1..=3).find(|&d| requests.iter().all(|r| bundle.digits(r.limbs) == r.limbs.div_ceil(d))).unwrap_or(1);
        self.manifest(&requests, bundle.special(), digit, bundle.log_n(), true);
        let modulus = |set: &ParamSet, limbs: usize| {
            let keys = requests.iter().filter(|r| r.limbs == limbs).count();
            Modulus::new(format!("{keys} keys"), set, limbs, set.log_modulus(limbs, true))
        };
        let mut levels: Vec<usize> = requests.iter().map(|r| r.limbs).collect();
        levels.sort_unstable_by(|a, b| b.cmp(a));
        levels.dedup();
        Ok(set.map_or(Vec::new(), |set| levels.into_iter().map(|l| modulus(&set, l)).collect()))
    }

    fn ciphertext(&mut self, file: &[u8]) -> Result<Vec<Modulus>> {
        let header = CiphertextView::new_checked(file)?.header;
        let role = match header.role {
            Role::Input => "input",
            Role::Output => "output",
        };
        self.say("role", "role", format!("{role} {}", header.index), json!(role));
        self.field("index", json!(header.index));
        self.say("key", "key_id", hex(&header.key_id), json!(hex(&header.key_id)));
        self.say("program", "program", hex(&header.program), json!(hex(&header.program)));
        let set = self.known_set(&header.set, header.limbs, false);
        self.say("level", "limbs", format!("{} limbs", header.limbs), json!(header.limbs));
        self.say("scale", "log_scale", format!("2^{:.2}", header.scale.log2()), json!(header.scale.log2()));
        let form = if header.seed.is_some() { "seeded" } else { "full" };
        self.say("form", "form", form.into(), json!(form));
        let modulus =
            |set: ParamSet| Modulus::new("ciphertext".into(), &set, header.limbs, set.log_modulus(header.limbs, false));
        Ok(set.map(modulus).into_iter().collect())
    }

    fn checkpoint(&mut self, file: &[u8]) -> Result<Vec<Modulus>> {
        let (header, _) = CheckpointHeader::read(file)?;
        self.say("key", "key_id", hex(&header.key_id), json!(hex(&header.key_id)));
        self.say("program", "program", hex(&header.program), json!(hex(&header.program)));
        self.say("set", "set_fingerprint", hex(&header.set), json!(hex(&header.set)));
        let CheckpointHeader { instruction, phase, pass, rows, .. } = header;
        let place = match header.stage {
            Stage::Before => format!("before instruction {instruction}"),
            Stage::Within => format!("instruction {instruction}, phase {phase}, pass {pass}"),
            Stage::Done => "done".into(),
        };
        self.say("position", "instruction", place, json!(instruction));
        self.say("rows", "rows", format!("{rows} of {}", bytes(header.row_bytes())), json!(rows));
        Ok(Vec::new())
    }

    /// A secret or public key; nothing of a secret key but its identity.
    fn key(&mut self, key: Result<(ParamSet, [u8; 16]), FileError>, used_by: &str) -> Result<Vec<Modulus>> {
        let secret = used_by.starts_with("secret");
        let (set, id) = match key {
            Err(FileError::UnknownSet(fingerprint)) => {
                self.known_set(&fingerprint, 0, secret);
                return Ok(Vec::new());
            }
            key => key?,
        };
        self.say("key", "key_id", hex(&id), json!(hex(&id)));
        let log_qp = set.log_modulus(set.limbs(), secret);
        self.set(&set, if secret { "QP" } else { "Q" }, log_qp);
        Ok(vec![Modulus::new(used_by.into(), &set, set.limbs(), log_qp)])
    }

    /// Every modulus with its bound, and what the bound rests on.
    fn security(&mut self, moduli: &[Modulus]) {
        let row = |m: &Modulus| {
            vec![
                m.limbs.to_string(),
                m.n.to_string(),
                format!("{:.2}", m.log_qp),
                m.max_log_qp.to_string(),
                format!("{:.0}", m.estimated_bits),
                m.used_by.clone(),
            ]
        };
        let rows: Vec<_> = moduli.iter().map(row).collect();
        self.tables += &format!("\n{}", table(&["limbs", "N", "log2 QP", "bound", "level", "used by"], &rows));
        self.tables += &format!(
            "  secret: uniform ternary; error: Gaussian, sigma {SIGMA}; bound: the row N of eprint 2024/463 for \
             {SECURITY_BITS} bits, classical;\n  level: bits, estimated by primal and dual attack (MATZOV's costs); key 0 \
             relinearises\n"
        );
        self.field("secret_distribution", json!("uniform ternary"));
        self.field("error_sigma", json!(SIGMA));
        self.field("security_table", json!("eprint 2024/463, classical, ternary secret"));
        self.field("moduli", json!(moduli));
    }
}

fn kind(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Program => "program",
        FileKind::Keys => "evaluation_keys",
        FileKind::Ciphertext => "ciphertext",
        FileKind::SecretKey => "secret_key",
        FileKind::PublicKey => "public_key",
        FileKind::Checkpoint => "checkpoint",
        FileKind::BatchProgram => "batch_program",
        FileKind::BatchCheckpoint => "batch_checkpoint",
        _ => "unknown",
    }
}

fn operation(operation: &Operation<'_>) -> String {
    match operation {
        Operation::LinearTransform { transform: t } => {
            format!("linear transform: {} terms, {} baby x {} giant steps", t.terms(), t.babies(), t.giants())
        }
        Operation::RotateSum { rotations, identity, .. } => {
            format!("sum of {} rotations", rotations.len() / 4 + usize::from(*identity))
        }
        Operation::MulPlain { .. } => "product with weights".into(),
        Operation::AddPlain { .. } => "bias".into(),
        Operation::Add { .. } => "sum".into(),
        Operation::Mul { a, b } if a == b => "square".into(),
        Operation::Mul { .. } => "product".into(),
        Operation::Rescale { .. } => "rescale".into(),
    }
}
