// Arenas and what the kernel says about memory.
#include "ithaca/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <limits>
#include <sstream>

#include "ithaca/error.h"

namespace ithaca {

namespace {

constexpr std::size_t kPageBytes = 4096;

// A line "Key:   123 kB" of a /proc file, in bytes; 0 if it isn't there.
std::size_t proc_bytes(const char* path, const std::string& key) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    if (line.rfind(key + ":", 0) != 0) continue;
    std::istringstream fields(line.substr(key.size() + 1));
    std::size_t kilobytes = 0;
    fields >> kilobytes;
    return kilobytes * 1024;
  }
  return 0;
}

std::size_t control_group_limit() {
  std::size_t limit = std::numeric_limits<std::size_t>::max();
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::ifstream file(path);
    std::size_t bytes = 0;
    if (file >> bytes) limit = std::min(limit, bytes);  // "max" doesn't parse, and means no limit
  }
  return limit;
}

}  // namespace

MachineMemory machine_memory() {
  const char* meminfo = "/proc/meminfo";
  const std::size_t total = proc_bytes(meminfo, "MemTotal") + proc_bytes(meminfo, "SwapTotal");
  const std::size_t limit = control_group_limit();
  return {std::min(total, limit), std::min(proc_bytes(meminfo, "MemAvailable"), limit)};
}

std::size_t peak_resident_bytes() { return proc_bytes("/proc/self/status", "VmHWM"); }

std::string format_bytes(std::size_t bytes) {
  const std::string exact = std::to_string(bytes) + " bytes";
  if (bytes < 1024) return exact;
  const char* units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / 1024;
  int unit = 0;
  for (; value >= 1024 && unit < 5; ++unit) value /= 1024;
  char text[32];
  std::snprintf(text, sizeof text, "%.2f %s", value, units[unit]);
  return std::string(text) + " (" + exact + ")";
}

Arena::Arena(std::string name, std::size_t bytes) : name_(std::move(name)), bytes_(bytes) {
  const MachineMemory machine = machine_memory();
  const std::string numbers = "the " + name_ + " arena needs " + format_bytes(bytes) + "; this machine has " +
                              format_bytes(machine.total_bytes) + ", of which " +
                              format_bytes(machine.available_bytes) + " are free";
  // mmap would grant it, and the kernel would kill the process in the middle of the first step.
  if (machine.total_bytes > 0 && bytes > machine.total_bytes) {
    throw Error(numbers + ". Shorten the sequence, tile more, or split it over more machines");
  }
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* base = mmap(nullptr, std::max(bytes, kPageBytes), PROT_READ | PROT_WRITE, flags, -1, 0);
  if (base == MAP_FAILED) throw Error(numbers + ", but mmap refused: " + std::strerror(errno));
  // Huge pages would make resident memory differ from the planned bytes, and gain nothing measurable.
  madvise(base, std::max(bytes, kPageBytes), MADV_NOHUGEPAGE);
  base_ = static_cast<std::byte*>(base);
}

Arena::~Arena() { munmap(base_, std::max(bytes_, kPageBytes)); }

}  // namespace ithaca
