// Fibers with stacks of their own. A switch saves the registers that a call keeps; on other CPUs, ucontext does it.
#include "fibers.h"

#include <sys/mman.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "cuda_runtime.h"
#include "ithaca/error.h"

#if defined(__x86_64__)
// void ithaca_switch(void** leave, void* enter): stores the stack pointer in *leave and goes on at `enter`.
extern "C" void ithaca_switch(void** leave, void* enter);
asm(R"(
.text
.globl ithaca_switch
.type ithaca_switch, @function
ithaca_switch:
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
.size ithaca_switch, .-ithaca_switch
)");
#else
#include <ucontext.h>
#endif

namespace ithaca::cuda::shim {
namespace {

constexpr std::size_t kStackBytes = 128 << 10;
constexpr int kWarp = 32;

void fiber_main();

// A place to go on from.
class Context {
 public:
#if defined(__x86_64__)
  void prepare(std::byte* stack) {
    // Six registers, then where to "return" to; a function expects the stack 8 bytes off a multiple of 16.
    auto* top = reinterpret_cast<void**>(stack + kStackBytes - 64);
    top[0] = reinterpret_cast<void*>(fiber_main);
    top[1] = nullptr;
    pointer_ = top - 6;
    std::fill_n(static_cast<void**>(pointer_), 6, nullptr);
  }
  static void go(Context& leave, Context& enter) { ithaca_switch(&leave.pointer_, enter.pointer_); }

 private:
  void* pointer_ = nullptr;
#else
  void prepare(std::byte* stack) {
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack;
    context_.uc_stack.ss_size = kStackBytes;
    context_.uc_link = nullptr;
    makecontext(&context_, fiber_main, 0);
  }
  static void go(Context& leave, Context& enter) { swapcontext(&leave.context_, &enter.context_); }

 private:
  ucontext_t context_;
#endif
};

// Counts who has come; everyone goes on when all have.
struct Barrier {
  int expected = 0, arrived = 0;
  unsigned passed = 0;
};

struct Warp {
  Barrier barrier;
  std::uint64_t brought[2][kWarp] = {};
};

struct Fiber {
  Context context;
  Place place;
  Barrier* waits = nullptr;
  unsigned passed = 0;  // of the barrier, when the fiber came to it
  unsigned exchanges = 0;
  bool done = false;
};

struct Unmap {
  std::size_t bytes;
  void operator()(std::byte* stacks) const { munmap(stacks, bytes); }
};

struct Machine {
  std::unique_ptr<std::byte, Unmap> stacks{nullptr, Unmap{0}};
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  Barrier block;
  bool any = false;
  std::vector<uint4> shared;
  Context scheduler;
  Fiber* running = nullptr;
  const std::function<void()>* kernel = nullptr;
  std::exception_ptr error;
  Order order = Order::forward;
};

Machine& machine() {
  static thread_local Machine own;
  return own;
}

void leave() {
  Machine& m = machine();
  Context::go(m.running->context, m.scheduler);
}

void wait(Barrier& barrier) {
  Fiber& own = *machine().running;
  if (++barrier.arrived == barrier.expected) {
    barrier.arrived = 0;
    ++barrier.passed;
    return;
  }
  own.waits = &barrier;
  own.passed = barrier.passed;
  leave();
}

void fiber_main() {
  Machine& m = machine();
  try {
    (*m.kernel)();
  } catch (...) {
    m.error = std::current_exception();
  }
  m.running->done = true;
  leave();
  std::terminate();  // a fiber that is done is not entered again
}

void check_sizes(const char* name, dim3 grid, dim3 block, std::size_t shared_bytes) {
  const std::size_t threads = std::size_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > 1024 || threads % kWarp != 0)
    fail(name, ": a block of ", threads, " threads; kernels use whole warps, and 1024 threads at most");
  if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    fail(name, ": a grid of ", grid.x, " x ", grid.y, " x ", grid.z, " blocks; most are 2^31 - 1 x 65535 x 65535");
  if (shared_bytes > 163 << 10) fail(name, ": ", shared_bytes, " bytes of shared memory; an A100 has 163 KiB");
}

// Fibers, and the order in which they get their turns.
std::vector<std::size_t> make_fibers(Machine& m, dim3 block) {
  const std::size_t threads = std::size_t{block.x} * block.y * block.z;
  if (m.stacks.get_deleter().bytes < threads * kStackBytes) {
    const std::size_t bytes = threads * kStackBytes;
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail("no memory for ", threads, " stacks of ", kStackBytes, " bytes");
    m.stacks = {static_cast<std::byte*>(memory), Unmap{bytes}};
  }
  m.fibers.assign(threads, Fiber{});
  m.warps.assign(threads / kWarp, Warp{});
  std::vector<std::size_t> turns(threads);
  for (std::size_t i = 0; i < threads; ++i) turns[i] = i;
  if (m.order == Order::backward) std::reverse(turns.begin(), turns.end());
  if (m.order == Order::shuffled) std::shuffle(turns.begin(), turns.end(), std::mt19937(1));
  return turns;
}

void run_block(Machine& m, const char* name, uint3 at, dim3 grid, dim3 block, const std::vector<std::size_t>& turns) {
  m.block = Barrier{static_cast<int>(turns.size())};
  for (Warp& warp : m.warps) warp.barrier = Barrier{kWarp};
  std::fill(m.shared.begin(), m.shared.end(), uint4{~0u, ~0u, ~0u, ~0u});
  for (std::size_t i = 0; i < turns.size(); ++i) {
    const auto t = static_cast<unsigned>(i);
    Fiber& fiber = m.fibers[i];
    fiber = Fiber{};
    fiber.place = {{t % block.x, t / block.x % block.y, t / (block.x * block.y)}, at, block, grid};
    fiber.context.prepare(m.stacks.get() + i * kStackBytes);
  }
  for (std::size_t left = turns.size(); left > 0;) {
    bool moved = false;
    for (const std::size_t i : turns) {
      Fiber& fiber = m.fibers[i];
      if (fiber.done || (fiber.waits != nullptr && fiber.waits->passed == fiber.passed)) continue;
      fiber.waits = nullptr;
      moved = true;
      m.running = &fiber;
      Context::go(m.scheduler, fiber.context);
      if (m.error) std::rethrow_exception(std::exchange(m.error, nullptr));
      left -= fiber.done;
    }
    if (!moved) fail(name, ": ", left, " threads of block ", at.x, " wait at a barrier that the others never reach");
  }
}

}  // namespace

