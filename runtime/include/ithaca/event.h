// Events are the counters that order steps of different lanes.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace ithaca {

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

}  // namespace ithaca
