// Safetensors files: round trips, dtypes, and files that are cut off, damaged or lie.
#include "ithaca/safetensors.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

#include "check.h"
#include "ithaca/error.h"
#include "ithaca/random.h"

using namespace ithaca;

namespace {

std::string file_of(const check::TemporaryDirectory& directory, const std::string& header, const std::string& data) {
  static int number = 0;
  const std::string path = directory / ("f" + std::to_string(number++) + ".safetensors");
  const std::uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  std::ofstream(path, std::ios::binary) << bytes << header << data;
  return path;
}

template <typename T>
std::string bytes_of(std::initializer_list<T> values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  std::memcpy(bytes.data(), values.begin(), bytes.size());
  return bytes;
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape, const std::string& at) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + at + "}";
}

void dtypes(const check::TemporaryDirectory& directory) {
  const std::string header = "{\"__metadata__\":{\"format\":\"pt\"}," + entry("f", "F32", "[2]", "[0,8]") + "," +
                             entry("b", "BF16", "[2]", "[8,12]") + "," + entry("h", "F16", "[5]", "[12,22]") + "," +
                             entry("none", "F32", "[0,4]", "[22,22]") + "}   ";
  const SafetensorsFile file(file_of(directory, header,
                                     bytes_of<float>({1.5f, -2.25f}) + bytes_of<std::uint16_t>({0x3f80, 0xc000}) +
                                         bytes_of<std::uint16_t>({0x3c00, 0xc000, 0x0001, 0x8400, 0x7bff})));
  CHECK(file.tensors().size() == 4);
  float values[5];
  for (const StoredTensor& tensor : file.tensors()) {
    if (tensor.name == "f") {
      file.read_f32(tensor, 0, 2, values);
      CHECK(values[0] == 1.5f && values[1] == -2.25f);
      file.read_f32(tensor, 1, 1, values);
      CHECK(values[0] == -2.25f);
    }
    if (tensor.name == "b") {
      file.read_f32(tensor, 0, 2, values);
      CHECK(values[0] == 1.0f && values[1] == -2.0f);
    }
    if (tensor.name == "h") {
      file.read_f32(tensor, 0, 5, values);
      CHECK(values[0] == 1.0f && values[1] == -2.0f && values[2] == 0x1p-24f && values[3] == -0x1p-14f);
      CHECK(values[4] == 65504.0f);
    }
    if (tensor.name == "none") CHECK(tensor.bytes == 0);
  }
}

void not_finite(const check::TemporaryDirectory& directory) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::string header = "{" + entry("w", "F32", "[2,3]", "[0,24]") + "}";
  const SafetensorsFile file(file_of(directory, header, bytes_of<float>({0, 1, 2, 3, nan, 5})));
  float values[6];
  CHECK_THROWS(file.read_f32(file.tensors()[0], 0, 6, values), "tensor \"w\" has NaN at element [1, 1]");
  CHECK_THROWS(file.read_f32(file.tensors()[0], 4, 1, values), "element [1, 1]");
  const SafetensorsFile half(
      file_of(directory, "{" + entry("w", "F16", "[1]", "[0,2]") + "}", bytes_of<std::uint16_t>({0xfc00})));
  CHECK_THROWS(half.read_f32(half.tensors()[0], 0, 1, values), "has an infinity at element [0]");
  const SafetensorsFile whole(
      file_of(directory, "{" + entry("w", "I64", "[1]", "[0,8]") + "}", bytes_of<std::int64_t>({1})));
  CHECK_THROWS(whole.read_f32(whole.tensors()[0], 0, 1, values), "is I64; weights must be F32, BF16 or F16");
}

