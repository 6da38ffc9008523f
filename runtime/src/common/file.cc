// Files: checked system calls, and directories that appear in one step.
#include "ithaca/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "ithaca/error.h"
#include "ithaca/memory.h"

namespace ithaca {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_at(const std::string& doing, const std::string& path) {
  throw Error("can't " + doing + " " + path + ": " + std::strerror(errno));
}

void sync_directory(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  fsync(descriptor);
  ::close(descriptor);
}

std::string parent_of(const std::string& path) {
  const fs::path parent = fs::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

}  // namespace

File::File(std::string path, int flags)
    : path_(std::move(path)), descriptor_(::open(path_.c_str(), flags | O_CLOEXEC, 0644)) {
  if (descriptor_ < 0) fail_at((flags & O_ACCMODE) == O_RDONLY ? "read" : "write", path_);
  struct stat status{};
  if (fstat(descriptor_, &status) == 0 && S_ISDIR(status.st_mode)) {
    ::close(descriptor_);
    errno = EISDIR;
    fail_at("read", path_);
  }
}

File File::open(const std::string& path) { return File(path, O_RDONLY); }
File File::create(const std::string& path) { return File(path, O_WRONLY | O_CREAT | O_TRUNC); }
File File::open_for_writing(const std::string& path) { return File(path, O_WRONLY); }

File File::unnamed(const std::string& folder, std::string remedy) {
  std::string path = folder + "/.ithaca-XXXXXX";
  const int descriptor = mkostemp(path.data(), O_CLOEXEC);
  if (descriptor < 0) fail_at("create a file in", folder);
  ::unlink(path.c_str());
  return File(folder, descriptor, std::move(remedy));
}

File::File(std::string path, int descriptor, std::string remedy)
    : path_(std::move(path)), descriptor_(descriptor), remedy_(std::move(remedy)) {}

File::File(File&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(other.descriptor_), remedy_(std::move(other.remedy_)) {
  other.descriptor_ = -1;
}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void File::fail_to_write(std::uint64_t bytes) const {
  if (errno != ENOSPC && errno != EDQUOT) fail_at("write", path_);
  const std::string what = std::strerror(errno);
  struct statvfs room{};
  const bool known = fstatvfs(descriptor_, &room) == 0;
  throw Error("can't write " + path_ + ": " + what + "; " + format_bytes(bytes) + " are needed" +
              (known ? ", " + format_bytes(room.f_bavail * room.f_frsize) + " are free" : "") + ". " + remedy_);
}

std::uint64_t File::size() const {
  struct stat status{};
  if (fstat(descriptor_, &status) != 0) fail_at("read", path_);
  return static_cast<std::uint64_t>(status.st_size);
}

void File::read_at(std::uint64_t offset, void* data, std::size_t bytes) const {
  auto* to = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t got = pread(descriptor_, to, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_at("read", path_);
    if (got == 0) {
      throw Error(path_ + " ends at byte " + std::to_string(offset) + ", " + std::to_string(bytes) +
                  " bytes too early; it was cut off while it was read");
    }
    to += got;
    offset += got;
    bytes -= got;
  }
}

void File::write_at(std::uint64_t offset, const void* data, std::size_t bytes) const {
  const auto* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t put = pwrite(descriptor_, from, bytes, static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail_to_write(bytes);
    from += put;
    offset += put;
    bytes -= put;
  }
}

void File::allocate(std::uint64_t bytes) const {
  const auto size = static_cast<off_t>(bytes);
  if (ftruncate(descriptor_, size) != 0) fail_to_write(bytes);
  // Not every file system can claim space ahead; there a full disk shows in write_at.
  if (size > 0 && fallocate(descriptor_, 0, 0, size) != 0 && errno != EOPNOTSUPP && errno != ENOSYS) {
    fail_to_write(bytes);
  }
}

void File::sync() const {
  if (fsync(descriptor_) != 0) fail_to_write(0);
}

std::string read_text(const std::string& path) {
  const File file = File::open(path);
  std::string text(file.size(), '\0');
  file.read_at(0, text.data(), text.size());
  return text;
}

void write_text(const std::string& path, std::string_view text) {
  const std::string partial = path + ".partial";
  try {
    const File file = File::create(partial);
    file.write_at(0, text.data(), text.size());
    file.sync();
    if (std::rename(partial.c_str(), path.c_str()) != 0) fail_at("write", path);
  } catch (...) {
    ::unlink(partial.c_str());
    throw;
  }
  sync_directory(parent_of(path));
}

std::string PartialDirectory::path_for(const std::string& place) {
  const fs::path target(place);
  return (target.parent_path() / ("." + target.filename().string() + ".partial")).string();
}

PartialDirectory::PartialDirectory(const std::string& place) : place_(place), path_(path_for(place)) {
  std::error_code error;
  fs::remove_all(path_, error);
  if (!error) fs::create_directories(path_, error);
  if (error) throw Error("can't create " + path_ + ": " + error.message());
}

PartialDirectory::~PartialDirectory() {
  std::error_code ignored;
  if (!published_) fs::remove_all(path_, ignored);
}

void PartialDirectory::publish() {
  sync_directory(path_);
  // An exchange leaves no moment without a directory at the place; where there was none, or the file system can't
  // exchange, a plain rename does.
  const bool exchanged = renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, place_.c_str(), RENAME_EXCHANGE) == 0;
  std::error_code error;
  if (!exchanged) {
    fs::remove_all(place_, error);
    if (std::rename(path_.c_str(), place_.c_str()) != 0) fail_at("write", place_);
  }
  published_ = true;
  if (exchanged) fs::remove_all(path_, error);
  sync_directory(parent_of(place_));
}

void require_writable_directory(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) throw Error("can't create the directory " + path + ": " + error.message());
  const std::string probe = (fs::path(path) / ".writable").string();
  try {
    File::create(probe);
  } catch (const Error& error) {
    throw Error(std::string(error.what()) + "; choose another output_dir");
  }
  ::unlink(probe.c_str());
}

}  // namespace ithaca
