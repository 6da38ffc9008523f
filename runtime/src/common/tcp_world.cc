// Every rank's half of a TCP world: its own connection with signs of life, and one for each group that it joins.
#include "ithaca/tcp_world.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "ithaca/error.h"
#include "ithaca/lane.h"
#include "ithaca/sum_ranks.h"
#include "tcp_hub.h"

namespace ithaca {

namespace {

using namespace tcp;

enum Name : std::uint8_t { kAllToAll, kAllGather, kReduceScatter, kAllReduce, kBarrier };

// For the word of rank 0, which ends this process; longer than a send may take.
constexpr auto kForTheEnd = std::chrono::seconds(12);

std::string host_name() {
  char name[64] = "";
  gethostname(name, sizeof name - 1);
  return name;
}

class TcpComm final : public Comm {
 public:
  TcpComm(World& world, int world_rank, int rank, int size, Socket socket)
      : world_(world), world_rank_(world_rank), rank_(rank), size_(size), socket_(std::move(socket)) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void all_to_all(std::span<const Part> parts) override {
    std::size_t total = 0;
    for (const Part& part : parts) total += part.bytes;
    count_sent((size_ - 1) * total);
    std::vector<std::byte> send(total * size_);
    std::vector<std::byte> recv(total * size_);
    walk(parts, total, [&](const Part& part, int r, std::size_t at) {
      std::memcpy(send.data() + at, static_cast<const std::byte*>(part.send) + r * part.bytes, part.bytes);
    });
    exchange({send.size(), total, kAllToAll, 0, false}, send.data(), recv.data());
    walk(parts, total, [&](const Part& part, int r, std::size_t at) {
      std::memcpy(static_cast<std::byte*>(part.recv) + r * part.bytes, recv.data() + at, part.bytes);
    });
  }

  void all_gather(const void* send, void* recv, std::size_t bytes) override {
    count_sent((size_ - 1) * bytes);
    exchange({bytes, bytes, kAllGather, 0, true}, send, recv);
  }

  void reduce_scatter(const void* send, void* recv, std::size_t count, DType dtype) override {
    sum_chunks(kReduceScatter, send, recv, count, dtype);
  }

  void all_reduce(const void* send, void* recv, std::size_t count, DType dtype) override {
    const auto* from = static_cast<const std::byte*>(send);
    auto* to = static_cast<std::byte*>(recv);
    const std::size_t bytes = dtype_bytes(dtype);
    const std::size_t part = count * bytes <= kSmallSumBytes ? 0 : count / size_;
    const std::size_t done = part * size_;
    // What is left over first, for in place the second half overwrites nothing of it.
    if (done < count) {
      const std::size_t rest = count - done;
      count_sent((size_ - 1) * rest * bytes);
      std::vector<std::byte> all(size_ * rest * bytes);
      exchange({rest * bytes, count, kAllReduce, static_cast<std::uint8_t>(dtype), true}, from + done * bytes, all.data());
      sum(all, to + done * bytes, rest, dtype);
    }
    if (part == 0) return;
    sum_chunks(kAllReduce, from, to + rank_ * part * bytes, part, dtype);
    all_gather(to + rank_ * part * bytes, to, part * bytes);
  }

  void barrier() override { exchange({0, 0, kBarrier, 0, true}, nullptr, nullptr); }

  void abort(const std::string& why) override { world_.fail(world_rank_, why); }

 private:
  // Each rank's chunks of all parts lie one behind the other.
  template <typename Body>
  void walk(std::span<const Part> parts, std::size_t total, Body body) {
    for (int r = 0; r < size_; ++r) {
      std::size_t at = r * total;
      for (const Part& part : parts) {
        body(part, r, at);
        at += part.bytes;
      }
    }
  }

  void sum_chunks(Name name, const void* send, void* recv, std::size_t count, DType dtype) {
    const std::size_t bytes = count * dtype_bytes(dtype) * size_;
    count_sent((size_ - 1) * count * dtype_bytes(dtype));
    std::vector<std::byte> all(bytes);
    exchange({bytes, count, name, static_cast<std::uint8_t>(dtype), false}, send, all.data());
    sum(all, static_cast<std::byte*>(recv), count, dtype);
  }

  void sum(const std::vector<std::byte>& all, std::byte* recv, std::size_t count, DType dtype) {
    std::vector<const std::byte*> sources;
    for (int r = 0; r < size_; ++r) sources.push_back(all.data() + r * count * dtype_bytes(dtype));
    sum_ranks(sources, recv, count, dtype);
  }

  void exchange(const Call& call, const void* send, void* recv) {
    const Waiting waiting;
    Call answer;
    const std::size_t bytes = call.is_gather ? call.bytes * size_ : call.bytes;
    if (send_all(socket_, &call, sizeof call) && send_all(socket_, send, call.bytes) &&
        receive_all(socket_, &answer, sizeof answer) && receive_all(socket_, recv, bytes)) {
      return;
    }
    std::this_thread::sleep_for(kForTheEnd);
    world_.fail(world_rank_, "rank 0 closed the connection");
  }

