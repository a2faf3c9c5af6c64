// A stand-in for libcuda.so.1, compiled against the real cuda.h so that a prototype that drifts
// does not compile. Device memory is host memory that ends at a page nobody may touch; modules are
// shared libraries that the stand-in for NVRTC made; kernels run when they are launched.
#include <cuda.h>
#include <dlfcn.h>
#include <elf.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <string>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {
struct Block {
  void* base;
  size_t mapped, bytes;
};
struct Function {
  void (*launch)(void**, const unsigned*, unsigned, unsigned);
  int shared;
};
struct Module {
  void* handle;
  std::map<std::string, Function*> functions;
};
std::map<CUdeviceptr, Block> blocks;
size_t total = (size_t)2 << 30, used;
int devices = 1, initStatus, capability = 90, failLaunch, nextFault, fault, retained;
long launches, allocations, uploaded, downloaded, waits;
thread_local CUcontext current;
char context;
const size_t PAGE = 4096;

bool inside(CUdeviceptr p, size_t bytes) {
  auto next = blocks.upper_bound(p);
  if (next == blocks.begin()) {
    return false;
  }
  auto block = std::prev(next);
  return p + bytes <= block->first + block->second.bytes;
}
}  // namespace

// Sets what the machine is like: devices, init, memory, capability, launch (status of launches),
// fault (status of everything that comes after the next launch).
EXPORT void standin_set(const char* what, long value) {
  std::string name = what;
  if (name == "devices") devices = (int)value;
  if (name == "init") initStatus = (int)value;
  if (name == "memory") total = value;
  if (name == "capability") capability = (int)value;
  if (name == "launch") failLaunch = (int)value;
  if (name == "fault") {
    nextFault = (int)value;
    fault = 0;
  }
}
EXPORT long standin_get(const char* what) {
  std::string name = what;
  return name == "blocks"        ? (long)blocks.size()
         : name == "launches"    ? launches
         : name == "allocations" ? allocations
         : name == "uploaded"    ? uploaded
         : name == "downloaded"  ? downloaded
         : name == "waits"       ? waits
         : name == "contexts"    ? retained
                                 : -1;
}

#define NEED_CONTEXT                                          \
  if (current == 0) return CUDA_ERROR_INVALID_CONTEXT; \
  if (fault != 0) return (CUresult)fault

