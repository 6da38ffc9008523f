// The world of an MPI job: one rank a process, all of them ended when one fails.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>

#include "ithaca/error.h"
#include "mpi_comm.h"

namespace ithaca {

namespace {

// What all ranks find out at once, rank 0 says once: the others wait that long before they speak.
constexpr auto kAfterRankZero = std::chrono::seconds(1);

class MpiWorld final : public World {
 public:
  MpiWorld(int ranks, const std::string& program, std::chrono::seconds timeout) {
    int threads = MPI_THREAD_SINGLE;
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &threads), "MPI_Init_thread");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size");
    try {
      check(ranks, program, threads);
      watch_ = std::make_unique<MpiWatch>([this](const std::string& why) { fail(rank_, why); }, timeout, names());
    } catch (const std::exception& error) {
      fail(rank_, error.what());
    }
  }

  ~MpiWorld() override {
    watch_.reset();
    MPI_Finalize();
  }

  int ranks() const override { return size_; }
  std::vector<int> own_ranks() const override { return {rank_}; }
  int ranks_on_machine() const override { return on_machine_; }

  std::unique_ptr<Comm> join(int rank, const std::vector<int>& members, const std::string&) override {
    MPI_Group all;
    MPI_Group group;
    MPI_Comm comm;
    check_mpi(MPI_Comm_group(MPI_COMM_WORLD, &all), "MPI_Comm_group");
    check_mpi(MPI_Group_incl(all, static_cast<int>(members.size()), members.data(), &group), "MPI_Group_incl");
    // Unlike MPI_Comm_split this concerns the members alone.
    check_mpi(MPI_Comm_create_group(MPI_COMM_WORLD, group, 0, &comm), "MPI_Comm_create_group");
    MPI_Group_free(&group);
    MPI_Group_free(&all);
    if (comm == MPI_COMM_NULL) throw Error("rank " + std::to_string(rank) + " isn't in the group it joins");
    return std::make_unique<MpiComm>(*this, rank, comm, watch_->add(comm, members));
  }

  void fail(int rank, const std::string& why) override {
    // Held to the end: of two lanes that fail, the first one speaks.
    mutex_.lock();
    signal(SIGTERM, SIG_DFL);  // with which mpirun ends the ranks that wait here
    if (rank != 0) std::this_thread::sleep_for(kAfterRankZero);
    const bool named = rank == 0 || why.starts_with("rank ");
    const std::string who = named ? "" : "rank " + std::to_string(rank) + ": ";
    std::fprintf(stderr, "ithaca: %s%s\n", who.c_str(), why.c_str());
    std::fflush(nullptr);
    MPI_Abort(MPI_COMM_WORLD, 1);
    _exit(1);
  }
  std::string failure() const override { return ""; }

 private:
  void check(int ranks, const std::string& program, int threads) {
    if (size_ != ranks) {
      const std::string n = std::to_string(ranks);
      throw Error("the program was compiled for " + n + (ranks == 1 ? " rank" : " ranks") + ", MPI started " +
                  std::to_string(size_) + "; start it with mpirun -np " + n + ", or compile it again");
    }
    if (threads < MPI_THREAD_MULTIPLE) {
      throw Error("this MPI was built without support for threads (MPI_THREAD_MULTIPLE); use Open MPI 3 or later");
    }
    check_program(program);
    MPI_Comm machine;
    check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine),
              "MPI_Comm_split_type");
    check_mpi(MPI_Comm_size(machine, &on_machine_), "MPI_Comm_size");
    MPI_Comm_free(&machine);
  }

  // Different programs would call different collectives, and wait for each other without end.
  void check_program(const std::string& program) {
    constexpr int kLength = 64;
    char mine[kLength] = "";
    program.copy(mine, kLength - 1);
    std::vector<char> all(static_cast<std::size_t>(size_) * kLength);
    check_mpi(MPI_Allgather(mine, kLength, MPI_CHAR, all.data(), kLength, MPI_CHAR, MPI_COMM_WORLD), "MPI_Allgather");
    for (int r = 0; r < size_; ++r) {
      const char* theirs = all.data() + r * kLength;
      if (std::strncmp(mine, theirs, kLength) == 0) continue;
      throw Error("rank " + std::to_string(rank_) + " runs program " + mine + ", rank " + std::to_string(r) + " runs " +
                  theirs + "; put the same build on every machine");
    }
  }

  // "rank 2 on node1", of every rank.
  std::vector<std::string> names() const {
    char mine[MPI_MAX_PROCESSOR_NAME] = "";
    int length = 0;
    check_mpi(MPI_Get_processor_name(mine, &length), "MPI_Get_processor_name");
    std::vector<char> all(static_cast<std::size_t>(size_) * sizeof mine);
    check_mpi(MPI_Allgather(mine, sizeof mine, MPI_CHAR, all.data(), sizeof mine, MPI_CHAR, MPI_COMM_WORLD),
              "MPI_Allgather");
    std::vector<std::string> names;
    for (int r = 0; r < size_; ++r) {
      names.push_back("rank " + std::to_string(r) + " on " + (all.data() + r * sizeof mine));
    }
    return names;
  }

  int rank_ = 0;
  int size_ = 1;
  int on_machine_ = 1;
  std::mutex mutex_;
  std::unique_ptr<MpiWatch> watch_;
};

}  // namespace

std::unique_ptr<World> open_mpi_world(int ranks, const std::string& program, std::chrono::seconds timeout) {
  return std::make_unique<MpiWorld>(ranks, program, timeout);
}

}  // namespace ithaca
