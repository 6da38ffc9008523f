// Rank 0's half of a TCP world: a thread that passes on what the ranks exchange and ends the run with the first that dies.
#pragma once

#include <chrono>
#include <cstdint>
#include <list>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "tcp_socket.h"

namespace ithaca::tcp {

inline constexpr auto kTick = std::chrono::milliseconds(500);
inline constexpr std::uint32_t kMagic = 0x31485449;  // "ITH1"

// The first bytes of every connection; behind them the group's name and its members, as int32.
struct Hello {
  std::uint32_t magic = kMagic;
  std::int32_t rank = 0;
  std::int32_t ranks = 0;
  std::int32_t members = 0;  // 0: this is the rank's own connection, for Messages
  std::uint32_t name_bytes = 0;
  char program[64] = "";
  char host[64] = "";
};

// One rank's part of a collective; `bytes` follow it. Gathered: everybody gets all parts. Otherwise a part is a chunk for each.
struct Call {
  std::uint64_t bytes = 0;
  std::uint64_t count = 0;
  std::uint8_t name = 0;  // index into kNames
  std::uint8_t dtype = 0;
  std::uint8_t is_gather = 0;
};
inline constexpr const char* kNames[] = {"all_to_all", "all_gather", "reduce_scatter", "all_reduce", "barrier"};

// A sign of life, a rank's or everybody's orderly end, or a failure with its text.
struct Message {
  enum Kind : std::uint32_t { sign, leave, failure } kind = sign;
  std::uint32_t bytes = 0;
};

class Hub {
 public:
  Hub(int port, int ranks, std::chrono::seconds timeout, std::chrono::seconds patience);
  ~Hub();  // returns once all ranks have left
  Hub(const Hub&) = delete;
  Hub& operator=(const Hub&) = delete;

 private:
  struct Group;
  struct Connection {
    Socket socket;
    std::vector<char> read;  // what no message has been made of yet
    bool is_known = false;   // its Hello has come
    bool is_open = true;
    int rank = -1;
    Group* group = nullptr;
    int place = 0;  // in the group
  };
  struct Group {
    std::vector<int> members;
    std::vector<Connection*> connections;
    std::uint64_t calls = 0;
  };
  struct Member {
    Connection* own = nullptr;
    std::string name;
    bool has_left = false;
    std::chrono::milliseconds silence{0};
  };

  void work();
  void accept_one();
  void receive(Connection& connection);
  void read_hello(Connection& connection);
  void read_messages(Connection& connection);
  void exchange(Group& group);
  bool disagrees(const Group& group, const std::vector<Call>& calls);
  void tick();
  void broadcast(Message::Kind kind, const std::string& text = "");
  void fail(const std::string& why);

  Socket listening_;
  const std::chrono::seconds timeout_;
  const std::chrono::seconds patience_;
  std::vector<Member> members_;
  std::list<Connection> connections_;
  std::map<std::string, Group> groups_;
  std::string program_;
  std::string refusal_;  // why the ranks that came do not belong together; said once all are there
  std::chrono::milliseconds waited_{0};  // for ranks that have not come
  bool ended_ = false;
  std::thread thread_;
};

}  // namespace ithaca::tcp
