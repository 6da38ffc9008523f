// What a graph of cuDNN's backend means.
#include "graph_evaluation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <string>

#include "ithaca/dtype.h"

namespace ithaca::test {
namespace {

using Sizes = std::array<std::int64_t, 4>;

void require(bool good, const std::string& what) {
  if (!good) throw std::runtime_error(what);
}

// A tensor's description, and its values in row-major order of `sizes`.
struct Values {
  Sizes sizes;
  std::vector<double> data;

  std::int64_t count() const { return sizes[0] * sizes[1] * sizes[2] * sizes[3]; }
  // The element at `index`; a dimension of one is the same everywhere, and one that divides is shared by neighbours.
  double at(const Sizes& index, const Sizes& of) const {
    std::int64_t offset = 0;
    for (std::size_t d = 0; d < 4; ++d) offset = offset * sizes[d] + index[d] / (of[d] / sizes[d]);
    return data[static_cast<std::size_t>(offset)];
  }
};

template <typename Body>
void for_each(const Sizes& sizes, Body body) {
  Sizes i{};
  for (i[0] = 0; i[0] < sizes[0]; ++i[0])
    for (i[1] = 0; i[1] < sizes[1]; ++i[1])
      for (i[2] = 0; i[2] < sizes[2]; ++i[2])
        for (i[3] = 0; i[3] < sizes[3]; ++i[3]) body(i);
}

double rounded(cudnnDataType_t type, double value) {
  if (type == CUDNN_DATA_BFLOAT16) return static_cast<double>(static_cast<float>(to_bf16(static_cast<float>(value))));
  return type == CUDNN_DATA_FLOAT ? static_cast<double>(static_cast<float>(value)) : value;
}

class Evaluation {
 public:
  Evaluation(const Attributes& pack, LibraryCall& call) : call_(call) {
    const auto ids = pack.values<std::int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    const auto data = pack.values<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    require(ids.size() == data.size(), "the pack has as many pointers as tensors");
    for (std::size_t i = 0; i < ids.size(); ++i) require(pointers_.emplace(ids[i], data[i]).second, "a tensor is bound twice");
  }

  void run(const Attributes& operation) {
    require(operation.finalized, "an operation is finalized");
    switch (operation.type) {
      case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR: return matmul(operation);
      case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR: return pointwise(operation);
      case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR: return reduce(operation);
      case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR: return reshape(operation);
      default: require(false, "an operation that attention doesn't need");
    }
  }

  void finish() const { require(used_.size() == pointers_.size(), "everything in the pack is used"); }

 private:
  static Sizes four(const Attributes& tensor, int name) {
    const auto values = tensor.values<std::int64_t>(name);
    require(values.size() == 4, "a tensor has four dimensions");
    return {values[0], values[1], values[2], values[3]};
  }
  static std::int64_t id_of(const Attributes& tensor) { return tensor.value<std::int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID); }
  static cudnnDataType_t type_of(const Attributes& tensor) {
    return tensor.value<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE);
  }

  void* pointer(const Attributes& tensor) {
    const auto found = pointers_.find(id_of(tensor));
    require(found != pointers_.end(), "tensor " + std::to_string(id_of(tensor)) + " is bound");
    used_[id_of(tensor)] = true;
    const auto alignment = tensor.value<std::int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
    if (!tensor.value<bool>(CUDNN_ATTR_TENSOR_IS_BY_VALUE))
      require(reinterpret_cast<std::intptr_t>(found->second) % alignment == 0, "a tensor is aligned");
    return found->second;
  }

