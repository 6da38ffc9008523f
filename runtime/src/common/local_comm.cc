// The `local` collectives: every rank publishes its buffer, all meet, each reads what it needs, all meet again.
#include "ithaca/local_comm.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "ithaca/error.h"
#include "ithaca/lane.h"
#include "ithaca/sum_ranks.h"

namespace ithaca {

namespace {

constexpr std::uint32_t kAborted = 1;
constexpr std::uint32_t kOneMeeting = 2;

struct alignas(64) Slot {
  const char* call = "";
  std::size_t count = 0;
  DType dtype = DType::f32;
  const std::byte* send = nullptr;
  std::span<const Comm::Part> parts = {};
};

}  // namespace

struct LocalGroup {
  explicit LocalGroup(std::vector<int> ranks) : members(std::move(ranks)), slots(members.size()) {}

  int size() const { return static_cast<int>(members.size()); }

  // Returns when all members came; throws Stopped once a rank failed.
  void meet(const LocalWorld& world) {
    const std::uint32_t before = meetings.load(std::memory_order_acquire);
    if (before & kAborted) throw Stopped(world.failure());
    if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == size()) {
      arrived.store(0, std::memory_order_relaxed);
      meetings.fetch_add(kOneMeeting, std::memory_order_release);
      meetings.notify_all();
      return;
    }
    std::uint32_t now = meetings.load(std::memory_order_acquire);
    while (now == before) {
      const Waiting waiting;
      meetings.wait(before, std::memory_order_acquire);
      now = meetings.load(std::memory_order_acquire);
    }
    if ((now & ~kAborted) == before) throw Stopped(world.failure());
  }

  void abort() {
    meetings.fetch_or(kAborted, std::memory_order_release);
    meetings.notify_all();
  }

  const std::vector<int> members;
  std::vector<Slot> slots;
  alignas(64) std::atomic<int> arrived{0};
  alignas(64) std::atomic<std::uint32_t> meetings{0};  // twice their number; the lowest bit says aborted
};

namespace {

class LocalComm final : public Comm {
 public:
  LocalComm(LocalWorld& world, LocalGroup& group, int world_rank, int rank)
      : world_(world), group_(group), world_rank_(world_rank), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return group_.size(); }
  bool shares_memory() const override { return true; }

  void all_to_all(std::span<const Part> parts) override {
    std::size_t bytes = 0;
    for (const Part& part : parts) bytes += part.bytes;
    publish({"all_to_all", bytes, DType::i32, nullptr, parts});
    for (int r : others_first()) {
      for (std::size_t i = 0; i < parts.size(); ++i) {
        const Part& theirs = group_.slots[r].parts[i];
        take(r, static_cast<std::byte*>(parts[i].recv) + r * theirs.bytes,
             static_cast<const std::byte*>(theirs.send) + rank_ * theirs.bytes, theirs.bytes);
      }
    }
    group_.meet(world_);
  }

  void all_gather(const void* send, void* recv, std::size_t bytes) override {
    publish({"all_gather", bytes, DType::i32, static_cast<const std::byte*>(send)});
    for (int r : others_first()) take(r, static_cast<std::byte*>(recv) + r * bytes, group_.slots[r].send, bytes);
    group_.meet(world_);
  }

  void reduce_scatter(const void* send, void* recv, std::size_t count, DType dtype) override {
    publish({"reduce_scatter", count, dtype, static_cast<const std::byte*>(send)});
    sum(static_cast<std::byte*>(recv), rank_ * count, count, dtype);
    group_.meet(world_);
  }

  void all_reduce(const void* send, void* recv, std::size_t count, DType dtype) override {
    publish({"all_reduce", count, dtype, static_cast<const std::byte*>(send)});
    auto* to = static_cast<std::byte*>(recv);
    const std::size_t bytes = dtype_bytes(dtype);
    const std::size_t part = count * bytes <= kSmallSumBytes ? 0 : count / size();
    const std::size_t done = part * size();
    // Nobody else reads this rank's part, which may be in place; what all read is written once all have read it.
    sum(to + rank_ * part * bytes, rank_ * part, part, dtype);
    std::vector<std::byte> rest((count - done) * bytes);
    sum(rest.data(), done, count - done, dtype);
    group_.meet(world_);
    std::copy(rest.begin(), rest.end(), to + done * bytes);
    if (part == 0) return;
    publish({"all_reduce's second half", count, dtype, to});
    for (int r : others_first()) {
      if (r != rank_) take(r, to + r * part * bytes, group_.slots[r].send + r * part * bytes, part * bytes);
    }
    group_.meet(world_);
  }

