// The learning rate over a run, as Hugging Face transformers schedules it.
#pragma once

#include <cstdint>
#include <string>

namespace ithaca {

enum class SchedulerType : std::uint8_t { constant, linear, cosine };

// "constant", "linear" or "cosine"; throws Error for anything else.
SchedulerType scheduler_type(const std::string& name);

struct Schedule {
  double learning_rate = 0;  // the peak
  SchedulerType type = SchedulerType::constant;
  std::int64_t warmup_steps = 0;
  std::int64_t max_steps = 0;

  // For the update number `step`, counted from 0: get_constant_schedule_with_warmup, get_linear_schedule_with_warmup
  // and get_cosine_schedule_with_warmup (half a wave).
  double at(std::int64_t step) const;
};

}  // namespace ithaca