EXPORT CUresult cuInit(unsigned int) { return (CUresult)initStatus; }
EXPORT CUresult cuGetErrorName(CUresult error, const char** text) {
  switch (error) {
    case CUDA_ERROR_INVALID_VALUE: *text = "CUDA_ERROR_INVALID_VALUE"; break;
    case CUDA_ERROR_OUT_OF_MEMORY: *text = "CUDA_ERROR_OUT_OF_MEMORY"; break;
    case CUDA_ERROR_NO_DEVICE: *text = "CUDA_ERROR_NO_DEVICE"; break;
    case CUDA_ERROR_STUB_LIBRARY: *text = "CUDA_ERROR_STUB_LIBRARY"; break;
    case CUDA_ERROR_INVALID_IMAGE: *text = "CUDA_ERROR_INVALID_IMAGE"; break;
    case CUDA_ERROR_INVALID_CONTEXT: *text = "CUDA_ERROR_INVALID_CONTEXT"; break;
    case CUDA_ERROR_ILLEGAL_ADDRESS: *text = "CUDA_ERROR_ILLEGAL_ADDRESS"; break;
    case CUDA_ERROR_LAUNCH_FAILED: *text = "CUDA_ERROR_LAUNCH_FAILED"; break;
    default: *text = 0; return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}
EXPORT CUresult cuGetErrorString(CUresult, const char** text) {
  *text = "a failure of the stand-in";
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDriverGetVersion(int* version) {
  *version = CUDA_VERSION;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetCount(int* count) {
  *count = devices;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  *device = ordinal;
  return ordinal < devices ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}
EXPORT CUresult cuDeviceGetName(char* name, int length, CUdevice) {
  strncpy(name, "Stand-in", length);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = capability / 10; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = capability % 10; break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 132; break;
    case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE: *value = 1 << 18; break;
    default: return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceTotalMem(size_t* bytes, CUdevice) {
  *bytes = total;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext* out, CUdevice) {
  *out = (CUcontext)&context;
  retained++;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDevicePrimaryCtxRelease(CUdevice) {
  retained--;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxSetCurrent(CUcontext to) {
  current = to;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemGetInfo(size_t* free, size_t* all) {
  NEED_CONTEXT;
  *free = total - used;
  *all = total;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemAlloc(CUdeviceptr* out, size_t bytes) {
  NEED_CONTEXT;
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  if (used + bytes > total) return CUDA_ERROR_OUT_OF_MEMORY;
  size_t rounded = (bytes + 255) / 256 * 256, mapped = (rounded + PAGE - 1) / PAGE * PAGE + PAGE;
  char* base = (char*)mmap(0, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(base + mapped - PAGE, PAGE, PROT_NONE);
  char* start = base + mapped - PAGE - rounded;
  memset(start, 0xff, rounded);
  allocations++;
  *out = (CUdeviceptr)start;
  blocks[*out] = {base, mapped, rounded};
  used += bytes;
  blocks[*out].bytes = bytes;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemFree(CUdeviceptr p) {
  NEED_CONTEXT;
  auto block = blocks.find(p);
  if (block == blocks.end()) return CUDA_ERROR_INVALID_VALUE;
  used -= block->second.bytes;
  munmap(block->second.base, block->second.mapped);
  blocks.erase(block);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemAllocHost(void** out, size_t bytes) {
  *out = malloc(bytes);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemFreeHost(void* p) {
  free(p);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t bytes, CUstream) {
  NEED_CONTEXT;
  if (!inside(to, bytes)) return CUDA_ERROR_INVALID_VALUE;
  memcpy((void*)to, from, bytes);
  uploaded += bytes;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t bytes, CUstream) {
  NEED_CONTEXT;
  if (!inside(from, bytes)) return CUDA_ERROR_INVALID_VALUE;
  memcpy(to, (void*)from, bytes);
  downloaded += bytes;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream) {
  NEED_CONTEXT;
  if (!inside(to, bytes) || !inside(from, bytes)) return CUDA_ERROR_INVALID_VALUE;
  memmove((void*)to, (void*)from, bytes);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream) {
  NEED_CONTEXT;
  if (!inside(to, count)) return CUDA_ERROR_INVALID_VALUE;
  memset((void*)to, value, count);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamCreate(CUstream* out, unsigned int) {
  *out = (CUstream) new char;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamDestroy(CUstream stream) {
  delete (char*)stream;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamSynchronize(CUstream) {
  NEED_CONTEXT;
  waits++;
  return CUDA_SUCCESS;
}
using Clock = std::chrono::steady_clock;
EXPORT CUresult cuEventCreate(CUevent* out, unsigned int) {
  *out = (CUevent) new Clock::time_point;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuEventDestroy(CUevent event) {
  delete (Clock::time_point*)event;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuEventRecord(CUevent event, CUstream) {
  *(Clock::time_point*)event = Clock::now();
  return CUDA_SUCCESS;
}
EXPORT CUresult cuEventSynchronize(CUevent) { return CUDA_SUCCESS; }
#undef cuEventElapsedTime
EXPORT CUresult cuEventElapsedTime(float* out, CUevent start, CUevent end) {
  *out = std::chrono::duration<float, std::milli>(*(Clock::time_point*)end -
                                                  *(Clock::time_point*)start)
             .count();
  return CUDA_SUCCESS;
}
EXPORT CUresult cuModuleLoadData(CUmodule* out, const void* image) {
  NEED_CONTEXT;
  if (memcmp(image, ELFMAG, SELFMAG) != 0) return CUDA_ERROR_INVALID_IMAGE;
  auto* header = (const Elf64_Ehdr*)image;
  size_t size = header->e_shoff + (size_t)header->e_shnum * header->e_shentsize;
  char path[] = "/tmp/lanewise-standin-XXXXXX";
  int file = mkstemp(path);
  bool written = write(file, image, size) == (ssize_t)size;
  close(file);
  void* handle = written ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : 0;
  unlink(path);
  if (handle == 0) return CUDA_ERROR_INVALID_IMAGE;
  *out = (CUmodule) new Module{handle, {}};
  return CUDA_SUCCESS;
}
EXPORT CUresult cuModuleUnload(CUmodule module) {
  auto* own = (Module*)module;
  for (auto& function : own->functions) delete function.second;
  delete own;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuModuleGetFunction(CUfunction* out, CUmodule module, const char* name) {
  auto* own = (Module*)module;
  void* symbol = dlsym(own->handle, ("lw_launch_" + std::string(name)).c_str());
  if (symbol == 0) return CUDA_ERROR_NOT_FOUND;
  auto& function = own->functions[name];
  if (function == 0) {
    function = new Function{(void (*)(void**, const unsigned*, unsigned, unsigned))symbol, 49152};
  }
  *out = (CUfunction)function;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
  if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value > 232448) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  ((Function*)function)->shared = value;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction) {
  *value = attribute == CU_FUNC_ATTRIBUTE_NUM_REGS ? 32 : 0;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned int gridX, unsigned int gridY,
                               unsigned int gridZ, unsigned int blockX, unsigned int blockY,
                               unsigned int blockZ, unsigned int shared, CUstream stream,
                               void** parameters, void** extra) {
  NEED_CONTEXT;
  if (failLaunch != 0) return (CUresult)failLaunch;
  auto* own = (Function*)function;
  bool right = gridX > 0 && gridY > 0 && gridZ > 0 && gridY < 65536 && gridZ < 65536 &&
               blockX > 0 && blockX <= 1024 && blockY == 1 && blockZ == 1 &&
               shared <= (unsigned)own->shared && stream != 0 && extra == 0;
  if (!right) return CUDA_ERROR_INVALID_VALUE;
  unsigned grid[3] = {gridX, gridY, gridZ};
  launches++;
  fault = nextFault;
  own->launch(parameters, grid, blockX, shared);
  return CUDA_SUCCESS;
}
