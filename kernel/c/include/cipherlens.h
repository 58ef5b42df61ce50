/* Cipherlens: evaluates convolutional networks on encrypted images, in firmware, without a heap.
 *
 *   static cipherlens_engine engine;            variables: all RAM is the caller's
 *   static cipherlens_detail detail;
 *   cipherlens_selftest(arena, sizeof arena, &detail);
 *   cipherlens_program_info(program, program_bytes, &info, &detail);
 *   cipherlens_init_mapped(&engine, program, program_bytes, keys, keys_bytes, arena, sizeof arena, &detail);
 *   cipherlens_set_input(&engine, input, input_bytes, &detail);
 *   do { cipherlens_step(&engine, &progress, &detail); feed_the_watchdog(); } while (progress.phase != CIPHERLENS_DONE);
 *   cipherlens_write_output(&engine, 0, output, sizeof output, &written, &detail);
 *
 * Functions return CIPHERLENS_OK or another status; cipherlens_strerror() describes it. detail may be null; if not, it gets the
 * numbers that belong to an error (listed with each status) and zeros on success. Other pointers must not be null unless
 * the function says so. Sizes are in bytes.
 *
 * What the caller promises: memory behind a pointer is as long as stated. Program, keys, reader's storage, directory, arena
 * and cache stay where and what they are while the engine is in use, and nobody else writes them. An engine is used by one
 * thread at a time; different engines are independent. Everything else is checked: null, misaligned and overlapping memory,
 * lengths, and every byte of every file. No function allocates, blocks, prints or aborts.
 *
 * Made from kernel/src/ffi.rs by `cargo xtask header`. */

#ifndef CIPHERLENS_H
#define CIPHERLENS_H

#include <stddef.h>
#include <stdint.h>

