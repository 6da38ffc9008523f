// What cuDNN has prepared for the attentions of one rank.
#pragma once

#include <cudnn_graph.h>

#include <map>

#include "attention_graphs.h"

namespace ithaca::cuda {

class AttentionPlans {
 public:
  AttentionGraph& forward(cudnnHandle_t handle, const AttentionShape& shape);
  AttentionGradGraph& backward(cudnnHandle_t handle, const AttentionShape& shape);

 private:
  std::map<AttentionShape, AttentionGraph> forward_;
  std::map<AttentionShape, AttentionGradGraph> backward_;
};

}  // namespace ithaca::cuda
