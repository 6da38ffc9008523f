// Training: fill the inputs, step, look at the numbers, write them down.
#include "loop.h"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <optional>

#include "ithaca/checkpoint.h"
#include "ithaca/error.h"
#include "ithaca/executor.h"
#include "ithaca/memory.h"
#include "ithaca/metrics.h"
#include "ithaca/trace.h"

namespace ithaca {

namespace {

// Taken before main(): what the libraries and the program itself need.
const std::size_t kStartBytes = peak_resident_bytes();

std::string snapshot_directory(const RunFile& run, std::int64_t step) {
  return run.output_dir + "/snapshots/step-" + std::to_string(step);
}

Progress start(const RunFile& run, Executor& executor) {
  if (!run.resume.empty()) {
    const Progress progress = load_snapshot(executor, run.resume);
    if (progress.step > run.max_steps) {
      throw Error(run.resume + " is of step " + std::to_string(progress.step) + ", beyond max_steps " +
                  std::to_string(run.max_steps) + "; raise max_steps");
    }
    return progress;
  }
  initialize(executor, run.seed, !run.weights.empty());
  if (!run.weights.empty()) load_weights(executor, run.weights);
  return {};
}

// Whether any rank was asked to stop: all must leave the loop at the same step.
bool agree_to_stop(Comm* world, const std::atomic<int>& interrupts) {
  std::int32_t asked = interrupts.load() > 0 ? 1 : 0;
  if (world) world->all_reduce(&asked, &asked, 1, DType::i32);
  return asked > 0;
}

void require_finite(const char* what, double value, const StepMetrics& metrics) {
  if (std::isfinite(value)) return;
  char message[256];
  std::snprintf(message, sizeof message,
                "step %lld: the %s is %s at learning rate %g; nothing after step %lld was written. "
                "Lower learning_rate, add warmup_steps, or resume from an earlier snapshot",
                static_cast<long long>(metrics.step), what, std::isnan(value) ? "NaN" : "infinite",
                metrics.learning_rate, static_cast<long long>(metrics.step - 1));
  throw Error(message);
}

StepMetrics train_step(Executor& executor, const RunFile& run, const TokenData& data, const Progress& progress) {
  const auto begin = std::chrono::steady_clock::now();
  StepMetrics metrics;
  metrics.step = progress.step + 1;
  metrics.learning_rate = run.schedule.at(progress.step);
  executor.scalar<float>("learning_rate") = static_cast<float>(metrics.learning_rate);
  executor.scalar<std::int32_t>("step") = static_cast<std::int32_t>(metrics.step);
  fill_inputs(executor, data, progress.samples);
  const std::uint64_t sent_before = executor.bytes_sent();
  executor.step();
  metrics.bytes_sent = executor.bytes_sent() - sent_before;
  metrics.loss = executor.scalar<float>("loss");
  metrics.tokens = executor.scalar<std::int32_t>("tokens");
  if (executor.find("grad_norm")) metrics.grad_norm = executor.scalar<float>("grad_norm");
  metrics.step_time_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  metrics.model_tflops = executor.spec().model_flops / metrics.step_time_s / 1e12;
  metrics.device_peak_bytes = executor.spec().device_bytes;
  metrics.host_peak_bytes = executor.spec().host_bytes;
  metrics.file_peak_bytes = executor.spec().file_bytes;
  metrics.process_peak_bytes = peak_resident_bytes() - kStartBytes;
  require_finite("loss", metrics.loss, metrics);
  if (metrics.grad_norm) require_finite("gradient norm", *metrics.grad_norm, metrics);
  return metrics;
}

void show(const StepMetrics& metrics, std::int64_t max_steps) {
  std::printf("step %lld/%lld  loss %.4f  lr %.3g  %.0f tokens/s\n", static_cast<long long>(metrics.step),
              static_cast<long long>(max_steps), metrics.loss, metrics.learning_rate,
              static_cast<double>(metrics.tokens) / metrics.step_time_s);
  std::fflush(stdout);
}

}  // namespace

LoopResult train_rank(const RunFile& run, const ProgramSpec& spec, const TokenData& data, int rank,
                      std::vector<std::unique_ptr<Comm>> comms, Comm* world, bool show_progress,
                      const std::atomic<int>& interrupts, Watchdog& watchdog) {
  omp_set_num_threads(run.threads);  // for the initial values; the compute lane has its own
  Executor executor(spec, rank, run.threads, std::move(comms), run.host_spill);
  Progress progress = start(run, executor);
  const Watchdog::Watch watch(watchdog, executor);
  const std::int64_t samples = samples_per_step(executor);
  std::optional<MetricsFile> file;
  if (rank == 0) {
    const std::int64_t steps = run.max_steps - progress.step;
    data.check(progress.samples, steps * samples);
    data.check_labels(progress.step + 1, progress.samples, steps, samples);
    file.emplace(run.output_dir + "/metrics.jsonl", progress.step);
  }

  std::string snapshot = run.resume;         // the latest one
  std::int64_t saved_step = progress.step;  // nothing new to save before the first step
  const auto save = [&] {
    if (saved_step == progress.step) return;
    snapshot = snapshot_directory(run, progress.step);
    save_snapshot(executor, world, snapshot, progress);
    saved_step = progress.step;
  };
  // The first step touches all memory for the first time: the second one is like those to come.
  const std::int64_t traced = std::min(progress.step + 2, run.max_steps);
  while (progress.step < run.max_steps) {
    if (agree_to_stop(world, interrupts)) {
      if (run.snapshot_every > 0) save();
      return {true, progress.step, snapshot};
    }
    const bool traces = !run.trace.empty() && progress.step + 1 == traced;
    if (traces) executor.trace(true);
    const StepMetrics metrics = train_step(executor, run, data, progress);
    if (traces) {
      executor.trace(false);
      write_trace(run.trace + "/rank-" + std::to_string(rank) + ".json", spec, rank, executor.traces());
    }
    progress = {metrics.step, progress.samples + samples};
    if (file) file->append(metrics);
    if (rank == 0 && show_progress) show(metrics, run.max_steps);
    if (run.snapshot_every > 0 && progress.step % run.snapshot_every == 0) save();
  }
  if (run.save_final) save_final(executor, world, {run.output_dir + "/final", run.config_json, run.extra_files});
  return {false, progress.step, snapshot};
}

}  // namespace ithaca
