// Signs of life between the ranks of an MPI job, and with them what each has called: beside the collectives, not in them.
#pragma once

#include <mpi.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "ithaca/dtype.h"

namespace ithaca {

// A collective call, as all ranks of a group must make it.
struct Call {
  const char* name;  // one of those that MpiComm uses, the same pointer for the same call
  std::uint64_t count;
  DType dtype;
};

// The calls of one rank in one group, the last ones of them one by one.
class CallLog {
 public:
  void add(const Call& call);

 private:
  friend class MpiWatch;
  struct Entry {
    std::uint64_t count;
    std::uint64_t chain;  // a hash of this call and all before it
    std::uint8_t name;    // index into the names of calls
    std::uint8_t dtype;
  };
  static constexpr std::size_t kKept = 16;
  std::mutex mutex_;
  std::uint64_t calls_ = 0;
  std::uint64_t chain_ = 0;
  std::array<Entry, kKept> entries_{};  // call n in n % kKept
};

// Every half second each member of a group tells the next one that it lives and what its last calls were; so a rank that
// was stopped, a machine that is gone, and ranks that call different collectives are found out, although each
// of them would only keep the others waiting, or give them wrong numbers. The collectives cost no more for it.
class MpiWatch {
 public:
  // `fail` ends the job. A rank that is silent for `timeout` is given up; 0: never. `names`: of each rank of the job, as
  // messages call it.
  MpiWatch(std::function<void(const std::string& why)> fail, std::chrono::seconds timeout,
           std::vector<std::string> names);
  // All ranks have ended in order: the last calls are compared, and every sign has arrived.
  ~MpiWatch();
  MpiWatch(const MpiWatch&) = delete;
  MpiWatch& operator=(const MpiWatch&) = delete;

  // Watches a group of `members` (rank numbers) from now on. The log lives as long as the watch.
  CallLog& add(MPI_Comm comm, const std::vector<int>& members);

 private:
  struct Sign {
    std::uint64_t calls;
    std::array<CallLog::Entry, CallLog::kKept> entries;
    bool is_last;
  };
  struct Group {
    MPI_Comm comm;
    std::vector<int> members;
    int rank;  // in the group
    CallLog log;
    Sign sent;
    Sign received;
    MPI_Request sending = MPI_REQUEST_NULL;
    MPI_Request receiving = MPI_REQUEST_NULL;
    std::chrono::nanoseconds silence{};
    bool has_left = false;  // the last sign is sent
    bool was_left = false;  // the last sign has come
    int before() const { return (rank + size() - 1) % size(); }
    int size() const { return static_cast<int>(members.size()); }
  };
  void work();
  void send(Group& group);
  void receive(Group& group);
  void compare(Group& group);
  void check(int code, const char* call) const;

  const std::function<void(const std::string&)> fail_;
  const std::chrono::seconds timeout_;
  const std::vector<std::string> names_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool leaving_ = false;
  std::vector<std::unique_ptr<Group>> groups_;
  std::thread thread_;
};

}  // namespace ithaca
