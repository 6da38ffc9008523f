// Files and directories that are either written completely or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ithaca {

// An open file. All errors name its path and what the system said.
class File {
 public:
  static File open(const std::string& path);                // for reading
  static File create(const std::string& path);              // for writing, empty
  static File open_for_writing(const std::string& path);    // an existing one, its contents kept
  // A new file in a folder, for reading and writing, that has no name once it is open: it is gone when the process is,
  // however that ends. `remedy` is what an error about room says to do.
  static File unnamed(const std::string& folder, std::string remedy);
  ~File();
  File(File&& other) noexcept;
  File& operator=(File&&) = delete;

  const std::string& path() const { return path_; }
  int descriptor() const { return descriptor_; }
  std::uint64_t size() const;
  void read_at(std::uint64_t offset, void* data, std::size_t bytes) const;
  void write_at(std::uint64_t offset, const void* data, std::size_t bytes) const;
  // Sets the size and claims the space, so that a full disk is noticed before anything is written.
  void allocate(std::uint64_t bytes) const;
  // Returns once the contents are on the disk.
  void sync() const;

 private:
  File(std::string path, int flags);
  File(std::string path, int descriptor, std::string remedy);
  [[noreturn]] void fail_to_write(std::uint64_t bytes) const;

  std::string path_;
  int descriptor_;
  std::string remedy_ = "Make room or choose another output_dir";
};

std::string read_text(const std::string& path);
// The file has either its old contents or `text`, at any time.
void write_text(const std::string& path, std::string_view text);

// A directory that is assembled under another name beside its place: `.NAME.partial`. What a run that was killed left
// there is removed first.
class PartialDirectory {
 public:
  explicit PartialDirectory(const std::string& place);
  ~PartialDirectory();  // removes it, unless it was published
  PartialDirectory(const PartialDirectory&) = delete;
  PartialDirectory& operator=(const PartialDirectory&) = delete;

  static std::string path_for(const std::string& place);
  const std::string& path() const { return path_; }
  // Moves it to its place in one step; a directory that was there is replaced.
  void publish();

 private:
  std::string place_;
  std::string path_;
  bool published_ = false;
};

// Creates the directory if need be; throws Error unless files can be created in it.
void require_writable_directory(const std::string& path);

}  // namespace ithaca
