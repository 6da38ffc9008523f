// The hub: one poll over all connections; a collective is answered when every member's part has come.
#include "tcp_hub.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "ithaca/dtype.h"

namespace ithaca::tcp {

namespace {

template <typename T>
bool take(const std::vector<char>& from, T& to, std::size_t at = 0) {
  if (from.size() < at + sizeof to) return false;
  std::memcpy(&to, from.data() + at, sizeof to);
  return true;
}

std::string words(const Call& call) {
  const std::string name = kNames[std::min<std::size_t>(call.name, std::size(kNames) - 1)];
  if (name == "barrier") return name;
  const bool is_sum = name.find("reduce") != std::string::npos;
  return name + " of " + std::to_string(call.count) + (is_sum ? std::string(" ") + dtype_name(static_cast<DType>(call.dtype)) : "");
}

}  // namespace

Hub::Hub(int port, int ranks, std::chrono::seconds timeout, std::chrono::seconds patience)
    : listening_(listen_on(port)), timeout_(timeout), patience_(patience), members_(ranks) {
  for (int r = 0; r < ranks; ++r) members_[r].name = "rank " + std::to_string(r);
  thread_ = std::thread([this] { work(); });
}

Hub::~Hub() { thread_.join(); }

void Hub::work() {
  auto ticked = std::chrono::steady_clock::now();
  std::vector<pollfd> polled;
  std::vector<Connection*> order;
  while (!ended_) {
    polled = {{listening_.fd(), POLLIN, 0}};
    order.clear();
    connections_.remove_if([](const Connection& connection) { return !connection.is_open; });
    for (Connection& connection : connections_) {
      polled.push_back({connection.socket.fd(), POLLIN, 0});
      order.push_back(&connection);
    }
    poll(polled.data(), polled.size(), static_cast<int>(kTick.count()));
    for (std::size_t i = 0; i < order.size() && !ended_; ++i) {
      if (polled[i + 1].revents) receive(*order[i]);
    }
    if (polled[0].revents) accept_one();
    if (std::chrono::steady_clock::now() - ticked < kTick) continue;
    ticked = std::chrono::steady_clock::now();
    if (!ended_) tick();
  }
}

void Hub::accept_one() {
  Socket socket(accept4(listening_.fd(), nullptr, nullptr, SOCK_CLOEXEC));
  if (socket.fd() < 0) return;
  prepare(socket);
  connections_.emplace_back().socket = std::move(socket);
}

void Hub::receive(Connection& connection) {
  char buffer[1 << 16];
  for (;;) {
    const ssize_t got = recv(connection.socket.fd(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (got > 0) {
      connection.read.insert(connection.read.end(), buffer, buffer + got);
      continue;
    }
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    connection.is_open = false;
    break;
  }
  if (!connection.is_known) read_hello(connection);
  if (connection.is_known && connection.group) exchange(*connection.group);
  if (connection.is_known && !connection.group) read_messages(connection);
  if (connection.is_open || ended_ || !connection.is_known) return;
  if (connection.group) {
    connection.group->connections[connection.place] = nullptr;
    return;
  }
  Member& member = members_[connection.rank];
  member.own = nullptr;
  if (!member.has_left) {
    fail(member.name + " is gone: it was killed, most likely for want of memory (see dmesg), or its connection was lost");
  }
}

void Hub::read_hello(Connection& connection) {
  Hello hello;
  if (!take(connection.read, hello)) return;
  const std::size_t bytes = sizeof hello + hello.name_bytes + 4 * static_cast<std::size_t>(hello.members);
  const int ranks = static_cast<int>(members_.size());
  const bool is_ours = hello.magic == kMagic && hello.members >= 0 && hello.members <= ranks &&
                       hello.name_bytes <= 4096 && hello.rank >= 0;
  if (!is_ours) {
    connection.is_open = false;  // whoever it is, it is no rank
    return;
  }
  if (connection.read.size() < bytes) return;
  hello.host[sizeof hello.host - 1] = hello.program[sizeof hello.program - 1] = 0;
  const std::string name = "rank " + std::to_string(hello.rank) + " on " + hello.host;
  if (hello.ranks != ranks || hello.rank >= ranks) {
    return fail(name + " was started as one of " + std::to_string(hello.ranks) + " ranks, rank 0 as one of " +
                std::to_string(ranks));
  }
  if (program_.empty()) program_ = hello.program;
  if (program_ != hello.program && refusal_.empty()) {
    refusal_ = name + " runs program " + hello.program + ", another rank runs " + program_ +
               "; put the same build on every machine";
  }
  connection.is_known = true;
  connection.rank = hello.rank;
  if (hello.members == 0) {
    Member& member = members_[hello.rank];
    if (member.own) return fail("two processes say that they are rank " + std::to_string(hello.rank));
    member.own = &connection;
    member.name = name;
    // Once all are there to be told: who comes later would find nobody, and say so.
    const bool are_all_there = std::ranges::all_of(members_, [](const Member& one) { return one.own != nullptr; });
    if (!refusal_.empty() && are_all_there) return fail(refusal_);
  } else {
    Group& group = groups_[std::string(connection.read.data() + sizeof hello, hello.name_bytes)];
    group.members.resize(hello.members);
    group.connections.resize(hello.members);
    std::memcpy(group.members.data(), connection.read.data() + sizeof hello + hello.name_bytes, 4 * hello.members);
    const auto place = std::find(group.members.begin(), group.members.end(), hello.rank);
    if (place == group.members.end()) return fail(name + " isn't in the group it joins");
    connection.place = static_cast<int>(place - group.members.begin());
    connection.group = &group;
    group.connections[connection.place] = &connection;
  }
  connection.read.erase(connection.read.begin(), connection.read.begin() + static_cast<std::ptrdiff_t>(bytes));
}

void Hub::read_messages(Connection& connection) {
  Message message;
  Member& member = members_[connection.rank];
  while (!ended_ && take(connection.read, message) && connection.read.size() >= sizeof message + message.bytes) {
    member.silence = {};
    const std::string text(connection.read.data() + sizeof message, message.bytes);
    connection.read.erase(connection.read.begin(),
                          connection.read.begin() + static_cast<std::ptrdiff_t>(sizeof message + message.bytes));
    if (message.kind == Message::failure) return fail(text.starts_with("rank ") ? text : member.name + ": " + text);
    if (message.kind != Message::leave) continue;
    member.has_left = true;
    if (!std::ranges::all_of(members_, &Member::has_left)) continue;
    broadcast(Message::leave);
    ended_ = true;
  }
}

void Hub::exchange(Group& group) {
  std::vector<Call> calls(group.members.size());
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const Connection* from = group.connections[i];
    if (!from || !take(from->read, calls[i])) return;
  }
  ++group.calls;
  if (disagrees(group, calls)) return;
  const std::size_t bytes = calls[0].bytes;
  for (const Connection* from : group.connections) {
    if (from->read.size() < sizeof(Call) + bytes) {
      --group.calls;
      return;
    }
  }
  const std::size_t chunk = calls[0].is_gather ? bytes : bytes / calls.size();
  for (std::size_t to = 0; to < calls.size(); ++to) {
    const Connection& receiver = *group.connections[to];
    // What a rank does not take, it is found missing for: its own connection tells.
    bool is_taken = send_all(receiver.socket, &calls[0], sizeof(Call));
    for (std::size_t from = 0; from < calls.size() && is_taken; ++from) {
      const char* part = group.connections[from]->read.data() + sizeof(Call);
      is_taken = send_all(receiver.socket, part + (calls[0].is_gather ? 0 : to * chunk), chunk);
    }
  }
  for (Connection* from : group.connections) {
    from->read.erase(from->read.begin(), from->read.begin() + static_cast<std::ptrdiff_t>(sizeof(Call) + bytes));
  }
}

bool Hub::disagrees(const Group& group, const std::vector<Call>& calls) {
  for (std::size_t i = 1; i < calls.size(); ++i) {
    const auto& [bytes, count, name, dtype, is_gather] = calls[i];
    const Call& other = calls[i - 1];
    if (bytes == other.bytes && count == other.count && name == other.name && dtype == other.dtype &&
        is_gather == other.is_gather) {
      continue;
    }
    fail(members_[group.members[i]].name + " calls " + words(calls[i]) + " where " +
         members_[group.members[i - 1]].name + " calls " + words(other) + " (call " + std::to_string(group.calls) +
         "); all ranks must make the same calls");
    return true;
  }
  return false;
}

// One tick at most at a time: while this process was stopped, it heard nothing from anyone.
void Hub::tick() {
  broadcast(Message::sign);
  const auto missing = std::ranges::find_if(members_, [](const Member& m) { return !m.own && !m.has_left; });
  if (missing != members_.end()) {
    waited_ += kTick;
    if (waited_ < patience_) return;
    if (!refusal_.empty()) return fail(refusal_);
    return fail(missing->name + " did not come within " + std::to_string(patience_.count()) +
                " s; start one process for each rank, all with the same MASTER_ADDR and MASTER_PORT");
  }
  for (Member& member : members_) {
    if (member.has_left) continue;
    member.silence += kTick;
    if (timeout_.count() == 0 || member.silence < timeout_) continue;
    return fail(member.name + " has given no sign of life for " + std::to_string(timeout_.count()) +
                " s: it was stopped, or its machine is out of reach");
  }
}

// To rank 0 last: its process ends with the failure, and this thread with it.
void Hub::broadcast(Message::Kind kind, const std::string& text) {
  const Message message = {kind, static_cast<std::uint32_t>(text.size())};
  for (auto member = members_.rbegin(); member != members_.rend(); ++member) {
    if (!member->own || !member->own->is_open) continue;
    send_all(member->own->socket, &message, sizeof message);
    send_all(member->own->socket, text.data(), text.size());
  }
}

void Hub::fail(const std::string& why) {
  if (ended_) return;
  ended_ = true;
  std::fprintf(stderr, "ithaca: %s\n", why.c_str());
  std::fflush(nullptr);
  broadcast(Message::failure, why);
}

}  // namespace ithaca::tcp