/* What functions return. The numbers are stable. */
enum cipherlens_status {
  /** no error */
  CIPHERLENS_OK = 0,
  /** a pointer is null */
  CIPHERLENS_NULL_POINTER = 1,
  /** a pointer is not aligned as its type demands */
  CIPHERLENS_MISALIGNED_POINTER = 2,
  /** a length runs past the end of the address space */
  CIPHERLENS_LENGTH = 3,
  /** memory that is written overlaps other memory in use */
  CIPHERLENS_OVERLAP = 4,
  /** the engine was not initialised, or was copied from elsewhere */
  CIPHERLENS_NOT_INITIALISED = 5,
  /** the engine is in use by another call */
  CIPHERLENS_BUSY = 6,
  /** program: not a Cipherlens file */
  CIPHERLENS_PROGRAM_MAGIC = 101,
  /** program: a Cipherlens file of another kind (need, have: numbers of the kinds) */
  CIPHERLENS_PROGRAM_KIND = 102,
  /** program: a format version that this release does not read (have: the version) */
  CIPHERLENS_PROGRAM_VERSION = 103,
  /** program: the file is cut short (need, have) */
  CIPHERLENS_PROGRAM_TRUNCATED = 104,
  /** program: the file is longer than it says (need, have) */
  CIPHERLENS_PROGRAM_TRAILING = 105,
  /** program: the file is damaged, its digest does not match (at: offset of the damaged part) */
  CIPHERLENS_PROGRAM_DIGEST = 106,
  /** program: made for another parameter set */
  CIPHERLENS_PROGRAM_SET = 107,
  /** program: a field holds a value that no valid file has (at: offset of the field) */
  CIPHERLENS_PROGRAM_FIELD = 108,
  /** parameter set: the ring degree is outside 2^11 to 2^16 (have: log2 of the degree) */
  CIPHERLENS_PARAMS_RING_DEGREE = 111,
  /** parameter set: too few or too many primes (have: ciphertext primes; at: special primes) */
  CIPHERLENS_PARAMS_PRIME_COUNT = 112,
  /** parameter set: bad digit size (have: primes for each digit) */
  CIPHERLENS_PARAMS_DIGIT = 113,
  /** parameter set: not a prime below 2^30 that is 1 modulo 4N (have: the value) */
  CIPHERLENS_PARAMS_PRIME = 114,
  /** parameter set: a prime occurs twice (have: the prime) */
  CIPHERLENS_PARAMS_REPEATED = 115,
  /** parameter set: below 128 bits of security (have: log2 QP, rounded up; need: at most this) */
  CIPHERLENS_PARAMS_INSECURE = 116,
  /** parameter set: the list of primes is cut short */
  CIPHERLENS_PARAMS_TRUNCATED = 117,
  /** parameter set: the name is not a short ASCII word */
  CIPHERLENS_PARAMS_NAME = 118,
  /** program: the header names another parameter set than the program holds */
  CIPHERLENS_PROGRAM_FINGERPRINT = 121,
  /** program: a section is malformed (at: number of the section) */
  CIPHERLENS_PROGRAM_SECTION = 122,
  /** program: the memory plan does not fit (need, have: rows) */
  CIPHERLENS_PROGRAM_PLAN = 123,
  /** program: a plaintext is malformed (at: its index) */
  CIPHERLENS_PROGRAM_PLAINTEXT = 124,
  /** program: an instruction is malformed (at: its index) */
  CIPHERLENS_PROGRAM_INSTRUCTION = 125,
  /** program: an instruction reads a buffer that holds nothing (at: instruction; have: buffer) */
  CIPHERLENS_PROGRAM_UNDEFINED = 126,
  /** program: operands have too few limbs (need, have: limbs; at: instruction) */
  CIPHERLENS_PROGRAM_LEVEL = 127,
  /** program: the scales of an instruction do not meet (at: instruction) */
  CIPHERLENS_PROGRAM_SCALE = 128,
  /** program: a scale exceeds its modulus (at: instruction) */
  CIPHERLENS_PROGRAM_HEADROOM = 129,
  /** program: an instruction overwrites its own operand (at: instruction) */
  CIPHERLENS_PROGRAM_ALIASING = 130,
  /** program: a key in use is not in the manifest (need: limbs; have: key; at: instruction) */
  CIPHERLENS_PROGRAM_MANIFEST = 131,
  /** program: more buffers than the kernel tracks (have: buffers) */
  CIPHERLENS_PROGRAM_TOO_MANY_BUFFERS = 132,
  /** keys: not a Cipherlens file */
  CIPHERLENS_KEYS_MAGIC = 201,
  /** keys: a Cipherlens file of another kind (need, have: numbers of the kinds) */
  CIPHERLENS_KEYS_KIND = 202,
  /** keys: a format version that this release does not read (have: the version) */
  CIPHERLENS_KEYS_VERSION = 203,
  /** keys: the file is cut short (need, have) */
  CIPHERLENS_KEYS_TRUNCATED = 204,
  /** keys: the file is longer than it says (need, have) */
  CIPHERLENS_KEYS_TRAILING = 205,
  /** keys: the file is damaged, a digest does not match (at: offset of the damaged part) */
  CIPHERLENS_KEYS_DIGEST = 206,
  /** keys: made for another parameter set */
  CIPHERLENS_KEYS_SET = 207,
  /** keys: a field holds a value that no valid file has (at: offset of the field) */
  CIPHERLENS_KEYS_FIELD = 208,
  /** keys: a key of the program is missing (need: limbs; at: key (0, or the rotation)) */
  CIPHERLENS_KEY_MISSING = 211,
  /** keys: a key is damaged (have: block; at: key (0, or the rotation)) */
  CIPHERLENS_KEY_DAMAGED = 212,
  /** keys: the buffer for expanded keys is too small (need, have: words) */
  CIPHERLENS_KEY_BUFFER_TOO_SMALL = 213,
  /** keys: the memory for the directory is too small (need, have) */
  CIPHERLENS_KEY_DIRECTORY_TOO_SMALL = 214,
  /** keys: the storage failed (have: what the reader returned; at: offset) */
  CIPHERLENS_KEY_READ = 215,
  /** the arena is too small (need, have) */
  CIPHERLENS_ARENA_TOO_SMALL = 301,
  /** the cache is too small (need, have) */
  CIPHERLENS_CACHE_TOO_SMALL = 302,
  /** arena and cache must start at a multiple of 4 bytes */
  CIPHERLENS_MISALIGNED = 303,
  /** the evaluation keys are for another parameter set */
  CIPHERLENS_KEY_SET = 304,
  /** the file was made for another program */
  CIPHERLENS_OTHER_PROGRAM = 305,
  /** the file and the evaluation keys come from different secret keys */
  CIPHERLENS_WRONG_KEY = 306,
  /** the ciphertext is not an input of this program (at: the index that it names) */
  CIPHERLENS_NOT_AN_INPUT = 307,
  /** the input has another level or scale than expected (need, have: limbs; at: input) */
  CIPHERLENS_INPUT_LEVEL = 308,
  /** the input holds a residue that is not below its prime (at: input) */
  CIPHERLENS_INPUT_RANGE = 309,
  /** an input has not been set (at: input) */
  CIPHERLENS_INPUT_MISSING = 310,
  /** the engine was made for fewer workers (need, have: workers) */
  CIPHERLENS_WORKERS = 311,
  /** the program already runs; reset the engine first */
  CIPHERLENS_STARTED = 312,
  /** the program has not run to its end */
  CIPHERLENS_NOT_DONE = 313,
  /** the program has no such output (at: output) */
  CIPHERLENS_NOT_AN_OUTPUT = 314,
  /** the buffer for the output is too small (need, have) */
  CIPHERLENS_OUTPUT_TOO_SMALL = 315,
  /** the buffer for the checkpoint is too small (need, have) */
  CIPHERLENS_CHECKPOINT_TOO_SMALL = 316,
  /** the memory plan was violated (at: first row; need: rows) */
  CIPHERLENS_PLAN = 317,
  /** input: not a Cipherlens file */
  CIPHERLENS_INPUT_MAGIC = 401,
  /** input: a Cipherlens file of another kind (need, have: numbers of the kinds) */
  CIPHERLENS_INPUT_KIND = 402,
  /** input: a format version that this release does not read (have: the version) */
  CIPHERLENS_INPUT_VERSION = 403,
  /** input: the file is cut short (need, have) */
  CIPHERLENS_INPUT_TRUNCATED = 404,
  /** input: the file is longer than it says (need, have) */
  CIPHERLENS_INPUT_TRAILING = 405,
  /** input: the file is damaged, its digest does not match (at: offset of the damaged part) */
  CIPHERLENS_INPUT_DIGEST = 406,
  /** input: made for another parameter set */
  CIPHERLENS_INPUT_SET = 407,
  /** input: a field holds a value that no valid file has (at: offset of the field) */
  CIPHERLENS_INPUT_FIELD = 408,
  /** checkpoint: not a Cipherlens file */
  CIPHERLENS_CHECKPOINT_MAGIC = 501,
  /** checkpoint: a Cipherlens file of another kind (need, have: numbers of the kinds) */
  CIPHERLENS_CHECKPOINT_KIND = 502,
  /** checkpoint: a format version that this release does not read (have: the version) */
  CIPHERLENS_CHECKPOINT_VERSION = 503,
  /** checkpoint: the file is cut short (need, have) */
  CIPHERLENS_CHECKPOINT_TRUNCATED = 504,
  /** checkpoint: the file is longer than it says (need, have) */
  CIPHERLENS_CHECKPOINT_TRAILING = 505,
  /** checkpoint: the file is damaged, its digest does not match (at: offset of the damaged part) */
  CIPHERLENS_CHECKPOINT_DIGEST = 506,
  /** checkpoint: made for another parameter set */
  CIPHERLENS_CHECKPOINT_SET = 507,
  /** checkpoint: a field holds a value that no valid file has (at: offset of the field) */
  CIPHERLENS_CHECKPOINT_FIELD = 508,
  /** self-test: the memory is too small (need, have) */
  CIPHERLENS_SELFTEST_MEMORY_TOO_SMALL = 601,
  /** self-test: the memory must start at a multiple of 4 bytes */
  CIPHERLENS_SELFTEST_MISALIGNED = 602,
  /** self-test: SHA-256 gives a wrong digest */
  CIPHERLENS_SELFTEST_SHA256 = 603,
  /** self-test: a transform table cannot be built (have: the prime) */
  CIPHERLENS_SELFTEST_TABLE = 604,
  /** self-test: a result differs from the known answer */
  CIPHERLENS_SELFTEST_ANSWER = 605
};

