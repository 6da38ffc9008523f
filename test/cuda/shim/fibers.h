// The threads of a CUDA block as fibers that take turns on one CPU thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace ithaca::cuda::shim {

// In which order the fibers of a block run between two barriers. A kernel that lacks a barrier shows it by results
// that depend on the order.
enum class Order { forward, backward, shuffled };
void run_in(Order order);

// Takes launches instead of having them run at once, with the words of their arguments. Called from any thread; what it is
// given runs on one at a time.
using Queue = std::function<void(void* stream, const char* name, const std::vector<std::uintptr_t>& words,
                                 std::function<void()> launch)>;
void queue_launches(Queue queue);

// The lane of this fiber in its warp.
int lane();

// Returns once every fiber of the block has come here.
void wait_for_block();
// The same, and whether any of them had `value`.
bool any_of_block(bool value);

// Returns once every lane of the warp has come here: the 64 bits that each brought, valid until the next exchange.
const std::uint64_t* exchange(std::uint64_t bits);

// Shared memory of the running block, of the size it was started with, all bits set (NaN) at the beginning.
void* dynamic_shared();

// Ends the launch: Error with `message`.
[[noreturn]] void fail_kernel(const char* message);

}  // namespace ithaca::cuda::shim
