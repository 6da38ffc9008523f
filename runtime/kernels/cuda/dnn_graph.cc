// cuDNN's backend graphs as values.
#include "dnn_graph.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "ithaca/error.h"

namespace ithaca::cuda::dnn {
namespace {

void* pointer_of(Scalar& scalar) {
  return std::visit([](auto& value) -> void* { return &value; }, scalar);
}

std::string message_of(cudnnStatus_t status) {
  std::array<char, 512> text{};
  cudnnGetLastErrorString(text.data(), text.size());
  std::string message = cudnnGetErrorString(status);
  if (text[0] != '\0') message.append(": ").append(text.data());
  return message;
}

}  // namespace

void check(cudnnStatus_t status, const char* call, std::string_view subject) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  const std::size_t version = cudnnGetVersion();
  fail(subject, ": cuDNN's ", call, " failed: ", message_of(status), " (version ", version / 10000, ".",
       version / 100 % 100, ".", version % 100, ")");
}

Descriptor::Descriptor(cudnnBackendDescriptorType_t type) {
  check(cudnnBackendCreateDescriptor(type, &raw_), "cudnnBackendCreateDescriptor", "descriptor");
}

Descriptor::~Descriptor() {
  if (raw_ != nullptr) cudnnBackendDestroyDescriptor(raw_);
}

void Descriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count,
                     const void* values) {
  const cudnnStatus_t status = cudnnBackendSetAttribute(raw_, name, type, count, values);
  if (status == CUDNN_STATUS_SUCCESS) return;
  check(status, "cudnnBackendSetAttribute", "attribute " + std::to_string(static_cast<int>(name)));
}

cudnnStatus_t Descriptor::try_finalize() { return cudnnBackendFinalize(raw_); }

void Descriptor::finalize(std::string_view subject) { check(try_finalize(), "cudnnBackendFinalize", subject); }

Target::Target(std::string_view device_json) : device_(std::in_place, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR) {
  device_->set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
               static_cast<std::int64_t>(device_json.size()), device_json.data());
  device_->finalize("device properties");
}

void Target::set_handle(Descriptor& of, cudnnBackendAttributeName_t name) const {
  if (handle_ != nullptr) of.set(name, CUDNN_TYPE_HANDLE, handle_);
}

void Target::set_device(Descriptor& of, cudnnBackendAttributeName_t name) const {
  if (device_) of.set(name, *device_);
}

void Plan::run(cudnnHandle_t handle, std::span<const Binding> bindings, void* workspace) {
  std::vector<std::int64_t> ids;
  std::vector<void*> data;
  for (const Binding& binding : bindings) {
    ids.push_back(binding.tensor.id);
    data.push_back(binding.data);
  }
  for (auto& [id, scalar] : scalars_) {
    ids.push_back(id);
    data.push_back(pointer_of(scalar));
  }
  const auto count = static_cast<std::int64_t>(ids.size());
  Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, data.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace);
  pack.finalize(subject_);
  check(cudnnBackendExecute(handle, kept_.back().get(), pack.get()), "cudnnBackendExecute", subject_);
}

Sizes packed(const Sizes& sizes) {
  return {sizes[1] * sizes[2] * sizes[3], sizes[2] * sizes[3], sizes[3], 1};
}

Tensor Graph::add(const Sizes& sizes, const Sizes& strides, cudnnDataType_t type, bool is_virtual, bool by_value,
                  std::optional<Tensor> offsets) {
  const auto id = static_cast<std::int64_t>(tensors_.size()) + 1;
  Descriptor tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  tensor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, id);
  tensor.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, type);
  tensor.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, sizes.data());
  tensor.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides.data());
  tensor.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, std::int64_t{16});
  tensor.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, is_virtual);
  tensor.set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, by_value);
  if (offsets) tensor.set(CUDNN_ATTR_TENSOR_RAGGED_OFFSET_DESC, of(*offsets));
  tensor.finalize(subject_ + ": tensor " + std::to_string(id));
  tensors_.push_back(std::move(tensor));
  return {id};
}

Tensor Graph::tensor(const Sizes& sizes, const Sizes& strides, cudnnDataType_t type, std::optional<Tensor> offsets) {
  return add(sizes, strides, type, false, false, offsets);
}

Tensor Graph::intermediate(const Sizes& sizes, cudnnDataType_t type, std::optional<Sizes> strides,
                           std::optional<Tensor> offsets) {
  return add(sizes, strides ? *strides : packed(sizes), type, true, false, offsets);
}

Tensor Graph::scalar(Scalar value) {
  const bool is_float = std::holds_alternative<float>(value);
  const Tensor tensor =
      add({1, 1, 1, 1}, {1, 1, 1, 1}, is_float ? CUDNN_DATA_FLOAT : CUDNN_DATA_INT32, false, true, std::nullopt);
  scalars_.emplace_back(tensor.id, value);
  return tensor;
}

void Graph::operation(Descriptor descriptor, std::string_view kind) {
  descriptor.finalize(subject_ + ": " + std::string(kind));
  operations_.push_back(std::move(descriptor));
}

void Graph::operation(Descriptor descriptor, Descriptor mode, std::string_view kind) {
  modes_.push_back(std::move(mode));
  operation(std::move(descriptor), kind);
}

void Graph::matmul(Tensor a, Tensor b, Tensor out) { matmul(a, b, out, Lengths{}); }

