// metrics.jsonl: one line of JSON for each optimizer step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

namespace ithaca {

struct StepMetrics {
  std::int64_t step = 0;  // 1 for the first
  double loss = 0;        // mean over the labelled tokens of the global batch
  std::optional<double> grad_norm;  // before clipping
  double learning_rate = 0;
  std::int64_t tokens = 0;  // labelled ones, all ranks
  double step_time_s = 0;
  double model_tflops = 0;  // of all ranks together
  std::size_t device_peak_bytes = 0;  // of one rank
  std::size_t host_peak_bytes = 0;
  std::size_t file_peak_bytes = 0;
  std::size_t process_peak_bytes = 0;  // most ever resident in this process, all its ranks, beyond what its start took
  std::uint64_t bytes_sent = 0;  // by one rank to others in this step; every rank sends as many
};

std::string metrics_line(const StepMetrics& metrics);

class MetricsFile {
 public:
  // Keeps the lines of steps up to `keep_steps` that the file has, and drops the rest.
  MetricsFile(const std::string& path, std::int64_t keep_steps);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;

  // Readers see the line at once. Throws Error when it can't be written.
  void append(const StepMetrics& metrics);

 private:
  std::string path_;
  std::FILE* file_;
};

}  // namespace ithaca
