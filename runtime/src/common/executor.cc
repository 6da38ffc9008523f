// Runs one rank of a program: checks its tables, allocates once, and steps all lanes together.
#include "ithaca/executor.h"

#include <string>

#include "ithaca/error.h"
#include "ithaca/memory.h"

namespace ithaca {

namespace {

const ProgramSpec& checked(const ProgramSpec& spec) {
  if (spec.abi != kProgramAbi) {
    throw Error("the program was built for runtime ABI " + std::to_string(spec.abi) + ", this runtime is " +
                std::to_string(kProgramAbi) + "; compile it again");
  }
  if (spec.num_lanes < 1) throw Error(std::string(spec.name) + " has no lane");
  return spec;
}

void check_tensor(const TensorSpec& tensor, const ProgramSpec& spec, const Share& share) {
  const std::size_t bytes = share.elements() * tensor.times * dtype_bytes(tensor.dtype);
  if (tensor.memory == Memory::file) throw Error(std::string(tensor.name) + " is in a file, where nobody sees it");
  const std::size_t arena = tensor.memory == Memory::device ? spec.device_bytes : spec.host_bytes;
  if (tensor.bytes != bytes) {
    throw Error(std::string(tensor.name) + ": the program says " + std::to_string(tensor.bytes) +
                " bytes, its shape makes " + std::to_string(bytes) + "; compile it again");
  }
  if (tensor.offset_bytes > arena || bytes > arena - tensor.offset_bytes) {
    throw Error(std::string(tensor.name) + ": bytes " + std::to_string(tensor.offset_bytes) + " to " +
                std::to_string(tensor.offset_bytes + bytes) + " are outside its arena of " + std::to_string(arena) +
                "; compile it again");
  }
}

int checked_threads(const ProgramSpec& spec, int threads) {
  if (threads < 1) throw Error("threads is " + std::to_string(threads) + "; it must be at least 1");
  if (spec.max_threads > 0 && threads > spec.max_threads) {
    throw Error("the program's workspaces have room for " + std::to_string(spec.max_threads) + " threads a rank, " +
                std::to_string(threads) + " were asked for; lower `threads` or compile it again");
  }
  return threads;
}

// The rank's file, with all of its room: a full disk is noticed here and not in a step.
std::unique_ptr<File> open_file(const ProgramSpec& spec, const std::string& folder) {
  if (spec.file_bytes == 0) return nullptr;
  if (folder.empty()) {
    throw Error(std::string(spec.name) + " keeps " + format_bytes(spec.file_bytes) +
                " in a file, and memory.host_spill names no folder for it");
  }
  try {
    auto file = std::make_unique<File>(File::unnamed(
        folder, "Make room, choose another folder, or raise memory.host_limit so that less is spilled"));
    file->allocate(spec.file_bytes);
    return file;
  } catch (const Error& error) {
    throw Error(std::string("memory.host_spill: ") + error.what());
  }
}

}  // namespace

Executor::Executor(const ProgramSpec& spec, int rank, int threads, std::vector<std::unique_ptr<Comm>> comms,
                   const std::string& host_spill)
    : spec_(checked(spec)),
      mesh_(spec.axes, spec.num_axes),
      rank_(rank),
      comms_(std::move(comms)),
      events_(spec.num_events) {
  if (rank < 0 || rank >= mesh_.ranks()) {
    throw Error("rank " + std::to_string(rank) + " is outside the program's mesh of " +
                std::to_string(mesh_.ranks()));
  }
  comms_.resize(mesh_.axes());
  for (int axis = 0; axis < mesh_.axes(); ++axis) {
    if (mesh_.degree(axis) > 1 && (!comms_[axis] || comms_[axis]->size() != mesh_.degree(axis))) {
      throw Error("mesh axis \"" + mesh_.name(axis) + "\" has degree " + std::to_string(mesh_.degree(axis)) +
                  " and no collectives among as many ranks");
    }
    comm_pointers_.push_back(comms_[axis].get());
  }
  for (int i = 0; i < spec.num_tensors; ++i) check_tensor(spec.tensors[i], spec, share(spec.tensors[i]));

  const int compute_threads = checked_threads(spec, threads);
  device_ = spec.open_device ? spec.open_device(spec, rank, comm_pointers_.data()) : open_machine(spec);
  file_ = open_file(spec, host_spill);
  mirrors_.resize(spec.num_tensors);
  for (int i = 0; i < spec.num_tensors && !device_->is_host_memory(); ++i) {
    const TensorSpec& tensor = spec.tensors[i];
    const bool crosses = tensor.role == Role::input || tensor.role == Role::output;
    if (crosses && tensor.memory == Memory::device) mirrors_[i] = std::make_unique<std::byte[]>(tensor.bytes);
  }
  for (int i = 0; i < spec.num_lanes; ++i) {
    auto state = std::make_unique<LaneState>();
    state->rank = {device_->device(), device_->host(), file_.get(),     events_.data(),      comm_pointers_.data(),
                   rank,              compute_threads, &state->current_step, device_->context()};
    state->lane = std::make_unique<Lane>(spec.lanes[i].name, i == 0 ? compute_threads : 1);
    lanes_.push_back(std::move(state));
  }
}

Executor::~Executor() = default;

void Executor::trace(bool on) {
  traces_.resize(lanes_.size());
  for (std::size_t i = 0; i < lanes_.size(); ++i) lanes_[i]->rank.trace = on ? &traces_[i] : nullptr;
}

void Executor::step() {
  begin_step();
  finish_step();
}

void Executor::begin_step() {
  if (failed_) throw Error(std::string(spec_.name) + " failed in an earlier step and can't be stepped again");
  for (Event& event : events_) event.reset();
  push_inputs();
  for (auto& state : lanes_) {
    state->current_step.store(-1, std::memory_order_relaxed);
    state->is_running.store(true, std::memory_order_relaxed);
  }
  stepping_ = true;
  for (int i = 0; i < spec_.num_lanes; ++i) {
    lanes_[i]->done = lanes_[i]->lane->submit([this, i] { run_lane(i); });
  }
}

void Executor::finish_step() {
  std::exception_ptr cause;
  std::exception_ptr consequence;
  for (auto& state : lanes_) {
    try {
      state->done.get();
    } catch (const Stopped&) {
      if (!consequence) consequence = std::current_exception();
    } catch (...) {
      if (!cause) cause = std::current_exception();
    }
  }
  stepping_ = false;
  if (cause) std::rethrow_exception(cause);
  if (consequence) std::rethrow_exception(consequence);
  pull_outputs();
}

void Executor::push_inputs() {
  for (int i = 0; i < spec_.num_tensors; ++i) {
    const TensorSpec& tensor = spec_.tensors[i];
    if (mirrors_[i] && tensor.role == Role::input) device_->write(address(tensor), mirrors_[i].get(), tensor.bytes);
  }
}

void Executor::pull_outputs() {
  for (int i = 0; i < spec_.num_tensors; ++i) {
    const TensorSpec& tensor = spec_.tensors[i];
    if (mirrors_[i] && tensor.role == Role::output) device_->read(mirrors_[i].get(), address(tensor), tensor.bytes);
  }
}

void Executor::run_lane(int index) {
  LaneState& state = *lanes_[index];
  try {
    device_->run(spec_.lanes[index], state.rank);
    state.is_running.store(false, std::memory_order_relaxed);
  } catch (const Stopped&) {
    stop_lanes();
    throw;
  } catch (const std::exception& error) {
    const std::string what = describe(positions()[index]) + ": " + error.what();
    // The other ranks first: a lane woken here must find the cause on record already.
    for (Comm* comm : comm_pointers_) {
      if (comm) comm->abort(what);
    }
    stop_lanes();
    throw Error(what);
  }
}

std::vector<Executor::Position> Executor::positions() const {
  std::vector<Position> all;
  for (const auto& state : lanes_) {
    all.push_back({state->lane->name().c_str(), state->current_step.load(std::memory_order_relaxed),
                   state->is_running.load(std::memory_order_relaxed), state->lane->waits()});
  }
  return all;
}

std::string Executor::describe(const Position& position) const {
  const bool known = position.step >= 0 && position.step < spec_.num_steps;
  return (mesh_.ranks() > 1 ? "rank " + std::to_string(rank_) + ", " : "") + "lane " + position.lane + ", " +
         (known ? "step " + std::to_string(position.step) + " (" + spec_.steps[position.step].name + ")"
                : std::string("before its first step"));
}

void Executor::stop_lanes() {
  failed_ = true;
  for (Event& event : events_) event.abort();
}

std::uint64_t Executor::bytes_sent() const {
  if (const auto sent = device_->bytes_sent()) return *sent;
  std::uint64_t total = 0;
  for (const auto& comm : comms_) total += comm ? comm->bytes_sent() : 0;
  return total;
}

const TensorSpec* Executor::find(std::string_view name) const {
  for (int i = 0; i < spec_.num_tensors; ++i) {
    if (name == spec_.tensors[i].name) return &spec_.tensors[i];
  }
  return nullptr;
}

const TensorSpec& Executor::tensor(std::string_view name) const {
  if (const TensorSpec* found = find(name)) return *found;
  throw Error(std::string(spec_.name) + " has no tensor \"" + std::string(name) + "\"");
}

std::byte* Executor::address(const TensorSpec& tensor) const {
  return (tensor.memory == Memory::device ? device_->device() : device_->host()) + tensor.offset_bytes;
}

std::byte* Executor::data(const TensorSpec& tensor) const {
  if (device_->is_host_memory() || tensor.memory == Memory::host) return address(tensor);
  if (const auto& mirror = mirrors_[&tensor - spec_.tensors]) return mirror.get();
  throw Error(std::string(tensor.name) + " is in the device's memory, which the host can't touch");
}

HostView Executor::open_for_writing(const TensorSpec& tensor) {
  HostView view;
  const bool apart = !device_->is_host_memory() && tensor.memory == Memory::device;
  if (apart) view.copy_ = std::make_unique_for_overwrite<std::byte[]>(tensor.bytes);
  view.data_ = apart ? view.copy_.get() : address(tensor);
  return view;
}

HostView Executor::read(const TensorSpec& tensor) const {
  HostView view = const_cast<Executor*>(this)->open_for_writing(tensor);
  if (view.copy_) device_->read(view.data_, address(tensor), tensor.bytes);
  return view;
}

void Executor::write_back(const TensorSpec& tensor, const HostView& view) {
  if (view.copy_) device_->write(address(tensor), view.data_, tensor.bytes);
}

}  // namespace ithaca
