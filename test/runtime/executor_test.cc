// Executors on the toy program: arenas, layouts, steps, and the errors of programs and lanes.
#include "ithaca/executor.h"
#include "ithaca/memory.h"

#include <cstring>
#include <thread>

#include "check.h"
#include "ithaca/checkpoint.h"
#include "ithaca/error.h"
#include "ithaca/local_comm.h"
#include "toy_program.h"

using namespace ithaca;

namespace {

void arenas() {
  const Arena arena("device", 10'000);
  CHECK(reinterpret_cast<std::uintptr_t>(arena.base()) % 4096 == 0);
  CHECK(arena.base()[0] == std::byte{0} && arena.base()[9'999] == std::byte{0});
  const Arena empty("host", 0);
  CHECK(empty.base() != nullptr);
  const std::size_t before = peak_resident_bytes();
  const Arena untouched("device", std::size_t{1} << 30);
  CHECK(peak_resident_bytes() < before + (std::size_t{64} << 20));
  CHECK_THROWS(Arena("device", std::size_t{1} << 50),
               "the device arena needs 1.00 PiB (1125899906842624 bytes); this machine has");
  CHECK(format_bytes(12) == "12 bytes" && format_bytes(3u << 29) == "1.50 GiB (1610612736 bytes)");
}

void shares() {
  const MeshAxis axes[] = {{"dp", 2}, {"sp", 3}};
  const Mesh mesh(axes, 2);
  const TensorSpec tensor = {"x", Role::parameter, DType::f32, Memory::device, Init::none, 0, 3, {4, 6, 5},
                             {"dp", "sp", ""}, 1, 0, 80};
  const Share share = share_of(tensor, mesh, 4);  // dp 1, sp 1
  CHECK((share.begin == std::vector<std::int64_t>{2, 2, 0}) && (share.size == std::vector<std::int64_t>{2, 2, 5}));
  CHECK(share.primary && share.elements() == 20);
  std::vector<std::int64_t> runs;
  for_each_run(share, [&](std::int64_t global, std::int64_t local, std::int64_t count) {
    runs.insert(runs.end(), {global, local, count});
  });
  CHECK((runs == std::vector<std::int64_t>{70, 0, 10, 100, 10, 10}));

  TensorSpec both = tensor;
  both.axes[0] = "";
  both.axes[1] = "sp,dp";
  CHECK((share_of(both, mesh, 4).begin == std::vector<std::int64_t>{0, 3, 0}));
  both.axes[1] = "sp";
  CHECK(share_of(both, mesh, 2).primary && !share_of(both, mesh, 4).primary);
  both.dims[1] = 7;
  CHECK_THROWS(share_of(both, mesh, 0), "x: dimension 1 of [4, 7, 5] can't be shared evenly by the 3 ranks of \"sp\"");
  both.axes[1] = "tp";
  CHECK_THROWS(share_of(both, mesh, 0), "\"tp\", which is no axis of the mesh");

  const TensorSpec scalar = {"s", Role::output, DType::f32, Memory::device, Init::none, 0, 0, {}, {}, 1, 0, 4};
  int visits = 0;
  for_each_run(share_of(scalar, mesh, 0), [&](auto global, auto local, auto count) {
    visits += global == 0 && local == 0 && count == 1;
  });
  CHECK(visits == 1);
}

// Steps the toy over dp x sp ranks and returns the losses, which rank 0 and every other rank must agree on.
std::vector<float> losses(int dp, int sp, int steps) {
  LocalWorld world(dp * sp);
  const ProgramSpec& spec = toy::program(dp, sp);
  const Mesh mesh(spec.axes, spec.num_axes);
  std::vector<std::unique_ptr<Executor>> ranks;
  for (int r = 0; r < dp * sp; ++r) {
    ranks.push_back(std::make_unique<Executor>(spec, r, 1, world.join_axes(r, mesh)));
    initialize(*ranks.back(), 7, false);
    ranks.back()->scalar<float>("learning_rate") = 0.1f;
    const TensorSpec& ids = ranks.back()->tensor("input_ids");
    const TensorSpec& labels = ranks.back()->tensor("labels");
    auto* at = reinterpret_cast<std::int32_t*>(ranks.back()->data(ids));
    const Share share = ranks.back()->share(ids);
    for (int micro = 0; micro < toy::kMicroBatches; ++micro) {
      for_each_run(share, [&](std::int64_t global, std::int64_t local, std::int64_t count) {
        for (std::int64_t i = 0; i < count; ++i) at[micro * share.elements() + local + i] = (global + i) * 3 % 97;
      });
    }
    std::memset(ranks.back()->data(labels), 0, labels.bytes);
  }
  std::vector<float> all;
  for (int step = 0; step < steps; ++step) {
    for (auto& rank : ranks) rank->begin_step();
    for (auto& rank : ranks) rank->finish_step();
    all.push_back(ranks[0]->scalar<float>("loss"));
    for (auto& rank : ranks) {
      CHECK(rank->scalar<float>("loss") == all.back());
      CHECK(rank->scalar<std::int32_t>("tokens") == toy::kBatch * toy::kSequence * toy::kMicroBatches);
    }
  }
  return all;
}

void steps_agree_on_every_mesh() {
  const std::vector<float> alone = losses(1, 1, 5);
  CHECK(alone[1] > alone[0]);  // the embedding drifts towards the mean token
  for (const auto& [dp, sp] : {std::pair{2, 1}, {1, 2}, {2, 2}}) {
    const std::vector<float> shared = losses(dp, sp, 5);
    for (int i = 0; i < 5; ++i) CHECK(std::abs(shared[i] - alone[i]) < 1e-6f);
  }
}

void a_failing_lane_is_named_and_nothing_hangs() {
  const ProgramSpec& spec = toy::program(1, 1);
  Executor executor(spec, 0, 1, {});
  toy::faults.fail_copy_rank = 0;
  CHECK_THROWS(executor.step(), "lane copy, step 2 (copy counts): the toy's copy was told to fail");
  toy::faults = {};
  CHECK_THROWS(executor.step(), "failed in an earlier step");
}

void a_failing_rank_stops_the_others() {
  LocalWorld world(4);
  const ProgramSpec& spec = toy::program(2, 2);
  const Mesh mesh(spec.axes, spec.num_axes);
  std::vector<std::unique_ptr<Executor>> ranks;
  for (int r = 0; r < 4; ++r) ranks.push_back(std::make_unique<Executor>(spec, r, 1, world.join_axes(r, mesh)));
  toy::faults.fail_rank = 2;
  for (auto& rank : ranks) rank->begin_step();
  const char* cause = "rank 2, lane compute, step 1 (update): the toy was told to fail";
  for (int r : {0, 1, 3}) CHECK_THROWS(ranks[r]->finish_step(), cause);
  CHECK_THROWS(ranks[2]->finish_step(), cause);
  toy::faults = {};
}

void programs_that_contradict_themselves() {
  ProgramSpec spec = toy::program(1, 1);
  const auto open = [&](int rank = 0, int threads = 1) { Executor executor(spec, rank, threads, {}); };
  CHECK_THROWS(open(1), "rank 1 is outside the program's mesh of 1");
  CHECK_THROWS(open(0, 0), "threads is 0");
  CHECK_THROWS(open(0, 5), "room for 4 threads a rank, 5 were asked for");
  spec.device_bytes = 100;
  CHECK_THROWS(open(), "outside its arena of 100");
  spec = toy::program(1, 1);
  spec.abi = 99;
  CHECK_THROWS(open(), "built for runtime ABI 99");
  spec = toy::program(1, 2);
  CHECK_THROWS(open(), "mesh axis \"sp\" has degree 2 and no collectives");
  const Executor executor(toy::program(1, 1), 0, 1, {});
  CHECK(executor.find("nothing") == nullptr);
  CHECK_THROWS(executor.tensor("nothing"), "toy has no tensor \"nothing\"");
}

// A rank's file has its room from the start and no name, so that nothing of it stays.
void files() {
  const check::TemporaryDirectory folder;
  ProgramSpec spec = toy::program(1, 1);
  spec.file_bytes = 100'000;
  const auto open = [&](const std::string& host_spill) { Executor executor(spec, 0, 1, {}, host_spill); };
  CHECK_THROWS(open(""), "toy keeps 97.66 KiB (100000 bytes) in a file, and memory.host_spill names no folder for it");
  CHECK_THROWS(open(folder / "none"), "memory.host_spill: can't create a file in " + (folder / "none") + ": No such file");
  open(folder.path.string());
  CHECK(std::filesystem::is_empty(folder.path));
  const File file = File::unnamed(folder.path.string(), "");
  file.allocate(spec.file_bytes);
  CHECK(file.size() == spec.file_bytes && std::filesystem::is_empty(folder.path));
  const std::string text = "what waits";
  std::string back(text.size(), ' ');
  file.write_at(70'000, text.data(), text.size());
  file.read_at(70'000, back.data(), back.size());
  CHECK(back == text);
  TensorSpec tensors[] = {spec.tensors[0]};
  tensors[0].memory = Memory::file;
  spec.tensors = tensors;
  spec.num_tensors = 1;
  CHECK_THROWS(open(folder.path.string()), "input_ids is in a file, where nobody sees it");
}

}  // namespace

int main() {
  arenas();
  shares();
  steps_agree_on_every_mesh();
  a_failing_lane_is_named_and_nothing_hangs();
  a_failing_rank_stops_the_others();
  programs_that_contradict_themselves();
  files();
  return check::result("executor_test");
}
