// The train binary as a user runs it: `train_test TRAIN TRAIN_2X2`, two binaries of the toy on one and on four ranks.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "check.h"
#include "ithaca/file.h"

using namespace ithaca;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

std::string train_alone;
std::string train_on_four;

struct Result {
  int code;
  std::string errors;
};

// A train process with its standard error in a file.
struct Process {
  Process(const std::string& binary, const std::string& run_file, const std::string& log_path,
          const std::map<std::string, std::string>& environment)
      : log(log_path) {
    id = fork();
    if (id != 0) return;
    for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
    if (!std::freopen(log.c_str(), "w", stderr)) _exit(99);
    execl(binary.c_str(), binary.c_str(), "--run", run_file.c_str(), nullptr);
    _exit(99);
  }
  Result wait() const {
    int status = 0;
    waitpid(id, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), read_text(log)};
  }
  pid_t id;
  std::string log;
};

struct Case {
  check::TemporaryDirectory directory;
  json run = {{"data", {{"tokens", directory / "tokens.bin"}, {"dtype", "uint16"}}},
              {"output_dir", directory / "out"},
              {"vocab_size", 100},
              {"max_steps", 12},
              {"learning_rate", 0.1},
              {"seed", 4}};

  Case() {
    std::ofstream tokens(directory / "tokens.bin", std::ios::binary);
    for (int i = 0; i < 1000; ++i) {
      const auto token = static_cast<std::uint16_t>(i * i % 97);
      tokens.write(reinterpret_cast<const char*>(&token), 2);
    }
  }
  Process start(const std::string& binary, const std::map<std::string, std::string>& environment = {}) {
    std::ofstream(directory / "run.json") << run;
    return Process(binary, directory / "run.json", directory / "stderr", environment);
  }
  Result train(const std::string& binary, const std::map<std::string, std::string>& environment = {}) {
    return start(binary, environment).wait();
  }
  std::vector<json> metrics() const {
    std::vector<json> lines;
    std::ifstream file(directory / "out/metrics.jsonl");
    for (std::string line; std::getline(file, line);) lines.push_back(json::parse(line));
    return lines;
  }
  std::string final_weights() const { return read_text(directory / "out/final/model.safetensors"); }
  bool has_final() const { return fs::exists(directory / "out/final"); }
};

void expect(const Result& result, int code, const std::string& text) {
  CHECK(result.code == code);
  if (result.errors.find(text) == std::string::npos) {
    check::report(__FILE__, __LINE__, "standard error is \"" + result.errors + "\", without \"" + text + "\"");
  }
}

void a_run_from_start_to_end() {
  Case alone;
  std::ofstream(alone.directory / "config.json") << R"({"vocab_size": 100})";
  alone.run["config_json"] = alone.directory / "config.json";
  expect(alone.train(train_alone), 0, "");
  const auto lines = alone.metrics();
  CHECK(lines.size() == 12 && lines[0]["step"] == 1 && lines[11]["step"] == 12);
  CHECK(lines[0]["tokens"] == 56);  // 8 samples of 8 tokens, the last one of each without a label
  CHECK(lines[0]["learning_rate"] == 0.1 && lines[0]["device_peak_bytes"] > 0);
  CHECK(json::parse(read_text(alone.directory / "out/final/config.json"))["dtype"] == "float32");

  Case four;
  four.run["ranks"] = 4;
  expect(four.train(train_on_four), 0, "");
  const auto others = four.metrics();
  CHECK(others.size() == 12);
  for (std::size_t i = 0; i < others.size(); ++i) {
    CHECK(std::abs(others[i]["loss"].get<double>() - lines[i]["loss"].get<double>()) < 1e-6);
    CHECK(others[i]["tokens"] == lines[i]["tokens"]);
  }
  CHECK(four.final_weights().size() == alone.final_weights().size());
}

void a_resumed_run_ends_in_the_same_bits() {
  for (const bool on_four : {false, true}) {
    const std::string& binary = on_four ? train_on_four : train_alone;
    Case run;
    run.run["snapshot_every"] = 4;
    run.run["ranks"] = on_four ? 4 : 1;
    expect(run.train(binary), 0, "");
    const auto lines = run.metrics();
    const std::string weights = run.final_weights();
    fs::remove_all(run.directory / "out/final");
    run.run["resume"] = run.directory / "out/snapshots/step-8";
    expect(run.train(binary), 0, "");
    const auto again = run.metrics();
    CHECK(again.size() == 12 && run.final_weights() == weights);
    for (std::size_t i = 0; i < again.size(); ++i) CHECK(again[i]["loss"] == lines[i]["loss"]);
    run.run["max_steps"] = 7;
    expect(run.train(binary), 1, "is of step 8, beyond max_steps 7");
  }
}

