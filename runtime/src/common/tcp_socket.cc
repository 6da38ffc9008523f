// The system's socket calls.
#include "tcp_socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include "ithaca/error.h"

namespace ithaca::tcp {

namespace {

constexpr auto kBetweenTries = std::chrono::milliseconds(100);
constexpr int kSecondsToSend = 10;

// Of all addresses that the name has; errno's text where none answers.
std::string try_to_connect(const std::string& address, int port, Socket& socket) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int code = getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (code != 0) return gai_strerror(code);
  std::string problem = "it has no address";
  for (const addrinfo* at = found; at; at = at->ai_next) {
    Socket candidate(::socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol));
    if (candidate.fd() >= 0 && connect(candidate.fd(), at->ai_addr, at->ai_addrlen) == 0) {
      socket = std::move(candidate);
      problem.clear();
      break;
    }
    problem = std::strerror(errno);
  }
  freeaddrinfo(found);
  return problem;
}

}  // namespace

Socket::~Socket() {
  if (fd_ >= 0) close(fd_);
}

Socket listen_on(int port) {
  const int yes = 1;
  const int no = 0;
  const auto number = htons(static_cast<std::uint16_t>(port));
  Socket both(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (both.fd() >= 0) {
    sockaddr_in6 any = {};
    any.sin6_family = AF_INET6;
    any.sin6_port = number;
    setsockopt(both.fd(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    setsockopt(both.fd(), IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    if (bind(both.fd(), reinterpret_cast<sockaddr*>(&any), sizeof any) == 0 && listen(both.fd(), SOMAXCONN) == 0) {
      return both;
    }
  }
  Socket four(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in any = {};
  any.sin_family = AF_INET;
  any.sin_port = number;
  setsockopt(four.fd(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(four.fd(), reinterpret_cast<sockaddr*>(&any), sizeof any) == 0 && listen(four.fd(), SOMAXCONN) == 0) {
    return four;
  }
  throw Error("rank 0 can't listen on port " + std::to_string(port) + ": " + std::strerror(errno) +
              "; set MASTER_PORT to one that is free");
}

Socket connect_to(const std::string& address, int port, std::chrono::seconds patience) {
  const auto end = std::chrono::steady_clock::now() + patience;
  for (;;) {
    Socket socket;
    const std::string problem = try_to_connect(address, port, socket);
    if (problem.empty()) {
      prepare(socket);
      return socket;
    }
    if (std::chrono::steady_clock::now() >= end) {
      throw Error("rank 0 was not reached at " + address + ":" + std::to_string(port) + " for " +
                  std::to_string(patience.count()) + " s: " + problem +
                  "; check MASTER_ADDR and MASTER_PORT, and that rank 0 was started");
    }
    std::this_thread::sleep_for(kBetweenTries);
  }
}

void prepare(const Socket& socket) {
  const int yes = 1;
  const timeval time = {kSecondsToSend, 0};
  setsockopt(socket.fd(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  setsockopt(socket.fd(), SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
}

bool send_all(const Socket& socket, const void* data, std::size_t bytes) {
  const auto* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t sent = send(socket.fd(), from, bytes, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    from += sent;
    bytes -= sent;
  }
  return true;
}

bool receive_all(const Socket& socket, void* data, std::size_t bytes) {
  auto* to = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t got = recv(socket.fd(), to, bytes, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    to += got;
    bytes -= got;
  }
  return true;
}

}  // namespace ithaca::tcp
