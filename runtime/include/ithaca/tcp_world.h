// Ranks as processes that meet over TCP: what a run needs where no MPI starts it, for small data of the host.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "ithaca/world.h"

namespace ithaca {

// This process among those of a job, and where the job's processes meet.
struct Meeting {
  int rank = 0;
  int ranks = 1;
  std::string address;  // of rank 0
  int port = 0;
};

// What the launcher's variables say: Open MPI's, Slurm's, or RANK and WORLD_SIZE as torchrun sets them, whichever tells
// of `ranks` processes. They meet at MASTER_ADDR and MASTER_PORT, else at NCCL_COMM_ID (host:port), else on Slurm's first
// node, or on this machine if all ranks are here. Throws Error naming the variables where they say too little.
Meeting read_meeting(int ranks);

// The number of this process among those on its machine, as the launcher of `ranks` processes says; nothing where it doesn't.
std::optional<int> number_on_machine(int ranks);

// Rank 0 listens, every rank has connections to it, and all data pass through it. The end of a process, the loss of its
// connection, or its silence for `timeout` (0: never) ends the run within seconds: rank 0 says whose it was, rank 1 if
// it was rank 0's own. Comms throw nothing, since this process ends with the rank that failed. Throws Error where rank 0 can't
// listen or is not reached within `patience`, and ends the run where a rank does not come or runs another `program`.
std::unique_ptr<World> open_tcp_world(const Meeting& meeting, const std::string& program, std::chrono::seconds timeout,
                                      std::chrono::seconds patience = std::chrono::seconds(300));

}  // namespace ithaca
