// What surrounds a step: run files, learning-rate schedules, metrics.
#include "../../runtime/train/run_file.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "check.h"
#include "ithaca/file.h"
#include "ithaca/metrics.h"

using namespace ithaca;
using nlohmann::json;

namespace {

const json kRun = json::parse(R"({
  "data": {"tokens": "/t.bin", "dtype": "uint16", "documents": null}, "weights": ["/a", "/b"], "seed": 3,
  "output_dir": "/out", "config_json": "/c.json", "extra_files": [], "vocab_size": 1003, "max_steps": 20,
  "learning_rate": 1e-3, "lr_scheduler_type": "cosine", "warmup_steps": 2, "snapshot_every": 5, "resume": null,
  "save_final": true, "threads": 2, "ranks": 1, "comm": "local"})");

void run_files(const check::TemporaryDirectory& directory) {
  const std::string path = directory / "run.json";
  const auto read = [&](const json& run) {
    std::ofstream(path, std::ios::trunc) << run;
    return read_run_file(path);
  };
  const RunFile run = read(kRun);
  CHECK(run.data.token_bytes == 2 && run.data.documents.empty() && run.data.vocab_size == 1003);
  CHECK(run.weights.size() == 2 && run.seed == 3 && run.max_steps == 20 && run.schedule.max_steps == 20);
  CHECK(run.schedule.type == SchedulerType::cosine && run.schedule.warmup_steps == 2 && run.snapshot_every == 5);

  const auto with = [&](const char* key, const json& value) {
    json changed = kRun;
    changed[json::json_pointer(key)] = value;
    return changed;
  };
  CHECK_THROWS(read(with("/max_steps", 0)), path + ": max_steps is 0; it must be a whole number of at least 1");
  CHECK_THROWS(read(with("/max_steps", 1.5)), "max_steps is 1.5");
  CHECK_THROWS(read(with("/max_steps", nullptr)), "max_steps is missing");
  CHECK_THROWS(read(with("/threads", "two")), "threads is \"two\"");
  CHECK_THROWS(read(with("/learning_rate", -1)), "learning_rate is -1; it must be a number of at least 0");
  CHECK_THROWS(read(with("/lr_scheduler_type", "exponential")), "it can be constant, linear or cosine");
  CHECK_THROWS(read(with("/data/dtype", "int8")), "data: dtype is \"int8\"; it must be \"uint16\" or \"uint32\"");
  CHECK(read(with("/comm", "mpi")).mpi && !read(with("/comm", "local")).mpi);
  CHECK_THROWS(read(with("/comm", "gloo")), "comm is \"gloo\"");
  CHECK_THROWS(read(with("/weights", "/a")), "a list of paths");
  CHECK_THROWS(read(with("/seed", 18446744073709551615ull)), "seed is 18446744073709551615");
  CHECK_THROWS(read(json::array()), "expected a JSON object");
  std::ofstream(path, std::ios::trunc) << "{";
  CHECK_THROWS(read_run_file(path), "no valid JSON");
}

// Against what transformers' own schedules gave; see test/golden/make.py.
void schedules() {
  const auto golden = std::filesystem::path(__FILE__).parent_path() / "../golden/schedules.json";
  const json rows = json::parse(read_text(golden.string()));
  CHECK(rows.size() >= 6);
  for (const json& row : rows) {
    const Schedule schedule{1e-3, scheduler_type(row["lr_scheduler_type"]), row["warmup_steps"], row["max_steps"]};
    for (std::size_t step = 0; step < row["fractions"].size(); ++step) {
      const double expected = 1e-3 * row["fractions"][step].get<double>();
      CHECK(std::abs(schedule.at(static_cast<std::int64_t>(step)) - expected) < 1e-15);
    }
  }
}

void metrics(const check::TemporaryDirectory& directory) {
  const std::string path = directory / "metrics.jsonl";
  const auto append = [&](MetricsFile& file, std::int64_t step) {
    StepMetrics line;
    line.step = step;
    line.loss = 1.0 / static_cast<double>(step);
    line.tokens = 770;
    line.step_time_s = 0.5;
    file.append(line);
  };
  {
    MetricsFile file(path, 0);
    for (int step = 1; step <= 5; ++step) append(file, step);
    std::ifstream seen(path);  // flushed: readable while the file is open
    std::string line;
    std::getline(seen, line);
    const json first = json::parse(line);
    CHECK(first["step"] == 1 && first["loss"] == 1.0 && first["grad_norm"].is_null());
    CHECK(first["tokens_per_second"] == 1540.0 && first.size() == 13);
  }
  std::ofstream(path, std::ios::app) << "{\"step\": 6, \"lo";
  { MetricsFile file(path, 3); append(file, 4); }
  const std::string text = read_text(path);
  CHECK(std::count(text.begin(), text.end(), '\n') == 4 && text.find("\"step\":5") == std::string::npos);
  { const MetricsFile file(path, 0); }
  CHECK(read_text(path).empty());
  CHECK_THROWS(MetricsFile(directory / "none/metrics.jsonl", 0), "No such file");
}

}  // namespace

int main() {
  const check::TemporaryDirectory directory;
  run_files(directory);
  schedules();
  metrics(directory);
  return check::result("run_test");
}
