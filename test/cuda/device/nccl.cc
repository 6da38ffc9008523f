// NCCL among processes of this machine: a communicator is a folder, in which every rank leaves its part of each call.
#include "nccl.h"

#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "device.h"
#include "ithaca/dtype.h"
#include "ithaca/error.h"

namespace fs = std::filesystem;
using ithaca::bf16;
using ithaca::Error;
using ithaca::cuda::device::Touch;

struct ncclComm {
  fs::path folder;
  int rank = 0;
  int size = 1;
  long issued = 0;
  std::vector<pid_t> processes;
  ncclResult_t state = ncclSuccess;
};

namespace {

using Bytes = std::vector<char>;

// A message of one rank to another, in a group.
struct Message {
  int peer;
  const void* from;
  void* to;
  std::size_t bytes;
};

// A call as a rank leaves it to the others: all of `sent`, and in a group so many bytes for each message in it.
struct Part {
  std::string what;
  std::vector<std::pair<int, std::size_t>> messages;
  Bytes sent;
};

constexpr auto kBetweenLooks = std::chrono::milliseconds(1);

std::size_t bytes_of(ncclDataType_t type) { return type == ncclInt8 ? 1 : type == ncclBfloat16 ? 2 : 4; }

fs::path file_of(const ncclComm& comm, const char* what, long call, int rank) {
  return comm.folder / (what + std::to_string(call) + "-" + std::to_string(rank));
}

// Whole or not at all.
void leave(const fs::path& path, const Part& part) {
  const fs::path begun = path.string() + ".begun";
  {
    std::ofstream file(begun, std::ios::binary);
    file << part.what << '\n' << part.messages.size();
    for (const auto& [peer, bytes] : part.messages) file << ' ' << peer << ' ' << bytes;
    file << ' ' << part.sent.size() << '\n';
    file.write(part.sent.data(), static_cast<std::streamsize>(part.sent.size()));
  }
  fs::rename(begun, path);
}

Part read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  Part part;
  std::size_t messages = 0;
  std::size_t bytes = 0;
  std::getline(file, part.what);
  file >> messages;
  part.messages.resize(messages);
  for (auto& [peer, size] : part.messages) file >> peer >> size;
  file >> bytes;
  file.get();
  part.sent.resize(bytes);
  file.read(part.sent.data(), static_cast<std::streamsize>(bytes));
  if (!file) throw Error("another rank's part can't be read from " + path.string());
  return part;
}

// What ITHACA_SIMULATED_NCCL has happen at the next call of this process.
std::string fault() {
  static long calls = 0;
  ++calls;
  const char* asked = std::getenv("ITHACA_SIMULATED_NCCL");
  const char* own = std::getenv("RANK");
  if (!asked || !own) return "";
  std::istringstream words(asked);
  std::string rank, what;
  long call = 0;
  words >> rank >> what >> call;
  return rank == own && calls == call ? what : "";
}

// Issues a call: `part` is made when its turn comes, `end` gets everybody's parts.
ncclResult_t issue(ncclComm_t comm, cudaStream_t stream, const std::string& name, const std::vector<Touch>& touches,
                   std::function<Part()> make, std::function<void(const std::vector<Part>&)> end) {
  const long call = comm->issued++;
  const auto path = [comm, call](int rank) { return file_of(*comm, "call-", call, rank); };
  ithaca::cuda::device::enqueue(
      stream, name, touches,
      {[=] {
         const std::string now = fault();
         if (now == "kill") raise(SIGKILL);
         if (now == "error") comm->state = ncclSystemError;
         if (comm->state == ncclSuccess) leave(path(comm->rank), make());
       },
       [=] {
         for (int r = 0; r < comm->size; ++r) {
           if (!fs::exists(path(r))) return false;
         }
         return true;
       },
       [=] {
         std::vector<Part> parts;
         for (int r = 0; r < comm->size; ++r) {
           parts.push_back(read(path(r)));
           if (parts[r].what != parts[0].what) {
             throw Error("rank " + std::to_string(r) + " of the group calls " + parts[r].what + ", rank 0 " + parts[0].what);
           }
         }
         end(parts);
         // All have come here, so all have ended the call before.
         if (call > 0) fs::remove(file_of(*comm, "call-", call - 1, comm->rank));
       }});
  return ncclSuccess;
}

