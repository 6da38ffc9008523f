// Reading and laying out safetensors files; nothing in a file is believed before it is checked.
#include "ithaca/safetensors.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "ithaca/error.h"
#include "ithaca/layout.h"

namespace ithaca {

namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr std::uint64_t kGitLfsStart = 0x206e6f6973726576;  // "version "
constexpr std::int64_t kChunk = 65536;                  // elements converted at a time

const std::map<std::string, std::uint64_t>& stored_bytes() {
  static const std::map<std::string, std::uint64_t> table = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"I16", 2}, {"U16", 2}, {"F16", 2},
      {"BF16", 2}, {"I32", 4}, {"U32", 4}, {"F32", 4},     {"F64", 8},     {"I64", 8}, {"U64", 8}};
  return table;
}

// The header as JSON. nlohmann would let the last of two equal names win, so they are looked for while parsing.
json parse_header(const std::string& path, const std::string& text) {
  std::set<std::string> names;
  std::string duplicate;
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::key && depth == 1 && !names.insert(parsed.get<std::string>()).second) {
      duplicate = parsed.get<std::string>();
    }
    return true;
  };
  json header;
  try {
    header = json::parse(text, watch);
  } catch (const json::exception& error) {
    throw Error(path + ": the header is no valid JSON: " + error.what());
  }
  if (!duplicate.empty()) throw Error(path + ": tensor \"" + duplicate + "\" is there twice");
  if (!header.is_object()) throw Error(path + ": the header is no JSON object");
  return header;
}

std::uint64_t natural(const json& value, const std::string& where) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > (1ull << 62)) {
    throw Error(where + " has " + value.dump() + " where a size is expected");
  }
  return value.get<std::uint64_t>();
}

// `data_bytes`: what follows the header. `begin` is relative to it.
StoredTensor parse_tensor(const std::string& where, const std::string& name, const json& value,
                          std::uint64_t data_bytes) {
  if (!value.is_object() || !value.contains("dtype") || !value["dtype"].is_string() || !value.contains("shape") ||
      !value["shape"].is_array() || !value.contains("data_offsets") || !value["data_offsets"].is_array() ||
      value["data_offsets"].size() != 2) {
    throw Error(where + " needs a dtype, a shape and two data_offsets");
  }
  StoredTensor tensor{name, value["dtype"].get<std::string>(), {}, 0, 0};
  const auto known = stored_bytes().find(tensor.dtype);
  if (known == stored_bytes().end()) throw Error(where + " has the unknown dtype \"" + tensor.dtype + "\"");
  std::uint64_t bytes = known->second;
  for (const json& size : value["shape"]) {
    const std::uint64_t n = natural(size, where);
    if (__builtin_mul_overflow(bytes, n, &bytes)) throw Error(where + ": its shape is too large to be true");
    tensor.shape.push_back(static_cast<std::int64_t>(n));
  }
  tensor.begin = natural(value["data_offsets"][0], where);
  const std::uint64_t end = natural(value["data_offsets"][1], where);
  if (tensor.begin > end || end > data_bytes) {
    throw Error(where + " is said to be at bytes " + std::to_string(tensor.begin) + " to " + std::to_string(end) +
                ", the file has " + std::to_string(data_bytes) + " bytes of data; it is truncated or damaged");
  }
  tensor.bytes = end - tensor.begin;
  if (tensor.bytes != bytes) {
    throw Error(where + " has " + std::to_string(tensor.bytes) + " bytes, " + tensor.dtype + " of shape " +
                shape_text(tensor.shape) + " needs " + std::to_string(bytes));
  }
  return tensor;
}

float f16_to_float(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1f;
  const std::uint32_t mantissa = half & 0x3ff;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  const std::uint32_t wide = exponent == 31 ? 0xff : exponent + 112;
  return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
}

// "[3, 17]": which element of a tensor a flat index is.
std::string place_text(const std::vector<std::int64_t>& shape, std::int64_t index) {
  std::vector<std::int64_t> place(shape.size());
  for (std::size_t d = shape.size(); d-- > 0;) {
    place[d] = index % shape[d];
    index /= shape[d];
  }
  return shape_text(place);
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(File::open(path)) {
  const std::uint64_t file_bytes = file_.size();
  if (file_bytes < 8) {
    throw Error(path + " has " + std::to_string(file_bytes) + " bytes, a safetensors file has at least 8; it is truncated");
  }
  std::uint64_t header_bytes = 0;
  file_.read_at(0, &header_bytes, 8);
  if (header_bytes == kGitLfsStart) {
    throw Error(path + " is a git-lfs pointer, not the weights; `git lfs pull` fetches them");
  }
  if (header_bytes == 0 || header_bytes > kMaxHeaderBytes || header_bytes > file_bytes - 8) {
    throw Error(path + ": the header is said to have " + std::to_string(header_bytes) + " bytes, the file has " +
                std::to_string(file_bytes) + "; it is truncated, damaged or no safetensors file");
  }
  std::string text(header_bytes, '\0');
  file_.read_at(8, text.data(), text.size());
  const json header = parse_header(path, text);
  const std::uint64_t data_bytes = file_bytes - 8 - header_bytes;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") continue;
    tensors_.push_back(parse_tensor(path + ": tensor \"" + name + "\"", name, value, data_bytes));
  }

  std::sort(tensors_.begin(), tensors_.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.bytes < b.bytes;
  });
  std::uint64_t expected = 0;
  for (StoredTensor& tensor : tensors_) {
    if (tensor.begin != expected) {
      throw Error(path + ": tensor \"" + tensor.name + "\" starts at byte " + std::to_string(tensor.begin) +
                  " of the data, the one before ends at " + std::to_string(expected) + "; they " +
                  (tensor.begin < expected ? "overlap" : "leave a gap") + ", so the file is damaged");
    }
    expected += tensor.bytes;
    tensor.begin += 8 + header_bytes;
  }
  if (expected != data_bytes) {
    throw Error(path + ": its tensors end at byte " + std::to_string(expected) + " of the data, the file has " +
                std::to_string(data_bytes) + "; the rest belongs to no tensor");
  }
}

