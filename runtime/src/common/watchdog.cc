// The watchdog: compares, tick by tick, where the lanes are and what the process has used.
#include "ithaca/watchdog.h"

#include <sys/resource.h>

#include <algorithm>

namespace ithaca {

namespace {

// Of a tick; waiting costs less, and so does looking on.
constexpr double kUsedByNothing = 0.02;

std::chrono::nanoseconds since_zero(const timeval& time) {
  return std::chrono::seconds(time.tv_sec) + std::chrono::microseconds(time.tv_usec);
}

std::string join(const std::vector<std::string>& parts) {
  std::string all;
  for (const std::string& part : parts) all += (all.empty() ? "" : "; ") + part;
  return all;
}

}  // namespace

Watchdog::Watchdog(const World& world, End end, Patience patience)
    : world_(world), end_(std::move(end)), patience_(patience), thread_([this] { work(); }) {}

Watchdog::~Watchdog() {
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
  }
  closed_.notify_one();
  thread_.join();
}

Watchdog::Watch::Watch(Watchdog& watchdog, const Executor& executor) : watchdog_(watchdog), executor_(executor) {
  std::lock_guard lock(watchdog.mutex_);
  watchdog.executors_.push_back(&executor);
}

Watchdog::Watch::~Watch() {
  std::lock_guard lock(watchdog_.mutex_);
  std::erase(watchdog_.executors_, &executor_);
}

void Watchdog::work() {
  std::unique_lock lock(mutex_);
  while (!closed_.wait_for(lock, patience_.tick, [this] { return closing_; })) {
    const std::string failure = world_.failure();
    failed_ = failure.empty() ? std::chrono::milliseconds(0) : failed_ + patience_.tick;
    if (failed_ >= patience_.failed) return end_(failure);
    const std::string stalled = stall();
    if (!stalled.empty()) return end_(stalled);
  }
}

std::string Watchdog::stall() {
  stalled_ = got_on() ? std::chrono::milliseconds(0) : stalled_ + patience_.tick;
  if (stalled_ < patience_.stalled) return "";
  std::vector<std::string> hanging;
  std::vector<std::string> waiting;
  for (std::size_t i = 0; i < executors_.size(); ++i) {
    for (const Executor::Position& position : positions_[i]) {
      if (position.is_running) (position.waits ? waiting : hanging).push_back(executors_[i]->describe(position));
    }
  }
  // Ranks of other processes may be what these wait for, and have a watchdog of their own.
  if (hanging.empty() && static_cast<int>(executors_.size()) < world_.ranks()) return "";
  const std::string since = std::to_string(stalled_.count() / 1000) + " s";
  if (hanging.empty()) return join(waiting) + ": all wait for each other, since " + since;
  return join(hanging) + ": hangs: it has used no processor time for " + since +
         (waiting.empty() ? "" : ", and others wait for it: " + join(waiting));
}

bool Watchdog::got_on() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const std::chrono::nanoseconds used = since_zero(usage.ru_utime) + since_zero(usage.ru_stime);
  const long traffic = usage.ru_majflt + usage.ru_inblock + usage.ru_oublock;
  Positions positions;
  for (const Executor* executor : executors_) positions.push_back(executor->positions());
  const bool all_step = !executors_.empty() && std::ranges::all_of(executors_, [](const Executor* executor) {
    return executor->is_stepping() && executor->runs_on_host();
  });
  const bool got_on = !all_step || used - used_ > kUsedByNothing * patience_.tick || traffic != traffic_ ||
                      positions != positions_;
  used_ = used;
  traffic_ = traffic;
  positions_ = std::move(positions);
  return got_on;
}

}  // namespace ithaca
