// What cuDNN has prepared for the attentions of one rank.
#pragma once

#include <cudnn_graph.h>

#include <map>
#include <utility>

#include "attention_graphs.h"

namespace ithaca::cuda {

class AttentionPlans {
 public:
  AttentionGraph& forward(cudnnHandle_t handle, const AttentionShape& shape, bool packed);
  AttentionGradGraph& backward(cudnnHandle_t handle, const AttentionShape& shape, bool packed);

 private:
  using Key = std::pair<AttentionShape, bool>;
  std::map<Key, AttentionGraph> forward_;
  std::map<Key, AttentionGradGraph> backward_;
};

}  // namespace ithaca::cuda
