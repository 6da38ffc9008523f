// Token files: checks, samples, and the inputs that a rank makes of them.
#include "ithaca/data.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "ithaca/error.h"
#include "ithaca/file.h"

namespace ithaca {

MappedFile::MappedFile(const std::string& path) : path_(path) {
  if (path.empty()) return;
  const File file = File::open(path);
  bytes_ = file.size();
  if (bytes_ == 0) return;  // nothing to map
  void* data = mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, file.descriptor(), 0);
  if (data == MAP_FAILED) throw Error("can't map " + path + ": " + std::strerror(errno));
  data_ = static_cast<const std::byte*>(data);
}

MappedFile::~MappedFile() {
  if (data_) munmap(const_cast<std::byte*>(data_), bytes_);
}

void MappedFile::forget() const {
  if (data_) madvise(const_cast<std::byte*>(data_), bytes_, MADV_DONTNEED);
}

TokenData::TokenData(const DataOptions& options)
    : options_(options), file_(options.tokens), documents_(options.documents) {
  const std::string& path = options.tokens;
  const auto token_bytes = static_cast<std::size_t>(options.token_bytes);
  if (file_.bytes() == 0) throw Error(path + " is empty; it must hold at least one sample of " +
                                      std::to_string(options.sequence_length) + " tokens");
  if (file_.bytes() % token_bytes != 0) {
    throw Error(path + " has " + std::to_string(file_.bytes()) + " bytes, no multiple of the " +
                std::to_string(token_bytes) + " bytes of a uint" + std::to_string(8 * token_bytes) +
                " token; it is cut off, or its dtype is another one");
  }
  tokens_ = static_cast<std::int64_t>(file_.bytes() / token_bytes);
  samples_ = tokens_ / options.sequence_length;
  if (samples_ == 0) {
    throw Error(path + " has " + std::to_string(tokens_) + " tokens, a sample needs " +
                std::to_string(options.sequence_length) + "; add data or lower sequence_length");
  }
  if (options.documents.empty()) return;

  if (documents_.bytes() % sizeof(std::uint64_t) != 0) {
    throw Error(options.documents + " has " + std::to_string(documents_.bytes()) +
                " bytes, no multiple of the 8 bytes of a uint64 start");
  }
  starts_ = reinterpret_cast<const std::uint64_t*>(documents_.data());
  starts_end_ = starts_ + documents_.bytes() / sizeof(std::uint64_t);
  for (const std::uint64_t* start = starts_; start != starts_end_; ++start) {
    const std::string where = options.documents + ": document " + std::to_string(start - starts_) +
                              " starts at token " + std::to_string(*start);
    if (*start > static_cast<std::uint64_t>(tokens_)) {
      throw Error(where + ", " + path + " has " + std::to_string(tokens_) + "; the two files don't belong together");
    }
    if (start != starts_ && *start < start[-1]) {
      throw Error(where + ", the one before it at " + std::to_string(start[-1]) + "; starts must ascend");
    }
  }
}

std::int32_t TokenData::token(std::int64_t index) const {
  std::uint32_t id = 0;
  std::memcpy(&id, file_.data() + index * options_.token_bytes, options_.token_bytes);
  if (id >= static_cast<std::uint64_t>(options_.vocab_size)) {
    throw Error(options_.tokens + ": token " + std::to_string(index) + " is " + std::to_string(id) +
                ", the vocabulary has " + std::to_string(options_.vocab_size) +
                "; the file was made with another tokenizer, or its dtype is another one");
  }
  return static_cast<std::int32_t>(id);
}

void TokenData::fill(std::int64_t sample, std::int64_t begin, std::int64_t count, std::int32_t* input_ids,
                     std::int32_t* labels, std::int32_t* position_ids, std::int32_t* segments) const {
  const std::int64_t first = sample % samples_ * options_.sequence_length;
  const std::int64_t end = first + options_.sequence_length;
  // The next start after token t is *next; starts at the very beginning of the sample don't count as inside it.
  const std::uint64_t* next = std::upper_bound(starts_, starts_end_, static_cast<std::uint64_t>(first));
  std::int64_t document = first;
  std::int32_t segment = 0;
  const auto pass_starts = [&](std::int64_t t) {
    while (next != starts_end_ && static_cast<std::int64_t>(*next) <= t) {
      // A document without tokens starts where the next one does, and is no segment.
      if (static_cast<std::int64_t>(*next) > document) ++segment;
      document = static_cast<std::int64_t>(*next++);
    }
  };
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t t = first + begin + i;
    if (t >= end) {  // what fills up a sample so that it divides among ranks: a document of its own, without labels
      pass_starts(end - 1);
      input_ids[i] = 0;
      labels[i] = -100;
      position_ids[i] = static_cast<std::int32_t>(t - end);
      segments[i] = segment + 1;
      continue;
    }
    pass_starts(t);
    const bool document_ends = next != starts_end_ && static_cast<std::int64_t>(*next) == t + 1;
    input_ids[i] = token(t);
    labels[i] = t + 1 == end || document_ends ? -100 : token(t + 1);
    position_ids[i] = static_cast<std::int32_t>(t - document);
    segments[i] = segment;
  }
}

