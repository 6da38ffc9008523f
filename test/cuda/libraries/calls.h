// What the stand-ins for cuDNN and cuBLASLt have seen, for the test that is linked with them.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace ithaca::test {

struct LibraryCall {
  std::string name;  // "cublasLtMatmul" or "cudnnBackendExecute"
  const void* stream;
  void* workspace;
  std::size_t workspace_bytes;     // that the plan says it needs
  std::vector<const void*> reads;  // what is on the device, in order
  std::vector<const void*> writes;
};

// Every call so far that did work, and how many plans and choices of algorithms were made for them.
inline std::vector<LibraryCall> library_calls;
inline int library_plans = 0;

}  // namespace ithaca::test
