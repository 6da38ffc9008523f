// Reads run files: every value is checked here, so that the rest can rely on them.
#include "run_file.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "ithaca/error.h"
#include "ithaca/file.h"

namespace ithaca {

namespace {

using nlohmann::json;

// The keys of one JSON object. A key that is absent or null takes its default, if it has one.
class Keys {
 public:
  Keys(std::string where, const json& object) : where_(std::move(where)), object_(object) {
    if (!object.is_object()) throw Error(where_ + ": expected a JSON object, found " + object.dump());
  }

  bool has(const char* key) const { return object_.contains(key) && !object_[key].is_null(); }

  const json& required(const char* key) const {
    if (!has(key)) throw Error(where_ + ": " + key + " is missing");
    return object_[key];
  }

  std::string text(const char* key) const {
    const json& value = required(key);
    if (!value.is_string()) refuse(key, "a text");
    return value.get<std::string>();
  }
  std::string text(const char* key, const char* otherwise) const { return has(key) ? text(key) : otherwise; }

  std::int64_t whole(const char* key, std::int64_t least) const {
    const json& value = required(key);
    const bool fits = value.is_number_integer() &&
                      !(value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t{1} << 62);
    if (!fits || value.get<std::int64_t>() < least) {
      refuse(key, "a whole number of at least " + std::to_string(least));
    }
    return value.get<std::int64_t>();
  }
  std::int64_t whole(const char* key, std::int64_t least, std::int64_t otherwise) const {
    return has(key) ? whole(key, least) : otherwise;
  }
  int count(const char* key) const {
    const std::int64_t value = whole(key, 1, 1);
    if (value > 65536) refuse(key, "at most 65536");
    return static_cast<int>(value);
  }

  double number(const char* key) const {
    const json& value = required(key);
    if (!value.is_number() || value.get<double>() < 0) refuse(key, "a number of at least 0");
    return value.get<double>();
  }

  bool yes(const char* key, bool otherwise) const {
    if (has(key) && !object_[key].is_boolean()) refuse(key, "true or false");
    return has(key) ? object_[key].get<bool>() : otherwise;
  }

  std::vector<std::string> texts(const char* key) const {
    std::vector<std::string> all;
    if (!has(key)) return all;
    if (!object_[key].is_array()) refuse(key, "a list of paths");
    for (const json& value : object_[key]) {
      if (!value.is_string()) refuse(key, "a list of paths");
      all.push_back(value.get<std::string>());
    }
    return all;
  }

  [[noreturn]] void refuse(const char* key, const std::string& allowed) const {
    throw Error(where_ + ": " + key + " is " + object_[key].dump() + "; it must be " + allowed);
  }

 private:
  std::string where_;
  const json& object_;
};

}  // namespace

RunFile read_run_file(const std::string& path) {
  json parsed;
  try {
    parsed = json::parse(read_text(path));
  } catch (const json::exception& error) {
    throw Error(path + ": no valid JSON: " + error.what());
  }
  const Keys keys(path, parsed);
  const Keys data(path + ": data", keys.required("data"));

  RunFile run;
  run.data.tokens = data.text("tokens");
  const std::string dtype = data.text("dtype", "uint32");
  if (dtype != "uint16" && dtype != "uint32") data.refuse("dtype", "\"uint16\" or \"uint32\"");
  run.data.token_bytes = dtype == "uint16" ? 2 : 4;
  run.data.documents = data.text("documents", "");
  run.data.vocab_size = keys.whole("vocab_size", 1);
  run.data.sequence_length = keys.whole("sequence_length", 0, 0);
  if (run.data.vocab_size > std::numeric_limits<std::int32_t>::max()) keys.refuse("vocab_size", "below 2^31");

  run.weights = keys.texts("weights");
  run.seed = static_cast<std::uint64_t>(keys.whole("seed", 0, 0));
  run.output_dir = keys.text("output_dir");
  run.config_json = keys.text("config_json", "");
  run.extra_files = keys.texts("extra_files");
  run.max_steps = keys.whole("max_steps", 1);
  run.schedule.learning_rate = keys.number("learning_rate");
  run.schedule.type = scheduler_type(keys.text("lr_scheduler_type", "constant"));
  run.schedule.warmup_steps = keys.whole("warmup_steps", 0, 0);
  run.schedule.max_steps = run.max_steps;
  run.snapshot_every = keys.whole("snapshot_every", 0, 0);
  run.resume = keys.text("resume", "");
  run.save_final = keys.yes("save_final", true);
  run.trace = keys.text("trace", "");
  run.host_spill = keys.text("host_spill", "");
  run.threads = keys.count("threads");
  run.ranks = keys.count("ranks");
  run.timeout_s = keys.whole("timeout_s", 0, 30);
  const std::string comm = keys.text("comm", "local");
  if (comm != "local" && comm != "mpi" && comm != "nccl") keys.refuse("comm", "\"local\", \"mpi\" or \"nccl\"");
  run.mpi = comm == "mpi";
  run.tcp = comm == "nccl" && run.ranks > 1;
  return run;
}

}  // namespace ithaca
