package dev.lanewise.core.backend.cuda;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * Collects the arguments of one kernel at a time, in the order of its parameters, and queues it.
 * The memory for arguments is made once, so launching allocates nothing.
 */
final class Launcher {
  private static final int MOST_ARGUMENTS = 24;
  private static final int MOST_GRID_YZ = 65535;

  private final Driver driver;
  private final long stream;
  private final CudaProfile profile;
  private final MemorySegment values;
  private final MemorySegment addresses;
  private CudaModule.Kernel kernel;
  private int count;

  Launcher(Driver driver, long stream, CudaProfile profile, Arena arena) {
    this.driver = driver;
    this.stream = stream;
    this.profile = profile;
    values = arena.allocate(8L * MOST_ARGUMENTS, 8);
    addresses = arena.allocate(ValueLayout.ADDRESS, MOST_ARGUMENTS);
    for (int i = 0; i < MOST_ARGUMENTS; i++) {
      addresses.setAtIndex(ValueLayout.ADDRESS, i, values.asSlice(8L * i));
    }
  }

  Launcher of(CudaModule.Kernel next) {
    kernel = next;
    count = 0;
    return this;
  }

  /** A device address, or any other argument of 8 bytes. */
  Launcher arg(long value) {
    values.set(ValueLayout.JAVA_LONG, 8L * count++, value);
    return this;
  }

  Launcher arg(int value) {
    values.set(ValueLayout.JAVA_INT, 8L * count++, value);
    return this;
  }

  Launcher arg(float value) {
    values.set(ValueLayout.JAVA_FLOAT, 8L * count++, value);
    return this;
  }

  Launcher arg(boolean value) {
    return arg(value ? 1 : 0);
  }

  /** Address of a buffer, or null. */
  Launcher arg(CudaBuffer buffer) {
    return arg(buffer == null ? 0L : buffer.address());
  }

  void run(long gridX, int block) {
    run(gridX, 1, 1, block, 0);
  }

  void run(long gridX, long gridY, long gridZ, int block, int sharedBytes) {
    if (gridX == 0 || gridY == 0 || gridZ == 0) {
      return;
    }
    if (gridX > Integer.MAX_VALUE || gridY > MOST_GRID_YZ || gridZ > MOST_GRID_YZ) {
      throw new IllegalArgumentException(
          kernel.name + " would need a grid of " + gridX + " x " + gridY + " x " + gridZ);
    }
    CudaModule.allowShared(driver, kernel, sharedBytes);
    int mark = profile.begin(kernel.name);
    driver.launchKernel(
        kernel.name,
        kernel.function,
        (int) gridX,
        (int) gridY,
        (int) gridZ,
        block,
        sharedBytes,
        stream,
        addresses);
    profile.end(mark);
  }

  /** One thread for each of {@code count} elements. */
  void runElements(long elements) {
    run((elements + 255) / 256, 256);
  }
}
