// Checks for self-checking test programs: each failure prints its line, and the program's exit code tells.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include <unistd.h>

namespace check {

inline int failures = 0;

inline void report(const char* file, int line, const std::string& what) {
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
  ++failures;
}

inline void holds(bool condition, const char* text, const char* file, int line) {
  if (!condition) report(file, line, std::string("not so: ") + text);
}

template <typename Body>
void throws(Body body, const std::string& text, const char* expression, const char* file, int line) {
  try {
    body();
  } catch (const std::exception& error) {
    const std::string message = error.what();
    if (message.find(text) == std::string::npos) {
      report(file, line, "the message is \"" + message + "\", without \"" + text + "\"");
    }
    return;
  }
  report(file, line, std::string("nothing thrown by ") + expression);
}

inline int result(const char* name) {
  std::printf("%s: %s\n", name, failures == 0 ? "ok" : (std::to_string(failures) + " failures").c_str());
  return failures == 0 ? 0 : 1;
}

// A directory that is removed with everything in it.
struct TemporaryDirectory {
  TemporaryDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "ithaca-test-XXXXXX").string();
    if (!mkdtemp(pattern.data())) std::abort();
    path = pattern;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::string operator/(const std::string& name) const { return (path / name).string(); }
  std::filesystem::path path;
};

}  // namespace check

#define CHECK(condition) check::holds(condition, #condition, __FILE__, __LINE__)

// The expression must throw an exception whose message contains `text`.
#define CHECK_THROWS(expression, text) \
  check::throws([&] { static_cast<void>(expression); }, text, #expression, __FILE__, __LINE__)
