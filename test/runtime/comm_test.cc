// The local collectives at 1, 2, 3, 4 and 8 ranks against plain loops, and what happens when a rank fails.
#include <chrono>
#include <cmath>
#include <functional>
#include <thread>
#include <vector>

#include "check.h"
#include "ithaca/error.h"
#include "ithaca/lane.h"
#include "ithaca/local_comm.h"
#include "ithaca/program.h"

using namespace ithaca;

namespace {

// Runs `body(rank, comm)` on a thread for each rank; returns each rank's error message, "" for none.
std::vector<std::string> on_ranks(int ranks, const std::function<void(int, Comm&)>& body) {
  LocalWorld world(ranks);
  std::vector<std::string> errors(ranks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        const auto comm = world.join_all(rank);
        body(rank, *comm);
      } catch (const Stopped& stopped) {
        errors[rank] = std::string("stopped: ") + stopped.what();
      } catch (const std::exception& error) {
        errors[rank] = error.what();
        world.fail(rank, error.what());
      }
    });
  }
  for (auto& thread : threads) thread.join();
  return errors;
}

void none(const std::vector<std::string>& errors) {
  for (const std::string& error : errors) {
    if (!error.empty()) check::report(__FILE__, __LINE__, error);
  }
}

// Not inlined, lest its product and the sums below become one fused operation that rounds once.
[[gnu::noinline]] float value(int rank, std::size_t i) {
  return std::sin(static_cast<float>(i * 7 + rank * 131)) * static_cast<float>(rank + 1);
}

// What the sum over ranks has to be, bit for bit: f32, in the order of the ranks.
float expected_sum(int ranks, std::size_t i) {
  float sum = value(0, i);
  for (int r = 1; r < ranks; ++r) sum += value(r, i);
  return sum;
}

void moves(int ranks, std::size_t count) {
  none(on_ranks(ranks, [&](int rank, Comm& comm) {
    CHECK(comm.rank() == rank && comm.size() == ranks);
    std::vector<float> send(count * ranks);
    for (std::size_t i = 0; i < send.size(); ++i) send[i] = value(rank, i);
    for (int round = 0; round < 3; ++round) {
      std::vector<float> recv(count * ranks, -1);
      comm.all_to_all(send.data(), recv.data(), count * 4);
      bool right = true;
      for (int r = 0; r < ranks; ++r) {
        for (std::size_t i = 0; i < count; ++i) right &= recv[r * count + i] == value(r, rank * count + i);
      }
      CHECK(right);

      comm.all_gather(send.data(), recv.data(), count * 4);
      for (int r = 0; r < ranks; ++r) {
        for (std::size_t i = 0; i < count; ++i) right &= recv[r * count + i] == value(r, i);
      }
      std::vector<float> in_place(count * ranks, -1);
      for (std::size_t i = 0; i < count; ++i) in_place[rank * count + i] = value(rank, i);
      comm.all_gather(in_place.data() + rank * count, in_place.data(), count * 4);
      CHECK(right && in_place == recv);
    }
  }));
}

// Tensors of one exchange: `count` and 3 elements to each rank.
void moves_together(int ranks, std::size_t count) {
  none(on_ranks(ranks, [&](int rank, Comm& comm) {
    std::vector<float> long_one(count * ranks), short_one(3 * ranks), long_got(count * ranks), short_got(3 * ranks);
    for (std::size_t i = 0; i < long_one.size(); ++i) long_one[i] = value(rank, i);
    for (std::size_t i = 0; i < short_one.size(); ++i) short_one[i] = value(rank, i + 1000);
    const Comm::Part parts[] = {{long_one.data(), long_got.data(), count * 4}, {short_one.data(), short_got.data(), 12}};
    comm.all_to_all(parts);
    bool right = true;
    for (int r = 0; r < ranks; ++r) {
      for (std::size_t i = 0; i < count; ++i) right &= long_got[r * count + i] == value(r, rank * count + i);
      for (std::size_t i = 0; i < 3; ++i) right &= short_got[r * 3 + i] == value(r, rank * 3 + i + 1000);
    }
    CHECK(right);
    CHECK(comm.bytes_sent() == (ranks - 1) * (count + 3) * 4);
  }));
}

// What `sends` of src/ir/ops/collective.ts predicts, call by call.
void sent_bytes_are_counted(int ranks, std::size_t count) {
  none(on_ranks(ranks, [&](int, Comm& comm) {
    std::vector<float> x(count * ranks), y(count * ranks);
    const auto sent_by = [&](auto call) {
      const std::uint64_t before = comm.bytes_sent();
      call();
      return comm.bytes_sent() - before;
    };
    const std::uint64_t others = ranks - 1;
    CHECK(sent_by([&] { comm.all_to_all(x.data(), y.data(), count * 4); }) == others * count * 4);
    CHECK(sent_by([&] { comm.all_gather(x.data(), y.data(), count * 4); }) == others * count * 4);
    CHECK(sent_by([&] { comm.reduce_scatter(x.data(), y.data(), count, DType::f32); }) == others * count * 4);
    const std::size_t part = count * 4 <= kSmallSumBytes ? 0 : count / ranks;
    CHECK(sent_by([&] { comm.all_reduce(x.data(), y.data(), count, DType::f32); }) ==
          others * (2 * part + count - part * ranks) * 4);
    CHECK(sent_by([&] { comm.barrier(); }) == 0);
  }));
}

