// The fibers themselves: barriers, shuffles, and the mistakes that they must show.
#include "kernel_check.h"
#include "kernels/cuda/block_sums.h"
#include "kernels/cuda/launch.h"

namespace ithaca::test {
namespace {

using cuda::launch;

__global__ void sum_block(const float* x, float* out) {
  float values[2] = {x[threadIdx.x], 1.0f};
  cuda::block_sums(values);
  out[threadIdx.x] = values[0] + 1000.0f * values[1];
}

__global__ void places(int* out) {
  const auto at = (blockIdx.y * gridDim.x + blockIdx.x) * blockDim.x * blockDim.y + threadIdx.y * blockDim.x + threadIdx.x;
  out[at] += static_cast<int>(at);
}

__global__ void lanes(int* out) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int next = __shfl_sync(cuda::kAllLanes, lane, lane + 1);
  const int before = __shfl_up_sync(cuda::kAllLanes, next, 2);
  const unsigned odd = __ballot_sync(cuda::kAllLanes, lane % 2 == 1);
  out[threadIdx.x] = before * 100 + __popc(odd & ((1u << lane) - 1u));
}

// Lacks the barrier between writing and reading.
__global__ void races(int* out) {
  __shared__ int shared[64];
  shared[threadIdx.x] = static_cast<int>(threadIdx.x) + 7;
  out[threadIdx.x] = shared[63 - threadIdx.x];
  __syncthreads();
  shared[threadIdx.x] = 0;
}

__global__ void half_comes() {
  if (threadIdx.x < 32) __syncthreads();
}

__global__ void half_of_a_warp_comes(int* out) {
  if (threadIdx.x % 2 == 0) out[threadIdx.x] = __shfl_xor_sync(cuda::kAllLanes, 1, 2);
}

__global__ void refuses(int which) { cuda::require(static_cast<int>(threadIdx.x) != which, "thread refused"); }

}  // namespace

void test_fibers() {
  auto x = Array<float>::noise(256, 1);
  Array<float> out(256);
  double want = 256000.0;
  for (int i = 0; i < 256; ++i) want += x.at(i);
  in_every_order("sum_block", [&] { launch("sum_block", sum_block, 1, 256, 0, kNoStream, x.data(), out.data()); }, out);
  expect_close(out, std::vector<double>(256, want), 1e-6, "sum_block");

  std::vector<int> seen(6 * 64, 0);
  launch("places", places, dim3(3, 2), dim3(32, 2), 0, kNoStream, seen.data());
  for (int i = 0; i < 6 * 64; ++i) CHECK(seen[static_cast<std::size_t>(i)] == i);

  launch("lanes", lanes, 1, 64, 0, kNoStream, seen.data());
  for (int i = 0; i < 64; ++i) {
    const int lane = i % 32, next = lane < 2 ? lane + 1 : lane - 1;
    CHECK(seen[static_cast<std::size_t>(i)] == next % 32 * 100 + lane / 2);
  }

  std::vector<int> forward(64), backward(64);
  launch("races", races, 1, 64, 0, kNoStream, forward.data());
  cuda::shim::run_in(cuda::shim::Order::backward);
  launch("races", races, 1, 64, 0, kNoStream, backward.data());
  cuda::shim::run_in(cuda::shim::Order::forward);
  CHECK(forward != backward);

  expect_error([] { launch("half_comes", half_comes, 1, 64, 0, kNoStream); }, "half_comes: 32 threads");
  expect_error([&] { launch("half_of_a_warp", half_of_a_warp_comes, 1, 32, 0, kNoStream, seen.data()); },
               "16 threads of block 0 wait");
  expect_error([] { launch("refuses", refuses, 1, 64, 0, kNoStream, 40); }, "thread refused");
  expect_error([] { launch("half_comes", half_comes, 1, 48, 0, kNoStream); }, "a block of 48 threads");
  expect_error([] { launch("half_comes", half_comes, dim3(1, 70000), 64, 0, kNoStream); }, "1 x 70000 x 1");
  expect_error([] { launch("half_comes", half_comes, 1, 64, 200000, kNoStream); }, "200000 bytes of shared memory");
}

}  // namespace ithaca::test
