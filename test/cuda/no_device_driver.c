// A CUDA driver that finds no device: built as libcuda.so.1, it lets cuDNN compile its kernels where there is no GPU.
#include <stddef.h>

enum { kSuccess = 0, kNoDevice = 100 };

int cuDriverGetVersion(int* version) {
  *version = 13000;
  return kSuccess;
}
int cuGetErrorString(int error, const char** text) {
  (void)error;
  *text = "no device";
  return kSuccess;
}
int cuGetErrorName(int error, const char** text) { return cuGetErrorString(error, text); }

// cuInit fails, so the runtime and cuDNN's compiler ask for no device.
int cuInit(unsigned flags) {
  (void)flags;
  return kNoDevice;
}
int cuDeviceGetCount(int* count) {
  *count = 0;
  return kNoDevice;
}
int cuGetExportTable(const void** table, const void* id) {
  (void)table, (void)id;
  return kNoDevice;
}

// What cuDNN calls for a kernel that it has compiled: it is taken, and would be refused where it is to run.
#define TAKEN(name) \
  int name(void) { return kSuccess; }
TAKEN(cuCtxGetCurrent)
TAKEN(cuCtxGetLimit)
TAKEN(cuCtxPopCurrent)
TAKEN(cuCtxPushCurrent)
TAKEN(cuDeviceGet)
TAKEN(cuKernelGetAttribute)
TAKEN(cuKernelSetAttribute)
TAKEN(cuLaunchCooperativeKernel)
TAKEN(cuLaunchKernel)
TAKEN(cuLaunchKernelEx)
TAKEN(cuLibraryGetKernel)
TAKEN(cuLibraryLoadData)
TAKEN(cuLibraryLoadFromFile)
TAKEN(cuLibraryUnload)
TAKEN(cuLinkAddData)
TAKEN(cuLinkComplete)
TAKEN(cuLinkCreate)
TAKEN(cuLinkDestroy)
TAKEN(cuOccupancyMaxPotentialClusterSize)
TAKEN(cuStreamGetCtx)

typedef int (*Function)(void);
static int no_device(void) { return kNoDevice; }

// Asked for every function by the CUDA runtime.
int cuGetProcAddress_v2(const char* name, Function* function, int version, unsigned long long flags, int* status) {
  (void)version, (void)flags;
  *function = no_device;
  const char* known = "cuDriverGetVersion";
  size_t i = 0;
  while (known[i] != '\0' && known[i] == name[i]) ++i;
  if (known[i] == '\0' && name[i] == '\0') *function = (Function)(void*)cuDriverGetVersion;
  if (status != NULL) *status = 0;
  return kSuccess;
}
int cuGetProcAddress(const char* name, Function* function, int version, unsigned long long flags) {
  return cuGetProcAddress_v2(name, function, version, flags, NULL);
}
