// Collectives over MPI, built of moves only: sums are the runtime's own, since MPI's differ and know no bf16.
#pragma once

#include <mpi.h>

#include <memory>
#include <string>

#include "ithaca/comm.h"
#include "ithaca/world.h"
#include "mpi_watch.h"

namespace ithaca {

// The names of collectives, as messages have them.
inline constexpr const char* kAllToAll = "all_to_all";
inline constexpr const char* kAllGather = "all_gather";
inline constexpr const char* kReduceScatter = "reduce_scatter";
inline constexpr const char* kAllReduce = "all_reduce";
inline constexpr const char* kBarrier = "barrier";

// Throws Error naming the call and what MPI says, unless `code` is MPI_SUCCESS.
void check_mpi(int code, const char* call);

// Owns nothing but its scratch: MPI_Finalize takes `comm`, for freeing it would be a collective on the way out of an
// error. `rank` is the number in the run.
// Calls never throw Stopped, since this process ends with the rank that failed. Every call is written down in `log`, which
// the world compares with those of other ranks now and then: ranks that disagree are found out a moment later.
class MpiComm final : public Comm {
 public:
  MpiComm(World& world, int rank, MPI_Comm comm, CallLog& log);

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void all_to_all(std::span<const Part> parts) override;
  void all_gather(const void* send, void* recv, std::size_t bytes) override;
  void reduce_scatter(const void* send, void* recv, std::size_t count, DType dtype) override;
  void all_reduce(const void* send, void* recv, std::size_t count, DType dtype) override;
  void barrier() override;
  void abort(const std::string& why) override { world_.fail(world_rank_, why); }

 private:
  void gather_and_sum(const std::byte* send, std::byte* recv, std::size_t count, DType dtype);
  void sum_scratch(std::byte* recv, std::size_t count, DType dtype);
  std::byte* scratch(std::size_t bytes);

  World& world_;
  int world_rank_;
  MPI_Comm comm_;
  CallLog& log_;
  int rank_ = 0;
  int size_ = 1;
  std::unique_ptr<std::byte[]> scratch_;
  std::size_t scratch_bytes_ = 0;
};

}  // namespace ithaca
