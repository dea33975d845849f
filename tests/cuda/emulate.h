// CUDA C++ on a CPU, for the kernels of kernels/cuda: what of the language they use, and a block's threads as
// fibers of one real thread.
//
// Made to find mistakes, not to be fast. The threads of a block run in an order drawn anew for each block, each
// until it waits; shared memory is filled with NaN before a block begins, so that a missing __syncthreads()
// shows; a shuffle gives what the other lane holds at that moment and nothing older; threads that wait for one
// another for ever are named. Compiled with -fsanitize=address,undefined it also finds accesses outside of
// arrays.
#pragma once
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

struct Index3 { unsigned x, y, z; };
static Index3 threadIdx, blockIdx, blockDim, gridDim;

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __shared__ static __attribute__((section("shared_memory")))
extern "C" char __start_shared_memory[] __attribute__((weak)), __stop_shared_memory[] __attribute__((weak));

namespace emulation {

enum State { READY, AT_BARRIER, AT_WARP, DONE };

// A place where one stack was left. The sanitizer must be told of each change, and follows swapcontext() only; else a
// jump does, which unlike that asks nothing of the system.
#if defined(__SANITIZE_ADDRESS__)
struct Place {
    ucontext_t context;
    void* fake_stack;
    const void* stack;
    size_t size;
};
static void change(Place& from, Place& to, bool) {
    __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.size);
    swapcontext(&from.context, &to.context);
    __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
}
#else
struct Place {
    ucontext_t context;
    jmp_buf jump;
};
static void change(Place& from, Place& to, bool first) {
    if (_setjmp(from.jump)) return;
    if (first) setcontext(&to.context);
    _longjmp(to.jump, 1);
}
#endif

struct Fiber {
    Place place;
    std::vector<char> stack;
    State state;
    Index3 index;
    unsigned mask;      // of the lanes waited for
    uint64_t offered;   // what this lane holds out to the others of its warp
    unsigned lane, warp;
    bool begun;
};

static std::vector<Fiber> fibers;
static Fiber* running;
static Place scheduler;
static std::function<void()> body;

static void resume(Fiber& fiber) {
    running = &fiber;
    threadIdx = fiber.index;
    bool first = !std::exchange(fiber.begun, true);
    change(scheduler, fiber.place, first);
}

static void wait(State state) {
    Fiber* self = running;
    self->state = state;
    change(self->place, scheduler, false);
}

// What a fiber does for ever: its part of one block after the other.
static void start() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler.stack, &scheduler.size);
#endif
    for (;;) {
        body();
        wait(DONE);
    }
}

static std::string mistake;  // of a fiber: no exception crosses from its stack to the scheduler's

[[noreturn]] static void fail(const std::string& what) {
    fibers.clear();  // some are in the middle of a kernel
    throw std::runtime_error(what + " in block (" + std::to_string(blockIdx.x) + ", " +
                             std::to_string(blockIdx.y) + ", " + std::to_string(blockIdx.z) + ")");
}

// Let those go on that have all they waited for: a block at __syncthreads(), the lanes of a mask at a shuffle.
static bool release() {
    bool all = true, any = false;
    for (Fiber& fiber : fibers) all = all && fiber.state == AT_BARRIER;
    if (all) {
        for (Fiber& fiber : fibers) fiber.state = READY;
        return true;
    }
    for (Fiber& first : fibers) {
        if (first.state != AT_WARP) continue;
        bool complete = true;
        size_t begin = first.warp * 32;
        for (unsigned lane = 0; lane < 32; lane++) {
            if (!(first.mask >> lane & 1)) continue;
            bool there = begin + lane < fibers.size();
            complete = complete && there && fibers[begin + lane].state == AT_WARP &&
                       fibers[begin + lane].mask == first.mask;
        }
        if (!complete) continue;
        for (unsigned lane = 0; lane < 32; lane++)
            if (first.mask >> lane & 1) fibers[begin + lane].state = READY;
        any = true;
    }
    return any;
}

static void begin(Fiber& fiber) {
    ucontext_t& context = fiber.place.context;
    fiber.stack.resize(64 << 10);
    getcontext(&context);
    context.uc_stack.ss_sp = fiber.stack.data();
    context.uc_stack.ss_size = fiber.stack.size();
    context.uc_link = nullptr;
    makecontext(&context, start, 0);
#if defined(__SANITIZE_ADDRESS__)
    fiber.place.stack = fiber.stack.data(), fiber.place.size = fiber.stack.size();
#endif
}

