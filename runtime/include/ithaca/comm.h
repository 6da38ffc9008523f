// Collectives among the ranks of one mesh axis, whatever carries them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "ithaca/dtype.h"

namespace ithaca {

// A sum of at most so many bytes is made by every rank for itself, in one round instead of two.
inline constexpr std::size_t kSmallSumBytes = std::size_t{1} << 14;

// One rank's end of a group. All ranks of the group make the same calls in the same order, one call at a time.
// Calls return when the result is in `recv` and `send` may be overwritten. They throw Stopped when another rank
// failed, and Error when the ranks disagree about the call.
class Comm {
 public:
  virtual ~Comm() = default;

  virtual int rank() const = 0;  // within the group
  virtual int size() const = 0;
  // Whether the ranks are threads of one process.
  virtual bool shares_memory() const { return false; }

  // `send` and `recv` are `size()` chunks of `bytes`: chunk j goes to rank j, chunk i comes from rank i. Not in place.
  struct Part {
    const void* send;
    void* recv;
    std::size_t bytes;
  };
  // All parts travel in one exchange.
  virtual void all_to_all(std::span<const Part> parts) = 0;
  void all_to_all(const void* send, void* recv, std::size_t bytes) {
    const Part part{send, recv, bytes};
    all_to_all(std::span(&part, 1));
  }
  // `send` is `bytes`, `recv` is `size()` chunks of them in rank order; `send` may be its own chunk of `recv`.
  virtual void all_gather(const void* send, void* recv, std::size_t bytes) = 0;
  // `send` is `size()` chunks of `count` elements, `recv` the sum of every rank's chunk `rank()`; it may be that chunk
  // of `send`. Sums run over the ranks in order, bf16 accumulated in f32, so the result is the same on every run.
  virtual void reduce_scatter(const void* send, void* recv, std::size_t count, DType dtype) = 0;
  // The sum of `count` elements of every rank; `send` may be `recv`. Every rank gets the same bits. Above
  // kSmallSumBytes each rank sums one of size() equal parts and gives it to the others; what is left over, and all of
  // a small sum, every rank sums itself.
  virtual void all_reduce(const void* send, void* recv, std::size_t count, DType dtype) = 0;
  virtual void barrier() = 0;

  // Says that this rank failed: every call of every rank of the run, waiting or to come, throws Stopped.
  virtual void abort(const std::string& why) = 0;

  // Bytes of tensors that other ranks got from this one, since the beginning; every rank of a group gives as many.
  // What a carrier adds to them, or passes on for others, does not count. Not to be read during a call.
  std::uint64_t bytes_sent() const { return bytes_sent_; }

 protected:
  void count_sent(std::size_t bytes) { bytes_sent_ += bytes; }

 private:
  std::uint64_t bytes_sent_ = 0;
};

}  // namespace ithaca
