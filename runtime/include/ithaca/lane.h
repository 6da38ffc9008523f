// Lanes are the threads that run a program's steps.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <string>
#include <thread>

#include "ithaca/error.h"
#include "ithaca/event.h"

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