Part whole(const std::string& name, const void* send, std::size_t count, ncclDataType_t type, std::size_t chunks = 1) {
  const auto* from = static_cast<const char*>(send);
  const std::size_t bytes = count * chunks * bytes_of(type);
  return {name + " of " + std::to_string(count) + " of type " + std::to_string(type), {}, Bytes(from, from + bytes)};
}

// to[i] = the sum of element `begin` + i of all parts; bf16 is rounded at each rank, as a ring's hops do.
void sum(const std::vector<Part>& parts, std::size_t begin, void* to, std::size_t count, ncclDataType_t type) {
  const auto add = [&]<typename T>(T* result, auto plus) {
    for (std::size_t i = 0; i < count; ++i) {
      T total{};
      for (std::size_t r = 0; r < parts.size(); ++r) {
        T own;
        std::memcpy(&own, parts[r].sent.data() + (begin + i) * sizeof(T), sizeof own);
        total = r == 0 ? own : plus(total, own);
      }
      result[i] = total;
    }
  };
  if (type == ncclFloat32) return add(static_cast<float*>(to), [](float a, float b) { return a + b; });
  if (type == ncclInt32) return add(static_cast<int*>(to), [](int a, int b) { return a + b; });
  if (type != ncclBfloat16) throw Error("a sum of type " + std::to_string(type));
  add(static_cast<bf16*>(to),
      [](bf16 a, bf16 b) { return ithaca::to_bf16(static_cast<float>(a) + static_cast<float>(b)); });
}

// The group that this thread has begun.
thread_local int group_depth = 0;
thread_local std::vector<Message> group;
thread_local ncclComm_t group_comm = nullptr;
thread_local cudaStream_t group_stream = nullptr;

ncclResult_t add_to_group(const Message& message, ncclComm_t comm, cudaStream_t stream) {
  const bool is_other = group_comm && (group_comm != comm || group_stream != stream);
  if (group_depth == 0 || is_other || message.peer < 0 || message.peer >= comm->size) return ncclInvalidUsage;
  group_comm = comm;
  group_stream = stream;
  group.push_back(message);
  return ncclSuccess;
}

// What a rank sends to another arrives in the order in which it is received.
void deliver(const std::vector<Part>& parts, const std::vector<Message>& messages, int own) {
  std::vector<std::size_t> taken(parts.size(), 0);
  for (const auto& [peer, from, to, bytes] : messages) {
    if (!to) continue;
    std::size_t at = 0;
    std::size_t before = 0;
    bool is_found = false;
    for (const auto& [receiver, size] : parts[peer].messages) {
      if (receiver == own && before++ == taken[peer]) {
        if (size != bytes) throw Error("a message of " + std::to_string(size) + " bytes where " + std::to_string(bytes) + " are received");
        std::memcpy(to, parts[peer].sent.data() + at, bytes);
        is_found = true;
      }
      at += size;
    }
    if (!is_found) throw Error("nothing is sent to where rank " + std::to_string(own) + " receives");
    ++taken[peer];
  }
}

}  // namespace

