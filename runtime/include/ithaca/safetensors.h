// Hugging Face's safetensors files: an 8-byte header length, a JSON header, the tensors' bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ithaca/dtype.h"
#include "ithaca/file.h"

namespace ithaca {

struct StoredTensor {
  std::string name;
  std::string dtype;  // safetensors' word: "F32", "BF16", "F16", "I32" ...
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;  // offset in the file
  std::uint64_t bytes = 0;
};

// A file whose header was checked completely: every tensor lies inside the file, none overlap, nothing is left over,
// and sizes agree with shapes. Throws Error otherwise, naming the file, the tensor and the numbers.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  // Elements [first, first + count) of a floating-point tensor as f32. Throws Error for NaN and infinity, and for
  // dtypes other than F32, BF16 and F16.
  void read_f32(const StoredTensor& tensor, std::int64_t first, std::int64_t count, float* to) const;
  void read_i32(const StoredTensor& tensor, std::int64_t first, std::int64_t count, std::int32_t* to) const;

 private:
  File file_;
  std::vector<StoredTensor> tensors_;
};

// Several files taken as one set of tensors; a name in two of them is an Error.
class SafetensorsSet {
 public:
  explicit SafetensorsSet(const std::vector<std::string>& paths);

  struct Place {
    const SafetensorsFile* file;
    const StoredTensor* tensor;
  };
  // {nullptr, nullptr} where there is none.
  Place find(std::string_view name) const;
  std::vector<std::string> names() const;

 private:
  std::vector<SafetensorsFile> files_;
  std::unordered_map<std::string, Place> places_;
};

// Places tensors one after the other, setting `begin` and `bytes`, and returns what the file has before them: length
// and header, padded to 8 bytes. Tensors of wider elements come first, so that all are aligned.
std::string lay_out_safetensors(std::vector<StoredTensor>& tensors);

const char* safetensors_dtype(DType dtype);

}  // namespace ithaca
