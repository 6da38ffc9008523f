// The one exception type of the runtime; main() and the addon catch it once and print what().
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace ithaca {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Throws an Error whose message is its arguments, printed one after the other.
template <typename... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw Error(message.str());
}

}  // namespace ithaca