  const Values& read(const Attributes& tensor) {
    const auto known = values_.find(id_of(tensor));
    if (known != values_.end()) return known->second;
    require(!tensor.value<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL), "a virtual tensor is written before it is read");
    const void* from = pointer(tensor);
    if (!tensor.value<bool>(CUDNN_ATTR_TENSOR_IS_BY_VALUE)) call_.reads.push_back(from);
    Values values{four(tensor, CUDNN_ATTR_TENSOR_DIMENSIONS), {}};
    const Sizes strides = four(tensor, CUDNN_ATTR_TENSOR_STRIDES);
    for_each(values.sizes, [&](const Sizes& i) {
      std::int64_t at = 0;
      for (std::size_t d = 0; d < 4; ++d) at += i[d] * strides[d];
      switch (type_of(tensor)) {
        case CUDNN_DATA_BFLOAT16: return values.data.push_back(static_cast<float>(static_cast<const bf16*>(from)[at]));
        case CUDNN_DATA_FLOAT: return values.data.push_back(static_cast<const float*>(from)[at]);
        default: return values.data.push_back(static_cast<const std::int32_t*>(from)[at]);
      }
    });
    return values_.emplace(id_of(tensor), std::move(values)).first->second;
  }

  template <typename Body>
  void write(const Attributes& tensor, Body value_at) {
    Values values{four(tensor, CUDNN_ATTR_TENSOR_DIMENSIONS), {}};
    const cudnnDataType_t type = type_of(tensor);
    for_each(values.sizes, [&](const Sizes& i) { values.data.push_back(rounded(type, value_at(i, values.sizes))); });
    if (!tensor.value<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL)) {
      void* to = pointer(tensor);
      call_.writes.push_back(to);
      const Sizes strides = four(tensor, CUDNN_ATTR_TENSOR_STRIDES);
      std::size_t next = 0;
      for_each(values.sizes, [&](const Sizes& i) {
        std::int64_t at = 0;
        for (std::size_t d = 0; d < 4; ++d) at += i[d] * strides[d];
        const auto value = static_cast<float>(values.data[next++]);
        if (type == CUDNN_DATA_BFLOAT16)
          static_cast<bf16*>(to)[at] = to_bf16(value);
        else
          static_cast<float*>(to)[at] = value;
      });
    }
    require(values_.emplace(id_of(tensor), std::move(values)).second, "a tensor is written once");
  }

  void matmul(const Attributes& operation) {
    const Values a = read(*operation.descriptor(CUDNN_ATTR_OPERATION_MATMUL_ADESC));
    const Values b = read(*operation.descriptor(CUDNN_ATTR_OPERATION_MATMUL_BDESC));
    const Attributes& out = *operation.descriptor(CUDNN_ATTR_OPERATION_MATMUL_CDESC);
    const std::int64_t depth = a.sizes[3];
    require(b.sizes[2] == depth, "a product's operands fit");
    write(out, [&](const Sizes& i, const Sizes& of) {
      require(a.sizes[2] == of[2] && b.sizes[3] == of[3], "a product's result fits");
      double sum = 0;
      for (std::int64_t k = 0; k < depth; ++k)
        sum += a.at({i[0], i[1], i[2], k}, {of[0], of[1], of[2], depth}) *
               b.at({i[0], i[1], k, i[3]}, {of[0], of[1], depth, of[3]});
      return sum;
    });
  }

  void pointwise(const Attributes& operation) {
    const Attributes& kind = *operation.descriptor(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
    const auto mode = kind.value<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE);
    const Attributes& out = *operation.descriptor(CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
    if (mode == CUDNN_POINTWISE_GEN_INDEX) {
      const auto axis = static_cast<std::size_t>(kind.value<std::int64_t>(CUDNN_ATTR_POINTWISE_AXIS));
      return write(out, [&](const Sizes& i, const Sizes&) { return static_cast<double>(i[axis]); });
    }
    const auto operand = [&](int name) {
      return operation.has(name) ? read(*operation.descriptor(name)) : Values{{1, 1, 1, 1}, {0}};
    };
    const Values x = operand(CUDNN_ATTR_OPERATION_POINTWISE_XDESC), y = operand(CUDNN_ATTR_OPERATION_POINTWISE_BDESC),
                 mask = operand(CUDNN_ATTR_OPERATION_POINTWISE_TDESC);
    write(out, [&](const Sizes& i, const Sizes& of) { return apply(mode, x.at(i, of), y.at(i, of), mask.at(i, of)); });
  }

  static double apply(cudnnPointwiseMode_t mode, double x, double y, double mask) {
    switch (mode) {
      case CUDNN_POINTWISE_ADD: return x + y;
      case CUDNN_POINTWISE_SUB: return x - y;
      case CUDNN_POINTWISE_MUL: return x * y;
      case CUDNN_POINTWISE_DIV: return x / y;
      case CUDNN_POINTWISE_EXP: return std::exp(x);
      case CUDNN_POINTWISE_LOG: return std::log(x);
      case CUDNN_POINTWISE_IDENTITY: return x;
      case CUDNN_POINTWISE_CMP_GE: return x >= y;
      case CUDNN_POINTWISE_CMP_GT: return x > y;
      case CUDNN_POINTWISE_CMP_LT: return x < y;
      case CUDNN_POINTWISE_BINARY_SELECT: return mask != 0 ? x : y;
      default: require(false, "a pointwise mode that attention doesn't need"); return 0;
    }
  }

  void reduce(const Attributes& operation) {
    const Values x = read(*operation.descriptor(CUDNN_ATTR_OPERATION_REDUCTION_XDESC));
    const bool is_max = operation.descriptor(CUDNN_ATTR_OPERATION_REDUCTION_DESC)
                            ->value<cudnnReduceTensorOp_t>(CUDNN_ATTR_REDUCTION_OPERATOR) == CUDNN_REDUCE_TENSOR_MAX;
    write(*operation.descriptor(CUDNN_ATTR_OPERATION_REDUCTION_YDESC), [&](const Sizes& i, const Sizes& of) {
      Sizes each{}, from{};
      for (std::size_t d = 0; d < 4; ++d) each[d] = x.sizes[d] / of[d];
      double result = is_max ? -std::numeric_limits<double>::infinity() : 0;
      for_each(each, [&](const Sizes& j) {
        for (std::size_t d = 0; d < 4; ++d) from[d] = i[d] * each[d] + j[d];
        const double value = x.at(from, x.sizes);
        result = is_max ? std::max(result, value) : result + value;
      });
      return result;
    });
  }

  // Only what exchanges the last two dimensions in name, and moves nothing.
  void reshape(const Attributes& operation) {
    const Attributes &x = *operation.descriptor(CUDNN_ATTR_OPERATION_RESHAPE_XDESC),
                     &y = *operation.descriptor(CUDNN_ATTR_OPERATION_RESHAPE_YDESC);
    for (const int name : {CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_ATTR_TENSOR_STRIDES}) {
      const Sizes from = four(x, name), to = four(y, name);
      require(to == Sizes{from[0], from[1], from[3], from[2]}, "a reshape exchanges the last two dimensions");
    }
    const Values values = read(x);
    write(y, [&](const Sizes& i, const Sizes&) { return values.at({i[0], i[1], i[3], i[2]}, values.sizes); });
  }

  std::map<std::int64_t, void*> pointers_;
  std::map<std::int64_t, bool> used_;
  std::map<std::int64_t, Values> values_;
  LibraryCall& call_;
};

}  // namespace

void Attributes::set(int name, cudnnBackendAttributeType_t type_of, std::int64_t count, const void* values) {
  const bool is_long = type_of == CUDNN_TYPE_INT64 || type_of == CUDNN_TYPE_BACKEND_DESCRIPTOR ||
                       type_of == CUDNN_TYPE_VOID_PTR || type_of == CUDNN_TYPE_HANDLE || type_of == CUDNN_TYPE_DOUBLE;
  const std::size_t each = is_long ? 8 : type_of == CUDNN_TYPE_BOOLEAN || type_of == CUDNN_TYPE_CHAR ? 1 : 4;
  const auto* from = static_cast<const unsigned char*>(values);
  bytes[name].assign(from, from + static_cast<std::size_t>(count) * each);
}

bool evaluate(const Attributes& graph, const Attributes& pack, LibraryCall& call) {
  try {
    Evaluation evaluation(pack, call);
    for (const Attributes* operation : graph.values<Attributes*>(CUDNN_ATTR_OPERATIONGRAPH_OPS)) evaluation.run(*operation);
    evaluation.finish();
    return true;
  } catch (const std::exception& error) {
    std::printf("cuDNN's stand-in wants that %s\n", error.what());
    return false;
  }
}

}  // namespace ithaca::test
