// Memory that is allocated once, and what the machine has of it.
#pragma once

#include <cstddef>
#include <string>

namespace ithaca {

// A range of zeros that costs physical memory only where it is touched, 4096-aligned, in 4 KiB pages.
class Arena {
 public:
  // Throws Error, naming the bytes asked for and those free, if the machine can't hold it. `name` is for that message.
  Arena(std::string name, std::size_t bytes);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  std::byte* base() const { return base_; }
  std::size_t bytes() const { return bytes_; }

 private:
  std::string name_;
  std::byte* base_ = nullptr;
  std::size_t bytes_ = 0;
};

struct MachineMemory {
  std::size_t total_bytes;      // RAM and swap, or the control group's limit if that is lower
  std::size_t available_bytes;  // what the kernel expects to find without swapping
};
MachineMemory machine_memory();

// The most memory this process ever had resident (VmHWM).
std::size_t peak_resident_bytes();

// "1.50 GiB (1610612736 bytes)", or "12 bytes" below 1 KiB.
std::string format_bytes(std::size_t bytes);

}  // namespace ithaca
