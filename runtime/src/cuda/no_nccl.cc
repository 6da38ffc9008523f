// Stands for NCCL in a program that was built without it.
#include "cuda/device_comm.h"
#include "ithaca/error.h"

namespace ithaca::cuda {

std::unique_ptr<DeviceComm> open_nccl_comm(Comm&) {
  throw Error("the ranks are processes and the program was built without NCCL; compile it with parallel.comm: nccl");
}

}  // namespace ithaca::cuda
