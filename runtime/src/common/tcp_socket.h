// Sockets that close themselves, and whole messages over them.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <utility>

namespace ithaca::tcp {

class Socket {
 public:
  explicit Socket(int fd = -1) : fd_(fd) {}
  ~Socket();
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  int fd() const { return fd_; }

 private:
  int fd_;
};

// On all addresses of this machine. Throws Error.
Socket listen_on(int port);
// Tries until `patience` is over. Throws Error naming the address and what the system says.
Socket connect_to(const std::string& address, int port, std::chrono::seconds patience);
// Small messages leave at once, and a send that nobody takes for ten seconds fails.
void prepare(const Socket& socket);

// False where the connection is lost.
bool send_all(const Socket& socket, const void* data, std::size_t bytes);
bool receive_all(const Socket& socket, void* data, std::size_t bytes);

}  // namespace ithaca::tcp