/** Bytes of memory that cipherlens_selftest() takes. */
#define CIPHERLENS_SELFTEST_BYTES 34816

/** Double words of an engine: enough on every target. */
#define CIPHERLENS_ENGINE_WORDS 192

/** Tables or cache are being built; done and total count these. */
#define CIPHERLENS_PREPARING 0

/** An instruction is being executed; done is its index, total the number of instructions. */
#define CIPHERLENS_RUNNING 1

/** All outputs are ready. */
#define CIPHERLENS_DONE 2

/** What a verified program says about itself. Sizes are in bytes. */
typedef struct cipherlens_program {
  /** Arena of an engine. */
  size_t arena_bytes;
  /** Cache for expanded weights, if one is wanted. */
  size_t cache_bytes;
  /** The largest checkpoint. */
  size_t checkpoint_bytes;
  /** Directory of streamed keys, if the key file holds what the program asks for and no more. */
  size_t key_directory_bytes;
  /** The largest input file. Inputs encrypted under the secret key take about half of it. */
  size_t input_bytes;
  /** The largest output file. */
  size_t output_bytes;
  /** Number of inputs. */
  size_t inputs;
  /** Number of outputs. */
  size_t outputs;
  /** Number of instructions. */
  size_t instructions;
  /** Identity of the program, as in its inputs and outputs. */
  uint8_t fingerprint[16];
  /** Name of the parameter set, with a 0 at its end. */
  char set[9];
} cipherlens_program;

