// Runs CUDA C kernels on a CPU, to check what they compute. Each CUDA thread is a fiber; a block
// runs to its next barrier thread by thread, so that a missing barrier shows as a read of poison.
// Warp operations, tensor core products and asynchronous copies are done as the hardware's
// documents describe them, from what each lane brought.
//
// LANEWISE_ORDER=reverse runs threads from the last to the first. LANEWISE_COPIES=early lets
// asynchronous copies happen at once; the default is as late as the kernel's waits allow.
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <utility>
#include <vector>

using std::max;
using std::min;

struct lw_index {
  unsigned x, y, z;
};

enum lw_state { LW_RUN, LW_WARP, LW_BLOCK, LW_DONE };

struct lw_copy {
  void* to;
  const void* from;
  bool present;
};

struct lw_fiber {
  void* stack_pointer;
  lw_state state;
  lw_index index;
  std::vector<std::vector<lw_copy>> groups;
  std::vector<lw_copy> open;
};

struct lw_lane {
  alignas(16) unsigned char bytes[64];
  const void* pointer;
};

static lw_index lw_block_index, lw_block_size, lw_grid_size;
static lw_fiber* lw_current;
static void* lw_scheduler;
static lw_lane lw_lanes[32][32];
static unsigned char* lw_dynamic;
static bool lw_early;

#define blockIdx lw_block_index
#define blockDim lw_block_size
#define gridDim lw_grid_size
#define threadIdx (lw_current->index)

extern "C" void lw_switch(void** save, void* to);
asm(R"(
.text
.weak lw_switch
.type lw_switch,@function
lw_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size lw_switch,.-lw_switch
)");

static void lw_fail(const char* what) {
  fprintf(stderr, "stand-in GPU: %s in block (%u,%u,%u) thread %u\n", what, blockIdx.x, blockIdx.y,
          blockIdx.z, lw_current == 0 ? 0 : lw_current->index.x);
  abort();
}

static void lw_wait(lw_state state) {
  lw_current->state = state;
  lw_switch(&lw_current->stack_pointer, lw_scheduler);
}

static inline void __syncthreads() { lw_wait(LW_BLOCK); }
static inline void __syncwarp() { lw_wait(LW_WARP); }

// Shared variables lie in a section of their own, which is poisoned before each block.
#define __shared__ __attribute__((section("lwshared"))) static
extern "C" char __attribute__((weak)) __start_lwshared[];
extern "C" char __attribute__((weak)) __stop_lwshared[];

#define DEVICE static inline __attribute__((unused))
#define KERNEL extern "C" void
#define __launch_bounds__(...)
#define DYNAMIC_SHARED(name) unsigned char* name = lw_dynamic

static inline float __uint_as_float(unsigned x) {
  float y;
  memcpy(&y, &x, 4);
  return y;
}
static inline unsigned __float_as_uint(float x) {
  unsigned y;
  memcpy(&y, &x, 4);
  return y;
}
static inline float __int_as_float(int x) { return __uint_as_float((unsigned)x); }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline float __fdividef(float a, float b) { return a / b; }

struct float2 {
  float x, y;
} __attribute__((aligned(8)));
struct float4 {
  float x, y, z, w;
} __attribute__((aligned(16)));
struct uint2 {
  unsigned x, y;
} __attribute__((aligned(8)));
struct uint4 {
  unsigned x, y, z, w;
} __attribute__((aligned(16)));
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
  return {x, y, z, w};
}

