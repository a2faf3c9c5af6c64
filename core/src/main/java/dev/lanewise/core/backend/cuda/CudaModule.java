package dev.lanewise.core.backend.cuda;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.HashMap;
import java.util.Map;

/** A loaded kernel file and its kernels. */
final class CudaModule {
  private static final int SHARED_WITHOUT_OPT_IN = 48 << 10;

  /** One kernel, with the most dynamic shared memory that it has been allowed so far. */
  static final class Kernel {
    final String name;
    final long function;
    private int sharedAllowed = SHARED_WITHOUT_OPT_IN;

    private Kernel(String name, long function) {
      this.name = name;
      this.function = function;
    }
  }

  private final Driver driver;
  private final String file;
  private final long module;
  private final Map<String, Kernel> kernels = new HashMap<>();

  CudaModule(Driver driver, String file, byte[] cubin) {
    this.driver = driver;
    this.file = file;
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment image = arena.allocate(cubin.length, 64);
      MemorySegment.copy(cubin, 0, image, ValueLayout.JAVA_BYTE, 0, cubin.length);
      module = driver.moduleLoadData(image);
    }
  }

  Kernel kernel(String name) {
    Kernel kernel = kernels.get(name);
    if (kernel == null) {
      kernel = new Kernel(file + "." + name, driver.moduleGetFunction(module, name));
      kernels.put(name, kernel);
    }
    return kernel;
  }

  /** Lets a kernel use more than the 48 KiB of dynamic shared memory that every kernel may. */
  static void allowShared(Driver driver, Kernel kernel, int bytes) {
    if (bytes > kernel.sharedAllowed) {
      driver.funcSetAttribute(kernel.function, Driver.FUNCTION_MAX_DYNAMIC_SHARED_BYTES, bytes);
      kernel.sharedAllowed = bytes;
    }
  }

  void unload() {
    driver.moduleUnload(module);
  }
}
