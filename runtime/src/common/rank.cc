// A rank's lane at its steps: which one runs, and since when.
#include "ithaca/program.h"
#include "ithaca/trace.h"

namespace ithaca {

void Rank::begin(int step) {
  current_step->store(step, std::memory_order_relaxed);
  if (trace) trace->begin(step);
}

void Rank::end() {
  if (trace) trace->end();
}

}  // namespace ithaca
