/* What the application uses of the board: a console, files and an exit through the debugger (Arm semihosting, which QEMU
 * offers too), and the watchdog. */
#ifndef BOARD_H
#define BOARD_H

#include <stddef.h>
#include <stdint.h>

/* Memory outside the chip, which the flasher fills: each window holds one file from its start on. See mps2-an500.ld. */
extern const uint8_t __program[], __program_end[];
extern const uint8_t __keys[], __keys_end[];
extern const uint8_t __input[], __input_end[];
extern uint8_t __output[], __output_end[];

/* The application; its result is the exit status. */
int main(void);

void console_write(const char *text, size_t bytes);

/* Returns 0 if the file was written. */
int file_write(const char *name, const uint8_t *data, size_t bytes);

void board_exit(int status) __attribute__((noreturn));

/* Starts the watchdog: unless it is fed in time, it interrupts with status 8; a product would let it reset. */
void watchdog_start(uint32_t milliseconds);
void watchdog_feed(void);

#endif