void run_in(Order order) { machine().order = order; }
const Place& place() { return machine().running->place; }

int lane() { return static_cast<int>((machine().running - machine().fibers.data()) % kWarp); }

void wait_for_block() { wait(machine().block); }

bool any_of_block(bool value) {
  Machine& m = machine();
  wait(m.block);
  if (m.running == m.fibers.data()) m.any = false;
  wait(m.block);
  m.any = m.any || value;
  wait(m.block);
  return m.any;
}

const std::uint64_t* exchange(std::uint64_t bits) {
  Machine& m = machine();
  Warp& warp = m.warps[static_cast<std::size_t>(m.running - m.fibers.data()) / kWarp];
  // Two buffers: lanes that run ahead fill the other one, and no further until all have come there.
  std::uint64_t* brought = warp.brought[m.running->exchanges++ % 2];
  brought[lane()] = bits;
  wait(warp.barrier);
  return brought;
}

void* dynamic_shared() { return machine().shared.data(); }

void fail_kernel(const char* message) { fail(message); }

namespace {

Queue& queue() {
  static Queue own;
  return own;
}

void run(const char* name, dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& kernel) {
  Machine& m = machine();
  const std::vector<std::size_t> turns = make_fibers(m, block);
  m.shared.assign((shared_bytes + 15) / 16, uint4{});
  m.kernel = &kernel;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) run_block(m, name, {x, y, z}, grid, block, turns);
}

}  // namespace

void queue_launches(Queue to) { queue() = std::move(to); }

void launch(const char* name, dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
            const std::vector<std::uintptr_t>& words, std::function<void()> kernel) {
  check_sizes(name, grid, block, shared_bytes);
  if (!queue()) return run(name, grid, block, shared_bytes, kernel);
  queue()(stream, name, words, [=] { run(name, grid, block, shared_bytes, kernel); });
}

}  // namespace ithaca::cuda::shim
