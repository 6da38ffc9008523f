// Every allocation of the program in host memory that the GPU reads and writes too, so that tests written for the CPU's
// arrays run on a GPU as they are.
#include <cuda_runtime_api.h>

#include <bit>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <new>

namespace {

constexpr std::size_t kBytes = std::size_t{4} << 30;
constexpr std::size_t kAlignment = 64;

// Blocks of powers of two bytes, those given back in lists by size. A header in front holds the power.
class Arena {
 public:
  Arena() {
    // Kernels and the host take turns: every launch waits for its kernel.
    setenv("CUDA_LAUNCH_BLOCKING", "1", 1);
    void* memory = nullptr;
    const cudaError_t error = cudaHostAlloc(&memory, kBytes, cudaHostAllocMapped);
    next_ = static_cast<std::byte*>(memory);
    if (error == cudaSuccess) return;
    std::fprintf(stderr, "no memory that the GPU shares: %s\n", cudaGetErrorString(error));
    std::exit(1);
  }

  void* take(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    const int power = std::bit_width(bytes + kAlignment - 1);
    std::byte* block = free_[power];
    if (block != nullptr) {
      free_[power] = *reinterpret_cast<std::byte**>(block);
    } else {
      block = next_;
      used_ += std::size_t{1} << power;
      if (used_ > kBytes) std::abort();
      next_ += std::size_t{1} << power;
    }
    *reinterpret_cast<int*>(block) = power;
    return block + kAlignment;
  }

  void give(void* pointer) {
    if (pointer == nullptr) return;
    const std::lock_guard lock(mutex_);
    std::byte* block = static_cast<std::byte*>(pointer) - kAlignment;
    const int power = *reinterpret_cast<int*>(block);
    *reinterpret_cast<std::byte**>(block) = free_[power];
    free_[power] = block;
  }

 private:
  std::mutex mutex_;
  std::byte* next_ = nullptr;
  std::size_t used_ = 0;
  std::byte* free_[64] = {};
};

Arena& arena() {
  // Never destroyed: memory is given back until the very end.
  alignas(Arena) static std::byte place[sizeof(Arena)];
  static Arena* const own = ::new (place) Arena;
  return *own;
}

}  // namespace

void* operator new(std::size_t bytes) { return arena().take(bytes); }
void* operator new(std::size_t bytes, std::align_val_t) { return arena().take(bytes); }
void operator delete(void* pointer) noexcept { arena().give(pointer); }
void operator delete(void* pointer, std::size_t) noexcept { arena().give(pointer); }
void operator delete(void* pointer, std::align_val_t) noexcept { arena().give(pointer); }
void operator delete(void* pointer, std::size_t, std::align_val_t) noexcept { arena().give(pointer); }