void TokenData::check(std::int64_t first, std::int64_t count) const {
  constexpr std::int64_t kForgetEvery = 1 << 24;  // tokens
  const std::int64_t length = options_.sequence_length;
  const std::int64_t whole = std::min(count, samples_);
  for (std::int64_t n = 0; n < whole; ++n) {
    const std::int64_t begin = (first + n) % samples_ * length;
    for (std::int64_t t = begin; t < begin + length; ++t) token(t);
    if (n % std::max<std::int64_t>(1, kForgetEvery / length) == 0) file_.forget();
  }
  file_.forget();
}

void TokenData::check_labels(std::int64_t step, std::int64_t first, std::int64_t steps, std::int64_t per_step) const {
  const std::int64_t length = options_.sequence_length;
  // Behind the last sample the first one follows, so the steps repeat themselves.
  for (std::int64_t i = 0; i < std::min(steps, samples_); ++i) {
    const std::int64_t begin = first + i * per_step;
    std::int64_t n = 0;
    while (n < per_step && !has_label(begin + n)) ++n;
    if (n < per_step) continue;
    const std::int64_t from = begin % samples_;
    const std::string which = per_step == 1 ? "sample " + std::to_string(from) + " has"
                                            : std::to_string(per_step) + " samples from sample " +
                                                  std::to_string(from) + " have";
    throw Error("step " + std::to_string(step + i) + " has nothing to learn from: " + which +
                " no labelled token. From token " + std::to_string(from * length) + " of " + options_.tokens +
                " every document is one token long (" + options_.documents +
                "), and a label is the next token of the same document; join documents, or take more samples a step: "
                "micro_batch_size, gradient_accumulation_steps");
  }
}

// Whether any token of the sample has a next one in its document.
bool TokenData::has_label(std::int64_t sample) const {
  const auto begin = static_cast<std::uint64_t>(sample % samples_ * options_.sequence_length);
  const std::uint64_t end = begin + static_cast<std::uint64_t>(options_.sequence_length);
  std::uint64_t document = begin;
  for (const std::uint64_t* next = std::upper_bound(starts_, starts_end_, begin); next != starts_end_ && *next < end;
       ++next) {
    if (*next > document + 1) return true;
    document = *next;
  }
  return end > document + 1;
}

std::int64_t samples_per_step(const Executor& executor) {
  const TensorSpec& input_ids = executor.tensor("input_ids");
  return input_ids.dims[0] * input_ids.times;
}

void fill_inputs(Executor& executor, const TokenData& data, std::int64_t first) {
  const TensorSpec& input_ids = executor.tensor("input_ids");
  const Share share = executor.share(input_ids);
  const std::int64_t rows = share.size[0];
  const std::int64_t columns = share.size[1];
  const std::int64_t elements = rows * columns * input_ids.times;
  std::vector<std::int32_t> unused;
  const auto rows_of = [&](const char* name) {
    const TensorSpec* tensor = executor.find(name);
    if (!tensor) {
      unused.resize(elements);
      return unused.data();
    }
    if (tensor->dtype != DType::i32 || executor.share(*tensor).size != share.size || tensor->times != input_ids.times) {
      throw Error(std::string("input \"") + name + "\" isn't laid out as input_ids is; compile the program again");
    }
    return reinterpret_cast<std::int32_t*>(executor.data(*tensor));
  };
  std::int32_t* to[] = {rows_of("input_ids"), rows_of("labels"), rows_of("position_ids"), rows_of("segments")};
  for (std::int64_t micro = 0; micro < input_ids.times; ++micro) {
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::int64_t at = (micro * rows + row) * columns;
      const std::int64_t sample = first + micro * share.dims[0] + share.begin[0] + row;
      data.fill(sample, share.begin[1], columns, to[0] + at, to[1] + at, to[2] + at, to[3] + at);
    }
  }
}

}  // namespace ithaca