/** Numbers that belong to an error; those that its description does not name are 0. Bytes unless it says otherwise. */
typedef struct cipherlens_detail {
  /** What is needed or was expected. */
  uint64_t need;
  /** What there is or was found. */
  uint64_t have;
  /** Where: an offset, an index or a key. */
  uint64_t at;
} cipherlens_detail;

/**
 * Memory for an engine, zeroed before the first use, and again after a call that did not return (a task that was stopped). It must
 * not be copied or moved while it holds an engine.
 */
typedef struct cipherlens_engine {
  uint64_t opaque[CIPHERLENS_ENGINE_WORDS];
} cipherlens_engine;

/** Storage that holds a key file from its byte 0 on and cannot be mapped: SD card, serial flash. */
typedef struct cipherlens_reader {
  /** Passed on to read. */
  void *context;
  /** Bytes that the storage holds; nothing beyond them is read. */
  uint64_t bytes;
  /**
   * Fills out with the bytes from offset on. Returns 0, or the device's own number for what happened, which arrives in
   * cipherlens_detail.have. It must not call a function for the same engine.
   */
  uint32_t (*read)(void *context, uint64_t offset, uint8_t *out, size_t bytes);
} cipherlens_reader;

/** What a step did. */
typedef struct cipherlens_progress {
  /** CIPHERLENS_PREPARING, CIPHERLENS_RUNNING or CIPHERLENS_DONE. */
  uint32_t phase;
  /** Bytes of the layer's name. */
  uint32_t layer_bytes;
  /** Name of the layer, UTF-8 without a 0 at its end, in the program's memory; null unless an instruction is executed. */
  const char *layer;
  /** Tables or weights done, or the instruction. */
  size_t done;
  /** Of how many. */
  size_t total;
} cipherlens_progress;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/** Version of the library, as "1.2.3". */
const char *cipherlens_version(void);

/** sizeof(cipherlens_engine) in the library. If it is not the header's, the two do not belong together. */
size_t cipherlens_engine_bytes(void);

/** A description of a status in English, as a constant string; never null. */
const char *cipherlens_strerror(int32_t status);

/**
 * Verifies the program of program_bytes bytes at program and says what it needs. Takes some milliseconds: the whole file is
 * hashed.
 */
int32_t cipherlens_program_info(const uint8_t *program,
                                size_t program_bytes,
                                struct cipherlens_program *info,
                                struct cipherlens_detail *detail);

/**
 * Compares this processor's results with a known answer, at power-on. memory has at least CIPHERLENS_SELFTEST_BYTES bytes,
 * aligned to 4; it may be the arena, before an engine takes it.
 *
 * Unless the error is about the memory, nothing that this processor computes can be trusted.
 */
