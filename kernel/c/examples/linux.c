/* A gateway on Linux: evaluates a program on an encrypted input, with evaluation keys, and writes the encrypted output.
 *
 *   cargo xtask c-api
 *   cc -Ikernel/c/include kernel/c/examples/linux.c target/c-api/x86_64-unknown-linux-gnu/release/libcipherlens.a -o linux
 *
 *   linux [--cache] [--stream-keys] PROGRAM KEYS INPUT OUTPUT
 *
 * Files are mapped, not copied. --cache keeps expanded weights, which pays from the second image on; --stream-keys reads keys
 * by blocks with pread(), as firmware reads them from an SD card.
 *
 * Exit status: 0 done, 1 usage or a file that cannot be opened or written, 2 self-test, 3 program, 4 keys or arena, 5 input,
 * 6 a failure while running, 7 output.
 */
#define _POSIX_C_SOURCE 200809L

#include "cipherlens.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES = 1, SELFTEST, PROGRAM, KEYS, INPUT, RUN, OUTPUT };

typedef struct {
  int descriptor;
  const uint8_t *data;
  size_t bytes;
} file;

static cipherlens_engine engine;
static cipherlens_detail detail;

static void system_failure(const char *name) {
  fprintf(stderr, "%s: %s\n", name, strerror(errno));
  exit(FILES);
}

/* Ends the program with an exit status if a status is not CIPHERLENS_OK. */
static void check(int32_t status, int exit_status) {
  if (status == CIPHERLENS_OK) {
    return;
  }
  fprintf(stderr, "error %d: %s (need %llu, have %llu, at %llu)\n", (int)status, cipherlens_strerror(status),
          (unsigned long long)detail.need, (unsigned long long)detail.have, (unsigned long long)detail.at);
  exit(exit_status);
}

static file map(const char *name) {
  struct stat status;
  file f;
  void *data;
  f.descriptor = open(name, O_RDONLY);
  if (f.descriptor < 0 || fstat(f.descriptor, &status) != 0) {
    system_failure(name);
  }
  f.bytes = (size_t)status.st_size;
  /* An empty file cannot be mapped; the library says what is wrong with it. */
  data = f.bytes == 0 ? (void *)"" : mmap(NULL, f.bytes, PROT_READ, MAP_PRIVATE, f.descriptor, 0);
  if (data == MAP_FAILED) {
    system_failure(name);
  }
  f.data = data;
  return f;
}

static void *memory(size_t bytes) {
  /* malloc(0) may be null, which is no memory. */
  void *data = malloc(bytes > 0 ? bytes : 1);
  if (data == NULL) {
    system_failure("memory");
  }
  return data;
}

/* The reader of cipherlens_init_streamed(): context points to the descriptor of the key file. */
static uint32_t read_keys(void *context, uint64_t offset, uint8_t *out, size_t bytes) {
  int descriptor = *(const int *)context;
  while (bytes > 0) {
    ssize_t done = pread(descriptor, out, bytes, (off_t)offset);
    if (done < 0 && errno == EINTR) {
      continue;
    }
    if (done <= 0) {
      return done == 0 ? EIO : (uint32_t)errno;
    }
    out += done;
    bytes -= (size_t)done;
    offset += (uint64_t)done;
  }
  return 0;
}

static void write_file(const char *name, const uint8_t *data, size_t bytes) {
  FILE *out = fopen(name, "wb");
  if (out == NULL || fwrite(data, 1, bytes, out) != bytes || fclose(out) != 0) {
    system_failure(name);
  }
}

int main(int argc, char **argv) {
  int cached = 0, streamed = 0;
  file program, keys, input;
  cipherlens_program info;
  cipherlens_progress progress;
  cipherlens_reader reader;
  uint8_t *arena, *output;
  const char *layer = NULL;
  size_t written = 0;

  for (; argc > 1 && strncmp(argv[1], "--", 2) == 0; argc--, argv++) {
    if (strcmp(argv[1], "--cache") == 0) {
      cached = 1;
    } else if (strcmp(argv[1], "--stream-keys") == 0) {
      streamed = 1;
    } else {
      argc = 0;
    }
  }
  if (argc != 5) {
    fprintf(stderr, "usage: linux [--cache] [--stream-keys] PROGRAM KEYS INPUT OUTPUT\n");
    return FILES;
  }
  if (cipherlens_engine_bytes() != sizeof engine) {
    fprintf(stderr, "cipherlens.h is not the header of the library, which is version %s\n", cipherlens_version());
    return FILES;
  }
  program = map(argv[1]);
  keys = map(argv[2]);
  input = map(argv[3]);

  arena = memory(CIPHERLENS_SELFTEST_BYTES);
  check(cipherlens_selftest(arena, CIPHERLENS_SELFTEST_BYTES, &detail), SELFTEST);
  free(arena);

  check(cipherlens_program_info(program.data, program.bytes, &info, &detail), PROGRAM);
  printf("set %s, %zu instructions, arena %zu bytes\n", info.set, info.instructions, info.arena_bytes);
  arena = memory(info.arena_bytes);
  if (streamed) {
    reader.context = &keys.descriptor;
    reader.bytes = keys.bytes;
    reader.read = read_keys;
    check(cipherlens_init_streamed(&engine, program.data, program.bytes, &reader, memory(info.key_directory_bytes),
                                   info.key_directory_bytes, arena, info.arena_bytes, &detail),
          KEYS);
  } else {
    check(cipherlens_init_mapped(&engine, program.data, program.bytes, keys.data, keys.bytes, arena, info.arena_bytes,
                                 &detail),
          KEYS);
  }
  if (cached) {
    check(cipherlens_set_cache(&engine, memory(info.cache_bytes), info.cache_bytes, &detail), KEYS);
  }

  check(cipherlens_set_input(&engine, input.data, input.bytes, &detail), INPUT);
  do {
    check(cipherlens_step(&engine, &progress, &detail), RUN);
    /* Names lie in the program: another address is another layer. */
    if (progress.phase == CIPHERLENS_RUNNING && progress.layer != layer) {
      layer = progress.layer;
      printf("%zu/%zu %.*s\n", progress.done, progress.total, (int)progress.layer_bytes, layer);
    }
  } while (progress.phase != CIPHERLENS_DONE);

  output = memory(info.output_bytes);
  check(cipherlens_write_output(&engine, 0, output, info.output_bytes, &written, &detail), OUTPUT);
  write_file(argv[4], output, written);
  printf("%s: %zu bytes\n", argv[4], written);
  return 0;
}
