//! What is in a batch program.

use super::{Findings, Modulus, bits};
use crate::cli::report::primes_line;
use crate::cli::units::bytes;
use cipherlens::batch::BatchMeta;
use cipherlens::files::hex;
use cipherlens_kernel::batch::BatchProgram;
use serde_json::json;

impl Findings {
    pub(super) fn batch_program(&mut self, program: &BatchProgram<'_>) -> Vec<Modulus> {
        let set = program.set();
        let log_qp = set.log_modulus(program.limbs(), true);
        let fingerprint = hex(&program.fingerprint());
        self.say("program", "fingerprint", fingerprint.clone(), json!(fingerprint));
        self.set(set, "QP", log_qp);
        let (q, p) = (bits(set.q()), bits(set.p()));
        self.say("primes", "prime_bits", primes_line(&q, &p, set.digit()), json!(q));
        self.field("special_bits", json!(p));
        if let Ok(meta) = serde_json::from_slice::<BatchMeta>(program.meta()) {
            self.say("model", "model", format!("{}, for batches", meta.model), json!(meta.model));
            self.field("mode", json!(meta.mode));
            self.say(
                "predicted",
                "precision_bits",
                format!("{:.1} bits at the output", meta.precision_bits),
                json!(meta.precision_bits),
            );
        }
        self.say("batch", "images", format!("up to {} images, one in each slot", set.n()), json!(set.n()));
        self.say(
            "ciphertexts",
            "inputs",
            format!("{} in, {} out", program.inputs(), program.outputs()),
            json!(program.inputs()),
        );
        self.field("outputs", json!(program.outputs()));
        self.say(
            "memory",
            "arena_bytes",
            format!("arena {} for one thread", bytes(program.arena_bytes(1))),
            json!(program.arena_bytes(1)),
        );
        self.say(
            "work",
            "instructions",
            format!("{} instructions", program.instructions()),
            json!(program.instructions()),
        );
        vec![Modulus::new("every ciphertext and key".into(), set, program.limbs(), log_qp)]
    }
}
