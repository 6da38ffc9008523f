// Parameters and states: their start, safetensors in and out, the final directory and snapshots.
#include "ithaca/checkpoint.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "ithaca/error.h"
#include "ithaca/file.h"
#include "ithaca/random.h"
#include "ithaca/safetensors.h"

namespace ithaca {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::int64_t kChunk = 1 << 18;  // elements on their way between a file and an arena

std::vector<const TensorSpec*> tensors_of(const Executor& executor, bool states) {
  std::vector<const TensorSpec*> found;
  for (int i = 0; i < executor.spec().num_tensors; ++i) {
    const TensorSpec& tensor = executor.spec().tensors[i];
    if (tensor.role == Role::parameter || (states && tensor.role == Role::state)) found.push_back(&tensor);
  }
  return found;
}

// Elements [at, at + count) of a share, from and to f32.
void store(std::byte* share, DType dtype, std::int64_t at, std::int64_t count, const float* from) {
  if (dtype == DType::f32) std::memcpy(share + 4 * at, from, 4 * count);
  if (dtype == DType::bf16) {
    for (std::int64_t i = 0; i < count; ++i) reinterpret_cast<bf16*>(share)[at + i] = to_bf16(from[i]);
  }
  if (dtype == DType::i32) {
    for (std::int64_t i = 0; i < count; ++i) {
      reinterpret_cast<std::int32_t*>(share)[at + i] = static_cast<std::int32_t>(from[i]);
    }
  }
}

void read_share(Executor& executor, const TensorSpec& tensor, const SafetensorsSet::Place& place) {
  if (!std::equal(tensor.dims, tensor.dims + tensor.rank, place.tensor->shape.begin(), place.tensor->shape.end())) {
    throw Error(place.file->path() + ": tensor \"" + tensor.name + "\" has shape " +
                shape_text(place.tensor->shape) + ", the model needs " + shape_text(tensor) +
                "; the weights belong to another configuration");
  }
  const HostView view = executor.open_for_writing(tensor);
  std::byte* share = view.data();
  std::vector<float> chunk;
  for_each_run(executor.share(tensor), [&](std::int64_t global, std::int64_t local, std::int64_t count) {
    if (tensor.dtype == DType::i32) {
      place.file->read_i32(*place.tensor, global, count, reinterpret_cast<std::int32_t*>(share) + local);
      return;
    }
    if (tensor.dtype == DType::f32) {
      place.file->read_f32(*place.tensor, global, count, reinterpret_cast<float*>(share) + local);
      return;
    }
    for (std::int64_t at = 0; at < count; at += kChunk) {
      const std::int64_t n = std::min(kChunk, count - at);
      chunk.resize(n);
      place.file->read_f32(*place.tensor, global + at, n, chunk.data());
      store(share, tensor.dtype, local + at, n, chunk.data());
    }
  });
  executor.write_back(tensor, view);
}

// Writes what this rank is the first to hold of a tensor, as f32 or unconverted.
void write_share(const Executor& executor, const TensorSpec& tensor, bool as_f32, const File& file,
                 std::uint64_t begin) {
  const Share layout = executor.share(tensor);
  if (!layout.primary) return;
  const HostView view = executor.read(tensor);
  const std::byte* share = view.data();
  const bool convert = as_f32 && tensor.dtype == DType::bf16;
  const std::size_t bytes = convert ? 4 : dtype_bytes(tensor.dtype);
  std::vector<float> chunk;
  for_each_run(layout, [&](std::int64_t global, std::int64_t local, std::int64_t count) {
    if (!convert) {
      file.write_at(begin + bytes * global, share + bytes * local, bytes * count);
      return;
    }
    for (std::int64_t at = 0; at < count; at += kChunk) {
      chunk.resize(std::min(kChunk, count - at));
      const bf16* from = reinterpret_cast<const bf16*>(share) + local + at;
      for (std::size_t i = 0; i < chunk.size(); ++i) chunk[i] = static_cast<float>(from[i]);
      file.write_at(begin + bytes * (global + at), chunk.data(), bytes * chunk.size());
    }
  });
}

// One safetensors file with a share of every rank in it. The file's size is claimed before its data are written.
void write_tensors(const Executor& executor, Comm* world, const std::string& path,
                   const std::vector<const TensorSpec*>& tensors, bool as_f32) {
  std::vector<StoredTensor> stored;
  for (const TensorSpec* tensor : tensors) {
    const char* dtype = as_f32 ? "F32" : safetensors_dtype(tensor->dtype);
    stored.push_back({tensor->name, dtype, {tensor->dims, tensor->dims + tensor->rank}, 0, 0});
  }
  const std::string start = lay_out_safetensors(stored);
  if (executor.rank() == 0) {
    const File file = File::create(path);
    file.allocate(stored.empty() ? start.size() : stored.back().begin + stored.back().bytes);
    file.write_at(0, start.data(), start.size());
  }
  if (world) world->barrier();
  const File file = File::open_for_writing(path);
  for (const StoredTensor& place : stored) {
    write_share(executor, executor.tensor(place.name), as_f32, file, place.begin);
  }
  file.sync();
  if (world) world->barrier();
}

// Consecutive tensors that make at most `limit` bytes together in f32, as Hugging Face divides a large model.
std::vector<std::vector<const TensorSpec*>> divide(const std::vector<const TensorSpec*>& tensors,
                                                   std::uint64_t limit) {
  std::vector<std::vector<const TensorSpec*>> shards(1);
  std::uint64_t bytes = 0;
  for (const TensorSpec* tensor : tensors) {
    const std::uint64_t more = 4 * element_count(*tensor);
    if (bytes > 0 && bytes + more > limit) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().push_back(tensor);
    bytes += more;
  }
  return shards;
}

std::string shard_name(std::size_t index, std::size_t shards) {
  if (shards == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", index + 1, shards);
  return name;
}

std::string index_text(const std::vector<std::vector<const TensorSpec*>>& shards) {
  std::uint64_t total = 0;
  json files = json::object();
  for (std::size_t i = 0; i < shards.size(); ++i) {
    for (const TensorSpec* tensor : shards[i]) {
      files[tensor->name] = shard_name(i, shards.size());
      total += 4 * element_count(*tensor);
    }
  }
  return json{{"metadata", {{"total_size", total}}}, {"weight_map", files}}.dump(2) + "\n";
}

// The configuration as Hugging Face would save it with float32 weights, its keys in their order.
std::string float32_config(const std::string& path) {
  nlohmann::ordered_json config;
  try {
    config = nlohmann::ordered_json::parse(read_text(path));
  } catch (const json::exception& error) {
    throw Error(path + ": no valid JSON: " + error.what());
  }
  if (!config.is_object()) throw Error(path + ": no JSON object");
  // transformers 4 reads torch_dtype, later versions dtype; a file that has neither gets the newer name.
  if (config.contains("torch_dtype")) config["torch_dtype"] = "float32";
  if (config.contains("dtype") || !config.contains("torch_dtype")) config["dtype"] = "float32";
  return config.dump(2) + "\n";
}

}  // namespace

void initialize(Executor& executor, std::uint64_t seed, bool weights_follow) {
  for (const TensorSpec* tensor : tensors_of(executor, true)) {
    if (tensor->role == Role::parameter && weights_follow) continue;
    if (tensor->role == Role::parameter && tensor->init == Init::none) {
      throw Error(std::string("parameter \"") + tensor->name + "\" has no initial value; give `weights` to start from");
    }
    if (tensor->init == Init::none) continue;
    const HostView view = executor.open_for_writing(*tensor);
    std::byte* share = view.data();
    if (tensor->init == Init::zeros) {
      std::memset(share, 0, tensor->bytes);
      executor.write_back(*tensor, view);
      continue;
    }
    const NormalStream normal(seed, tensor->name);
    std::vector<float> chunk;
    for_each_run(executor.share(*tensor), [&](std::int64_t global, std::int64_t local, std::int64_t count) {
      for (std::int64_t at = 0; at < count; at += kChunk) {
        chunk.assign(std::min(kChunk, count - at), 1.0f);
        if (tensor->init == Init::normal) normal.fill(global + at, chunk.size(), tensor->init_std, chunk.data());
        store(share, tensor->dtype, local + at, chunk.size(), chunk.data());
      }
    });
    executor.write_back(*tensor, view);
  }
}

void load_weights(Executor& executor, const std::vector<std::string>& paths) {
  const SafetensorsSet files(paths);
  for (const TensorSpec* tensor : tensors_of(executor, false)) {
    const SafetensorsSet::Place place = files.find(tensor->name);
    if (!place.tensor) {
      throw Error(std::string("the weights have no tensor \"") + tensor->name + "\" of shape " + shape_text(*tensor) +
                  "; looked in " + paths.front() +
                  (paths.size() > 1 ? " and " + std::to_string(paths.size() - 1) + " more" : "") +
                  ". They are incomplete, or belong to another configuration");
    }
    read_share(executor, *tensor, place);
  }

  std::vector<std::string> unused;
  for (const std::string& name : files.names()) {
    if (executor.find(name)) continue;
    if (name == "lm_head.weight" && executor.find("model.embed_tokens.weight")) continue;
    unused.push_back(name);
  }
  if (executor.rank() == 0 && !unused.empty()) {
    std::fprintf(stderr, "ithaca: warning: %zu tensors of the weights aren't in the model and are not used: %s%s\n",
                 unused.size(), unused[0].c_str(), unused.size() > 1 ? ", ..." : "");
  }
}

void save_final(const Executor& executor, Comm* world, const FinalOptions& options) {
  const auto shards = divide(tensors_of(executor, false), options.shard_bytes);
  std::unique_ptr<PartialDirectory> directory;
  if (executor.rank() == 0) directory = std::make_unique<PartialDirectory>(options.directory);
  const fs::path partial = PartialDirectory::path_for(options.directory);
  for (std::size_t i = 0; i < shards.size(); ++i) {
    write_tensors(executor, world, (partial / shard_name(i, shards.size())).string(), shards[i], true);
  }
  if (directory) {
    if (shards.size() > 1) write_text((partial / "model.safetensors.index.json").string(), index_text(shards));
    if (!options.config_json.empty()) {
      write_text((partial / "config.json").string(), float32_config(options.config_json));
    }
    for (const std::string& path : options.extra_files) {
      write_text((partial / fs::path(path).filename()).string(), read_text(path));
    }
    directory->publish();
  }
  if (world) world->barrier();
}

void save_snapshot(const Executor& executor, Comm* world, const std::string& place, const Progress& progress) {
  std::unique_ptr<PartialDirectory> directory;
  if (executor.rank() == 0) directory = std::make_unique<PartialDirectory>(place);
  const fs::path partial = PartialDirectory::path_for(place);
  write_tensors(executor, world, (partial / "tensors.safetensors").string(), tensors_of(executor, true), false);
  if (directory) {
    const json state = {{"format", 1},
                        {"step", progress.step},
                        {"samples", progress.samples},
                        {"program", executor.spec().name},
                        {"hash", executor.spec().hash}};
    write_text((partial / "snapshot.json").string(), state.dump(2) + "\n");
    directory->publish();
  }
  if (world) world->barrier();
}

Progress load_snapshot(Executor& executor, const std::string& directory) {
  const std::string state_path = (fs::path(directory) / "snapshot.json").string();
  if (!fs::exists(state_path)) {
    throw Error(directory + " has no snapshot.json; a snapshot is a folder that a run with snapshot_every wrote to " +
                "output_dir/snapshots");
  }
  Progress progress;
  try {
    const json state = json::parse(read_text(state_path));
    progress.step = state.at("step").get<std::int64_t>();
    progress.samples = state.at("samples").get<std::int64_t>();
  } catch (const json::exception& error) {
    throw Error(state_path + " is damaged: " + error.what());
  }
  const SafetensorsSet file({(fs::path(directory) / "tensors.safetensors").string()});
  for (const TensorSpec* tensor : tensors_of(executor, true)) {
    const SafetensorsSet::Place place = file.find(tensor->name);
    if (!place.tensor) {
      throw Error(directory + " has no tensor \"" + tensor->name + "\"; it is a snapshot of another program");
    }
    read_share(executor, *tensor, place);
  }
  return progress;
}

}  // namespace ithaca