  World& world_;
  const int world_rank_;
  const int rank_;
  const int size_;
  const Socket socket_;
};

class TcpWorld final : public World {
 public:
  TcpWorld(const Meeting& meeting, const std::string& program, std::chrono::seconds timeout,
           std::chrono::seconds patience)
      : meeting_(meeting), program_(program), timeout_(timeout), patience_(patience) {
    if (meeting.rank == 0) hub_.emplace(meeting.port, meeting.ranks, timeout, patience);
    own_ = open("", {});
    thread_ = std::thread([this] { look_on(); });
    // Everybody is there once this returns.
    const auto all = join_all(meeting.rank);
    constexpr std::size_t kLength = 64;
    char mine[kLength] = "";
    host_name().copy(mine, kLength - 1);
    std::vector<char> names(kLength * meeting.ranks);
    all->all_gather(mine, names.data(), kLength);
    for (int r = 0; r < meeting.ranks; ++r) on_machine_ += std::strncmp(mine, names.data() + r * kLength, kLength) == 0;
  }

  ~TcpWorld() override {
    tell(Message::leave);
    thread_.join();
  }

  int ranks() const override { return meeting_.ranks; }
  std::vector<int> own_ranks() const override { return {meeting_.rank}; }
  int ranks_on_machine() const override { return on_machine_; }

  std::unique_ptr<Comm> join(int rank, const std::vector<int>& members, const std::string& purpose) override {
    const auto place = std::find(members.begin(), members.end(), rank);
    if (place == members.end()) throw Error("rank " + std::to_string(rank) + " isn't in the group it joins");
    std::string name = purpose;
    for (int member : members) name += " " + std::to_string(member);
    {
      std::lock_guard lock(mutex_);
      name += "#" + std::to_string(joined_[name]++);
    }
    return std::make_unique<TcpComm>(*this, rank, static_cast<int>(place - members.begin()),
                                     static_cast<int>(members.size()), open(name, members));
  }

  void fail(int rank, const std::string& why) override {
    tell(Message::failure, why);
    std::this_thread::sleep_for(kForTheEnd);
    std::fprintf(stderr, "ithaca: rank %d: %s\n", rank, why.c_str());
    std::fflush(nullptr);
    _exit(1);
  }
  std::string failure() const override { return ""; }

 private:
  Socket open(const std::string& name, const std::vector<int>& members) {
    Socket socket = connect_to(meeting_.address, meeting_.port, patience_);
    Hello hello;
    hello.rank = meeting_.rank;
    hello.ranks = meeting_.ranks;
    hello.members = static_cast<std::int32_t>(members.size());
    hello.name_bytes = static_cast<std::uint32_t>(name.size());
    program_.copy(hello.program, sizeof hello.program - 1);
    host_name().copy(hello.host, sizeof hello.host - 1);
    const bool is_sent = send_all(socket, &hello, sizeof hello) && send_all(socket, name.data(), name.size()) &&
                         send_all(socket, members.data(), 4 * members.size());
    if (!is_sent) throw Error("the connection to rank 0 was lost at " + meeting_.address);
    return socket;
  }

  void tell(Message::Kind kind, const std::string& text = "") {
    std::lock_guard lock(telling_);
    const Message message = {kind, static_cast<std::uint32_t>(text.size())};
    if (send_all(own_, &message, sizeof message)) send_all(own_, text.data(), text.size());
  }

  // Signs of life, and the end when rank 0 says so or is gone.
  void look_on() {
    std::chrono::milliseconds silence{0};
    auto signed_at = std::chrono::steady_clock::now();
    for (;;) {
      pollfd polled = {own_.fd(), POLLIN, 0};
      const bool has_come = poll(&polled, 1, static_cast<int>(kTick.count())) > 0;
      if (has_come) {
        silence = {};
        Message message;
        if (!receive_all(own_, &message, sizeof message)) end("is gone: it was killed, or its connection was lost");
        std::string text(message.bytes, ' ');
        receive_all(own_, text.data(), text.size());
        if (message.kind == Message::failure) {
          std::fflush(nullptr);
          _exit(1);  // rank 0 has said why
        }
        if (message.kind == Message::leave) return;
      }
      if (std::chrono::steady_clock::now() - signed_at < kTick) continue;
      signed_at = std::chrono::steady_clock::now();
      tell(Message::sign);
      silence += kTick;
      if (timeout_.count() > 0 && silence >= timeout_) {
        end("has given no sign of life for " + std::to_string(timeout_.count()) + " s");
      }
    }
  }

  [[noreturn]] void end(const std::string& how) {
    if (meeting_.rank == 1) {
      std::fprintf(stderr, "ithaca: rank 0 at %s %s\n", meeting_.address.c_str(), how.c_str());
      std::fflush(nullptr);
    }
    _exit(1);
  }

  const Meeting meeting_;
  const std::string program_;
  const std::chrono::seconds timeout_;
  const std::chrono::seconds patience_;
  int on_machine_ = 0;
  std::optional<Hub> hub_;
  Socket own_;
  std::mutex mutex_;
  std::map<std::string, int> joined_;
  std::mutex telling_;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<World> open_tcp_world(const Meeting& meeting, const std::string& program, std::chrono::seconds timeout,
                                      std::chrono::seconds patience) {
  return std::make_unique<TcpWorld>(meeting, program, timeout, patience);
}

}  // namespace ithaca
