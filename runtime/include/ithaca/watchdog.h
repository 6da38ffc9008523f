// Looks on while the ranks of this process step, and ends the run where one can't go on.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "ithaca/executor.h"
#include "ithaca/world.h"

namespace ithaca {

// A rank hangs when for `Patience::stalled` no lane of this process got on, although all its ranks are stepping, and the
// process used no processor and read and wrote nothing: a long kernel uses processors, a swapping one reads. So a lane that
// spins without end is not found out. And when a rank has failed, the others have `Patience::failed` to notice it.
// Time is counted while this process runs: one that was stopped as a whole is as patient afterwards.
class Watchdog {
 public:
  struct Patience {
    std::chrono::milliseconds stalled{8000};
    std::chrono::milliseconds failed{5000};
    std::chrono::milliseconds tick{500};
  };
  // Told why the run can't go on, once, on a thread of the watchdog's; it is not to return before the run has ended.
  using End = std::function<void(const std::string& why)>;

  Watchdog(const World& world, End end, Patience patience);
  Watchdog(const World& world, End end) : Watchdog(world, std::move(end), Patience()) {}
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // Watches an executor while it lives.
  class Watch {
   public:
    Watch(Watchdog& watchdog, const Executor& executor);
    ~Watch();
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

   private:
    Watchdog& watchdog_;
    const Executor& executor_;
  };

 private:
  using Positions = std::vector<std::vector<Executor::Position>>;
  void work();
  std::string stall();  // what hangs; empty where something got on since the last call
  bool got_on();

  const World& world_;
  const End end_;
  const Patience patience_;
  std::mutex mutex_;
  std::condition_variable closed_;
  bool closing_ = false;
  std::vector<const Executor*> executors_;
  Positions positions_;              // at the last tick
  std::chrono::nanoseconds used_{};  // processor time of the process, at the last tick
  long traffic_ = 0;                 // pages and blocks read and written, at the last tick
  std::chrono::milliseconds stalled_{0};
  std::chrono::milliseconds failed_{0};
  std::thread thread_;
};

}  // namespace ithaca
