// A device of this machine: allocations between guard pages, streams that are drained in an order that is drawn.
#include "device.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "fibers.h"
#include "ithaca/error.h"

// Counts its records; a wait is for the last one that was issued before it.
struct CUevent_st {
  int number;
  unsigned flags = 0;
  long issued = 0;
  long done = 0;
  std::chrono::steady_clock::time_point at = {};  // of the last record that was done
};

namespace {

struct Call {
  enum Kind { work, record, wait } kind;
  std::string name;
  std::function<void()> run;
  cudaEvent_t event = nullptr;
  long turn = 0;  // of the event
  std::function<void()> begin = {};  // of work that other processes have a part in
  std::function<bool()> is_done = {};
  std::string touches = "";
};

}  // namespace

struct CUstream_st {
  int number;
  std::deque<Call> calls;
};

// The calls of a capture, in the order in which they were issued.
struct CUgraph_st {
  std::vector<std::pair<cudaStream_t, Call>> calls;
};
struct CUgraphExec_st {
  CUgraph_st graph;
};

namespace {

constexpr std::size_t kPage = 4096;

std::size_t pages(std::size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

struct Allocation {
  std::size_t bytes;
  int number;
};

struct Machine {
  std::mutex mutex;
  std::vector<std::unique_ptr<CUstream_st>> streams;
  std::vector<std::unique_ptr<CUevent_st>> events;
  std::map<const std::byte*, Allocation> allocations;
  int allocated = 0;
  std::mt19937 random;
  bool in_order = false;
  std::string failure;
  std::FILE* log = nullptr;

  Machine() {
    const char* seed = std::getenv("ITHACA_SIMULATED_ORDER");
    in_order = seed && std::strcmp(seed, "issued") == 0;
    random.seed(seed && !in_order ? static_cast<unsigned>(std::atoi(seed)) : 1u);
    if (const char* path = std::getenv("ITHACA_SIMULATED_LOG")) {
      const char* rank = std::getenv("RANK");
      log = std::fopen((path + (rank ? "-" + std::string(rank) : "")).c_str(), "w");
    }
  }

  bool may_run(CUstream_st& stream) {
    if (stream.calls.empty()) return false;
    Call& next = stream.calls.front();
    if (next.begin) std::exchange(next.begin, nullptr)();
    if (next.is_done) return next.is_done();
    return next.kind != Call::wait || next.event->done >= next.turn;
  }

  // Whether there was one to run: not where the next ones need other processes.
  bool run_one() {
    std::vector<CUstream_st*> ready;
    bool needs_others = false;
    for (const auto& stream : streams) {
      if (stream && may_run(*stream)) ready.push_back(stream.get());
      needs_others = needs_others || (stream && !stream->calls.empty() && stream->calls.front().is_done);
    }
    if (ready.empty()) {
      if (!needs_others) failure = "every stream waits for another one";
      return false;
    }
    CUstream_st& stream = *ready[in_order ? 0 : random() % ready.size()];
    const Call call = std::move(stream.calls.front());
    stream.calls.pop_front();
    if (call.kind == Call::record) {
      call.event->done = std::max(call.event->done, call.turn);
      call.event->at = std::chrono::steady_clock::now();
    }
    if (call.kind != Call::work || !failure.empty()) return true;
    try {
      call.run();
    } catch (const std::exception& error) {
      failure = call.name + ": " + error.what();
    }
    return true;
  }

  cudaError_t drain(const CUstream_st* only, bool waits = true) {
    const auto busy = [&] {
      for (const auto& stream : streams) {
        if (stream && (!only || stream.get() == only) && !stream->calls.empty()) return true;
      }
      return false;
    };
    while (failure.empty() && busy()) {
      if (run_one() || !failure.empty()) continue;
      if (!waits) return cudaErrorNotReady;
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    return failure.empty() ? cudaSuccess : cudaErrorLaunchFailure;
  }

  void issue(cudaStream_t stream, Call call) {
    if (call.kind == Call::record) call.turn = ++call.event->issued;
    if (call.kind == Call::wait) call.turn = call.event->issued;
    if (log) {
      const char* kinds[] = {"run", "record", "wait"};
      const std::string what = call.event ? std::to_string(call.event->number) : call.name;
      note(stream, kinds[call.kind], what + call.touches);
    }
    stream->calls.push_back(std::move(call));
  }

  void note(cudaStream_t stream, const char* kind, const std::string& what) {
    if (!log) return;
    std::fprintf(log, "%d %s %s\n", stream->number, kind, what.c_str());
    std::fflush(log);
  }
};

Machine& machine() {
  static Machine own;
  return own;
}

// The capture that this thread has begun.
thread_local std::unique_ptr<CUgraph_st> capturing;

cudaError_t submit(cudaStream_t stream, Call call) {
  if (!stream) return cudaErrorInvalidValue;
  std::lock_guard lock(machine().mutex);
  if (!machine().failure.empty()) return cudaErrorLaunchFailure;
  if (capturing) {
    if (call.kind == Call::wait && call.event->issued > 0) {
      bool inside = false;
      for (const auto& [other, before] : capturing->calls) {
        inside = inside || (before.kind == Call::record && before.event == call.event);
      }
      if (!inside) return cudaErrorStreamCaptureIsolation;
    }
    capturing->calls.emplace_back(stream, std::move(call));
  } else {
    machine().issue(stream, std::move(call));
  }
  return cudaSuccess;
}

// Guard pages on both sides: a kernel that leaves its arena ends the process. All bits set: NaN until it is written.
void* allocate(std::size_t bytes) {
  const std::size_t inner = pages(bytes);
  void* all = mmap(nullptr, inner + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (all == MAP_FAILED) return nullptr;
  auto* base = static_cast<std::byte*>(all) + kPage;
  mprotect(base, inner, PROT_READ | PROT_WRITE);
  std::memset(base, 0xff, inner);
  std::lock_guard lock(machine().mutex);
  machine().allocations[base] = {bytes, machine().allocated++};
  return base;
}

cudaError_t release(void* pointer) {
  if (!pointer) return cudaSuccess;
  std::lock_guard lock(machine().mutex);
  auto* base = static_cast<std::byte*>(pointer);
  const auto found = machine().allocations.find(base);
  if (found == machine().allocations.end()) return cudaErrorInvalidValue;
  munmap(base - kPage, pages(found->second.bytes) + 2 * kPage);
  machine().allocations.erase(found);
  return cudaSuccess;
}

}  // namespace

namespace ithaca::cuda::device {

namespace {

// " r0+4096:64" for reading 64 bytes at 4096 of the first allocation; throws Error for bytes that are in none.
std::string print(const char* what, const std::vector<Touch>& touches) {
  std::string text;
  for (const auto& [how, from, bytes] : touches) {
    require_allocated(what, from, bytes);
    std::lock_guard lock(machine().mutex);
    const auto* at = static_cast<const std::byte*>(from);
    for (const auto& [base, own] : machine().allocations) {
      if (at < base || at + bytes > base + own.bytes) continue;
      text += std::string(" ") + how + std::to_string(own.number) + "+" + std::to_string(at - base) + ":" + std::to_string(bytes);
    }
  }
  return text;
}

// " p0+4096:0" for each word that points into an allocation.
std::string print_pointers(const std::vector<std::uintptr_t>& words) {
  std::string text;
  std::lock_guard lock(machine().mutex);
  for (const std::uintptr_t word : words) {
    for (const auto& [base, own] : machine().allocations) {
      const std::uintptr_t offset = word - reinterpret_cast<std::uintptr_t>(base);
      if (offset < own.bytes) text += " p" + std::to_string(own.number) + "+" + std::to_string(offset) + ":0";
    }
  }
  return text;
}

void submit_or_throw(cudaStream_t stream, Call call) {
  const std::string name = call.name;
  const cudaError_t code = submit(stream, std::move(call));
  if (code != cudaSuccess) throw Error(name + ": " + cudaGetErrorString(code));
}

}  // namespace

void enqueue(cudaStream_t stream, std::string name, const std::vector<Touch>& touches, std::function<void()> work) {
  Call call{Call::work, std::move(name), std::move(work)};
  call.touches = print(call.name.c_str(), touches);
  submit_or_throw(stream, std::move(call));
}

void enqueue(cudaStream_t stream, std::string name, const std::vector<Touch>& touches, Shared work) {
  Call call{Call::work, std::move(name), std::move(work.end), nullptr, 0, std::move(work.begin), std::move(work.is_done)};
  call.touches = print(call.name.c_str(), touches);
  submit_or_throw(stream, std::move(call));
}

namespace {

// Kernels wait in their stream like everything else.
const bool kernels_wait = [] {
  shim::queue_launches([](void* stream, const char* name, const std::vector<std::uintptr_t>& words,
                          std::function<void()> launch) {
    Call call{Call::work, name, std::move(launch)};
    call.touches = print_pointers(words);
    submit_or_throw(static_cast<cudaStream_t>(stream), std::move(call));
  });
  return true;
}();

}  // namespace

void require_allocated(const char* what, const void* pointer, std::size_t bytes) {
  const auto* at = static_cast<const std::byte*>(pointer);
  std::lock_guard lock(machine().mutex);
  for (const auto& [base, own] : machine().allocations) {
    if (at >= base && at + bytes <= base + own.bytes) return;
  }
  throw Error(std::string(what) + " is given " + std::to_string(bytes) + " bytes that are not inside an arena");
}

}  // namespace ithaca::cuda::device

using ithaca::cuda::device::require_allocated;

namespace {

cudaError_t touching(cudaStream_t stream, const char* name, const std::vector<ithaca::cuda::device::Touch>& touches,
                     std::function<void()> work) {
  Call call{Call::work, name, std::move(work)};
  call.touches = ithaca::cuda::device::print(name, touches);
  return submit(stream, std::move(call));
}

}  // namespace

const char* cudaGetErrorString(cudaError_t code) {
  if (code == cudaErrorLaunchFailure) return machine().failure.c_str();
  return code == cudaSuccess ? "no error" : cudaGetErrorName(code);
}
const char* cudaGetErrorName(cudaError_t code) {
  switch (code) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    case cudaErrorStreamCaptureIsolation: return "cudaErrorStreamCaptureIsolation";
    default: return "cudaErrorInvalidValue";
  }
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
namespace {
thread_local int current_device = -1;
}
cudaError_t cudaGetDeviceCount(int* count) {
  const char* asked = std::getenv("ITHACA_SIMULATED_GPUS");
  return *count = asked ? std::atoi(asked) : 1, cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) { return *device = std::max(current_device, 0), cudaSuccess; }
cudaError_t cudaSetDevice(int device) {
  int count = 0;
  cudaGetDeviceCount(&count);
  if (device < 0 || device >= count) return cudaErrorInvalidValue;
  std::lock_guard lock(machine().mutex);
  if (std::exchange(current_device, device) != device && machine().log) std::fprintf(machine().log, "- device %d\n", device);
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  std::lock_guard lock(machine().mutex);
  return machine().drain(nullptr);
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) { return *can = 1, cudaSuccess; }
cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return cudaSuccess; }
cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total_bytes) {
  *free_bytes = *total_bytes = std::size_t{8} << 30;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  *pointer = allocate(bytes);
  return *pointer ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFree(void* pointer) { return release(pointer); }
cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned) { return cudaMalloc(pointer, bytes); }
cudaError_t cudaFreeHost(void* pointer) { return release(pointer); }
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  require_allocated("cudaMemcpy", kind == cudaMemcpyHostToDevice ? to : from, bytes);
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return touching(stream, "copy", {{'r', from, bytes}, {'w', to, bytes}}, [=] { std::memmove(to, from, bytes); });
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  return touching(stream, "set", {{'w', to, bytes}}, [=] { std::memset(to, value, bytes); });
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t run, void* data) {
  return submit(stream, {Call::work, "host function", [=] { run(data); }});
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  std::lock_guard lock(machine().mutex);
  auto& all = machine().streams;
  all.push_back(std::make_unique<CUstream_st>(CUstream_st{static_cast<int>(all.size()), {}}));
  *stream = all.back().get();
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  std::lock_guard lock(machine().mutex);
  machine().streams[stream->number].reset();
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  std::lock_guard lock(machine().mutex);
  machine().note(stream, "sync", "");
  return machine().drain(stream);
}
// Everything is done by the time that somebody asks, but for what needs other processes.
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  std::lock_guard lock(machine().mutex);
  return machine().drain(stream, false);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  return submit(stream, {Call::wait, "", {}, event});
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  std::lock_guard lock(machine().mutex);
  auto& all = machine().events;
  all.push_back(std::make_unique<CUevent_st>(CUevent_st{static_cast<int>(all.size()), flags}));
  *event = all.back().get();
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return submit(stream, {Call::record, "", {}, event});
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  std::lock_guard lock(machine().mutex);
  for (const cudaEvent_t event : {from, to}) {
    if (event->flags & cudaEventDisableTiming || event->issued == 0) return cudaErrorInvalidValue;
    if (event->done < event->issued) return cudaErrorNotReady;
  }
  *milliseconds = std::chrono::duration<float, std::milli>(to->at - from->at).count();
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  if (capturing) return cudaErrorInvalidValue;
  capturing = std::make_unique<CUgraph_st>();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = capturing.release();
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = new CUgraphExec_st{*graph};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t) {
  std::lock_guard lock(machine().mutex);
  if (!machine().failure.empty()) return cudaErrorLaunchFailure;
  for (const auto& [stream, call] : exec->graph.calls) machine().issue(stream, call);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