void an_interrupted_run_goes_on() {
  Case straight;
  expect(straight.train(train_alone), 0, "");
  Case run;
  run.run["snapshot_every"] = 100;
  const Process process = run.start(train_alone, {{"TOY_SLEEP_MS", "50"}});
  while (run.metrics().size() < 2) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  kill(process.id, SIGINT);
  const Result result = process.wait();
  const auto done = static_cast<int>(run.metrics().size());
  const std::string snapshot = run.directory / ("out/snapshots/step-" + std::to_string(done));
  expect(result, 130, "ithaca: interrupted after step " + std::to_string(done) + "; resume from " + snapshot);
  CHECK(done >= 2 && done < 12 && !run.has_final());
  run.run["resume"] = snapshot;
  expect(run.train(train_alone), 0, "");
  CHECK(run.final_weights() == straight.final_weights());
}

void a_second_signal_ends_at_once() {
  Case run;
  const Process process = run.start(train_alone, {{"TOY_SLEEP_MS", "5000"}});
  while (!fs::exists(run.directory / "out/metrics.jsonl")) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const auto begin = std::chrono::steady_clock::now();
  kill(process.id, SIGTERM);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  kill(process.id, SIGINT);
  CHECK(process.wait().code == 130);
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(2));
}

void failures() {
  Case run;
  run.run["learning_rate"] = 2000;
  run.run["warmup_steps"] = 4;  // 0, 500, 1000: where the toy's loss becomes NaN
  expect(run.train(train_alone), 1, "ithaca: step 3: the loss is NaN at learning rate 1000; nothing after step 2");
  CHECK(run.metrics().size() == 2 && !run.has_final());

  Case four;
  four.run["ranks"] = 4;
  expect(four.train(train_on_four, {{"TOY_FAIL_RANK", "2"}}), 1,
         "ithaca: rank 2, lane compute, step 1 (update): the toy was told to fail\n");
  CHECK(!four.has_final());
  four.run["ranks"] = 1;
  expect(four.train(train_on_four), 1, "asks for 1 ranks, the program was compiled for 4");

  Case bad;
  bad.run["vocab_size"] = 50;
  expect(bad.train(train_alone), 1, "token 8 is 64, the vocabulary has 50");
  CHECK(bad.metrics().empty());
  bad.run["weights"] = {bad.directory / "none.safetensors"};
  expect(bad.train(train_alone), 1, "none.safetensors: No such file");
  bad.run["data"]["tokens"] = bad.directory / "none.bin";
  expect(bad.train(train_alone), 1, "can't read");
  bad.run["output_dir"] = "/proc/ithaca";
  expect(bad.train(train_alone), 1, "can't create the directory /proc/ithaca");
  bad.run.erase("output_dir");
  expect(bad.train(train_alone), 1, "output_dir is missing");
  expect(Process(train_alone, "/nowhere.json", bad.directory / "stderr", {}).wait(), 1, "can't read /nowhere.json");
}

// Seconds that a run on four ranks takes to end with an error.
double seconds_to_fail(const std::map<std::string, std::string>& environment, const std::string& text) {
  Case four;
  four.run["ranks"] = 4;
  const auto begin = std::chrono::steady_clock::now();
  expect(four.train(train_on_four, environment), 1, text);
  CHECK(!four.has_final());
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void a_rank_that_hangs_is_named() {
  CHECK(seconds_to_fail({{"TOY_HANG_RANK", "2"}},
                        "ithaca: rank 2, lane compute, step 1 (update): hangs: it has used no processor time for 8 s, and "
                        "others wait for it: rank ") < 10);
  // The ranks that wait for the one that failed end at once; one that can't is not waited for.
  CHECK(seconds_to_fail({{"TOY_HANG_RANK", "2"}, {"TOY_FAIL_RANK", "1"}},
                        "ithaca: rank 1, lane compute, step 1 (update): the toy was told to fail\n") < 10);
  CHECK(seconds_to_fail({{"TOY_BUSY_RANK", "3"}, {"TOY_BUSY_MS", "60000"}, {"TOY_FAIL_RANK", "0"}},
                        "ithaca: rank 0, lane compute, step 1 (update): the toy was told to fail\n") < 10);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: train_test TRAIN TRAIN_2X2\n");
    return 2;
  }
  train_alone = argv[1];
  train_on_four = argv[2];
  a_run_from_start_to_end();
  a_resumed_run_ends_in_the_same_bits();
  an_interrupted_run_goes_on();
  a_second_signal_ends_at_once();
  failures();
  a_rank_that_hangs_is_named();
  return check::result("train_test");
}