  void barrier() override {
    publish({"barrier", 0, DType::i32, nullptr});
    group_.meet(world_);
  }

  void abort(const std::string& why) override { world_.fail(world_rank_, why); }

 private:
  void publish(const Slot& mine) {
    group_.slots[rank_] = mine;
    group_.meet(world_);
    for (int r = 0; r < size(); ++r) {
      const Slot& theirs = group_.slots[r];
      const bool same_parts = std::ranges::equal(theirs.parts, mine.parts, {}, &Part::bytes, &Part::bytes);
      if (std::strcmp(theirs.call, mine.call) == 0 && theirs.count == mine.count && theirs.dtype == mine.dtype &&
          same_parts) {
        continue;
      }
      throw Error("rank " + std::to_string(world_rank_) + " calls " + mine.call + " of " + std::to_string(mine.count) +
                  " where rank " + std::to_string(group_.members[r]) + " calls " + theirs.call + " of " +
                  std::to_string(theirs.count) + "; all ranks must make the same calls");
    }
  }

  // What is taken from another rank it has sent. Every rank of a call takes as much as it gives.
  void take(int from_rank, std::byte* to, const std::byte* from, std::size_t bytes) {
    if (from_rank != rank_) count_sent(bytes);
    if (to != from) std::memcpy(to, from, bytes);
  }

  // to[0, count) = the sum of what all ranks published, from element `begin` on.
  void sum(std::byte* to, std::size_t begin, std::size_t count, DType dtype) {
    std::vector<const std::byte*> sources;
    for (const Slot& slot : group_.slots) sources.push_back(slot.send + begin * dtype_bytes(dtype));
    sum_ranks(sources, to, count, dtype);
    count_sent((sources.size() - 1) * count * dtype_bytes(dtype));
  }

  // Every rank starts with another neighbour, so that not all read the same memory at once.
  std::vector<int> others_first() const {
    std::vector<int> order;
    for (int i = 1; i <= size(); ++i) order.push_back((rank_ + i) % size());
    return order;
  }

  LocalWorld& world_;
  LocalGroup& group_;
  int world_rank_;
  int rank_;
};

}  // namespace

LocalWorld::LocalWorld(int ranks) : ranks_(ranks) {}
LocalWorld::~LocalWorld() = default;

std::unique_ptr<Comm> LocalWorld::join(int rank, const std::vector<int>& members, const std::string& purpose) {
  std::lock_guard lock(mutex_);
  auto& group = groups_[{purpose, members}];
  if (!group) {
    group = std::make_unique<LocalGroup>(members);
    if (!failure_.empty()) group->abort();
  }
  const auto place = std::find(members.begin(), members.end(), rank);
  if (place == members.end()) throw Error("rank " + std::to_string(rank) + " isn't in the group it joins");
  return std::make_unique<LocalComm>(*this, *group, rank, static_cast<int>(place - members.begin()));
}

std::vector<int> LocalWorld::own_ranks() const {
  std::vector<int> all(ranks_);
  for (int r = 0; r < ranks_; ++r) all[r] = r;
  return all;
}

void LocalWorld::fail(int rank, const std::string& why) {
  std::lock_guard lock(mutex_);
  // What an executor says of itself begins with its rank.
  const bool named = why.starts_with("rank ");
  if (failure_.empty()) failure_ = named ? why : "rank " + std::to_string(rank) + " failed: " + why;
  for (auto& [key, group] : groups_) group->abort();
}

std::string LocalWorld::failure() const {
  std::lock_guard lock(mutex_);
  return failure_;
}

}  // namespace ithaca
