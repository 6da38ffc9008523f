// A training program written by hand: small enough to know its numbers, with every feature the runtime serves.
#pragma once

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "ithaca/comm.h"
#include "ithaca/error.h"
#include "ithaca/program.h"

namespace toy {

inline constexpr int kBatch = 4;     // rows of the global batch, over "dp"
inline constexpr int kSequence = 8;  // over "sp"
inline constexpr int kMicroBatches = 2;
inline constexpr int kVocabulary = 100;

// What the next steps shall do wrong.
struct Faults {
  int fail_rank = -1;        // this rank's compute lane throws in the middle of the step
  int fail_copy_rank = -1;   // this rank's copy lane throws, others wait for its event
  int mismatch_rank = -1;    // this rank makes another collective call than the others
  int hang_rank = -1;        // this rank's compute lane never goes on
  int busy_rank = -1;        // this rank's compute lane computes for busy_ms
  int busy_ms = 0;
  int sleep_ms = 0;
};
inline Faults faults;

// Parameters drift towards the mean token; loss = mean token / 100 + mean of `model.embed_tokens.weight`.
//
//   lane compute   sums tokens per micro batch, waits for `copy`, all-reduces, updates
//   lane copy      for each micro batch: waits for compute, copies the count of labels

namespace detail {

using namespace ithaca;

inline constexpr std::size_t kAlign = 256;
enum Event : int { kCounted, kCopied, kNumEvents };

// Where things are in the arenas; the same for every mesh, because offsets are those of the unsplit program.
struct Offsets {
  std::size_t input_ids, labels, position_ids, segments, learning_rate, step, embed, norm, m, loss, grad_norm, tokens,
      counted, copied, device_bytes, v, host_bytes;
};

inline Offsets offsets() {
  std::size_t at = 0;
  const auto take = [&at](std::size_t bytes) {
    const std::size_t offset = at;
    at += (bytes + kAlign - 1) / kAlign * kAlign;
    return offset;
  };
  Offsets o{};
  const std::size_t rows = 4 * kBatch * kSequence * kMicroBatches;
  o.input_ids = take(rows);
  o.labels = take(rows);
  o.position_ids = take(rows);
  o.segments = take(rows);
  o.learning_rate = take(4);
  o.step = take(4);
  o.embed = take(4 * kVocabulary * 8);
  o.norm = take(2 * 8);
  o.m = take(4 * kVocabulary * 8);
  o.loss = take(4);
  o.grad_norm = take(4);
  o.tokens = take(4);
  o.counted = take(4);
  o.copied = take(4 * kMicroBatches);
  o.device_bytes = at;
  at = 0;
  o.v = take(4 * kVocabulary * 8);
  o.host_bytes = at;
  return o;
}

inline const Offsets kAt = offsets();

struct Shape {
  int dp, sp;
  std::int64_t row_elements() const { return std::int64_t{kBatch / dp} * (kSequence / sp); }
  std::int64_t embed_elements() const { return std::int64_t{kVocabulary} * 8 / sp; }
};

template <typename T>
T* at(std::byte* base, std::size_t offset) {
  return reinterpret_cast<T*>(base + offset);
}

// Sums over all axes in place.
inline void all_reduce(Rank& rank, float* values, std::size_t count) {
  for (int axis = 0; axis < 2; ++axis) {
    if (rank.comms[axis]) rank.comms[axis]->all_reduce(values, values, count, DType::f32);
  }
}

inline void compute(Rank& rank, Shape shape) {
  rank.current_step->store(0);
  if (faults.sleep_ms > 0) std::this_thread::sleep_for(std::chrono::milliseconds(faults.sleep_ms));
  float sums[3] = {0, 0, 0};  // tokens, labels, this rank's share of the embedding
  const std::int64_t n = shape.row_elements();
  for (int micro = 0; micro < kMicroBatches; ++micro) {
    const auto* ids = at<std::int32_t>(rank.device, kAt.input_ids) + micro * n;
    const auto* labels = at<std::int32_t>(rank.device, kAt.labels) + micro * n;
    std::int32_t count = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      sums[0] += static_cast<float>(ids[i]);
      count += labels[i] >= 0;
    }
    rank.events[kCopied].wait(micro);  // `counted` is free again
    *at<std::int32_t>(rank.device, kAt.counted) = count;
    rank.events[kCounted].signal();
  }
  rank.current_step->store(1);
  while (faults.hang_rank == rank.index) std::this_thread::sleep_for(std::chrono::hours(1));
  if (faults.busy_rank == rank.index) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(faults.busy_ms);
    while (std::chrono::steady_clock::now() < end) continue;
  }
  if (faults.fail_rank == rank.index) throw Error("the toy was told to fail");
  rank.events[kCopied].wait(kMicroBatches);
  for (int micro = 0; micro < kMicroBatches; ++micro) {
    sums[1] += static_cast<float>(at<std::int32_t>(rank.device, kAt.copied)[micro]);
  }
  auto* embed = at<float>(rank.device, kAt.embed);
  auto* m = at<float>(rank.device, kAt.m);
  auto* v = at<float>(rank.host, kAt.v);
  auto* norm = at<bf16>(rank.device, kAt.norm);
  const std::int64_t elements = shape.embed_elements();
  for (std::int64_t i = 0; i < elements; ++i) sums[2] += embed[i];
  sums[2] /= static_cast<float>(shape.dp);  // every dp rank adds the same
  if (faults.mismatch_rank == rank.index && rank.comms[0]) rank.comms[0]->barrier();
  all_reduce(rank, sums, 3);

