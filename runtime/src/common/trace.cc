// Spans as the events of a Chrome trace.
#include "ithaca/trace.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "ithaca/file.h"
#include "ithaca/program.h"

namespace ithaca {

void write_trace(const std::string& path, const ProgramSpec& spec, int rank, const std::vector<LaneTrace>& lanes) {
  using nlohmann::json;
  std::int64_t start = std::numeric_limits<std::int64_t>::max();
  for (const LaneTrace& lane : lanes) {
    for (const auto& [step, begin_ns, end_ns] : lane.spans()) start = std::min(start, begin_ns);
  }
  // Where one thread issues all steps, the program has one lane, and its steps have more.
  std::vector<std::string> names;
  const auto number_of = [&](const char* name) {
    const auto number = static_cast<std::size_t>(std::ranges::find(names, name) - names.begin());
    if (number == names.size()) names.emplace_back(name);
    return number;
  };
  for (int i = 0; i < spec.num_lanes; ++i) number_of(spec.lanes[i].name);
  for (int i = 0; i < spec.num_steps; ++i) number_of(spec.steps[i].lane);
  const auto microseconds = [](std::int64_t ns) { return static_cast<double>(ns) / 1e3; };
  json events = json::array();
  const auto name = [&](const char* what, std::size_t lane, const std::string& is) {
    events.push_back({{"ph", "M"}, {"name", what}, {"pid", rank}, {"tid", lane}, {"args", {{"name", is}}}});
  };
  name("process_name", 0, "rank " + std::to_string(rank));
  for (std::size_t i = 0; i < names.size(); ++i) name("thread_name", i, names[i]);
  for (const LaneTrace& lane : lanes) {
    for (const auto& [step, begin_ns, end_ns] : lane.spans()) {
      events.push_back({{"ph", "X"},
                        {"name", spec.steps[step].name},
                        {"cat", spec.steps[step].lane},
                        {"pid", rank},
                        {"tid", number_of(spec.steps[step].lane)},
                        {"ts", microseconds(begin_ns - start)},
                        {"dur", microseconds(end_ns - begin_ns)},
                        {"args", {{"step", step}}}});
    }
  }
  write_text(path, json{{"displayTimeUnit", "ms"}, {"traceEvents", events}}.dump() + "\n");
}

}  // namespace ithaca
