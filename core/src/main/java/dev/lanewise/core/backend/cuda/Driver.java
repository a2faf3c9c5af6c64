package dev.lanewise.core.backend.cuda;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;

/**
 * The CUDA driver API. Method names follow the functions, whose {@code _v2} symbols are those that
 * {@code cuda.h} of CUDA 12 and 13 maps them to.
 */
@SuppressWarnings("restricted")
final class Driver extends NativeLibrary {
  static final int COMPUTE_CAPABILITY_MAJOR = 75;
  static final int COMPUTE_CAPABILITY_MINOR = 76;
  static final int MULTIPROCESSOR_COUNT = 16;
  static final int L2_CACHE_BYTES = 38;

  static final int FUNCTION_LOCAL_BYTES = 3;
  static final int FUNCTION_REGISTERS = 4;
  static final int FUNCTION_MAX_DYNAMIC_SHARED_BYTES = 8;

  static final int ERROR_OUT_OF_MEMORY = 2;
  static final int ERROR_NO_DEVICE = 100;

  private final MethodHandle cuInit = status("cuInit", JAVA_INT);
  private final MethodHandle cuGetErrorName = status("cuGetErrorName", JAVA_INT, ADDRESS);
  private final MethodHandle cuGetErrorString = status("cuGetErrorString", JAVA_INT, ADDRESS);
  private final MethodHandle cuDriverGetVersion = status("cuDriverGetVersion", ADDRESS);
  private final MethodHandle cuDeviceGetCount = status("cuDeviceGetCount", ADDRESS);
  private final MethodHandle cuDeviceGet = status("cuDeviceGet", ADDRESS, JAVA_INT);
  private final MethodHandle cuDeviceGetName =
      status("cuDeviceGetName", ADDRESS, JAVA_INT, JAVA_INT);
  private final MethodHandle cuDeviceGetAttribute =
      status("cuDeviceGetAttribute", ADDRESS, JAVA_INT, JAVA_INT);
  private final MethodHandle cuDeviceTotalMem = status("cuDeviceTotalMem_v2", ADDRESS, JAVA_INT);
  private final MethodHandle cuDevicePrimaryCtxRetain =
      status("cuDevicePrimaryCtxRetain", ADDRESS, JAVA_INT);
  private final MethodHandle cuDevicePrimaryCtxRelease =
      status("cuDevicePrimaryCtxRelease_v2", JAVA_INT);
  private final MethodHandle cuCtxSetCurrent = status("cuCtxSetCurrent", JAVA_LONG);
  private final MethodHandle cuMemGetInfo = status("cuMemGetInfo_v2", ADDRESS, ADDRESS);
  private final MethodHandle cuMemAlloc = status("cuMemAlloc_v2", ADDRESS, JAVA_LONG);
  private final MethodHandle cuMemFree = status("cuMemFree_v2", JAVA_LONG);
  private final MethodHandle cuMemAllocHost = status("cuMemAllocHost_v2", ADDRESS, JAVA_LONG);
  private final MethodHandle cuMemFreeHost = status("cuMemFreeHost", JAVA_LONG);
  private final MethodHandle cuMemcpyHtoDAsync =
      status("cuMemcpyHtoDAsync_v2", JAVA_LONG, ADDRESS, JAVA_LONG, JAVA_LONG);
  private final MethodHandle cuMemcpyDtoHAsync =
      status("cuMemcpyDtoHAsync_v2", ADDRESS, JAVA_LONG, JAVA_LONG, JAVA_LONG);
  private final MethodHandle cuMemcpyDtoDAsync =
      status("cuMemcpyDtoDAsync_v2", JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG);
  private final MethodHandle cuMemsetD8Async =
      status("cuMemsetD8Async", JAVA_LONG, JAVA_BYTE, JAVA_LONG, JAVA_LONG);
  private final MethodHandle cuStreamCreate = status("cuStreamCreate", ADDRESS, JAVA_INT);
  private final MethodHandle cuStreamDestroy = status("cuStreamDestroy_v2", JAVA_LONG);
  private final MethodHandle cuStreamSynchronize = status("cuStreamSynchronize", JAVA_LONG);
  private final MethodHandle cuEventCreate = status("cuEventCreate", ADDRESS, JAVA_INT);
  private final MethodHandle cuEventDestroy = status("cuEventDestroy_v2", JAVA_LONG);
  private final MethodHandle cuEventRecord = status("cuEventRecord", JAVA_LONG, JAVA_LONG);
  private final MethodHandle cuEventSynchronize = status("cuEventSynchronize", JAVA_LONG);
  private final MethodHandle cuEventElapsedTime =
      status("cuEventElapsedTime", ADDRESS, JAVA_LONG, JAVA_LONG);
  private final MethodHandle cuModuleLoadData = status("cuModuleLoadData", ADDRESS, ADDRESS);
  private final MethodHandle cuModuleUnload = status("cuModuleUnload", JAVA_LONG);
  private final MethodHandle cuModuleGetFunction =
      status("cuModuleGetFunction", ADDRESS, JAVA_LONG, ADDRESS);
  private final MethodHandle cuFuncSetAttribute =
      status("cuFuncSetAttribute", JAVA_LONG, JAVA_INT, JAVA_INT);
  private final MethodHandle cuFuncGetAttribute =
      status("cuFuncGetAttribute", ADDRESS, JAVA_INT, JAVA_LONG);
  private final MethodHandle cuLaunchKernel =
      status(
          "cuLaunchKernel",
          JAVA_LONG,
          JAVA_INT,
          JAVA_INT,
          JAVA_INT,
          JAVA_INT,
          JAVA_INT,
          JAVA_INT,
          JAVA_INT,
          JAVA_LONG,
          ADDRESS,
          ADDRESS);

