// Learning-rate schedules.
#include "ithaca/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "ithaca/error.h"

namespace ithaca {

SchedulerType scheduler_type(const std::string& name) {
  if (name == "constant") return SchedulerType::constant;
  if (name == "linear") return SchedulerType::linear;
  if (name == "cosine") return SchedulerType::cosine;
  throw Error("lr_scheduler_type is \"" + name + "\"; it can be constant, linear or cosine");
}

double Schedule::at(std::int64_t step) const {
  const auto t = static_cast<double>(step);
  const auto warmup = static_cast<double>(warmup_steps);
  const auto total = static_cast<double>(max_steps);
  if (step < warmup_steps) return learning_rate * t / std::max(1.0, warmup);
  const double decay_steps = std::max(1.0, total - warmup);
  double factor = 1;
  if (type == SchedulerType::linear) factor = std::max(0.0, (total - t) / decay_steps);
  if (type == SchedulerType::cosine) {
    factor = std::max(0.0, 0.5 * (1 + std::cos(std::numbers::pi * (t - warmup) / decay_steps)));
  }
  return learning_rate * factor;
}

}  // namespace ithaca
