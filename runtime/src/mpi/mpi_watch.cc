// The signs of life: one message to the next rank of each group every tick, compared with one's own calls.
#include "mpi_watch.h"

#include <algorithm>

#include "mpi_comm.h"

namespace ithaca {

namespace {

constexpr auto kTick = std::chrono::milliseconds(500);
constexpr auto kLeavingTick = std::chrono::milliseconds(1);
constexpr int kTag = 1;  // collectives have a context of their own
constexpr const char* kNames[] = {kAllToAll, kAllGather, kReduceScatter, kAllReduce, kBarrier};

// SplitMix64's finalizer (Steele, Lea and Flood 2014).
std::uint64_t mixed(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

void CallLog::add(const Call& call) {
  const auto name = static_cast<std::uint8_t>(std::find(std::begin(kNames), std::end(kNames), call.name) -
                                              std::begin(kNames));
  const auto dtype = static_cast<std::uint8_t>(call.dtype);
  std::lock_guard lock(mutex_);
  chain_ = mixed(chain_ + mixed(call.count * 64 + name * 8u + dtype + 1));
  entries_[calls_ % kKept] = {call.count, chain_, name, dtype};
  ++calls_;
}

MpiWatch::MpiWatch(std::function<void(const std::string&)> fail, std::chrono::seconds timeout,
                   std::vector<std::string> names)
    : fail_(std::move(fail)), timeout_(timeout), names_(std::move(names)), thread_([this] { work(); }) {}

MpiWatch::~MpiWatch() {
  {
    std::lock_guard lock(mutex_);
    leaving_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

CallLog& MpiWatch::add(MPI_Comm comm, const std::vector<int>& members) {
  auto group = std::make_unique<Group>();
  group->comm = comm;
  group->members = members;
  check_mpi(MPI_Comm_rank(comm, &group->rank), "MPI_Comm_rank");
  CallLog& log = group->log;
  std::lock_guard lock(mutex_);
  groups_.push_back(std::move(group));
  return log;
}

void MpiWatch::work() {
  std::unique_lock lock(mutex_);
  const auto all_left = [this] {
    return std::ranges::all_of(groups_, [](const auto& group) { return group->has_left && group->was_left; });
  };
  while (!leaving_ || !all_left()) {
    const auto tick = leaving_ ? kLeavingTick : kTick;
    changed_.wait_for(lock, tick, [&] { return leaving_ && tick == kTick; });
    for (const auto& group : groups_) {
      if (group->size() == 1) {
        group->has_left = group->was_left = true;
        continue;
      }
      send(*group);
      // One tick at most: while this process was stopped, it heard nothing from anyone.
      group->silence += tick;
      receive(*group);
      if (timeout_.count() == 0 || group->silence < timeout_) continue;
      fail_(names_[group->members[group->before()]] + " has given no sign of life for " +
            std::to_string(timeout_.count()) + " s: it was stopped, or its machine is out of reach");
    }
  }
  for (const auto& group : groups_) check(MPI_Wait(&group->sending, MPI_STATUS_IGNORE), "MPI_Wait");
}

void MpiWatch::send(Group& group) {
  int is_sent = 0;
  check(MPI_Test(&group.sending, &is_sent, MPI_STATUS_IGNORE), "MPI_Test");
  if (!is_sent || group.has_left) return;
  {
    std::lock_guard lock(group.log.mutex_);
    group.sent = {group.log.calls_, group.log.entries_, leaving_};
  }
  group.has_left = leaving_;
  const int next = (group.rank + 1) % group.size();
  check(MPI_Isend(&group.sent, sizeof(Sign), MPI_BYTE, next, kTag, group.comm, &group.sending), "MPI_Isend");
}

void MpiWatch::receive(Group& group) {
  while (!group.was_left) {
    const bool is_open = group.receiving != MPI_REQUEST_NULL;
    int has_come = 0;
    if (is_open) check(MPI_Test(&group.receiving, &has_come, MPI_STATUS_IGNORE), "MPI_Test");
    if (has_come) {
      group.silence = {};
      compare(group);
      group.was_left = group.received.is_last;
      continue;
    }
    if (is_open) return;
    check(MPI_Irecv(&group.received, sizeof(Sign), MPI_BYTE, group.before(), kTag, group.comm, &group.receiving),
          "MPI_Irecv");
  }
}

// Of the calls that both still know one by one, the first that differs.
void MpiWatch::compare(Group& group) {
  const Sign& theirs = group.received;
  const auto say = [](const CallLog::Entry& entry) {
    const std::string name = kNames[entry.name];
    return name == kBarrier ? name : name + " of " + std::to_string(entry.count);
  };
  std::unique_lock lock(group.log.mutex_);
  const std::uint64_t known = std::max(group.log.calls_, theirs.calls);
  const std::uint64_t last = std::min(group.log.calls_, theirs.calls);
  for (std::uint64_t n = known < CallLog::kKept ? 0 : known - CallLog::kKept; n < last; ++n) {
    const CallLog::Entry own = group.log.entries_[n % CallLog::kKept];
    const CallLog::Entry other = theirs.entries[n % CallLog::kKept];
    if (own.chain == other.chain) continue;
    lock.unlock();
    const bool same = own.name == other.name && own.count == other.count && own.dtype == other.dtype;
    fail_(names_[group.members[group.rank]] + " calls " + say(own) + " where " +
          names_[group.members[group.before()]] + " calls " + say(other) +
          (same ? ", after calls that differed" : "") + " (call " + std::to_string(n + 1) +
          "); all ranks must make the same calls");
    return;
  }
}

void MpiWatch::check(int code, const char* call) const {
  try {
    check_mpi(code, call);
  } catch (const std::exception& error) {
    fail_(error.what());
  }
}

}  // namespace ithaca
