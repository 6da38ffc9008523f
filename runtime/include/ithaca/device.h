// Where a rank's two arenas lie and how its lanes run: the machine's own memory, or a GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

namespace ithaca {

class Comm;
struct LaneSpec;
struct ProgramSpec;
struct Rank;

class Device {
 public:
  virtual ~Device() = default;

  // Bases of the arenas, 4096-aligned. The host may touch `device` only if is_host_memory().
  virtual std::byte* device() const = 0;
  virtual std::byte* host() const = 0;
  virtual bool is_host_memory() const = 0;

  // Copies between the machine's memory and the device arena; they return when they are done.
  virtual void write(std::byte* to, const void* from, std::size_t bytes) = 0;
  virtual void read(void* to, const std::byte* from, std::size_t bytes) = 0;

  // Runs a lane's part of one step to its end, on the calling thread. Throws what failed.
  virtual void run(const LaneSpec& lane, Rank& rank) = 0;

  // Bytes that collectives on this device have sent, where they are not those of Comm.
  virtual std::optional<std::uint64_t> bytes_sent() const { return std::nullopt; }

  // What generated code of this target needs besides the arenas; nullptr where it needs nothing.
  virtual void* context() { return nullptr; }
};

// Arenas in the machine's memory, lanes that run where they are called. Throws Error where memory is short.
std::unique_ptr<Device> open_machine(const ProgramSpec& spec);

}  // namespace ithaca
