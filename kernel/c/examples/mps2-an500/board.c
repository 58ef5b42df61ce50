/* Start-up and devices of an MPS2 board with a Cortex-M7 (Arm application note 500). */
#include "board.h"

extern uint32_t __stack_top[], __data[], __data_end[], __bss[], __bss_end[];
extern const uint32_t __data_source[];

enum { WATCHDOG_BARKED = 8, FAULT = 9 };

#define REGISTER(address) (*(volatile uint32_t *)(address))

/* Coprocessor access: the FPU is off after a reset. */
#define CPACR REGISTER(0xE000ED88)

/* The CMSDK watchdog, clocked at 25 MHz. */
#define WATCHDOG_LOAD REGISTER(0x40008000)
#define WATCHDOG_CONTROL REGISTER(0x40008008)
#define WATCHDOG_CLEAR REGISTER(0x4000800C)
#define WATCHDOG_LOCK REGISTER(0x40008C00)
enum { WATCHDOG_UNLOCK = 0x1ACCE551, WATCHDOG_INTERRUPT_AND_RESET = 3, CLOCK_KHZ = 25000 };

static void __attribute__((noinline, noreturn)) start(void) {
  const uint32_t *from = __data_source;
  uint32_t *to;
  for (to = __data; to < __data_end; to++) {
    *to = *from++;
  }
  for (to = __bss; to < __bss_end; to++) {
    *to = 0;
  }
  board_exit(main());
}

/* The entry point. */
void reset(void) __attribute__((noreturn));

void reset(void) {
  CPACR |= 0xFu << 20;
  __asm__ volatile("dsb\n isb" ::: "memory");
  start();
}

static void non_maskable(void) {
  static const char text[] = "the watchdog was not fed\n";
  console_write(text, sizeof text - 1);
  board_exit(WATCHDOG_BARKED);
}

static void fault(void) { board_exit(FAULT); }

typedef union {
  uint32_t *stack;
  void (*handler)(void);
} vector;

__attribute__((section(".vectors"), used)) static const vector vectors[16] = {
    {.stack = __stack_top}, {.handler = reset}, {.handler = non_maskable}, {.handler = fault},
    {.handler = fault},     {.handler = fault}, {.handler = fault},
};

static int semihost(int operation, const void *parameter) {
  register int r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = parameter;
  __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

void console_write(const char *text, size_t bytes) {
  for (; bytes > 0; bytes--) {
    semihost(0x03 /* SYS_WRITEC */, text++);
  }
}

int file_write(const char *name, const uint8_t *data, size_t bytes) {
  size_t length = 0;
  uint32_t open[3], write[3], close[1];
  int handle, left;
  while (name[length] != 0) {
    length++;
  }
  open[0] = (uint32_t)name;
  open[1] = 5; /* "wb" */
  open[2] = (uint32_t)length;
  handle = semihost(0x01 /* SYS_OPEN */, open);
  if (handle == -1) {
    return -1;
  }
  write[0] = (uint32_t)handle;
  write[1] = (uint32_t)data;
  write[2] = (uint32_t)bytes;
  left = semihost(0x05 /* SYS_WRITE */, write);
  close[0] = (uint32_t)handle;
  return semihost(0x02 /* SYS_CLOSE */, close) == 0 && left == 0 ? 0 : -1;
}

void board_exit(int status) {
  /* ADP_Stopped_ApplicationExit. */
  uint32_t block[2] = {0x20026, 0};
  block[1] = (uint32_t)status;
  for (;;) {
    semihost(0x20 /* SYS_EXIT_EXTENDED */, block);
  }
}

void watchdog_start(uint32_t milliseconds) {
  WATCHDOG_LOCK = WATCHDOG_UNLOCK;
  WATCHDOG_LOAD = milliseconds * CLOCK_KHZ;
  WATCHDOG_CONTROL = WATCHDOG_INTERRUPT_AND_RESET;
  WATCHDOG_LOCK = 0;
}

void watchdog_feed(void) {
  WATCHDOG_LOCK = WATCHDOG_UNLOCK;
  WATCHDOG_CLEAR = 1; /* Counts from the start again. */
  WATCHDOG_LOCK = 0;
}
