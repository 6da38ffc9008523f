// Initial values, weights in and out, snapshots, and a disk that is full.
#include "ithaca/checkpoint.h"

#include <sys/mount.h>
#include <sys/stat.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

#include "check.h"
#include "ithaca/error.h"
#include "ithaca/file.h"
#include "ithaca/local_comm.h"
#include "ithaca/random.h"
#include "ithaca/safetensors.h"
#include "toy_program.h"

using namespace ithaca;
namespace fs = std::filesystem;

namespace {

constexpr const char* kEmbed = "model.embed_tokens.weight";

// Runs `body(executor, world)` on every rank of a toy, each on its thread.
void on_toy(int dp, int sp, const std::function<void(Executor&, Comm*)>& body) {
  LocalWorld world(dp * sp);
  const ProgramSpec& spec = toy::program(dp, sp);
  const Mesh mesh(spec.axes, spec.num_axes);
  std::vector<std::thread> threads;
  std::exception_ptr cause;
  for (int rank = 0; rank < dp * sp; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        const auto all = world.join_all(rank);
        Executor executor(spec, rank, 1, world.join_axes(rank, mesh));
        body(executor, dp * sp > 1 ? all.get() : nullptr);
      } catch (const Stopped&) {
      } catch (const std::exception& error) {
        cause = std::current_exception();
        world.fail(rank, error.what());
      }
    });
  }
  for (auto& thread : threads) thread.join();
  if (cause) std::rethrow_exception(cause);
}

std::vector<float> values(const Executor& executor, const char* name) {
  const TensorSpec& tensor = executor.tensor(name);
  const auto* at = reinterpret_cast<const float*>(executor.data(tensor));
  return {at, at + tensor.bytes / 4};
}

void save(const std::string& path, std::vector<StoredTensor> tensors,
          const std::function<void(File&, StoredTensor&)>& fill) {
  const std::string start = lay_out_safetensors(tensors);
  File file = File::create(path);
  file.allocate(tensors.back().begin + tensors.back().bytes);
  file.write_at(0, start.data(), start.size());
  for (StoredTensor& tensor : tensors) {
    if (fill) fill(file, tensor);
  }
}