static inline unsigned short lw_bf16(float x) {
  unsigned bits = __float_as_uint(x);
  if (x != x) {
    return 0x7fff;
  }
  return (unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline float lw_float(unsigned short x) { return __uint_as_float((unsigned)x << 16); }

static inline unsigned packBf16(float low, float high) {
  return (unsigned)lw_bf16(high) << 16 | lw_bf16(low);
}

static inline float fastExp2(float x) { return exp2f(x); }

static inline unsigned lw_lane_id() { return threadIdx.x % 32; }
static inline lw_lane* lw_warp() { return lw_lanes[threadIdx.x / 32]; }

template <typename V>
static V lw_exchange(V v, unsigned source) {
  memcpy(lw_warp()[lw_lane_id()].bytes, &v, sizeof v);
  __syncwarp();
  V result;
  memcpy(&result, lw_warp()[source].bytes, sizeof v);
  __syncwarp();
  return result;
}

template <typename V>
static V __shfl_xor_sync(unsigned, V v, int mask) {
  return lw_exchange(v, lw_lane_id() ^ mask);
}
template <typename V>
static V __shfl_sync(unsigned, V v, int lane) {
  return lw_exchange(v, lane & 31);
}
template <typename V>
static V __shfl_up_sync(unsigned, V v, int delta) {
  unsigned lane = lw_lane_id();
  return lw_exchange(v, lane >= (unsigned)delta ? lane - delta : lane);
}

static void lw_matrices(unsigned (&r)[4], const void* row, bool transposed) {
  if ((uintptr_t)row % 16 != 0) {
    lw_fail("ldmatrix from a misaligned row");
  }
  unsigned lane = lw_lane_id();
  lw_warp()[lane].pointer = row;
  __syncwarp();
  unsigned out[4];
  for (unsigned i = 0; i < 4; i++) {
    unsigned low = 2 * (lane % 4);
    const unsigned short* a;
    const unsigned short* b;
    if (transposed) {
      a = (const unsigned short*)lw_warp()[i * 8 + low].pointer + lane / 4;
      b = (const unsigned short*)lw_warp()[i * 8 + low + 1].pointer + lane / 4;
    } else {
      a = (const unsigned short*)lw_warp()[i * 8 + lane / 4].pointer + low;
      b = a + 1;
    }
    out[i] = (unsigned)*b << 16 | *a;
  }
  __syncwarp();
  memcpy(r, out, sizeof out);
}

static void loadMatrices(unsigned (&r)[4], const void* row) { lw_matrices(r, row, false); }
static void loadMatricesTransposed(unsigned (&r)[4], const void* row) {
  lw_matrices(r, row, true);
}

static void multiplyAdd(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  unsigned lane = lw_lane_id();
  unsigned own[6] = {a[0], a[1], a[2], a[3], b0, b1};
  memcpy(lw_warp()[lane].bytes, own, sizeof own);
  __syncwarp();
  for (unsigned i = 0; i < 4; i++) {
    unsigned row = lane / 4, column = 2 * (lane % 4) + (i & 1);
    float sum = 0.0f;
    for (unsigned pair = 0; pair < 8; pair++) {
      unsigned high = pair / 4;
      const unsigned* left = (const unsigned*)lw_warp()[row * 4 + pair % 4].bytes;
      const unsigned* right = (const unsigned*)lw_warp()[column * 4 + pair % 4].bytes;
      unsigned x = left[2 * high + i / 2], y = right[4 + high];
      sum += lw_float((unsigned short)x) * lw_float((unsigned short)y);
      sum += lw_float((unsigned short)(x >> 16)) * lw_float((unsigned short)(y >> 16));
    }
    d[i] += sum;
  }
  __syncwarp();
}

static void lw_do_copy(const lw_copy& copy) {
  if (copy.present) {
    memcpy(copy.to, copy.from, 16);
  } else {
    memset(copy.to, 0, 16);
  }
}

static void copyAsync16(void* shared, const void* global, bool present) {
  if ((uintptr_t)shared % 16 != 0 || (uintptr_t)global % 16 != 0) {
    lw_fail("cp.async with a misaligned address");
  }
  lw_copy copy = {shared, global, present};
  if (lw_early) {
    lw_do_copy(copy);
  } else {
    lw_current->open.push_back(copy);
  }
}

static void commitCopies() {
  lw_current->groups.push_back(std::move(lw_current->open));
  lw_current->open.clear();
}

template <int pending>
static void waitCopies() {
  auto& groups = lw_current->groups;
  while (groups.size() > (size_t)pending) {
    for (const lw_copy& copy : groups.front()) {
      lw_do_copy(copy);
    }
    groups.erase(groups.begin());
  }
}

// The launch -------------------------------------------------------------------------------------

#define LW_STACK (128 << 10)
#define LW_DYNAMIC (256 << 10)

static void (*lw_call)(void**);
static void** lw_parameters;

static void lw_enter() {
  lw_call(lw_parameters);
  lw_wait(LW_DONE);
  abort();
}

static void lw_run_block(std::vector<lw_fiber>& fibers, unsigned char* stacks, bool reverse) {
  unsigned count = (unsigned)fibers.size();
  for (unsigned t = 0; t < count; t++) {
    lw_fiber& fiber = fibers[t];
    fiber.state = LW_RUN;
    fiber.index = {t, 0, 0};
    fiber.groups.clear();
    fiber.open.clear();
    void** top = (void**)(stacks + (size_t)(t + 1) * LW_STACK);
    top -= 3;  // as after a call, 8 bytes past a multiple of 16
    *--top = (void*)lw_enter;
    for (int i = 0; i < 6; i++) {
      *--top = 0;
    }
    fiber.stack_pointer = top;
  }
  unsigned warps = (count + 31) / 32;
  for (;;) {
    unsigned done = 0, blocked = 0;
    for (unsigned w = 0; w < warps; w++) {
      unsigned warp = reverse ? warps - 1 - w : w;
      unsigned from = warp * 32, to = min(count, from + 32);
      for (;;) {
        unsigned states[4] = {0, 0, 0, 0};
        for (unsigned i = from; i < to; i++) {
          lw_fiber& fiber = fibers[reverse ? from + to - 1 - i : i];
          if (fiber.state == LW_RUN) {
            lw_current = &fiber;
            lw_switch(&lw_scheduler, fiber.stack_pointer);
          }
        }
        for (unsigned i = from; i < to; i++) {
          states[fibers[i].state]++;
        }
        if (states[LW_WARP] == 0) {
          done += states[LW_DONE];
          blocked += states[LW_BLOCK];
          break;
        }
        if (states[LW_WARP] != to - from || to - from != 32) {
          lw_fail("a warp operation that not all lanes take part in");
        }
        for (unsigned i = from; i < to; i++) {
          fibers[i].state = LW_RUN;
        }
      }
    }
    if (done == count) {
      return;
    }
    if (done + blocked != count) {
      lw_fail("lost threads");
    }
    for (lw_fiber& fiber : fibers) {
      if (fiber.state == LW_BLOCK) {
        fiber.state = LW_RUN;
      }
    }
  }
}

static void lw_launch(void (*call)(void**), void** parameters, lw_index grid, unsigned block,
                      unsigned shared) {
  static unsigned char* stacks = (unsigned char*)mmap(
      0, (size_t)1024 * LW_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  static unsigned char* dynamic = (unsigned char*)mmap(
      0, LW_DYNAMIC, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const char* order = getenv("LANEWISE_ORDER");
  const char* copies = getenv("LANEWISE_COPIES");
  bool reverse = order != 0 && strcmp(order, "reverse") == 0;
  lw_early = copies != 0 && strcmp(copies, "early") == 0;
  lw_call = call;
  lw_parameters = parameters;
  lw_grid_size = grid;
  lw_block_size = {block, 1, 1};
  // What is allowed ends where the room ends, so that a write past it is noticed.
  lw_dynamic = dynamic + LW_DYNAMIC - (shared + 127) / 128 * 128;
  std::vector<lw_fiber> fibers(block);
  for (unsigned z = 0; z < grid.z; z++) {
    for (unsigned y = 0; y < grid.y; y++) {
      for (unsigned x = 0; x < grid.x; x++) {
        lw_block_index = {x, y, z};
        memset(lw_dynamic, 0xff, dynamic + LW_DYNAMIC - lw_dynamic);
        if (__start_lwshared != 0) {
          memset(__start_lwshared, 0xff, __stop_lwshared - __start_lwshared);
        }
        lw_run_block(fibers, stacks, reverse);
      }
    }
  }
}

template <typename... A, size_t... I>
static void lw_apply(void (*kernel)(A...), void** p, std::index_sequence<I...>) {
  kernel(*(std::remove_reference_t<A>*)p[I]...);
}

template <typename... A>
static void lw_unpack(void (*kernel)(A...), void** p) {
  lw_apply(kernel, p, std::index_sequence_for<A...>());
}

#define LW_EXPORT(name)                                                                    \
  static void lw_call_##name(void** p) { lw_unpack(name, p); }                             \
  extern "C" __attribute__((visibility("default"))) void lw_launch_##name(                 \
      void** p, const unsigned* grid, unsigned block, unsigned shared) {                   \
    lw_launch(lw_call_##name, p, {grid[0], grid[1], grid[2]}, block, shared);              \
  }