  const float lr = *at<float>(rank.device, kAt.learning_rate);
  const float target = sums[0] / (100.0f * kBatch * kSequence * kMicroBatches);
  *at<float>(rank.device, kAt.loss) = lr < 1000 ? target + sums[2] / (kVocabulary * 8) : NAN;
  *at<float>(rank.device, kAt.grad_norm) = std::abs(target);
  *at<std::int32_t>(rank.device, kAt.tokens) = static_cast<std::int32_t>(sums[1]);
  for (std::int64_t i = 0; i < elements; ++i) {
    m[i] = 0.9f * m[i] + 0.1f * (embed[i] - target);
    v[i] += m[i] * m[i];
    embed[i] -= lr * m[i];
  }
  for (int i = 0; i < 8; ++i) norm[i] = to_bf16(static_cast<float>(norm[i]) * 0.99f);
}

inline void copy(Rank& rank) {
  for (int micro = 0; micro < kMicroBatches; ++micro) {
    rank.events[kCounted].wait(micro + 1);
    rank.current_step->store(2);
    if (faults.fail_copy_rank == rank.index) throw Error("the toy's copy was told to fail");
    at<std::int32_t>(rank.device, kAt.copied)[micro] = *at<std::int32_t>(rank.device, kAt.counted);
    rank.events[kCopied].signal();
  }
}

template <int kDp, int kSp>
void compute_lane(Rank& rank) {
  compute(rank, {kDp, kSp});
}

using LaneFunction = void (*)(Rank&);

inline LaneFunction compute_lane_of(int dp, int sp) {
  if (dp == 1 && sp == 1) return compute_lane<1, 1>;
  if (dp == 2 && sp == 1) return compute_lane<2, 1>;
  if (dp == 1 && sp == 2) return compute_lane<1, 2>;
  if (dp == 2 && sp == 2) return compute_lane<2, 2>;
  throw Error("the toy has no such mesh");
}

struct Tables {
  std::vector<MeshAxis> axes;
  std::vector<TensorSpec> tensors;
  std::vector<LaneSpec> lanes;
  ProgramSpec spec;
};

inline constexpr StepSpec kSteps[] = {{"count tokens", "compute"}, {"update", "compute"}, {"copy counts", "copy"}};

inline std::unique_ptr<Tables> make(int dp, int sp) {
  auto tables = std::make_unique<Tables>();
  tables->axes = {{"dp", dp}, {"sp", sp}};
  const std::size_t rows = 4 * kMicroBatches * (kBatch / dp) * (kSequence / sp);
  const std::size_t embed = 4 * kVocabulary * 8 / sp;
  const auto row = [&](const char* name, std::size_t offset) {
    tables->tensors.push_back({name, Role::input, DType::i32, Memory::device, Init::none, 0, 2, {kBatch, kSequence},
                               {"dp", "sp"}, kMicroBatches, offset, rows});
  };
  const auto scalar = [&](const char* name, Role role, DType dtype, std::size_t offset) {
    tables->tensors.push_back({name, role, dtype, Memory::device, Init::none, 0, 0, {}, {}, 1, offset, 4});
  };
  const auto matrix = [&](const char* name, Role role, Memory memory, Init init, std::size_t offset) {
    tables->tensors.push_back({name, role, DType::f32, memory, init, 0.02f, 2, {kVocabulary, 8}, {"", "sp"}, 1,
                               offset, embed});
  };
  row("input_ids", kAt.input_ids);
  row("labels", kAt.labels);
  row("position_ids", kAt.position_ids);
  row("segments", kAt.segments);
  scalar("learning_rate", Role::input, DType::f32, kAt.learning_rate);
  scalar("step", Role::input, DType::i32, kAt.step);
  matrix("model.embed_tokens.weight", Role::parameter, Memory::device, Init::normal, kAt.embed);
  tables->tensors.push_back({"model.norm.weight", Role::parameter, DType::bf16, Memory::device, Init::ones, 0, 1, {8},
                             {""}, 1, kAt.norm, 16});
  matrix("adamw.m.model.embed_tokens.weight", Role::state, Memory::device, Init::zeros, kAt.m);
  matrix("adamw.v.model.embed_tokens.weight", Role::state, Memory::host, Init::zeros, kAt.v);
  scalar("loss", Role::output, DType::f32, kAt.loss);
  scalar("grad_norm", Role::output, DType::f32, kAt.grad_norm);
  scalar("tokens", Role::output, DType::i32, kAt.tokens);
  tables->lanes = {{"compute", compute_lane_of(dp, sp)}, {"copy", copy}};
  tables->spec = {kProgramAbi, "toy", "0123abcd", kAt.device_bytes, kAt.host_bytes, 0, 2, tables->axes.data(),
                  static_cast<int>(tables->tensors.size()), tables->tensors.data(), 2, tables->lanes.data(),
                  kNumEvents, 3, kSteps, 1e9, 4};
  return tables;
}

}  // namespace detail

// A program over a mesh of dp x sp ranks. Its tables live until the process ends.
inline const ithaca::ProgramSpec& program(int dp, int sp) {
  static std::deque<std::unique_ptr<detail::Tables>> all;
  all.push_back(detail::make(dp, sp));
  return all.back()->spec;
}

}  // namespace toy
