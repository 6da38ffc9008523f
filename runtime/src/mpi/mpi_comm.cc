// MPI's moves; a sum is a move of every rank's part to one scratch, added up in the order of the ranks.
#include "mpi_comm.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "ithaca/error.h"
#include "ithaca/lane.h"
#include "ithaca/sum_ranks.h"

namespace ithaca {

namespace {

constexpr std::size_t kBlock = std::size_t{1} << 30;  // bytes; MPI counts with int
constexpr std::size_t kPiece = std::size_t{1} << 20;  // bytes of each rank's that are summed at a time, from the caches

// `bytes` bytes as MPI wants them told, the next ones `stride` bytes further on (0: right behind).
class Bytes {
 public:
  explicit Bytes(std::size_t bytes, std::size_t stride = 0) {
    if (bytes <= std::numeric_limits<int>::max() && stride == 0) {
      count_ = static_cast<int>(bytes);
      return;
    }
    MPI_Datatype block;
    MPI_Datatype packed;
    check_mpi(MPI_Type_contiguous(static_cast<int>(kBlock), MPI_BYTE, &block), "MPI_Type_contiguous");
    const int lengths[] = {static_cast<int>(bytes / kBlock), static_cast<int>(bytes % kBlock)};
    const MPI_Aint offsets[] = {0, static_cast<MPI_Aint>(bytes / kBlock * kBlock)};
    const MPI_Datatype types[] = {block, MPI_BYTE};
    check_mpi(MPI_Type_create_struct(2, lengths, offsets, types, &packed), "MPI_Type_create_struct");
    const auto extent = static_cast<MPI_Aint>(stride == 0 ? bytes : stride);
    check_mpi(MPI_Type_create_resized(packed, 0, extent, &type_), "MPI_Type_create_resized");
    check_mpi(MPI_Type_commit(&type_), "MPI_Type_commit");
    MPI_Type_free(&packed);
    MPI_Type_free(&block);
  }
  ~Bytes() {
    if (type_ != MPI_BYTE) MPI_Type_free(&type_);
  }
  Bytes(Bytes&& other) noexcept : type_(std::exchange(other.type_, MPI_BYTE)), count_(other.count_) {}
  Bytes& operator=(Bytes&&) = delete;

  MPI_Datatype type() const { return type_; }
  int count() const { return count_; }

 private:
  MPI_Datatype type_ = MPI_BYTE;
  int count_ = 1;
};

// The chunks of all parts that belong to one rank, at the addresses where they lie.
class Gathered {
 public:
  template <typename Address>
  Gathered(std::span<const Comm::Part> parts, int rank, Address address) {
    std::vector<Bytes> chunks;
    chunks.reserve(parts.size());
    std::vector<int> counts;
    std::vector<MPI_Aint> places;
    std::vector<MPI_Datatype> types;
    for (const Comm::Part& part : parts) {
      chunks.emplace_back(part.bytes);
      counts.push_back(chunks.back().count());
      types.push_back(chunks.back().type());
      MPI_Get_address(static_cast<const std::byte*>(address(part)) + rank * part.bytes, &places.emplace_back());
    }
    check_mpi(MPI_Type_create_struct(static_cast<int>(parts.size()), counts.data(), places.data(), types.data(),
                                     &type_),
              "MPI_Type_create_struct");
    check_mpi(MPI_Type_commit(&type_), "MPI_Type_commit");
  }
  ~Gathered() {
    if (type_ != MPI_DATATYPE_NULL) MPI_Type_free(&type_);
  }
  Gathered(Gathered&& other) noexcept : type_(std::exchange(other.type_, MPI_DATATYPE_NULL)) {}

  operator MPI_Datatype() const { return type_; }

 private:
  MPI_Datatype type_ = MPI_DATATYPE_NULL;
};

}  // namespace

void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  int kind = MPI_ERR_OTHER;
  MPI_Error_class(code, &kind);
  const char* reason = kind == MPI_ERR_TRUNCATE ? "; another rank sends more: all ranks must make the same calls" : "";
  throw Error(std::string(call) + " failed: " + text + reason);
}

