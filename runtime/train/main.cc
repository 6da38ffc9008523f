// The training binary: `train --run run.json`. Linked with one generated program; needs neither Node nor a network.
#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <thread>

#include "ithaca/error.h"
#include "ithaca/file.h"
#include "ithaca/local_comm.h"
#include "ithaca/memory.h"
#include "ithaca/tcp_world.h"
#include "ithaca/watchdog.h"
#include "ithaca/world.h"
#include "loop.h"

namespace {

using namespace ithaca;

constexpr int kInterrupted = 130;
std::atomic<int> interrupts{0};

// The first signal asks for an orderly end after the step, the second one ends the process at once.
extern "C" void on_signal(int) {
  if (interrupts.fetch_add(1) > 0) _exit(kInterrupted);
}

void catch_signals() {
  struct sigaction action{};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGUSR1, &action, nullptr);  // what mpirun passes on; of SIGINT and SIGTERM it makes an end itself
}

struct Arguments {
  std::string run_file;
  bool progress = false;
};

constexpr const char* kUsage = "usage: train --run run.json [--progress]\n";

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--run") == 0 && i + 1 < argc) {
      arguments.run_file = argv[++i];
    } else if (std::strcmp(argv[i], "--progress") == 0) {
      arguments.progress = true;
    } else {
      throw Error(std::string("unknown argument ") + argv[i] + "\n" + kUsage);
    }
  }
  if (arguments.run_file.empty()) throw Error(std::string("--run is missing\n") + kUsage);
  return arguments;
}

std::int64_t sequence_length(const ProgramSpec& spec) {
  for (int i = 0; i < spec.num_tensors; ++i) {
    const TensorSpec& tensor = spec.tensors[i];
    if (std::strcmp(tensor.name, "input_ids") == 0 && tensor.rank == 2) return tensor.dims[1];
  }
  throw Error(std::string(spec.name) + " has no input_ids [batch, sequence]; it is no training program");
}

void check_machine(const RunFile& run, const ProgramSpec& spec, const World& world) {
  const int ranks = Mesh(spec.axes, spec.num_axes).ranks();
  if (run.ranks != ranks) {
    throw Error("the run file asks for " + std::to_string(run.ranks) + " ranks, the program was compiled for " +
                std::to_string(ranks) + "; compile it again");
  }
  const int here = world.ranks_on_machine();
  // A device of its own says itself when its memory is short.
  const std::size_t needed = ((spec.open_device ? 0 : spec.device_bytes) + spec.host_bytes) * here;
  const MachineMemory machine = machine_memory();
  if (machine.total_bytes > 0 && needed > machine.total_bytes) {
    throw Error(std::to_string(here) + " ranks need " + format_bytes(needed) + " of memory, this machine has " +
                format_bytes(machine.total_bytes) + "; shorten the sequence, tile more, or use more machines");
  }
}

std::string message_of(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error)) return "out of memory outside the arenas";
  return error.what();
}

std::unique_ptr<World> open_world(const RunFile& run, const ProgramSpec& spec) {
  const int ranks = Mesh(spec.axes, spec.num_axes).ranks();
  const std::chrono::seconds timeout(run.timeout_s);
  if (run.mpi) return open_mpi_world(ranks, spec.hash, timeout);
  if (run.tcp) return open_tcp_world(read_meeting(ranks), spec.hash, timeout);
  return std::make_unique<LocalWorld>(ranks);
}

// Runs every rank of this process on a thread of its own; throws the failure that the others stopped for.
LoopResult train(const RunFile& run, const ProgramSpec& spec, const TokenData& data, World& world, bool progress) {
  const Mesh mesh(spec.axes, spec.num_axes);
  const std::vector<int> own = world.own_ranks();
  std::vector<LoopResult> results(own.size());
  std::vector<std::exception_ptr> causes(own.size());
  // Threads can't be ended from outside, so what hangs takes the process with it.
  Watchdog watchdog(world, [&](const std::string& why) {
    world.fail(own[0], why);  // ends ranks that are other processes, and this one then
    std::fprintf(stderr, "ithaca: %s\n", why.c_str());
    std::fflush(nullptr);
    _exit(1);
  });
  const auto run_rank = [&](std::size_t i) {
    const int rank = own[i];
    try {
      const auto all = run.ranks > 1 ? world.join_all(rank) : nullptr;
      results[i] = train_rank(run, spec, data, rank, world.join_axes(rank, mesh), all.get(), progress, interrupts,
                              watchdog);
    } catch (const Stopped&) {
      world.fail(rank, "it was stopped");
    } catch (const std::exception& error) {
      causes[i] = std::current_exception();
      world.fail(rank, message_of(error));
    }
  };
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < own.size(); ++i) threads.emplace_back(run_rank, i);
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& cause : causes) {
    if (cause) std::rethrow_exception(cause);
  }
  if (!world.failure().empty()) throw Error(world.failure());
  return results[0];
}

// Trains this process's part and returns its exit code.
int run_in(World& world, RunFile run, const ProgramSpec& spec, bool progress) {
  check_machine(run, spec, world);
  require_writable_directory(run.output_dir);
  if (run.snapshot_every > 0) require_writable_directory(run.output_dir + "/snapshots");
  if (run.data.sequence_length == 0) run.data.sequence_length = sequence_length(spec);
  if (run.data.sequence_length > sequence_length(spec)) {
    throw Error("the run file asks for samples of " + std::to_string(run.data.sequence_length) +
                " tokens, the program was compiled for " + std::to_string(sequence_length(spec)) + "; compile it again");
  }
  const TokenData data(run.data);
  if (spec.one_document && data.documents() > 1) {
    throw Error("the program was compiled for samples of one document, and " + run.data.documents + " has " +
                std::to_string(data.documents()) + "; compile it again with the documents beside the tokens");
  }
  catch_signals();
  const LoopResult result = train(run, spec, data, world, progress);
  if (!result.interrupted || world.own_ranks()[0] != 0) return 0;
  const std::string next = result.snapshot.empty()
                               ? "there is no snapshot to resume from; with snapshot_every there would be"
                               : "resume from " + result.snapshot;
  std::fprintf(stderr, "ithaca: interrupted after step %lld; %s\n", static_cast<long long>(result.steps),
               next.c_str());
  return kInterrupted;
}

int run_main(int argc, char** argv) {
  const Arguments arguments = parse(argc, argv);
  const ProgramSpec& spec = *ithaca_program();
  const RunFile run = read_run_file(arguments.run_file);
  if (run.mpi || run.tcp) catch_signals();  // a signal may come while this one still waits for the other ranks
  const auto world = open_world(run, spec);
  try {
    return run_in(*world, run, spec, arguments.progress);
  } catch (const std::exception& error) {
    world->fail(world->own_ranks()[0], message_of(error));
    throw;
  }
}

}  // namespace

int main(int argc, char** argv) {
  // Libraries' scratch goes back to the system at once: kept in heaps that only grow it would add up to more than is planned.
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
  try {
    return run_main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ithaca: %s\n", message_of(error).c_str());
  }
  return 1;
}