static void run_block(std::mt19937& random) {
    if (__start_shared_memory) memset(__start_shared_memory, 0xff, __stop_shared_memory - __start_shared_memory);
    size_t count = size_t(blockDim.x) * blockDim.y * blockDim.z;
    fibers.reserve(1024);  // a context must stay where it was made
    fibers.resize(count);
    std::vector<size_t> order(count);
    for (size_t i = 0; i < count; i++) {
        Fiber& fiber = fibers[i];
        if (!fiber.begun) begin(fiber);
        fiber.state = READY;
        fiber.lane = i % 32;
        fiber.warp = i / 32;
        fiber.index = {unsigned(i % blockDim.x), unsigned(i / blockDim.x % blockDim.y),
                       unsigned(i / blockDim.x / blockDim.y)};
        order[i] = i;
    }
    for (size_t left = count; left;) {
        std::shuffle(order.begin(), order.end(), random);
        for (size_t i : order) {
            if (fibers[i].state != READY) continue;
            resume(fibers[i]);
            if (!mistake.empty()) fail(std::exchange(mistake, ""));
            left -= fibers[i].state == DONE;
        }
        if (!left) break;
        bool ready = false;
        for (Fiber& fiber : fibers) ready = ready || fiber.state == READY;
        if (!ready && !release()) {
            size_t barrier = 0, warp = 0;
            for (Fiber& fiber : fibers) barrier += fiber.state == AT_BARRIER, warp += fiber.state == AT_WARP;
            fail("deadlock: " + std::to_string(barrier) + " threads wait at __syncthreads(), " +
                 std::to_string(warp) + " at a shuffle, " + std::to_string(count - barrier - warp) + " are done");
        }
    }
}

static void launch(Index3 grid, Index3 block, unsigned seed, std::function<void()> kernel) {
    if (block.x * block.y * block.z > 1024 || grid.y > 65535 || grid.z > 65535 || !grid.x || !block.x)
        throw std::runtime_error("no GPU takes such a grid and block");
    std::mt19937 random(seed);
    gridDim = grid;
    blockDim = block;
    body = std::move(kernel);
    std::vector<size_t> blocks(size_t(grid.x) * grid.y * grid.z);
    for (size_t i = 0; i < blocks.size(); i++) blocks[i] = i;
    std::shuffle(blocks.begin(), blocks.end(), random);
    for (size_t b : blocks) {
        blockIdx = {unsigned(b % grid.x), unsigned(b / grid.x % grid.y), unsigned(b / grid.x / grid.y)};
        run_block(random);
    }
}

template <class... A, size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(arguments[I])...);
}

template <class... A>
const char* run(void (*kernel)(A...), const unsigned* shape, void** arguments, size_t given, unsigned seed) {
    static std::string message;
    if (given != sizeof...(A)) return "a kernel was given another number of arguments than it has";
    try {
        launch({shape[0], shape[1], shape[2]}, {shape[3], shape[4], shape[5]}, seed,
               [=] { call(kernel, arguments, std::index_sequence_for<A...>()); });
    } catch (const std::exception& error) {
        message = error.what();
        return message.c_str();
    }
    return nullptr;
}

template <class T>
T exchange(unsigned mask, T value, unsigned source) {
    Fiber* self = running;
    if (!(mask >> self->lane & 1)) {
        mistake = "a lane shuffles that is not in its own mask";
        wait(AT_BARRIER);
    }
    static_assert(sizeof(T) <= 8);
    memcpy(&self->offered, &value, sizeof(T));
    self->mask = mask;
    wait(AT_WARP);  // until all lanes of the mask have offered theirs
    size_t other = self->warp * 32 + source;
    T result;
    if (source < 32 && (mask >> source & 1) && other < fibers.size())
        memcpy(&result, &fibers[other].offered, sizeof(T));
    else
        memset(&result, 0xff, sizeof(T));
    self->mask = mask;
    wait(AT_WARP);  // until all have taken them
    return result;
}

}  // namespace emulation

static inline void __syncthreads() { emulation::wait(emulation::AT_BARRIER); }
static inline void __syncwarp(unsigned mask = 0xffffffffu) { emulation::exchange(mask, 0, 0); }
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes) {
    return emulation::exchange(mask, value, emulation::running->lane ^ unsigned(lanes));
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source) {
    return emulation::exchange(mask, value, unsigned(source) & 31);
}
static inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }

#define EXPORT(name)                                                                                      \
    extern "C" const char* run_##name(const unsigned* shape, void** arguments, size_t given, unsigned seed) { \
        return emulation::run(name, shape, arguments, given, seed);                                       \
    }
