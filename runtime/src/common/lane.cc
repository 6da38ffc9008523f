// Lanes and events: threads that run jobs in order, and counters that threads wait for.
#include "ithaca/lane.h"

#include <omp.h>
#include <pthread.h>

namespace ithaca {

namespace {
constexpr std::uint32_t kAborted = 1;
constexpr std::uint32_t kOneSignal = 2;

// Of the lane whose thread this is. Generated code and the runtime may be two shared objects with a copy each; then what
// waits in the other one goes unseen.
thread_local std::atomic<bool>* this_lane_waits = nullptr;
}  // namespace

Waiting::Waiting() {
  if (this_lane_waits) this_lane_waits->store(true, std::memory_order_relaxed);
}

Waiting::~Waiting() {
  if (this_lane_waits) this_lane_waits->store(false, std::memory_order_relaxed);
}

void Event::signal() {
  count_.fetch_add(kOneSignal, std::memory_order_release);
  count_.notify_all();
}

void Event::wait(std::size_t signals) {
  std::uint32_t count = count_.load(std::memory_order_acquire);
  while (!(count & kAborted) && count / kOneSignal < signals) {
    const Waiting waiting;
    count_.wait(count, std::memory_order_acquire);
    count = count_.load(std::memory_order_acquire);
  }
  if (count & kAborted) throw Stopped("stopped because another lane failed");
}

void Event::abort() {
  count_.fetch_or(kAborted, std::memory_order_release);
  count_.notify_all();
}

void Event::reset() { count_.store(0, std::memory_order_relaxed); }

Lane::Lane(std::string name, int threads) : name_(std::move(name)), thread_([this, threads] { work(threads); }) {}

Lane::~Lane() {
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

std::future<void> Lane::submit(std::function<void()> job) {
  std::packaged_task<void()> task(std::move(job));
  std::future<void> done = task.get_future();
  {
    std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(task));
  }
  changed_.notify_one();
  return done;
}

void Lane::work(int threads) {
  this_lane_waits = &waits_;
  pthread_setname_np(pthread_self(), name_.substr(0, 15).c_str());
  omp_set_num_threads(threads);
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return closing_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    std::packaged_task<void()> job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    job();
    lock.lock();
  }
}

}  // namespace ithaca