const char* ncclGetErrorString(ncclResult_t code) {
  switch (code) {
    case ncclSuccess: return "no error";
    case ncclSystemError: return "unhandled system error";
    case ncclInvalidUsage: return "invalid usage";
    case ncclRemoteError: return "remote process exited or there was a network error";
    default: return "another error";
  }
}
const char* ncclGetLastError(ncclComm_t) { return ""; }

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  // Every communicator would have to meet there.
  if (std::getenv("NCCL_COMM_ID")) return ncclInvalidUsage;
  std::string folder = (fs::temp_directory_path() / "nccl-XXXXXX").string();
  if (!mkdtemp(folder.data()) || folder.size() >= sizeof id->internal) return ncclSystemError;
  *id = {};
  folder.copy(id->internal, folder.size());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank) {
  auto own = std::make_unique<ncclComm>();
  own->folder = id.internal;
  own->rank = rank;
  own->size = ranks;
  leave(file_of(*own, "joined-", 0, rank), {std::to_string(getpid()), {}, {}});
  for (int r = 0; r < ranks; ++r) {
    const fs::path path = file_of(*own, "joined-", 0, r);
    while (!fs::exists(path)) std::this_thread::sleep_for(kBetweenLooks);
    own->processes.push_back(std::stoi(read(path).what));
  }
  *comm = own.release();
  return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  leave(file_of(*comm, "left-", 0, comm->rank), {"", {}, {}});
  bool all_have_left = true;
  for (int r = 0; r < comm->size; ++r) all_have_left = all_have_left && fs::exists(file_of(*comm, "left-", 0, r));
  std::error_code gone;
  if (all_have_left) fs::remove_all(comm->folder, gone);
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  comm->state = ncclSystemError;  // what waits in a stream may still ask for it
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  for (const pid_t process : comm->processes) {
    if (comm->state == ncclSuccess && kill(process, 0) != 0) comm->state = ncclRemoteError;
  }
  *state = comm->state;
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++group_depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (group_depth == 0) return ncclInvalidUsage;
  if (--group_depth > 0 || !group_comm) return ncclSuccess;
  const ncclComm_t comm = std::exchange(group_comm, nullptr);
  const std::vector<Message> messages = std::exchange(group, {});
  std::vector<Touch> touches;
  for (const auto& [peer, from, to, bytes] : messages) touches.push_back({from ? 'r' : 'w', from ? from : to, bytes});
  const auto make = [=] {
    Part part{"a group", {}, {}};
    for (const auto& [peer, from, to, bytes] : messages) {
      if (!from) continue;
      part.messages.emplace_back(peer, bytes);
      const auto* begin = static_cast<const char*>(from);
      part.sent.insert(part.sent.end(), begin, begin + bytes);
    }
    return part;
  };
  return issue(comm, group_stream, "ncclGroup", touches, make,
               [=](const std::vector<Part>& parts) { deliver(parts, messages, comm->rank); });
}

ncclResult_t ncclSend(const void* from, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add_to_group({peer, from, nullptr, count * bytes_of(type)}, comm, stream);
}
ncclResult_t ncclRecv(void* to, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return add_to_group({peer, nullptr, to, count * bytes_of(type)}, comm, stream);
}

ncclResult_t ncclAllGather(const void* send, void* recv, std::size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  const std::size_t bytes = count * bytes_of(type);
  return issue(comm, stream, "ncclAllGather", {{'r', send, bytes}, {'w', recv, comm->size * bytes}},
               [=] { return whole("ncclAllGather", send, count, type); },
               [=](const std::vector<Part>& parts) {
                 for (int r = 0; r < comm->size; ++r) {
                   std::memcpy(static_cast<char*>(recv) + r * bytes, parts[r].sent.data(), bytes);
                 }
               });
}
ncclResult_t ncclReduceScatter(const void* send, void* recv, std::size_t count, ncclDataType_t type, ncclRedOp_t,
                               ncclComm_t comm, cudaStream_t stream) {
  const std::size_t bytes = count * bytes_of(type);
  return issue(comm, stream, "ncclReduceScatter", {{'r', send, comm->size * bytes}, {'w', recv, bytes}},
               [=] { return whole("ncclReduceScatter", send, count, type, comm->size); },
               [=](const std::vector<Part>& parts) { sum(parts, comm->rank * count, recv, count, type); });
}
ncclResult_t ncclAllReduce(const void* send, void* recv, std::size_t count, ncclDataType_t type, ncclRedOp_t,
                           ncclComm_t comm, cudaStream_t stream) {
  const std::size_t bytes = count * bytes_of(type);
  return issue(comm, stream, "ncclAllReduce", {{'r', send, bytes}, {'w', recv, bytes}},
               [=] { return whole("ncclAllReduce", send, count, type); },
               [=](const std::vector<Part>& parts) { sum(parts, 0, recv, count, type); });
}
