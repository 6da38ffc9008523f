// Lanes are the threads that run a program's steps; events are the counters that order steps of different lanes.
#pragma once

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <string>
#include <thread>

#include "ithaca/error.h"

namespace ithaca {

// Thrown out of a wait when something else failed: the consequence, never the cause.
class Stopped : public Error {
 public:
  using Error::Error;
};

// Counts signals. The n-th wait of a thread returns once there were n signals, so one event serves every turn of a
// loop, and several lanes may wait for the same signal. A signal makes all earlier writes of its thread visible.
class alignas(64) Event {
 public:
  void signal();
  // Throws Stopped once the event is aborted. At most kMaxWaiters threads may ever wait for one event.
  void wait();
  // Makes every wait throw, those under way included.
  void abort();
  // Starts counting anew. No thread may be using the event.
  void reset();

  static constexpr int kMaxWaiters = 6;

 private:
  struct Waiter {
    std::atomic<pthread_t> thread{0};
    std::uint32_t turns = 0;
  };
  Waiter& this_waiter();

  std::atomic<std::uint32_t> count_{0};  // twice the number of signals; the lowest bit says aborted
  Waiter waiters_[kMaxWaiters];
};

// A thread that runs jobs one after the other, in the order of submission.
class Lane {
 public:
  // `threads`: how many OpenMP threads a job's parallel regions get.
  Lane(std::string name, int threads);
  ~Lane();  // runs what was submitted, then joins
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  // The future carries what the job throws.
  std::future<void> submit(std::function<void()> job);
  const std::string& name() const { return name_; }

 private:
  void work(int threads);

  std::string name_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::packaged_task<void()>> jobs_;
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace ithaca