void the_generator() {
  // The known answers of Random123 (kat_vectors, philox4x32-10).
  CHECK((philox({0, 0, 0, 0}, {0, 0}) ==
         std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  CHECK((philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
         std::array<std::uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
  const NormalStream stream(3, "w");
  std::vector<float> whole(100'003);
  stream.fill(0, static_cast<std::int64_t>(whole.size()), 0.5f, whole.data());
  double sum = 0;
  double squares = 0;
  for (float x : whole) {
    sum += x;
    squares += double{x} * x;
  }
  const double n = static_cast<double>(whole.size());
  CHECK(std::abs(sum / n) < 0.01 && std::abs(std::sqrt(squares / n) - 0.5) < 0.01);
  std::vector<float> part(1001);
  stream.fill(777, 1001, 0.5f, part.data());
  CHECK(std::equal(part.begin(), part.end(), whole.begin() + 777));
  std::vector<float> other(1001);
  NormalStream(4, "w").fill(777, 1001, 0.5f, other.data());
  CHECK(other != part);
  NormalStream(3, "v").fill(777, 1001, 0.5f, other.data());
  CHECK(other != part);
}

void initial_values_do_not_depend_on_ranks() {
  std::vector<float> alone;
  on_toy(1, 1, [&](Executor& executor, Comm*) {
    initialize(executor, 5, false);
    alone = values(executor, kEmbed);
    const auto* norm = reinterpret_cast<const bf16*>(executor.data(executor.tensor("model.norm.weight")));
    CHECK(static_cast<float>(norm[7]) == 1.0f);
  });
  on_toy(2, 2, [&](Executor& executor, Comm*) {
    initialize(executor, 5, false);
    const std::vector<float> mine = values(executor, kEmbed);
    for_each_run(executor.share(executor.tensor(kEmbed)), [&](auto global, auto local, auto count) {
      CHECK(std::equal(mine.begin() + local, mine.begin() + local + count, alone.begin() + global));
    });
  });
}

void weights_round_trip(const check::TemporaryDirectory& directory, std::uint64_t shard_bytes) {
  std::ofstream(directory / "config.json") << R"({"model_type": "llama", "torch_dtype": "bfloat16"})";
  std::ofstream(directory / "tokenizer.json") << "{}";
  const FinalOptions options{
      directory / "final", directory / "config.json", {directory / "tokenizer.json"}, shard_bytes};
  std::vector<float> saved;
  on_toy(2, 2, [&](Executor& executor, Comm* world) {
    initialize(executor, 5, false);
    save_final(executor, world, options);
    save_final(executor, world, options);  // over the one before
  });
  on_toy(1, 1, [&](Executor& executor, Comm*) {
    initialize(executor, 5, false);
    saved = values(executor, kEmbed);
  });
  CHECK(!fs::exists(PartialDirectory::path_for(options.directory)));
  const auto config = nlohmann::json::parse(read_text(options.directory + "/config.json"));
  CHECK(config["torch_dtype"] == "float32" && config["model_type"] == "llama" && !config.contains("dtype"));
  CHECK(fs::exists(options.directory + "/tokenizer.json"));
  std::vector<std::string> files = {options.directory + "/model.safetensors"};
  if (shard_bytes < 1000) {
    files = {options.directory + "/model-00001-of-00002.safetensors",
             options.directory + "/model-00002-of-00002.safetensors"};
    const auto index = nlohmann::json::parse(read_text(options.directory + "/model.safetensors.index.json"));
    CHECK(index["weight_map"]["model.norm.weight"] == "model-00002-of-00002.safetensors");
    CHECK(index["metadata"]["total_size"] == 3232);
  }
  on_toy(1, 2, [&](Executor& executor, Comm*) {
    load_weights(executor, files);
    const std::vector<float> mine = values(executor, kEmbed);
    for_each_run(executor.share(executor.tensor(kEmbed)), [&](auto global, auto local, auto count) {
      CHECK(std::equal(mine.begin() + local, mine.begin() + local + count, saved.begin() + global));
    });
  });
}

void weights_that_do_not_fit(const check::TemporaryDirectory& directory) {
  const auto load = [](const std::vector<std::string>& paths) {
    on_toy(1, 1, [&](Executor& executor, Comm*) { load_weights(executor, paths); });
  };
  const StoredTensor embed = {kEmbed, "F32", {toy::kVocabulary, 8}, 0, 0};
  const StoredTensor norm = {"model.norm.weight", "BF16", {8}, 0, 0};
  const StoredTensor head = {"lm_head.weight", "F32", {toy::kVocabulary, 8}, 0, 0};
  const std::string a = directory / "a.safetensors";
  save(a, {embed, norm, head}, nullptr);
  load({a});
  save(a, {embed}, nullptr);
  CHECK_THROWS(load({a}), "the weights have no tensor \"model.norm.weight\" of shape [8]");
  CHECK_THROWS(load({a, a}), "is both in");
  save(a, {{kEmbed, "F32", {8, toy::kVocabulary}, 0, 0}, norm}, nullptr);
  CHECK_THROWS(load({a}), "has shape [8, 100], the model needs [100, 8]");
  save(a, {{kEmbed, "F32", {toy::kVocabulary * 8}, 0, 0}, norm}, nullptr);
  CHECK_THROWS(load({a}), "has shape [800], the model needs [100, 8]");
  save(a, {{kEmbed, "I64", {toy::kVocabulary, 8}, 0, 0}, norm}, nullptr);
  CHECK_THROWS(load({a}), "weights must be F32, BF16 or F16");
  save(a, {embed, norm}, [](File& file, StoredTensor& tensor) {
    const float nan = std::nanf("");
    if (tensor.name == kEmbed) file.write_at(tensor.begin + 4 * 19, &nan, 4);
  });
  CHECK_THROWS(load({a}), "has NaN at element [2, 3]");
}

// One step of the toy from a known input.
void step(Executor& executor, std::int64_t number) {
  executor.scalar<float>("learning_rate") = 0.1f;
  executor.scalar<std::int32_t>("step") = static_cast<std::int32_t>(number);
  const TensorSpec& ids = executor.tensor("input_ids");
  auto* at = reinterpret_cast<std::int32_t*>(executor.data(ids));
  for (std::size_t i = 0; i < ids.bytes / 4; ++i) at[i] = static_cast<std::int32_t>((i + number) % 50);
  executor.step();
}

void a_snapshot_resumes_bit_for_bit(const check::TemporaryDirectory& directory) {
  for (const auto& [dp, sp] : {std::pair{1, 1}, {2, 2}}) {
    const std::string place = directory / "snapshots/step-3";
    std::vector<std::vector<float>> straight(dp * sp);
    on_toy(dp, sp, [&](Executor& executor, Comm* world) {
      initialize(executor, 9, false);
      for (int i = 1; i <= 6; ++i) {
        step(executor, i);
        if (i == 3) save_snapshot(executor, world, place, {3, 24});
      }
      straight[executor.rank()] = values(executor, kEmbed);
    });
    CHECK(fs::exists(place + "/snapshot.json") && !fs::exists(PartialDirectory::path_for(place)));
    on_toy(dp, sp, [&](Executor& executor, Comm*) {
      const Progress progress = load_snapshot(executor, place);
      CHECK(progress.step == 3 && progress.samples == 24);
      for (int i = 4; i <= 6; ++i) step(executor, i);
      const std::vector<float> resumed = values(executor, kEmbed);
      CHECK(std::memcmp(resumed.data(), straight[executor.rank()].data(), 4 * resumed.size()) == 0);
    });
    // Another layout reads the same snapshot.
    on_toy(1, 2, [&](Executor& executor, Comm*) { CHECK(load_snapshot(executor, place).step == 3); });
    std::ofstream(place + "/snapshot.json") << "{\"step\": 3";
    CHECK_THROWS(on_toy(1, 1, [&](Executor& executor, Comm*) { load_snapshot(executor, place); }), "is damaged");
    fs::remove(place + "/snapshot.json");
    CHECK_THROWS(on_toy(1, 1, [&](Executor& executor, Comm*) { load_snapshot(executor, place); }), "has no snapshot.json; a snapshot is a folder");
  }
}

void a_full_disk(const check::TemporaryDirectory& directory) {
  const std::string small = directory / "small";
  fs::create_directory(small);
  if (mount("tmpfs", small.c_str(), "tmpfs", 0, "size=12k") != 0) {
    std::printf("checkpoint_test: full disk skipped, mounting a small tmpfs needs root\n");
    return;
  }
  const FinalOptions options{small + "/final", "", {}};
  on_toy(2, 1, [&](Executor& executor, Comm* world) {
    initialize(executor, 5, false);
    save_final(executor, world, options);
  });
  const std::string before = read_text(options.directory + "/model.safetensors");
  std::ofstream(small + "/filler") << std::string(8192, 'x');
  CHECK_THROWS(on_toy(2, 1,
                      [&](Executor& executor, Comm* world) {
                        initialize(executor, 6, false);
                        save_final(executor, world, options);
                      }),
               "No space left on device; ");
  CHECK(read_text(options.directory + "/model.safetensors") == before);
  CHECK(!fs::exists(PartialDirectory::path_for(options.directory)));
  CHECK_THROWS(write_text(small + "/text", std::string(100'000, 'x')), "are free. Make room");
  CHECK(!fs::exists(small + "/text") && !fs::exists(small + "/text.partial"));
  mount(nullptr, small.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr);
  CHECK_THROWS(require_writable_directory(small), "Read-only file system; choose another output_dir");
  umount(small.c_str());
}

}  // namespace

int main() {
  const check::TemporaryDirectory directory;
  the_generator();
  initial_values_do_not_depend_on_ranks();
  weights_round_trip(directory, 5'000'000'000);
  weights_round_trip(directory, 100);
  weights_that_do_not_fit(directory);
  a_snapshot_resumes_bit_for_bit(directory);
  a_full_disk(directory);
  return check::result("checkpoint_test");
}
