package dev.lanewise.core.backend.cuda;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SegmentAllocator;
import java.lang.invoke.MethodHandle;
import java.util.List;

/** NVRTC, which compiles CUDA C at run time; it needs no driver and no GPU. */
final class Nvrtc extends NativeLibrary {
  private static final int ERROR_BUILTIN_OPERATION_FAILURE = 7;
  private static final int ERROR_INVALID_OPTION = 5;
  private static final int ERROR_COMPILATION = 6;

  private final MethodHandle nvrtcGetErrorString =
      function("nvrtcGetErrorString", FunctionDescriptor.of(ADDRESS, JAVA_INT));
  private final MethodHandle nvrtcVersion = status("nvrtcVersion", ADDRESS, ADDRESS);
  private final MethodHandle nvrtcCreateProgram =
      status("nvrtcCreateProgram", ADDRESS, ADDRESS, ADDRESS, JAVA_INT, ADDRESS, ADDRESS);
  private final MethodHandle nvrtcDestroyProgram = status("nvrtcDestroyProgram", ADDRESS);
  private final MethodHandle nvrtcCompileProgram =
      status("nvrtcCompileProgram", JAVA_LONG, JAVA_INT, ADDRESS);
  private final MethodHandle nvrtcGetCubinSize = status("nvrtcGetCUBINSize", JAVA_LONG, ADDRESS);
  private final MethodHandle nvrtcGetCubin = status("nvrtcGetCUBIN", JAVA_LONG, ADDRESS);
  private final MethodHandle nvrtcGetPtxSize = status("nvrtcGetPTXSize", JAVA_LONG, ADDRESS);
  private final MethodHandle nvrtcGetPtx = status("nvrtcGetPTX", JAVA_LONG, ADDRESS);
  private final MethodHandle nvrtcGetNumSupportedArchs =
      status("nvrtcGetNumSupportedArchs", ADDRESS);
  private final MethodHandle nvrtcGetSupportedArchs = status("nvrtcGetSupportedArchs", ADDRESS);
  private final MethodHandle nvrtcGetProgramLogSize =
      status("nvrtcGetProgramLogSize", JAVA_LONG, ADDRESS);
  private final MethodHandle nvrtcGetProgramLog = status("nvrtcGetProgramLog", JAVA_LONG, ADDRESS);

  private Nvrtc(CudaLibraries.Opened library) {
    super(library);
  }

  /** Opens the library, that of the driver's own major version of CUDA if there are several. */
  static Nvrtc open(int cudaMajor) {
    return new Nvrtc(CudaLibraries.nvrtc(cudaMajor));
  }

  private void check(String function, int status, String detail) {
    if (status != 0) {
      throw new CudaException(function, status, statusName(status), detail);
    }
  }

  private String statusName(int status) {
    try {
      return string((MemorySegment) nvrtcGetErrorString.invokeExact(status));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  /** Version of the compiler, such as 13.0. */
  String version() {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment major = arena.allocate(JAVA_INT);
      MemorySegment minor = arena.allocate(JAVA_INT);
      check("nvrtcVersion", (int) nvrtcVersion.invokeExact(major, minor), "");
      return major.get(JAVA_INT, 0) + "." + minor.get(JAVA_INT, 0);
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  /** Compute capabilities that it compiles for, as {@code 10 * major + minor}, ascending. */
  int[] capabilities() {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment count = arena.allocate(JAVA_INT);
      check(
          "nvrtcGetNumSupportedArchs", (int) nvrtcGetNumSupportedArchs.invokeExact(count), path());
      MemorySegment all = arena.allocate(JAVA_INT, count.get(JAVA_INT, 0));
      check("nvrtcGetSupportedArchs", (int) nvrtcGetSupportedArchs.invokeExact(all), path());
      return all.toArray(JAVA_INT);
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  /**
   * The option that names what to compile for: the machine code of a GPU that this compiler knows,
   * else the newest PTX that is older than the GPU, which its driver compiles.
   */
  String target(int capability) {
    int older = 0;
    for (int known : capabilities()) {
      if (known == capability) {
        return "-arch=sm_" + capability;
      }
      older = known < capability ? Math.max(older, known) : older;
    }
    // If there is none, the compiler itself says what it does not know.
    return older == 0 ? "-arch=sm_" + capability : "-arch=compute_" + older;
  }

  /**
   * Compiles a program.
   *
   * @param name what the compiler calls the source in its messages
   * @param options compiler options, the first of them {@link #target}
   * @return a cubin, or PTX with its final zero, as the target says
   * @throws CudaException with the compiler's log if the source does not compile
   */
  byte[] compile(String source, String name, List<String> options) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment handle = arena.allocate(JAVA_LONG);
      check(
          "nvrtcCreateProgram",
          (int)
              nvrtcCreateProgram.invokeExact(
                  handle,
                  cString(arena, source),
                  cString(arena, name),
                  0,
                  MemorySegment.NULL,
                  MemorySegment.NULL),
          name);
      long program = handle.get(JAVA_LONG, 0);
      try {
        MemorySegment argv = arena.allocate(ADDRESS, options.size());
        for (int i = 0; i < options.size(); i++) {
          argv.setAtIndex(ADDRESS, i, cString(arena, options.get(i)));
        }
        int status = (int) nvrtcCompileProgram.invokeExact(program, options.size(), argv);
        if (status != 0) {
          check("nvrtcCompileProgram", status, explain(status, name, options, log(program, arena)));
        }
        MemorySegment size = arena.allocate(JAVA_LONG);
        if (options.getFirst().startsWith("-arch=compute_")) {
          check("nvrtcGetPTXSize", (int) nvrtcGetPtxSize.invokeExact(program, size), name);
          MemorySegment ptx = arena.allocate(size.get(JAVA_LONG, 0));
          check("nvrtcGetPTX", (int) nvrtcGetPtx.invokeExact(program, ptx), name);
          return ptx.toArray(JAVA_BYTE);
        }
        check("nvrtcGetCUBINSize", (int) nvrtcGetCubinSize.invokeExact(program, size), name);
        MemorySegment cubin = arena.allocate(size.get(JAVA_LONG, 0));
        check("nvrtcGetCUBIN", (int) nvrtcGetCubin.invokeExact(program, cubin), name);
        return cubin.toArray(JAVA_BYTE);
      } finally {
        int status = (int) nvrtcDestroyProgram.invokeExact(handle);
        check("nvrtcDestroyProgram", status, name);
      }
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  private String explain(int status, String name, List<String> options, String log) {
    String options2 = String.join(" ", options);
    return switch (status) {
      case ERROR_INVALID_OPTION ->
          name
              + " with "
              + options2
              + "; this GPU may be newer than "
              + path()
              + ", so install a newer CUDA toolkit. "
              + log;
      case ERROR_BUILTIN_OPERATION_FAILURE ->
          name
              + "; libnvrtc-builtins was not found, so put the folder of "
              + path()
              + " on LD_LIBRARY_PATH. "
              + log;
      case ERROR_COMPILATION -> name + " with " + options2 + "\n" + log;
      default -> name + " " + log;
    };
  }

  private String log(long program, SegmentAllocator allocator) throws Throwable {
    MemorySegment size = allocator.allocate(JAVA_LONG);
    if ((int) nvrtcGetProgramLogSize.invokeExact(program, size) != 0
        || size.get(JAVA_LONG, 0) <= 1) {
      return "";
    }
    MemorySegment text = allocator.allocate(size.get(JAVA_LONG, 0));
    return (int) nvrtcGetProgramLog.invokeExact(program, text) == 0 ? fixedString(text) : "";
  }
}