void sums(int ranks, std::size_t count) {
  none(on_ranks(ranks, [&](int rank, Comm& comm) {
    std::vector<float> send(count * ranks);
    std::vector<bf16> send_bf16(send.size());
    for (std::size_t i = 0; i < send.size(); ++i) {
      send[i] = value(rank, i);
      send_bf16[i] = to_bf16(send[i]);
    }
    std::vector<float> part(count);
    comm.reduce_scatter(send.data(), part.data(), count, DType::f32);
    bool right = true;
    for (std::size_t i = 0; i < count; ++i) right &= part[i] == expected_sum(ranks, rank * count + i);
    CHECK(right);

    std::vector<bf16> part_bf16(count);
    comm.reduce_scatter(send_bf16.data(), part_bf16.data(), count, DType::bf16);
    for (std::size_t i = 0; i < count; ++i) {
      float sum = 0;
      for (int r = 0; r < ranks; ++r) sum += static_cast<float>(to_bf16(value(r, rank * count + i)));
      right &= part_bf16[i].bits == to_bf16(sum).bits;
    }
    CHECK(right);

    std::vector<float> whole(send.size());
    comm.all_reduce(send.data(), whole.data(), send.size(), DType::f32);
    for (std::size_t i = 0; i < whole.size(); ++i) right &= whole[i] == expected_sum(ranks, i);
    CHECK(right);
    comm.all_reduce(send.data(), send.data(), send.size(), DType::f32);
    CHECK(send == whole);

    std::int32_t number = rank + 1;
    comm.all_reduce(&number, &number, 1, DType::i32);
    CHECK(number == ranks * (ranks + 1) / 2);
    comm.barrier();
  }));
}

void a_failed_rank_wakes_the_others() {
  const auto errors = on_ranks(4, [](int rank, Comm& comm) {
    comm.barrier();
    if (rank == 2) throw Error("out of luck");
    for (int i = 0; i < 1000; ++i) comm.barrier();
  });
  CHECK(errors[2] == "out of luck");
  for (int rank : {0, 1, 3}) CHECK(errors[rank] == "stopped: rank 2 failed: out of luck");
}

void ranks_that_disagree_are_told() {
  const auto errors = on_ranks(2, [](int rank, Comm& comm) {
    float x[4] = {};
    float y[4] = {};
    if (rank == 0) comm.all_gather(x, y, 8);
    if (rank == 1) comm.reduce_scatter(x, y, 2, DType::f32);
  });
  const bool told = errors[0].find("reduce_scatter of 2") != std::string::npos ||
                    errors[1].find("all_gather of 8") != std::string::npos;
  CHECK(told);
}

void axes_are_separate() {
  const MeshAxis axes[] = {{"dp", 2}, {"sp", 3}};
  const Mesh mesh(axes, 2);
  CHECK(mesh.ranks() == 6 && mesh.find("sp") == 1 && mesh.find("tp") == -1);
  CHECK(mesh.coordinate(4, 0) == 1 && mesh.coordinate(4, 1) == 1);
  CHECK((mesh.group(4, 0) == std::vector<int>{1, 4}) && (mesh.group(4, 1) == std::vector<int>{3, 4, 5}));
  LocalWorld world(6);
  std::vector<std::thread> threads;
  std::vector<std::int32_t> dp_sum(6);
  std::vector<std::int32_t> sp_sum(6);
  for (int rank = 0; rank < 6; ++rank) {
    threads.emplace_back([&, rank] {
      const auto comms = world.join_axes(rank, mesh);
      comms[0]->all_reduce(&rank, &dp_sum[rank], 1, DType::i32);
      comms[1]->all_reduce(&rank, &sp_sum[rank], 1, DType::i32);
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK((dp_sum == std::vector<std::int32_t>{3, 5, 7, 3, 5, 7}));
  CHECK((sp_sum == std::vector<std::int32_t>{3, 3, 3, 12, 12, 12}));
}

}  // namespace

int main() {
  for (int ranks : {1, 2, 3, 4, 8}) {
    for (std::size_t count : {1u, 7u, 5003u}) {
      moves(ranks, count);
      sums(ranks, count);
      moves_together(ranks, count);
      sent_bytes_are_counted(ranks, count);
    }
  }
  a_failed_rank_wakes_the_others();
  ranks_that_disagree_are_told();
  axes_are_separate();
  return check::result("comm_test");
}
