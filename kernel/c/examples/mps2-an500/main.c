/* An encrypted inference on a Cortex-M7 without an operating system or a heap. Program, keys and input lie in memory outside the
 * chip; all RAM is in static variables. Writes output.clx through the debugger.
 *
 *   cargo xtask c-api
 *   clang --target=thumbv7em-none-eabihf -mcpu=cortex-m7 -mfloat-abi=hard -O2 -ffreestanding -nostdlib -static -fuse-ld=lld \
 *     -Wl,--gc-sections,-T,kernel/c/examples/mps2-an500/mps2-an500.ld -Ikernel/c/include kernel/c/examples/mps2-an500/main.c \
 *     kernel/c/examples/mps2-an500/board.c \
 *     target/c-api/thumbv7em-none-eabihf/release/libcipherlens.a -o firmware
 *   qemu-system-arm -machine mps2-an500 -nographic -semihosting-config enable=on,target=native \
 *     -device loader,file=program.clp,addr=0x60000000,force-raw=on -device loader,file=keys.clk,addr=0x60100000,force-raw=on \
 *     -device loader,file=input.clx,addr=0x60D00000,force-raw=on -kernel firmware
 *
 * Exit status: 0 done, 2 self-test, 3 program, 4 keys or arena, 5 input, 6 a failure while running, 7 output, 8 watchdog,
 * 9 processor fault.
 */
#include "board.h"
#include "cipherlens.h"

/* Longer than the longest step, which `longest` in fixtures/budgets.toml tells in instructions: 2.8 million, 0.11 s at 25 MHz and
 * one instruction per cycle. */
#ifndef WATCHDOG_MS
#define WATCHDOG_MS 500
#endif

enum { SELFTEST = 2, PROGRAM, KEYS, INPUT, RUN, OUTPUT };

/* What `cipherlens compile mnist-micro` prints, rounded up. Another program asks for its own or is refused. */
static uint8_t arena[1024 * 1024] __attribute__((aligned(64)));

static cipherlens_engine engine;
static cipherlens_detail detail;

static void print(const char *text) {
  size_t bytes = 0;
  while (text[bytes] != 0) {
    bytes++;
  }
  console_write(text, bytes);
}

static void print_number(uint64_t number) {
  char digits[20];
  size_t at = sizeof digits;
  do {
    digits[--at] = (char)('0' + number % 10);
    number /= 10;
  } while (number > 0);
  console_write(digits + at, sizeof digits - at);
}

/* Ends the application with an exit status if a status is not CIPHERLENS_OK. */
static void check(int32_t status, int exit_status) {
  if (status == CIPHERLENS_OK) {
    return;
  }
  print("error ");
  print_number((uint64_t)status);
  print(": ");
  print(cipherlens_strerror(status));
  print(" (need ");
  print_number(detail.need);
  print(", have ");
  print_number(detail.have);
  print(", at ");
  print_number(detail.at);
  print(")\n");
  board_exit(exit_status);
}

/* Bytes of the file in a window: a file tells its length, little-endian, in the 8 bytes from byte 8 on. A length that the window
 * does not have is cut to the window, and then refused as damaged. */
static size_t file_bytes(const uint8_t *window, const uint8_t *end) {
  uint64_t bytes = 0;
  int i;
  for (i = 15; i >= 8; i--) {
    bytes = bytes << 8 | window[i];
  }
  return bytes < (uint64_t)(end - window) ? (size_t)bytes : (size_t)(end - window);
}

int main(void) {
  cipherlens_program info;
  cipherlens_progress progress;
  const char *layer = NULL;
  size_t written = 0;
  size_t program_bytes = file_bytes(__program, __program_end);

  /* The arena is free until there is an engine. */
  check(cipherlens_selftest(arena, sizeof arena, &detail), SELFTEST);
  check(cipherlens_program_info(__program, program_bytes, &info, &detail), PROGRAM);
  check(cipherlens_init_mapped(&engine, __program, program_bytes, __keys, file_bytes(__keys, __keys_end), arena, sizeof arena,
                               &detail),
        KEYS);
  check(cipherlens_set_input(&engine, __input, file_bytes(__input, __input_end), &detail), INPUT);

  watchdog_start(WATCHDOG_MS);
  do {
    check(cipherlens_step(&engine, &progress, &detail), RUN);
#ifndef STARVE_THE_WATCHDOG
    watchdog_feed();
#endif
    /* Names lie in the program: another address is another layer. */
    if (progress.phase == CIPHERLENS_RUNNING && progress.layer != layer) {
      layer = progress.layer;
      print_number(progress.done);
      print("/");
      print_number(progress.total);
      print(" ");
      console_write(layer, progress.layer_bytes);
      print("\n");
    }
  } while (progress.phase != CIPHERLENS_DONE);

  check(cipherlens_write_output(&engine, 0, __output, (size_t)(__output_end - __output), &written, &detail), OUTPUT);
  watchdog_feed();
  if (file_write("output.clx", __output, written) != 0) {
    print("output.clx cannot be written\n");
    return OUTPUT;
  }
  print("output.clx: ");
  print_number(written);
  print(" bytes\n");
  return 0;
}