void Graph::matmul(Tensor a, Tensor b, Tensor out, const Lengths& lengths) {
  Descriptor mode(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  mode.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  if (lengths.m || lengths.n || lengths.k)
    mode.set(CUDNN_ATTR_MATMUL_PADDING_VALUE, CUDNN_TYPE_DOUBLE, 0.0);
  mode.finalize(subject_ + ": product");
  Descriptor product(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
  product.set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, of(a));
  product.set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, of(b));
  product.set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, of(out));
  product.set(CUDNN_ATTR_OPERATION_MATMUL_DESC, mode);
  if (lengths.m) product.set(CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, of(*lengths.m));
  if (lengths.n) product.set(CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC, of(*lengths.n));
  if (lengths.k) product.set(CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC, of(*lengths.k));
  operation(std::move(product), std::move(mode), "product");
}

Descriptor Graph::pointwise_mode(cudnnPointwiseMode_t mode, cudnnDataType_t compute) const {
  Descriptor descriptor(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  descriptor.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode);
  descriptor.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, compute);
  return descriptor;
}

void Graph::pointwise(cudnnPointwiseMode_t mode, Tensor x, std::optional<Tensor> y, Tensor out,
                      cudnnDataType_t compute) {
  Descriptor kind = pointwise_mode(mode, compute);
  kind.finalize(subject_ + ": pointwise");
  Descriptor node(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  node.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, kind);
  node.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, of(x));
  if (y) node.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, of(*y));
  node.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, of(out));
  operation(std::move(node), std::move(kind), "pointwise " + std::to_string(static_cast<int>(mode)));
}

void Graph::select(Tensor x, Tensor otherwise, Tensor mask, Tensor out) {
  Descriptor kind = pointwise_mode(CUDNN_POINTWISE_BINARY_SELECT, CUDNN_DATA_FLOAT);
  kind.finalize(subject_ + ": select");
  Descriptor node(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  node.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, kind);
  node.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, of(x));
  node.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, of(otherwise));
  node.set(CUDNN_ATTR_OPERATION_POINTWISE_TDESC, of(mask));
  node.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, of(out));
  operation(std::move(node), std::move(kind), "select");
}

void Graph::index(Tensor like, std::int64_t axis, Tensor out) {
  Descriptor kind = pointwise_mode(CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_FLOAT);
  kind.set(CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, axis);
  kind.finalize(subject_ + ": index");
  Descriptor node(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  node.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, kind);
  node.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, of(like));
  node.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, of(out));
  operation(std::move(node), std::move(kind), "index");
}

void Graph::reduce(cudnnReduceTensorOp_t mode, Tensor x, Tensor out) {
  Descriptor kind(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  kind.set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, mode);
  kind.set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  kind.finalize(subject_ + ": reduction");
  Descriptor node(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
  node.set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, kind);
  node.set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, of(x));
  node.set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, of(out));
  operation(std::move(node), std::move(kind), "reduction");
}

void Graph::reshape(Tensor x, Tensor out) {
  Descriptor node(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
  node.set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, of(x));
  node.set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, of(out));
  operation(std::move(node), "reshape");
}

Plan Graph::plan(const Target& target, std::size_t workspace_limit) && {
  Descriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  std::vector<cudnnBackendDescriptor_t> raw;
  for (const Descriptor& operation : operations_) raw.push_back(operation.get());
  target.set_handle(graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<std::int64_t>(raw.size()),
            raw.data());
  graph.finalize(subject_);

  Descriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, CUDNN_HEUR_MODE_A);
  target.set_device(heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP);
  heuristics.finalize(subject_);
  std::vector<Descriptor> configs;
  std::vector<cudnnBackendDescriptor_t> raw_configs;
  for (int i = 0; i < 8; ++i) raw_configs.push_back(configs.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR).get());
  std::int64_t count = 0;
  check(cudnnBackendGetAttribute(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                 static_cast<std::int64_t>(raw_configs.size()), &count, raw_configs.data()),
        "cudnnBackendGetAttribute", subject_);

  std::string why = "it proposes no kernel";
  for (std::int64_t i = 0; i < count; ++i) {
    Descriptor executable(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    target.set_handle(executable, CUDNN_ATTR_EXECUTION_PLAN_HANDLE);
    target.set_device(executable, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
    executable.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configs[static_cast<std::size_t>(i)]);
    if (const cudnnStatus_t status = executable.try_finalize(); status != CUDNN_STATUS_SUCCESS) {
      why = message_of(status);
      continue;
    }
    std::int64_t bytes = 0, one = 0;
    check(cudnnBackendGetAttribute(executable.get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                                   &one, &bytes),
          "cudnnBackendGetAttribute", subject_);
    if (static_cast<std::size_t>(bytes) > workspace_limit) {
      why = "it wants a workspace of " + std::to_string(bytes) + " bytes, " + std::to_string(workspace_limit) +
            " were planned";
      continue;
    }
    Plan plan(subject_);
    plan.workspace_bytes_ = static_cast<std::size_t>(bytes);
    plan.scalars_ = std::move(scalars_);
    for (std::vector<Descriptor>* from : {&tensors_, &modes_, &operations_})
      std::move(from->begin(), from->end(), std::back_inserter(plan.kept_));
    plan.kept_.push_back(std::move(graph));
    plan.kept_.push_back(std::move(configs[static_cast<std::size_t>(i)]));
    plan.kept_.push_back(std::move(executable));
    return plan;
  }
  const std::size_t version = cudnnGetVersion();
  fail(subject_, ": cuDNN ", version / 10000, ".", version / 100 % 100, ".", version % 100,
       " has no kernel for this device: ", why);
}

}  // namespace ithaca::cuda::dnn
