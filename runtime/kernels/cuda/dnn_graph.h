// cuDNN's backend graphs as values: tensors and operations are added in order, a plan is made, and the plan is run.
//
// Only what cuDNN 9.8 and newer all have is used, so that one program runs with every version between.
#pragma once

#include <cudnn_graph.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace ithaca::cuda::dnn {

// Throws an Error that names the call, what it was for, and cuDNN's own words.
void check(cudnnStatus_t status, const char* call, std::string_view subject);

// An owned descriptor of the backend.
class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type);
  Descriptor(Descriptor&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(raw_, other.raw_);
    return *this;
  }
  ~Descriptor();

  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count, const void* values);
  template <typename T>
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const T& value) {
    set(name, type, 1, &value);
  }
  void set(cudnnBackendAttributeName_t name, const Descriptor& value) {
    set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value.raw_);
  }

  cudnnStatus_t try_finalize();
  void finalize(std::string_view subject);
  cudnnBackendDescriptor_t get() const { return raw_; }

 private:
  cudnnBackendDescriptor_t raw_ = nullptr;
};

// What plans are made for: the device of a handle, or a device described in JSON, which needs no GPU.
class Target {
 public:
  explicit Target(cudnnHandle_t handle) : handle_(handle) {}
  explicit Target(std::string_view device_json);

  // Sets the one or the other, by the attributes that descriptors of this kind have for them.
  void set_handle(Descriptor& of, cudnnBackendAttributeName_t name) const;
  void set_device(Descriptor& of, cudnnBackendAttributeName_t name) const;

 private:
  cudnnHandle_t handle_ = nullptr;
  std::optional<Descriptor> device_;
};

using Sizes = std::array<std::int64_t, 4>;
using Scalar = std::variant<float, std::int32_t>;

// A tensor of a graph, by its place in it.
struct Tensor {
  std::int64_t id;  // from 1, as cuDNN wants it
};

struct Binding {
  Tensor tensor;
  void* data;  // on the device
};

// A graph that cuDNN has made a kernel of. It is run by one thread at a time.
class Plan {
 public:
  std::size_t workspace_bytes() const { return workspace_bytes_; }

  // Runs on the stream of `handle`. There is a binding for every tensor that is neither virtual nor a scalar.
  void run(cudnnHandle_t handle, std::span<const Binding> bindings, void* workspace);

 private:
  friend class Graph;
  explicit Plan(std::string subject) : subject_(std::move(subject)) {}

  std::string subject_;
  std::vector<Descriptor> kept_;  // what the plan was made from, and last the plan
  std::vector<std::pair<std::int64_t, Scalar>> scalars_;
  std::size_t workspace_bytes_ = 0;
};

class Graph {
 public:
  // `subject` names the graph in errors.
  explicit Graph(std::string subject) : subject_(std::move(subject)) {}

  // A tensor in the device's memory. With `offsets`, i32[batch + 1, 1, 1, 1] in elements, batch b begins there.
  Tensor tensor(const Sizes& sizes, const Sizes& strides, cudnnDataType_t type,
                std::optional<Tensor> offsets = std::nullopt);
  // A tensor that is never stored; packed unless strides are given.
  Tensor intermediate(const Sizes& sizes, cudnnDataType_t type, std::optional<Sizes> strides = std::nullopt,
                      std::optional<Tensor> offsets = std::nullopt);
  Tensor scalar(Scalar value);

  // The number of rows, columns or terms of a product that count, by batch: i32[batch, 1, 1, 1].
  struct Lengths {
    std::optional<Tensor> m, n, k;
  };
  void matmul(Tensor a, Tensor b, Tensor out);
  void matmul(Tensor a, Tensor b, Tensor out, const Lengths& lengths);
  // out = mode(x, y), or `y` where `mask` is false if the mode is BINARY_SELECT.
  void pointwise(cudnnPointwiseMode_t mode, Tensor x, std::optional<Tensor> y, Tensor out,
                 cudnnDataType_t compute = CUDNN_DATA_FLOAT);
  void select(Tensor x, Tensor otherwise, Tensor mask, Tensor out);
  // out holds its own place along `axis`; `like` says where it will be used.
  void index(Tensor like, std::int64_t axis, Tensor out);
  void reduce(cudnnReduceTensorOp_t mode, Tensor x, Tensor out);
  // The same elements under other sizes and strides.
  void reshape(Tensor x, Tensor out);

  // The first kernel that cuDNN proposes and that needs no more than `workspace_limit` bytes. Throws if there is none.
  Plan plan(const Target& target, std::size_t workspace_limit) &&;

 private:
  Tensor add(const Sizes& sizes, const Sizes& strides, cudnnDataType_t type, bool is_virtual, bool by_value,
             std::optional<Tensor> offsets);
  const Descriptor& of(Tensor tensor) const { return tensors_[static_cast<std::size_t>(tensor.id - 1)]; }
  Descriptor pointwise_mode(cudnnPointwiseMode_t mode, cudnnDataType_t compute) const;
  void operation(Descriptor descriptor, Descriptor mode, std::string_view kind);
  void operation(Descriptor descriptor, std::string_view kind);

  std::string subject_;
  std::vector<Descriptor> tensors_, operations_, modes_;
  std::vector<std::pair<std::int64_t, Scalar>> scalars_;
};

// Strides of a tensor whose last dimension is contiguous and that has no gaps.
Sizes packed(const Sizes& sizes);

}  // namespace ithaca::cuda::dnn
