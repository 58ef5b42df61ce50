//! `defmt` output of the types that hold more than a log line can take: their shape, not their bytes.

use crate::engine::Engine;
use crate::keys::{KeySource, MappedKeys, RamKeys, StoredKeys, StreamedKeys};
use crate::math::{Backend, NttTable};
use crate::program::{PlainForm, Program, Transform};
use crate::scratch::Workspace;
use crate::wire::{CiphertextView, KeyBundle, KeyDirectory};
use defmt::{Format, Formatter, write};

impl Format for NttTable<'_> {
    fn format(&self, f: Formatter<'_>) {
        write!(f, "NTT table: N = {=usize}, p = {=u32}", self.n(), self.modulus.value());
    }
}

impl Format for Transform<'_> {
    fn format(&self, f: Formatter<'_>) {
        write!(
            f,
            "{=usize} sources, {=usize} results, {=usize} baby steps, {=usize} giant steps, {=usize} terms",
            self.sources(),
            self.outputs(),
            self.babies(),
            self.giants(),
            self.terms()
        );
    }
}

impl Format for PlainForm<'_> {
    fn format(&self, f: Formatter<'_>) {
        match self {
            Self::Scalar(value) => write!(f, "scalar {=i64}", value),
            Self::Compact { bytes, wide } => write!(f, "compact: {=usize} bytes, wide: {=bool}", bytes.len(), wide),
            Self::Ntt { bytes } => write!(f, "NTT form: {=usize} bytes", bytes.len()),
        }
    }
}

impl Format for Program<'_> {
    fn format(&self, f: Formatter<'_>) {
        write!(
            f,
            "program {=[u8; 16]:02x} on {}: {=usize} instructions",
            self.fingerprint(),
            self.set(),
            self.instructions()
        );
    }
}

impl Format for CiphertextView<'_> {
    fn format(&self, f: Formatter<'_>) {
        self.header.format(f);
    }
}

impl Format for KeyBundle<'_> {
    fn format(&self, f: Formatter<'_>) {
        self.directory().format(f);
    }
}

impl Format for KeyDirectory<'_> {
    fn format(&self, f: Formatter<'_>) {
        write!(f, "{=usize} keys of {=[u8; 16]:02x}, log2 N = {=u32}", self.len(), self.key_id(), self.log_n());
    }
}

impl Format for MappedKeys<'_> {
    fn format(&self, f: Formatter<'_>) {
        write!(f, "mapped: {}", self.bundle());
    }
}

impl Format for RamKeys<'_> {
    fn format(&self, f: Formatter<'_>) {
        write!(f, "expanded: {}", self.bundle());
    }
}

impl<R> Format for StreamedKeys<'_, R> {
    fn format(&self, f: Formatter<'_>) {
        write!(f, "streamed: {}", self.directory());
    }
}

impl<R> Format for StoredKeys<'_, R> {
    fn format(&self, f: Formatter<'_>) {
        match self {
            Self::Mapped(keys) => keys.format(f),
            Self::Streamed(keys) => keys.format(f),
        }
    }
}

impl<B: Backend> Format for Workspace<'_, B> {
    fn format(&self, f: Formatter<'_>) {
        write!(f, "{} on {=str}: {}, {}", self.set, self.backend.name(), self.tables, self.work);
    }
}

impl<K: KeySource, B: Backend> Format for Engine<'_, '_, K, B> {
    fn format(&self, f: Formatter<'_>) {
        write!(f, "engine ({=str}) for {}: {}", self.backend(), self.program(), self.counts());
    }
}