void SafetensorsFile::read_f32(const StoredTensor& tensor, std::int64_t first, std::int64_t count, float* to) const {
  const bool wide = tensor.dtype == "F32";
  if (!wide && tensor.dtype != "BF16" && tensor.dtype != "F16") {
    throw Error(path() + ": tensor \"" + tensor.name + "\" is " + tensor.dtype +
                "; weights must be F32, BF16 or F16");
  }
  std::vector<std::uint16_t> narrow(wide ? 0 : std::min(count, kChunk));
  for (std::int64_t at = 0; at < count; at += kChunk) {
    const std::int64_t n = std::min(kChunk, count - at);
    if (wide) {
      file_.read_at(tensor.begin + 4 * (first + at), to + at, 4 * n);
    } else {
      file_.read_at(tensor.begin + 2 * (first + at), narrow.data(), 2 * n);
      const bool brain = tensor.dtype == "BF16";
      for (std::int64_t i = 0; i < n; ++i) {
        const std::uint32_t upper = static_cast<std::uint32_t>(narrow[i]) << 16;
        to[at + i] = brain ? std::bit_cast<float>(upper) : f16_to_float(narrow[i]);
      }
    }
    for (std::int64_t i = at; i < at + n; ++i) {
      if (std::isfinite(to[i])) continue;
      throw Error(path() + ": tensor \"" + tensor.name + "\" has " + (std::isnan(to[i]) ? "NaN" : "an infinity") +
                  " at element " + place_text(tensor.shape, first + i) + "; training can't start from it");
    }
  }
}

void SafetensorsFile::read_i32(const StoredTensor& tensor, std::int64_t first, std::int64_t count,
                               std::int32_t* to) const {
  if (tensor.dtype != "I32") {
    throw Error(path() + ": tensor \"" + tensor.name + "\" is " + tensor.dtype + " where I32 is needed");
  }
  file_.read_at(tensor.begin + 4 * first, to, 4 * count);
}

SafetensorsSet::SafetensorsSet(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) files_.emplace_back(path);
  for (const SafetensorsFile& file : files_) {
    for (const StoredTensor& tensor : file.tensors()) {
      const auto [place, fresh] = places_.try_emplace(tensor.name, Place{&file, &tensor});
      if (fresh) continue;
      throw Error("tensor \"" + tensor.name + "\" is both in " + place->second.file->path() + " and in " +
                  file.path());
    }
  }
}

SafetensorsSet::Place SafetensorsSet::find(std::string_view name) const {
  const auto found = places_.find(std::string(name));
  return found == places_.end() ? Place{nullptr, nullptr} : found->second;
}

std::vector<std::string> SafetensorsSet::names() const {
  std::vector<std::string> all;
  for (const auto& [name, place] : places_) all.push_back(name);
  std::sort(all.begin(), all.end());
  return all;
}

std::string lay_out_safetensors(std::vector<StoredTensor>& tensors) {
  std::stable_sort(tensors.begin(), tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return stored_bytes().at(a.dtype) > stored_bytes().at(b.dtype);
  });
  nlohmann::ordered_json header;
  header["__metadata__"] = {{"format", "pt"}};
  std::uint64_t begin = 0;
  for (StoredTensor& tensor : tensors) {
    tensor.bytes = stored_bytes().at(tensor.dtype);
    for (std::int64_t n : tensor.shape) tensor.bytes *= n;
    tensor.begin = begin;
    begin += tensor.bytes;
    header[tensor.name] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {tensor.begin, begin}}};
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  const std::uint64_t header_bytes = text.size();
  for (StoredTensor& tensor : tensors) tensor.begin += 8 + header_bytes;
  std::string start(8, '\0');
  std::memcpy(start.data(), &header_bytes, 8);
  return start + text;
}

const char* safetensors_dtype(DType dtype) {
  if (dtype == DType::f32) return "F32";
  return dtype == DType::bf16 ? "BF16" : "I32";
}

}  // namespace ithaca
