// Lanes are the threads that run a program's steps; events are the counters that order steps of different lanes.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
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

// While it lives, the lane whose thread this is waits for others; on any other thread it says nothing.
class Waiting {
 public:
  Waiting();
  ~Waiting();
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;
};

// Counts signals. A wait says how many there must have been, so one event serves every turn of a loop and any number of
// waiting threads. A signal makes all earlier writes of its thread visible.
class alignas(64) Event {
 public:
  void signal();
  // Returns once there were `signals` signals. Throws Stopped once the event is aborted.
  void wait(std::size_t signals);
  // Makes every wait throw, those under way included.
  void abort();
  // Starts counting anew. No thread may be using the event.
  void reset();

 private:
  std::atomic<std::uint32_t> count_{0};  // twice the number of signals; the lowest bit says aborted
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
  // Whether its thread waits for another lane or rank; to be asked from any thread.
  bool waits() const { return waits_.load(std::memory_order_relaxed); }

 private:
  void work(int threads);

  std::string name_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::packaged_task<void()>> jobs_;
  bool closing_ = false;
  std::atomic<bool> waits_{false};
  std::thread thread_;
};

}  // namespace ithaca
