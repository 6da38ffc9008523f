// Takes the place of cuDNN's backend: descriptors are kept as they are set; executing a plan evaluates its graph, step
// by step, on memory of this machine (graph_evaluation.cc).
#include <cudnn_graph.h>

#include <cstring>
#include <vector>

#include "calls.h"
#include "graph_evaluation.h"

namespace {

using ithaca::test::Attributes;

constexpr std::int64_t kUsed = 256;  // of the workspace

struct Handle {
  cudaStream_t stream = nullptr;
};

Attributes* of(cudnnBackendDescriptor_t descriptor) { return static_cast<Attributes*>(descriptor); }

}  // namespace

extern "C" {

std::size_t cudnnGetVersion() { return 91900; }
const char* cudnnGetErrorString(cudnnStatus_t) { return "as the stand-in says"; }
void cudnnGetLastErrorString(char* text, std::size_t) { text[0] = '\0'; }

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  *handle = reinterpret_cast<cudnnHandle_t>(new Handle);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  delete reinterpret_cast<Handle*>(handle);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  reinterpret_cast<Handle*>(handle)->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t* descriptor) {
  *descriptor = new Attributes{type, false, {}};
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  delete of(descriptor);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, std::int64_t count, const void* values) {
  if (of(descriptor)->finalized) return CUDNN_STATUS_NOT_INITIALIZED;
  of(descriptor)->set(name, type, count, values);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  of(descriptor)->finalized = true;
  ithaca::test::library_plans += of(descriptor)->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t, std::int64_t requested, std::int64_t* count,
                                       void* values) {
  *count = 1;
  if (!of(descriptor)->finalized || requested < 1) return CUDNN_STATUS_BAD_PARAM;
  if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) {
    std::memcpy(values, &kUsed, sizeof kUsed);
    return CUDNN_STATUS_SUCCESS;
  }
  if (name != CUDNN_ATTR_ENGINEHEUR_RESULTS) return CUDNN_STATUS_NOT_SUPPORTED;
  // One engine, which keeps the graph.
  Attributes* config = of(*static_cast<cudnnBackendDescriptor_t*>(values));
  Attributes* graph = of(descriptor)->descriptor(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
  config->set(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &graph);
  config->finalized = true;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack) {
  if (!of(plan)->finalized || !of(pack)->finalized) return CUDNN_STATUS_NOT_INITIALIZED;
  if (of(plan)->value<cudnnHandle_t>(CUDNN_ATTR_EXECUTION_PLAN_HANDLE) != handle) return CUDNN_STATUS_BAD_PARAM;
  Attributes* graph = of(plan)
                          ->descriptor(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)
                          ->descriptor(CUDNN_ATTR_ENGINECFG_ENGINE);
  ithaca::test::LibraryCall call{"cudnnBackendExecute", reinterpret_cast<Handle*>(handle)->stream, nullptr, kUsed, {}, {}};
  call.workspace = of(pack)->value<void*>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
  std::memset(call.workspace, 0xff, kUsed);
  if (!ithaca::test::evaluate(*graph, *of(pack), call)) return CUDNN_STATUS_BAD_PARAM;
  ithaca::test::library_calls.push_back(call);
  return CUDNN_STATUS_SUCCESS;
}

}  // extern "C"
