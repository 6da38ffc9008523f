// metrics.jsonl: writing its lines and cutting them back when a run resumes.
#include "ithaca/metrics.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "ithaca/error.h"
#include "ithaca/file.h"

namespace ithaca {

namespace {

// The lines of steps up to `keep_steps`; a last line that a crash cut off is dropped too.
std::string kept_lines(const std::string& path, std::int64_t keep_steps) {
  std::string kept;
  if (keep_steps <= 0 || !std::filesystem::exists(path)) return kept;
  std::istringstream lines(read_text(path));
  for (std::string line; std::getline(lines, line);) {
    const auto parsed = nlohmann::json::parse(line, nullptr, false);
    if (parsed.is_discarded() || !parsed.is_object() || !parsed.contains("step")) continue;
    if (parsed["step"].is_number_integer() && parsed["step"].get<std::int64_t>() <= keep_steps) kept += line + "\n";
  }
  return kept;
}

}  // namespace

std::string metrics_line(const StepMetrics& metrics) {
  nlohmann::ordered_json line;
  line["step"] = metrics.step;
  line["loss"] = metrics.loss;
  line["grad_norm"] = nullptr;
  if (metrics.grad_norm) line["grad_norm"] = *metrics.grad_norm;
  line["learning_rate"] = metrics.learning_rate;
  line["tokens"] = metrics.tokens;
  line["step_time_s"] = metrics.step_time_s;
  line["tokens_per_second"] = static_cast<double>(metrics.tokens) / metrics.step_time_s;
  line["model_tflops"] = metrics.model_tflops;
  line["device_peak_bytes"] = metrics.device_peak_bytes;
  line["host_peak_bytes"] = metrics.host_peak_bytes;
  line["file_peak_bytes"] = metrics.file_peak_bytes;
  line["process_peak_bytes"] = metrics.process_peak_bytes;
  line["bytes_sent"] = metrics.bytes_sent;
  return line.dump();
}

MetricsFile::MetricsFile(const std::string& path, std::int64_t keep_steps) : path_(path) {
  write_text(path, kept_lines(path, keep_steps));
  file_ = std::fopen(path.c_str(), "a");
  if (!file_) throw Error("can't write " + path + ": " + std::strerror(errno));
}

MetricsFile::~MetricsFile() { std::fclose(file_); }

void MetricsFile::append(const StepMetrics& metrics) {
  const std::string line = metrics_line(metrics) + "\n";
  if (std::fwrite(line.data(), 1, line.size(), file_) != line.size() || std::fflush(file_) != 0) {
    throw Error("can't write " + path_ + ": " + std::strerror(errno));
  }
}

}  // namespace ithaca