int32_t cipherlens_selftest(uint8_t *memory,
                            size_t bytes,
                            struct cipherlens_detail *detail);

/**
 * Makes an engine with keys that are in memory as a whole, in flash or mapped. Program and keys are verified and stay where
 * they are; the arena is aligned to 4 and has the bytes that cipherlens_program_info() tells.
 *
 * On an error there is no engine. An engine that was there is gone.
 */
int32_t cipherlens_init_mapped(struct cipherlens_engine *engine,
                               const uint8_t *program,
                               size_t program_bytes,
                               const uint8_t *keys,
                               size_t keys_bytes,
                               uint8_t *arena,
                               size_t arena_bytes,
                               struct cipherlens_detail *detail);

/**
 * Makes an engine that reads keys from storage, block by block when it needs them, each checked against its digest. reader is
 * copied. directory has the bytes that cipherlens_program_info() tells; for a key file with other keys besides, detail.need of
 * CIPHERLENS_KEY_DIRECTORY_TOO_SMALL tells. Otherwise as cipherlens_init_mapped().
 */
int32_t cipherlens_init_streamed(struct cipherlens_engine *engine,
                                 const uint8_t *program,
                                 size_t program_bytes,
                                 const struct cipherlens_reader *reader,
                                 uint8_t *directory,
                                 size_t directory_bytes,
                                 uint8_t *arena,
                                 size_t arena_bytes,
                                 struct cipherlens_detail *detail);

/**
 * Gives the engine a cache for expanded weights, aligned to 4, with the bytes that cipherlens_program_info() tells, or fewer for
 * a part of the weights: the first image fills it, and later ones are faster. Starts over.
 */
int32_t cipherlens_set_cache(struct cipherlens_engine *engine,
                             uint8_t *cache,
                             size_t cache_bytes,
                             struct cipherlens_detail *detail);

/** Loads an encrypted input; the file says which. It is copied into the arena. */
int32_t cipherlens_set_input(struct cipherlens_engine *engine,
                             const uint8_t *input,
                             size_t input_bytes,
                             struct cipherlens_detail *detail);

/**
 * Does a bounded piece of work, at most one pass over one limb: feed the watchdog after each. progress may be null; when its
 * phase is CIPHERLENS_DONE, the outputs are ready.
 *
 * After CIPHERLENS_INPUT_MISSING nothing is lost: set it and go on. After a key that is missing or damaged, every step returns
 * the same error until cipherlens_reset().
 */
int32_t cipherlens_step(struct cipherlens_engine *engine,
                        struct cipherlens_progress *progress,
                        struct cipherlens_detail *detail);

/** Steps to the end. */
int32_t cipherlens_run(struct cipherlens_engine *engine, struct cipherlens_detail *detail);

/** Tells the bytes of output file number index. */
int32_t cipherlens_output_bytes(struct cipherlens_engine *engine,
                                size_t index,
                                size_t *bytes,
                                struct cipherlens_detail *detail);

/** Writes output number index as a ciphertext file, and its length to written. On an error out is unchanged. */
int32_t cipherlens_write_output(struct cipherlens_engine *engine,
                                size_t index,
                                uint8_t *out,
                                size_t out_bytes,
                                size_t *written,
                                struct cipherlens_detail *detail);

/** Writes the state between two steps as a checkpoint file, and its length to written. On an error out is unchanged. */
int32_t cipherlens_checkpoint(struct cipherlens_engine *engine,
                              uint8_t *out,
                              size_t out_bytes,
                              size_t *written,
                              struct cipherlens_detail *detail);

/**
 * Goes on where an engine for the same program and keys made a checkpoint, on any machine: the outputs are the same bits. On an
 * error the engine is unchanged.
 */
int32_t cipherlens_resume(struct cipherlens_engine *engine,
                          const uint8_t *checkpoint,
                          size_t checkpoint_bytes,
                          struct cipherlens_detail *detail);

/** Starts over for the next image: inputs must be set again. Tables and cache are kept. */
int32_t cipherlens_reset(struct cipherlens_engine *engine);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* CIPHERLENS_H */
