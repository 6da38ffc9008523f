// The device of the CPU target: both arenas are mapped memory, and a lane is a call.
#include <cstring>

#include "ithaca/device.h"
#include "ithaca/memory.h"
#include "ithaca/program.h"

namespace ithaca {

namespace {

class Machine final : public Device {
 public:
  explicit Machine(const ProgramSpec& spec) : device_("device", spec.device_bytes), host_("host", spec.host_bytes) {}

  std::byte* device() const override { return device_.base(); }
  std::byte* host() const override { return host_.base(); }
  bool is_host_memory() const override { return true; }
  void write(std::byte* to, const void* from, std::size_t bytes) override { std::memcpy(to, from, bytes); }
  void read(void* to, const std::byte* from, std::size_t bytes) override { std::memcpy(to, from, bytes); }
  void run(const LaneSpec& lane, Rank& rank) override { lane.run(rank); }

 private:
  Arena device_;
  Arena host_;
};

}  // namespace

std::unique_ptr<Device> open_machine(const ProgramSpec& spec) { return std::make_unique<Machine>(spec); }

}  // namespace ithaca
