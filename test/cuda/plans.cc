// Plans attentions and their gradients for a device that is described in JSON, without a GPU.
//
// plans DEVICE.json SHAPE..., a SHAPE being batch,queries,keys,heads,key_heads,head_dim,causal,window,packed. Prints a line of
// JSON for each: what cuDNN needs and what is reserved for it, and the whole workspace, in bytes, or the error.
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

#include "cuda/attention_cudnn.h"
#include "cuda/attention_graphs.h"
#include "ithaca/error.h"

namespace {

using namespace ithaca::cuda;

using Numbers = std::array<std::int64_t, 9>;

Numbers parse(const char* text) {
  Numbers n{};
  std::istringstream stream(text);
  for (std::int64_t& number : n) {
    stream >> number;
    stream.get();
  }
  return n;
}

AttentionShape shape_of(const Numbers& n) {
  return {n[0], n[1], n[2], n[3], n[4], n[5], n[6] != 0, n[7], 1.0f / std::sqrt(static_cast<float>(n[5])), 0.0f};
}

// Without a limit: what cuDNN wants is compared, not cut off.
void print(const AttentionShape& s, bool packed, const dnn::Target& target) {
  const std::size_t forward = attention_graph(s, packed, target, SIZE_MAX).plan.workspace_bytes();
  const AttentionShape part = attention_grad_part(s);
  const std::size_t backward = attention_grad_graph(part, s, packed, target, SIZE_MAX).plan.workspace_bytes();
  std::printf("{\"forward\": [%zu, %zu, %zu], \"backward\": [%zu, %zu, %zu]}\n", forward, attention_library_bytes(s),
              attention_workspace_bytes(s), backward, attention_grad_library_bytes(part),
              attention_grad_workspace_bytes(s));
}

}  // namespace

int main(int count, char** arguments) {
  try {
    if (count < 2) ithaca::fail("plans takes a device and shapes");
    std::ifstream file(arguments[1]);
    const std::string json{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    const dnn::Target target{std::string_view(json)};
    for (int i = 2; i < count; ++i) {
      const Numbers numbers = parse(arguments[i]);
      const AttentionShape s = shape_of(numbers);
      const bool packed = numbers[8] != 0;
      if (!cudnn_attention_supported(s, packed)) ithaca::fail("this shape is for our own kernels");
      print(s, packed, target);
    }
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
    return 1;
  }
  return 0;
}
