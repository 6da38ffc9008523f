// When the steps of a program ran: what one lane records, and the file that chrome://tracing and Perfetto read.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace ithaca {

struct ProgramSpec;

// Belongs to one lane and its thread, or to one thread that issues the steps of all.
class LaneTrace {
 public:
  struct Span {
    int step;
    std::int64_t begin_ns, end_ns;
  };

  void begin(int step) { spans_.push_back({step, now_ns(), 0}); }
  void end() { spans_.back().end_ns = now_ns(); }
  void add(const Span& span) { spans_.push_back(span); }
  const std::vector<Span>& spans() const { return spans_; }

 private:
  static std::int64_t now_ns() {
    using namespace std::chrono;
    return duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
  }

  std::vector<Span> spans_;
};

// Writes the spans of a rank: `pid` is the rank, `tid` the lane of the step, times in microseconds from the first span.
// Throws Error if the file can't be written.
void write_trace(const std::string& path, const ProgramSpec& spec, int rank, const std::vector<LaneTrace>& lanes);

}  // namespace ithaca
