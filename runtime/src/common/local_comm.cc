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

  void all_to_all(const void* send, void* recv, std::size_t bytes) override {
    publish("all_to_all", send, bytes, DType::i32);
    auto* to = static_cast<std::byte*>(recv);
    for (int r : others_first()) std::memcpy(to + r * bytes, group_.slots[r].send + rank_ * bytes, bytes);
    group_.meet(world_);
  }

  void all_gather(const void* send, void* recv, std::size_t bytes) override {
    publish("all_gather", send, bytes, DType::i32);
    auto* to = static_cast<std::byte*>(recv);
    for (int r : others_first()) {
      if (group_.slots[r].send != to + r * bytes) std::memcpy(to + r * bytes, group_.slots[r].send, bytes);
    }
    group_.meet(world_);
  }

  void reduce_scatter(const void* send, void* recv, std::size_t count, DType dtype) override {
    publish("reduce_scatter", send, count, dtype);
    sum_ranks(sources(rank_ * count * dtype_bytes(dtype)), static_cast<std::byte*>(recv), count, dtype);
    group_.meet(world_);
  }

  void all_reduce(const void* send, void* recv, std::size_t count, DType dtype) override {
    // Each rank sums one part for all, so in place no rank overwrites what another one still has to read.
    publish("all_reduce", send, count, dtype);
    auto* to = static_cast<std::byte*>(recv);
    const std::size_t part = (count + size() - 1) / size();
    const std::size_t bytes = dtype_bytes(dtype);
    const auto begin = [&](int r) { return std::min(count, r * part); };
    sum_ranks(sources(begin(rank_) * bytes), to + begin(rank_) * bytes, begin(rank_ + 1) - begin(rank_), dtype);
    group_.meet(world_);
    publish("all_reduce's second half", recv, count, dtype);
    for (int r : others_first()) {
      if (r == rank_) continue;
      std::memcpy(to + begin(r) * bytes, group_.slots[r].send + begin(r) * bytes, (begin(r + 1) - begin(r)) * bytes);
    }
    group_.meet(world_);
  }

  void barrier() override {
    publish("barrier", nullptr, 0, DType::i32);
    group_.meet(world_);
  }

  void abort(const std::string& why) override { world_.fail(world_rank_, why); }

 private:
  void publish(const char* call, const void* send, std::size_t count, DType dtype) {
    group_.slots[rank_] = {call, count, dtype, static_cast<const std::byte*>(send)};
    group_.meet(world_);
    for (int r = 0; r < size(); ++r) {
      const Slot& mine = group_.slots[rank_];
      const Slot& theirs = group_.slots[r];
      if (std::strcmp(theirs.call, call) == 0 && theirs.count == count && theirs.dtype == dtype) continue;
      throw Error("rank " + std::to_string(world_rank_) + " calls " + mine.call + " of " + std::to_string(count) +
                  " where rank " + std::to_string(group_.members[r]) + " calls " + theirs.call + " of " +
                  std::to_string(theirs.count) + "; all ranks must make the same calls");
    }
  }

  std::vector<const std::byte*> sources(std::size_t offset) const {
    std::vector<const std::byte*> all;
    for (const Slot& slot : group_.slots) all.push_back(slot.send + offset);
    return all;
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
  if (failure_.empty()) failure_ = "rank " + std::to_string(rank) + " failed: " + why;
  for (auto& [key, group] : groups_) group->abort();
}

std::string LocalWorld::failure() const {
  std::lock_guard lock(mutex_);
  return failure_;
}

}  // namespace ithaca
