// Token files, and the samples that training takes from them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "ithaca/executor.h"

namespace ithaca {

// A file mapped into memory, read only.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  const std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  // Gives back the memory that reading up to now has cost.
  void forget() const;

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

struct DataOptions {
  std::string tokens;
  int token_bytes = 4;        // 2: uint16, 4: uint32
  std::string documents;      // uint64 start of every document, ascending; "" where a sample is one document
  std::int64_t sequence_length = 0;
  std::int64_t vocab_size = 0;
};

// Sample n is tokens [n * sequence_length, (n + 1) * sequence_length). Tokens at the end that make no whole sample are
// left out; after the last sample the first one follows. Threads may share it.
class TokenData {
 public:
  // Throws Error for an empty file, a partial token, too few tokens for a sample, and documents that don't fit.
  explicit TokenData(const DataOptions& options);

  std::int64_t tokens() const { return tokens_; }
  std::int64_t samples() const { return samples_; }  // in one epoch
  std::int64_t documents() const { return starts_ ? starts_end_ - starts_ : 1; }

  // One row's part [begin, begin + count) of a sample. labels[t] is the next token of the same document, -100 at the
  // end of a document and of the sample. Positions restart, and segments count from 0, at documents that start inside the
  // sample. Beyond the end of the sample stands padding: token 0 without a label, in a document of its own. Throws
  // Error for a token outside the vocabulary, with its index.
  void fill(std::int64_t sample, std::int64_t begin, std::int64_t count, std::int32_t* input_ids,
            std::int32_t* labels, std::int32_t* position_ids, std::int32_t* segments) const;
  // Throws as fill() would for the first `count` samples from `first`, so that a bad token stops a run at its start.
  void check(std::int64_t first, std::int64_t count) const;
  // Throws Error unless each of `steps` steps of `per_step` samples, the first of which is `first`, has a labelled token:
  // the mean over none is no number. `step` is the number of the first step.
  void check_labels(std::int64_t step, std::int64_t first, std::int64_t steps, std::int64_t per_step) const;

 private:
  bool has_label(std::int64_t sample) const;
  std::int32_t token(std::int64_t index) const;

  DataOptions options_;
  MappedFile file_;
  MappedFile documents_;
  const std::uint64_t* starts_ = nullptr;
  const std::uint64_t* starts_end_ = nullptr;
  std::int64_t tokens_ = 0;
  std::int64_t samples_ = 0;
};

// Samples that one optimizer step takes: rows of the global batch times micro batches.
std::int64_t samples_per_step(const Executor& executor);
// Fills this rank's share of input_ids, labels, position_ids and segments, all micro batches. `first` is the run's
// count of samples before this step. Inputs that the program doesn't have are left out.
void fill_inputs(Executor& executor, const TokenData& data, std::int64_t first);

}  // namespace ithaca
