// One rank of a job of dp 2 x sp 2, over TCP where RANK is set and over MPI else: every collective against plain loops, from two threads at a time on the two
// axes. With the argument "large", chunks of more than 2^31 bytes, for a machine with 10 GiB to spare; with "other call",
// "other bytes" or "other type", rank 3 disagrees with rank 2; with "kill N" or "stop N" that happens to rank N.
#include <signal.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "ithaca/error.h"
#include "ithaca/program.h"
#include "ithaca/tcp_world.h"
#include "ithaca/world.h"

using namespace ithaca;

namespace {

// Not inlined, lest its product and the sums become one fused operation that rounds once.
[[gnu::noinline]] float value(int rank, std::size_t i) {
  return std::sin(static_cast<float>(i * 7 % 9973 + rank * 131)) * static_cast<float>(rank + 1);
}

void require(bool right, const char* what, std::size_t count) {
  if (!right) throw Error(std::string(what) + " of " + std::to_string(count) + " is wrong");
}

// The sum over `members` of element i, in their order.
float expected(const std::vector<int>& members, std::size_t i) {
  float sum = value(members[0], i);
  for (std::size_t r = 1; r < members.size(); ++r) sum += value(members[r], i);
  return sum;
}

std::uint16_t expected_bf16(const std::vector<int>& members, std::size_t i) {
  float sum = 0;
  for (int member : members) sum += static_cast<float>(to_bf16(value(member, i)));
  return to_bf16(sum).bits;
}

void moves(Comm& comm, const std::vector<int>& members, int rank, std::size_t count) {
  const std::size_t ranks = members.size();
  const std::size_t me = comm.rank();
  std::vector<float> send(count * ranks);
  for (std::size_t i = 0; i < send.size(); ++i) send[i] = value(rank, i);
  std::vector<float> recv(send.size());
  comm.all_to_all(send.data(), recv.data(), 4 * count);
  bool right = true;
  for (std::size_t i = 0; i < recv.size(); ++i) right &= recv[i] == value(members[i / count], me * count + i % count);
  require(right, "all_to_all", count);
  std::vector<float> together(send.size());
  std::vector<float> again(2 * send.size());
  send.insert(send.end(), send.begin(), send.end());
  const std::uint64_t before = comm.bytes_sent();
  const Comm::Part parts[] = {{send.data(), together.data(), 4 * count}, {send.data(), again.data(), 8 * count}};
  comm.all_to_all(parts);
  require(comm.bytes_sent() - before == (ranks - 1) * 12 * count, "bytes sent by all_to_all", count);
  require(together == recv, "all_to_all of two", count);
  for (std::size_t i = 0; i < again.size(); ++i) {
    const std::size_t at = (me * 2 * count + i % (2 * count)) % (count * ranks);
    right &= again[i] == value(members[i / (2 * count)], at);
  }
  require(right, "all_to_all's second", count);
  comm.all_gather(send.data(), recv.data(), 4 * count);
  for (std::size_t i = 0; i < recv.size(); ++i) right &= recv[i] == value(members[i / count], i % count);
  require(right, "all_gather", count);
  std::vector<float> in_place(recv.size());
  std::memcpy(in_place.data() + me * count, send.data(), 4 * count);
  comm.all_gather(in_place.data() + me * count, in_place.data(), 4 * count);
  require(in_place == recv, "all_gather in place", count);
}

void sums(Comm& comm, const std::vector<int>& members, int rank, std::size_t count) {
  const std::size_t me = comm.rank();
  std::vector<float> send(count * members.size());
  for (std::size_t i = 0; i < send.size(); ++i) send[i] = value(rank, i);
  std::vector<bf16> half(send.size());
  for (std::size_t i = 0; i < send.size(); ++i) half[i] = to_bf16(send[i]);
  const auto all_are_sums = [&](const std::vector<float>& sum, std::size_t offset) {
    for (std::size_t i = 0; i < sum.size(); ++i) {
      if (sum[i] != expected(members, offset + i)) return false;
    }
    return true;
  };
  std::vector<float> part(count);
  comm.reduce_scatter(send.data(), part.data(), count, DType::f32);
  require(all_are_sums(part, me * count), "reduce_scatter", count);
  std::vector<float> in_place = send;
  comm.reduce_scatter(in_place.data(), in_place.data() + me * count, count, DType::f32);
  require(std::memcmp(in_place.data() + me * count, part.data(), 4 * count) == 0, "reduce_scatter in place", count);
  std::vector<float> whole(send.size() - 1);
  const std::uint64_t before = comm.bytes_sent();
  comm.all_reduce(send.data(), whole.data(), whole.size(), DType::f32);
  const std::size_t each = 4 * whole.size() <= kSmallSumBytes ? 0 : whole.size() / members.size();
  const std::size_t own = whole.size() - each * members.size();
  require(comm.bytes_sent() - before == (members.size() - 1) * 4 * (2 * each + own), "bytes sent by all_reduce",
          whole.size());
  require(all_are_sums(whole, 0), "all_reduce", whole.size());
  comm.all_reduce(send.data(), send.data(), whole.size(), DType::f32);
  require(std::memcmp(send.data(), whole.data(), 4 * whole.size()) == 0, "all_reduce in place", whole.size());
  comm.all_reduce(half.data(), half.data(), half.size(), DType::bf16);
  bool right = true;
  for (std::size_t i = 0; i < half.size(); ++i) right &= half[i].bits == expected_bf16(members, i);
  require(right, "all_reduce of bf16", half.size());
}

// Only the ends of each chunk are written, so that what is sent takes no memory.
void large(Comm& comm, int rank) {
  const std::size_t bytes = (std::size_t{1} << 31) + 4096;
  const std::unique_ptr<char[], decltype(&std::free)> send(static_cast<char*>(std::calloc(bytes, comm.size())),
                                                           &std::free);
  const std::unique_ptr<char[]> recv(new char[bytes * comm.size()]);
  for (int to = 0; to < comm.size(); ++to) {
    send[to * bytes] = static_cast<char>(1 + rank + 10 * to);
    send[(to + 1) * bytes - 1] = static_cast<char>(2 + rank + 10 * to);
  }
  comm.all_to_all(send.get(), recv.get(), bytes);
  for (int from = 0; from < comm.size(); ++from) {
    const bool right = recv[from * bytes] == static_cast<char>(1 + from + 10 * rank) &&
                       recv[(from + 1) * bytes - 1] == static_cast<char>(2 + from + 10 * rank);
    require(right, "all_to_all", bytes);
  }
}

// What rank 3 calls differs from what rank 2 does, which by itself would be waiting, an error of MPI's, wrong numbers.
void disagree(Comm& comm, int rank, const std::string& how) {
  std::vector<std::int32_t> send(64, rank);
  std::vector<std::int32_t> recv(128);
  const bool differs = rank == 3;
  comm.barrier();
  if (how == "other call") {
    if (differs) {
      comm.barrier();
    } else {
      comm.all_gather(send.data(), recv.data(), 64);
    }
  }
  if (how == "other bytes") comm.all_gather(send.data(), recv.data(), differs ? 32 : 64);
  if (how == "other type") comm.all_reduce(send.data(), recv.data(), 16, differs ? DType::f32 : DType::i32);
}

// Steps without end beside a rank that is killed or stopped.
void end(Comm& comm, int rank, const std::string& how) {
  for (int i = 0;; ++i) {
    comm.barrier();
    if (i == 3 && rank == how.back() - '0') raise(how.starts_with("kill") ? SIGKILL : SIGSTOP);
  }
}

std::unique_ptr<World> open_world(int ranks) {
  const std::chrono::seconds timeout(3);
  if (!std::getenv("RANK")) return open_mpi_world(ranks, "collectives", timeout);
  const char* program = std::getenv("PROGRAM");
  return open_tcp_world(read_meeting(ranks), program ? program : "collectives", timeout, timeout);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  const bool is_large = what == "large";
  const MeshAxis axes[] = {{"dp", is_large ? 1 : 2}, {"sp", 2}};
  const Mesh mesh(axes, 2);
  const auto world = open_world(mesh.ranks());
  const int rank = world->own_ranks()[0];
  try {
    const auto all = world->join_all(rank);
    const auto comms = world->join_axes(rank, mesh);
    if (is_large) {
      large(*comms[1], rank);
    } else if (what.starts_with("kill") || what.starts_with("stop")) {
      end(*all, rank, what);
    } else if (!what.empty()) {
      disagree(*comms[1], rank, what);
    } else {
      std::vector<std::thread> threads;
      for (int axis : {0, 1}) {
        threads.emplace_back([&, axis] {
          try {
            for (std::size_t count : {1u, 7u, 5003u, 300007u, 1000003u}) {
              moves(*comms[axis], mesh.group(rank, axis), rank, count);
              sums(*comms[axis], mesh.group(rank, axis), rank, count);
            }
          } catch (const std::exception& error) {
            world->fail(rank, error.what());
          }
        });
      }
      for (std::thread& thread : threads) thread.join();
      sums(*all, {0, 1, 2, 3}, rank, 70001);
    }
    all->barrier();
  } catch (const std::exception& error) {
    world->fail(rank, error.what());
  }
  if (rank == 0) std::puts("all is right");
  return 0;
}
