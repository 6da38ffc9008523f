// What a generated program exports: its tensors, lanes and steps as constant tables, and one lane function each.
//
// Every file of every program reads this, so it includes little: g++ would spend most of its time in headers.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "ithaca/dtype.h"
#include "ithaca/event.h"

namespace ithaca {

class Comm;
class Device;
class File;
class LaneTrace;

// Raised whenever a struct below changes; a program built for another number is refused.
inline constexpr std::uint32_t kProgramAbi = 4;

enum class Memory : std::uint8_t { device, host, file };
enum class Role : std::uint8_t { input, parameter, state, output };
enum class Init : std::uint8_t { none, zeros, ones, normal };

struct TensorSpec {
  // Hugging Face's name for a parameter, "adamw.m.<parameter>" for a state, else "input_ids", "loss" ...
  const char* name;
  Role role;
  DType dtype;
  Memory memory;
  Init init;
  float init_std;
  int rank;               // number of dimensions, at most 8
  std::int64_t dims[8];   // global sizes of one member
  const char* axes[8];    // mesh axes that a dimension is split over, major first, joined by ","; "" means whole
  std::int64_t times;     // members stored one after the other (micro batches of an input); 1 for most
  std::size_t offset_bytes, bytes;  // this rank's share in its arena, all members together
};

struct MeshAxis {
  const char* name;
  int degree;
};

struct StepSpec {
  const char* name;  // for profiles and error messages
  const char* lane;
};

// One rank's lane at work. Every lane gets its own copy; all but `current_step` is the same in each.
struct Rank {
  std::byte* device;  // arena bases, 4096-aligned
  std::byte* host;
  const File* file;    // the third arena, file_bytes long; nullptr where the program has none
  Event* events;       // num_events of them
  Comm* const* comms;  // one for each mesh axis; nullptr where the degree is 1
  int index;           // rank number
  int threads;         // OpenMP threads that the compute lane may use
  std::atomic<int>* current_step;  // generated code stores the step it is about to run
  void* context;       // Device::context()
  LaneTrace* trace = nullptr;  // where the lane records when its steps run; nullptr: nowhere

  // Around the call of a step, behind its waits.
  void begin(int step);
  void end();
};

struct LaneSpec {
  const char* name;
  void (*run)(Rank&);  // the lane's part of one optimizer step
};

struct ProgramSpec {
  std::uint32_t abi;
  const char* name;
  const char* hash;
  std::size_t device_bytes, host_bytes, file_bytes;  // sizes of the arenas
  int num_axes;
  const MeshAxis* axes;  // row-major: the last axis varies fastest with the rank number
  int num_tensors;
  const TensorSpec* tensors;
  int num_lanes;
  const LaneSpec* lanes;  // lane 0 is "compute"
  int num_events;
  int num_steps;
  const StepSpec* steps;
  double model_flops;   // causal, mask-exact for unsegmented samples, without recompute; all ranks, one step
  int max_threads = 0;  // the most threads a rank's workspaces have room for; 0 means any number
  bool one_document = false;  // attention does not look at segments: samples must not hold several documents
  // Opens what the program runs on; `comms` as in Rank. nullptr: the machine itself.
  std::unique_ptr<Device> (*open_device)(const ProgramSpec& spec, int rank, Comm* const* comms) = nullptr;
};

}  // namespace ithaca

// Defined by every generated program; the tables live as long as the program is loaded.
extern "C" const ithaca::ProgramSpec* ithaca_program();