void lies(const check::TemporaryDirectory& directory) {
  const auto open = [&](const std::string& header, std::size_t data) {
    SafetensorsFile file(file_of(directory, header, std::string(data, '\1')));
  };
  const std::string x = entry("x", "F32", "[2]", "[0,8]");
  open("{" + x + "}", 8);
  CHECK_THROWS(open("{" + x + "}", 7), "the file has 7 bytes of data; it is truncated");
  CHECK_THROWS(open("{" + x + "}", 9), "the rest belongs to no tensor");
  CHECK_THROWS(open("", 0), "said to have 0 bytes");
  CHECK_THROWS(open("{" + x, 8), "no valid JSON");
  CHECK_THROWS(open("[1]", 0), "no JSON object");
  CHECK_THROWS(open("{" + x + "," + x + "}", 8), "\"x\" is there twice");
  CHECK_THROWS(open("{" + x + "," + entry("y", "F32", "[1]", "[4,8]") + "}", 8), "overlap");
  CHECK_THROWS(open("{" + x + "," + entry("y", "F32", "[1]", "[12,16]") + "}", 16), "leave a gap");
  CHECK_THROWS(open("{" + entry("x", "F32", "[3]", "[0,8]") + "}", 8), "has 8 bytes, F32 of shape [3] needs 12");
  CHECK_THROWS(open("{" + entry("x", "F32", "[2]", "[8,0]") + "}", 8), "bytes 8 to 0");
  CHECK_THROWS(open("{" + entry("x", "F32", "[2]", "[0,8,9]") + "}", 8), "two data_offsets");
  CHECK_THROWS(open("{" + entry("x", "F32", "[-2]", "[0,8]") + "}", 8), "-2 where a size is expected");
  CHECK_THROWS(open("{" + entry("x", "F32", "[2.0]", "[0,8]") + "}", 8), "2.0 where a size is expected");
  CHECK_THROWS(open("{" + entry("x", "F99", "[2]", "[0,8]") + "}", 8), "unknown dtype \"F99\"");
  CHECK_THROWS(open("{" + entry("x", "F32", "[4294967296,4294967296]", "[0,0]") + "}", 0), "too large to be true");
  CHECK_THROWS(open("{" + entry("x", "F32", "[2]", "[18446744073709551608,18446744073709551615]") + "}", 8),
               "a size is");
  CHECK_THROWS(open("{\"x\":3}", 8), "needs a dtype, a shape");
  CHECK_THROWS(open("{\"x\":{\"dtype\":1,\"shape\":[],\"data_offsets\":[0,4]}}", 4), "needs a dtype, a shape");
  CHECK_THROWS(open(std::string(200'000, '['), 8), "no valid JSON");
  CHECK_THROWS(open("{\"\xff\xfe\":{}}", 0), "no valid JSON");

  std::ofstream(directory / "tiny", std::ios::binary) << "abc";
  CHECK_THROWS(SafetensorsFile(directory / "tiny"), "has 3 bytes");
  std::ofstream(directory / "huge", std::ios::binary) << std::string(8, '\x7f') << "{}";
  CHECK_THROWS(SafetensorsFile(directory / "huge"), "said to have 9187201950435737471 bytes");
  CHECK_THROWS(SafetensorsFile(directory / "nothing"), "No such file");
  CHECK_THROWS(SafetensorsFile(directory.path.string()), "Is a directory");
}

// Any damage to a good file either leaves it readable or is an Error; it never crashes.
void random_damage(const check::TemporaryDirectory& directory) {
  const std::string header = "{" + entry("a", "F32", "[2,2]", "[0,16]") + "," + entry("b", "BF16", "[3]", "[16,22]") +
                             "," + entry("c", "F16", "[1]", "[22,24]") + "}";
  const std::string path = file_of(directory, header, std::string(24, '\1'));
  const std::string good = read_text(path);
  int refused = 0;
  for (std::uint32_t trial = 0; trial < 3000; ++trial) {
    const auto random = philox({trial, 0, 0, 0}, {1, 2});
    std::string bad = good;
    if (random[0] % 4 == 0) bad.resize(random[1] % bad.size());
    for (std::uint32_t i = 0; i <= random[0] % 3 && !bad.empty(); ++i) {
      bad[(random[2] >> i) % bad.size()] = static_cast<char>(random[3] >> (8 * i));
    }
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bad;
    try {
      const SafetensorsFile file(path);
      for (const StoredTensor& tensor : file.tensors()) {
        float values[64];
        std::int64_t count = 1;
        for (std::int64_t n : tensor.shape) count *= n;
        if (count <= 64) file.read_f32(tensor, 0, count, values);
      }
    } catch (const Error&) {
      ++refused;
    }
  }
  CHECK(refused > 1500);
}

void layouts() {
  std::vector<StoredTensor> tensors = {{"half", "BF16", {3}, 0, 0}, {"full", "F32", {2, 2}, 0, 0}};
  const std::string start = lay_out_safetensors(tensors);
  CHECK(start.size() % 8 == 0 && tensors[0].name == "full" && tensors[0].begin == start.size());
  CHECK(tensors[1].begin == start.size() + 16 && tensors[1].bytes == 6);
}

}  // namespace

int main() {
  const check::TemporaryDirectory directory;
  dtypes(directory);
  not_finite(directory);
  lies(directory);
  random_damage(directory);
  layouts();
  return check::result("safetensors_test");
}
