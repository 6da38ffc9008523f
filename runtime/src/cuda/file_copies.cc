// Host functions that read and write files.
#include "cuda/file_copies.h"

#include "cuda/check.h"

namespace ithaca::cuda {

void FileCopies::spill(const void* from, const File& file, std::size_t offset, std::size_t bytes, cudaStream_t stream) {
  issue({this, &file, true, static_cast<std::byte*>(const_cast<void*>(from)), offset, bytes}, stream);
}

void FileCopies::fetch(const File& file, std::size_t offset, void* to, std::size_t bytes, cudaStream_t stream) {
  issue({this, &file, false, static_cast<std::byte*>(to), offset, bytes}, stream);
}

void FileCopies::issue(const Copy& copy, cudaStream_t stream) {
  const Copy& kept = *copies_.insert(copy).first;
  const auto run = [](void* data) {
    const Copy& own = *static_cast<const Copy*>(data);
    own.owner->run(own);
  };
  check_cuda(cudaLaunchHostFunc(stream, run, const_cast<Copy*>(&kept)), "cudaLaunchHostFunc");
}

// On a thread of the driver's, which nothing may be thrown into.
void FileCopies::run(const Copy& copy) {
  try {
    if (copy.writes) {
      copy.file->write_at(copy.offset, copy.memory, copy.bytes);
    } else {
      copy.file->read_at(copy.offset, copy.memory, copy.bytes);
    }
  } catch (const std::exception& error) {
    const std::lock_guard lock(mutex_);
    if (failure_.empty()) failure_ = error.what();
  }
}

void FileCopies::check() {
  const std::lock_guard lock(mutex_);
  if (!failure_.empty()) throw Error(failure_);
}

}  // namespace ithaca::cuda