  private Driver(CudaLibraries.Opened library) {
    super(library);
  }

  /**
   * Opens and initialises the driver.
   *
   * @throws CudaUnavailableException if there is no driver, or it refuses to start
   */
  static Driver open() {
    Driver driver = new Driver(CudaLibraries.driver());
    int status = driver.initialise();
    if (status != 0) {
      throw new CudaUnavailableException(
          "The NVIDIA driver ("
              + driver.path()
              + ") does not start: cuInit returned "
              + driver.errorName(status)
              + " ("
              + status
              + "), "
              + driver.errorText(status)
              + (status == ERROR_NO_DEVICE
                  ? ". Make a GPU visible to this process (CUDA_VISIBLE_DEVICES, docker: --gpus"
                      + " all)."
                  : ". Check that nvidia-smi runs here."));
    }
    return driver;
  }

  private int initialise() {
    try {
      return (int) cuInit.invokeExact(0);
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  private void check(String function, int status) {
    if (status != 0) {
      throw new CudaException(function, status, errorName(status), errorText(status));
    }
  }

  private String errorName(int status) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(ADDRESS);
      int failed = (int) cuGetErrorName.invokeExact(status, out);
      return failed == 0 ? stringAt(out) : "an unknown status";
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  private String errorText(int status) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(ADDRESS);
      int failed = (int) cuGetErrorString.invokeExact(status, out);
      return failed == 0 ? stringAt(out) : "no explanation";
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  /** Version of CUDA that the driver speaks, as {@code 1000 * major + 10 * minor}. */
  int driverVersion() {
    return intOut("cuDriverGetVersion", out -> (int) cuDriverGetVersion.invokeExact(out));
  }

  /** Major version of CUDA that the driver speaks. */
  int cudaMajor() {
    return driverVersion() / 1000;
  }

  int deviceCount() {
    return intOut("cuDeviceGetCount", out -> (int) cuDeviceGetCount.invokeExact(out));
  }

  int device(int ordinal) {
    return intOut("cuDeviceGet", out -> (int) cuDeviceGet.invokeExact(out, ordinal));
  }

  String deviceName(int device) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(256);
      check("cuDeviceGetName", (int) cuDeviceGetName.invokeExact(out, 256, device));
      return fixedString(out);
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  int deviceAttribute(int attribute, int device) {
    return intOut(
        "cuDeviceGetAttribute",
        out -> (int) cuDeviceGetAttribute.invokeExact(out, attribute, device));
  }

  long deviceTotalMem(int device) {
    return longOut("cuDeviceTotalMem", out -> (int) cuDeviceTotalMem.invokeExact(out, device));
  }

  long devicePrimaryCtxRetain(int device) {
    return longOut(
        "cuDevicePrimaryCtxRetain", out -> (int) cuDevicePrimaryCtxRetain.invokeExact(out, device));
  }

  void devicePrimaryCtxRelease(int device) {
    try {
      check("cuDevicePrimaryCtxRelease", (int) cuDevicePrimaryCtxRelease.invokeExact(device));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  void ctxSetCurrent(long context) {
    try {
      check("cuCtxSetCurrent", (int) cuCtxSetCurrent.invokeExact(context));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  /**
   * Memory of the current context's device.
   *
   * @param free bytes that can still be had
   * @param total bytes of the device
   */
  record MemoryInfo(long free, long total) {}

  MemoryInfo memGetInfo() {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment free = arena.allocate(JAVA_LONG);
      MemorySegment total = arena.allocate(JAVA_LONG);
      check("cuMemGetInfo", (int) cuMemGetInfo.invokeExact(free, total));
      return new MemoryInfo(free.get(JAVA_LONG, 0), total.get(JAVA_LONG, 0));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  long memAlloc(long bytes) {
    return longOut("cuMemAlloc", out -> (int) cuMemAlloc.invokeExact(out, bytes));
  }

  void memFree(long address) {
    try {
      check("cuMemFree", (int) cuMemFree.invokeExact(address));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  /** Allocates page-locked host memory; the segment lives until {@link #memFreeHost}. */
  MemorySegment memAllocHost(long bytes) {
    long address = longOut("cuMemAllocHost", out -> (int) cuMemAllocHost.invokeExact(out, bytes));
    return MemorySegment.ofAddress(address).reinterpret(bytes);
  }

  void memFreeHost(MemorySegment memory) {
    try {
      check("cuMemFreeHost", (int) cuMemFreeHost.invokeExact(memory.address()));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  void memcpyHtoDAsync(long to, MemorySegment from, long bytes, long stream) {
    try {
      check("cuMemcpyHtoDAsync", (int) cuMemcpyHtoDAsync.invokeExact(to, from, bytes, stream));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  void memcpyDtoHAsync(MemorySegment to, long from, long bytes, long stream) {
    try {
      check("cuMemcpyDtoHAsync", (int) cuMemcpyDtoHAsync.invokeExact(to, from, bytes, stream));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  void memcpyDtoDAsync(long to, long from, long bytes, long stream) {
    try {
      check("cuMemcpyDtoDAsync", (int) cuMemcpyDtoDAsync.invokeExact(to, from, bytes, stream));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  void memsetD8Async(long address, byte value, long count, long stream) {
    try {
      check("cuMemsetD8Async", (int) cuMemsetD8Async.invokeExact(address, value, count, stream));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  /** A stream that does not wait for the legacy default stream. */
  long streamCreate() {
    int nonBlocking = 1;
    return longOut("cuStreamCreate", out -> (int) cuStreamCreate.invokeExact(out, nonBlocking));
  }

  void streamDestroy(long stream) {
    try {
      check("cuStreamDestroy", (int) cuStreamDestroy.invokeExact(stream));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  void streamSynchronize(long stream) {
    try {
      check("cuStreamSynchronize", (int) cuStreamSynchronize.invokeExact(stream));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  long eventCreate() {
    return longOut("cuEventCreate", out -> (int) cuEventCreate.invokeExact(out, 0));
  }

  void eventDestroy(long event) {
    try {
      check("cuEventDestroy", (int) cuEventDestroy.invokeExact(event));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  void eventRecord(long event, long stream) {
    try {
      check("cuEventRecord", (int) cuEventRecord.invokeExact(event, stream));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  void eventSynchronize(long event) {
    try {
      check("cuEventSynchronize", (int) cuEventSynchronize.invokeExact(event));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  /** Milliseconds between two recorded events. */
  float eventElapsedTime(long start, long end) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(JAVA_FLOAT);
      check("cuEventElapsedTime", (int) cuEventElapsedTime.invokeExact(out, start, end));
      return out.get(JAVA_FLOAT, 0);
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  /** Loads a cubin; the driver copies what it needs of the image. */
  long moduleLoadData(MemorySegment image) {
    return longOut("cuModuleLoadData", out -> (int) cuModuleLoadData.invokeExact(out, image));
  }

  void moduleUnload(long module) {
    try {
      check("cuModuleUnload", (int) cuModuleUnload.invokeExact(module));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  long moduleGetFunction(long module, String name) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment text = cString(arena, name);
      MemorySegment out = arena.allocate(JAVA_LONG);
      check(
          "cuModuleGetFunction(" + name + ")",
          (int) cuModuleGetFunction.invokeExact(out, module, text));
      return out.get(JAVA_LONG, 0);
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  void funcSetAttribute(long function, int attribute, int value) {
    try {
      check("cuFuncSetAttribute", (int) cuFuncSetAttribute.invokeExact(function, attribute, value));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  int funcGetAttribute(int attribute, long function) {
    return intOut(
        "cuFuncGetAttribute",
        out -> (int) cuFuncGetAttribute.invokeExact(out, attribute, function));
  }

  /**
   * Queues a kernel with a one-dimensional block.
   *
   * @param name what the message calls the kernel if the driver refuses it
   * @param parameters array of addresses, one for each argument
   */
  void launchKernel(
      String name,
      long function,
      int gridX,
      int gridY,
      int gridZ,
      int block,
      int sharedBytes,
      long stream,
      MemorySegment parameters) {
    try {
      int status =
          (int)
              cuLaunchKernel.invokeExact(
                  function,
                  gridX,
                  gridY,
                  gridZ,
                  block,
                  1,
                  1,
                  sharedBytes,
                  stream,
                  parameters,
                  MemorySegment.NULL);
      if (status != 0) {
        String detail = errorText(status) + ", at the kernel " + name;
        throw new CudaException("cuLaunchKernel", status, errorName(status), detail);
      }
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  @FunctionalInterface
  private interface OutCall {
    int call(MemorySegment out) throws Throwable;
  }

  private int intOut(String function, OutCall call) {
    return (int) longOut(function, call);
  }

  private long longOut(String function, OutCall call) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(JAVA_LONG);
      check(function, call.call(out));
      return out.get(JAVA_LONG, 0);
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }
}
