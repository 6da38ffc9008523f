// The toy as a program of its own, for the train binary and the addon. Environment variables inject faults.
#include "toy_program.h"

#ifndef TOY_DP
#define TOY_DP 1
#define TOY_SP 1
#endif

extern "C" const ithaca::ProgramSpec* ithaca_program() {
  const auto number = [](const char* name, int otherwise) {
    const char* text = std::getenv(name);
    return text ? std::atoi(text) : otherwise;
  };
  toy::faults.fail_rank = number("TOY_FAIL_RANK", -1);
  toy::faults.hang_rank = number("TOY_HANG_RANK", -1);
  toy::faults.busy_rank = number("TOY_BUSY_RANK", -1);
  toy::faults.busy_ms = number("TOY_BUSY_MS", 0);
  toy::faults.sleep_ms = number("TOY_SLEEP_MS", 0);
  static const ithaca::ProgramSpec& spec = toy::program(TOY_DP, TOY_SP);
  return &spec;
}