MpiComm::MpiComm(World& world, int rank, MPI_Comm comm, CallLog& log)
    : world_(world), world_rank_(rank), comm_(comm), log_(log) {
  check_mpi(MPI_Comm_rank(comm, &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(comm, &size_), "MPI_Comm_size");
}

void MpiComm::all_to_all(std::span<const Part> parts) {
  std::size_t total = 0;
  for (const Part& part : parts) total += part.bytes;
  count_sent((size_ - 1) * total);
  log_.add({kAllToAll, total, DType::i32});
  const Waiting waiting;
  if (parts.size() == 1) {
    const auto& [send, recv, bytes] = parts[0];
    const Bytes chunk(bytes);
    check_mpi(MPI_Alltoall(send, chunk.count(), chunk.type(), recv, chunk.count(), chunk.type(), comm_),
              "MPI_Alltoall");
    return;
  }
  // One message to each rank, gathered from all parts by MPI.
  std::vector<Gathered> sent;
  std::vector<Gathered> received;
  for (int r = 0; r < size_; ++r) {
    sent.emplace_back(parts, r, [](const Part& part) { return part.send; });
    received.emplace_back(parts, r, [](const Part& part) { return part.recv; });
  }
  const std::vector<int> ones(size_, 1);
  const std::vector<int> zeros(size_, 0);
  const std::vector<MPI_Datatype> from(sent.begin(), sent.end());
  const std::vector<MPI_Datatype> to(received.begin(), received.end());
  check_mpi(MPI_Alltoallw(MPI_BOTTOM, ones.data(), zeros.data(), from.data(), MPI_BOTTOM, ones.data(), zeros.data(),
                          to.data(), comm_),
            "MPI_Alltoallw");
}

void MpiComm::all_gather(const void* send, void* recv, std::size_t bytes) {
  count_sent((size_ - 1) * bytes);
  log_.add({kAllGather, bytes, DType::i32});
  const Waiting waiting;
  const Bytes chunk(bytes);
  const bool in_place = send == static_cast<std::byte*>(recv) + rank_ * bytes;
  check_mpi(MPI_Allgather(in_place ? MPI_IN_PLACE : send, chunk.count(), chunk.type(), recv, chunk.count(),
                          chunk.type(), comm_),
            "MPI_Allgather");
}

void MpiComm::reduce_scatter(const void* send, void* recv, std::size_t count, DType dtype) {
  const auto* from = static_cast<const std::byte*>(send);
  auto* to = static_cast<std::byte*>(recv);
  const std::size_t bytes = count * dtype_bytes(dtype);
  count_sent((size_ - 1) * bytes);
  log_.add({kReduceScatter, count, dtype});
  const Waiting waiting;
  for (std::size_t at = 0; at < bytes; at += kPiece) {
    const std::size_t n = std::min(kPiece, bytes - at);
    const Bytes strided(n, bytes);
    check_mpi(MPI_Alltoall(from + at, strided.count(), strided.type(), scratch(n * size_), static_cast<int>(n),
                           MPI_BYTE, comm_),
              "MPI_Alltoall");
    sum_scratch(to + at, n / dtype_bytes(dtype), dtype);
  }
}

void MpiComm::all_reduce(const void* send, void* recv, std::size_t count, DType dtype) {
  const auto* from = static_cast<const std::byte*>(send);
  auto* to = static_cast<std::byte*>(recv);
  const std::size_t bytes = dtype_bytes(dtype);
  log_.add({kAllReduce, count, dtype});
  const std::size_t part = count * bytes <= kSmallSumBytes ? 0 : count / size_;
  if (part > 0) {
    // A rank's sum lands in its own part only, so in place nothing is overwritten that others have yet to be sent.
    reduce_scatter(from, to + rank_ * part * bytes, part, dtype);
    all_gather(to + rank_ * part * bytes, to, part * bytes);
  }
  const std::size_t done = part * size_;
  if (done < count) gather_and_sum(from + done * bytes, to + done * bytes, count - done, dtype);
}

void MpiComm::barrier() {
  log_.add({kBarrier, 0, DType::i32});
  const Waiting waiting;
  check_mpi(MPI_Barrier(comm_), "MPI_Barrier");
}

void MpiComm::gather_and_sum(const std::byte* send, std::byte* recv, std::size_t count, DType dtype) {
  const std::size_t bytes = count * dtype_bytes(dtype);
  all_gather(send, scratch(bytes * size_), bytes);
  sum_scratch(recv, count, dtype);
}

// recv[0, count) = the sum of the ranks' chunks, which lie in the scratch one behind the other.
void MpiComm::sum_scratch(std::byte* recv, std::size_t count, DType dtype) {
  std::vector<const std::byte*> sources;
  for (int r = 0; r < size_; ++r) sources.push_back(scratch_.get() + r * count * dtype_bytes(dtype));
  sum_ranks(sources, recv, count, dtype);
}

std::byte* MpiComm::scratch(std::size_t bytes) {
  if (bytes > scratch_bytes_) {
    scratch_.reset(new std::byte[bytes]);
    scratch_bytes_ = bytes;
  }
  return scratch_.get();
}

}  // namespace ithaca
