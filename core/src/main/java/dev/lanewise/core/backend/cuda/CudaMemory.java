package dev.lanewise.core.backend.cuda;

import dev.lanewise.core.base.InputException;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;

/**
 * Device memory: allocations, the scratch memory of operations, and transfers through page-locked
 * memory. Everything runs on one stream, so scratch memory may be used again by the next operation
 * before this one has run.
 */
final class CudaMemory {
  private static final long STAGING_BYTES = 4L << 20;
  private static final long SCRATCH_STEP = 8L << 20;
  private static final long ALIGNMENT = 256;

  /** Memory of the device with, once asked for, a bfloat16 copy of its float32 elements. */
  final class Allocation {
    private final long address;
    private final long bytes;
    private boolean live = true;
    private long copy;
    private boolean copyFresh;

    private Allocation(long address, long bytes) {
      this.address = address;
      this.bytes = bytes;
    }

    long address() {
      if (!live) {
        throw new IllegalStateException("this buffer's memory has been freed");
      }
      return address;
    }

    long bytes() {
      return bytes;
    }

    boolean belongsTo(CudaMemory memory) {
      return CudaMemory.this == memory;
    }

    /** Address of the bfloat16 copy, or 0 if nobody has asked for one. */
    long copy() {
      return copy;
    }

    boolean copyFresh() {
      return copyFresh;
    }

    void copyFresh(boolean fresh) {
      copyFresh = fresh;
    }

    /** Makes room for the copy; its contents are not fresh. */
    long makeCopy() {
      copy = allocateBytes(bytes / 2, "the bfloat16 copy of parameters");
      copyFresh = false;
      return copy;
    }
  }

  private final Driver driver;
  private final long stream;
  private final String deviceName;
  private final Releases releases = new Releases();
  private final Set<Allocation> allocations = new HashSet<>();
  private final MemorySegment[] staging = new MemorySegment[2];
  private final long[] stagingFree = new long[2];
  private int nextStaging;
  private final List<long[]> scratchBlocks = new ArrayList<>();
  private int scratchBlock;
  private long scratchUsed;

  CudaMemory(Driver driver, long stream, String deviceName) {
    this.driver = driver;
    this.stream = stream;
    this.deviceName = deviceName;
    try {
      for (int i = 0; i < 2; i++) {
        MemorySegment host = driver.memAllocHost(STAGING_BYTES);
        releases.add(() -> driver.memFreeHost(host));
        long event = driver.eventCreate();
        releases.add(() -> driver.eventDestroy(event));
        staging[i] = host;
        stagingFree[i] = event;
      }
    } catch (RuntimeException e) {
      throw releases.after(e);
    }
  }

  Allocation allocate(long bytes) {
    long rounded = Math.max(ALIGNMENT, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    long address = allocateBytes(rounded, "a buffer");
    driver.memsetD8Async(address, (byte) 0, rounded, stream);
    Allocation allocation = new Allocation(address, rounded);
    allocations.add(allocation);
    return allocation;
  }

  void free(Allocation allocation) {
    if (!allocations.remove(allocation)) {
      throw new IllegalStateException("this buffer's memory has been freed");
    }
    driver.streamSynchronize(stream);
    allocation.live = false;
    driver.memFree(allocation.address);
    if (allocation.copy != 0) {
      driver.memFree(allocation.copy);
    }
  }

  private long allocateBytes(long bytes, String what) {
    try {
      return driver.memAlloc(bytes);
    } catch (CudaException e) {
      if (e.status() != Driver.ERROR_OUT_OF_MEMORY) {
        throw e;
      }
      Driver.MemoryInfo info = driver.memGetInfo();
      throw new InputException(
          "The GPU ("
              + deviceName
              + ") has "
              + gibibytes(info.free())
              + " of "
              + gibibytes(info.total())
              + " free, and "
              + what
              + " needs "
              + gibibytes(bytes)
              + ": use a smaller batch or context, accumulate over more steps, or a smaller model.",
          e);
    }
  }

  private static String gibibytes(long bytes) {
    return String.format(Locale.ROOT, "%.2f GiB", bytes / (double) (1L << 30));
  }

  // Scratch --------------------------------------------------------------------------------------

  /** Gives back the scratch memory of the operation before. */
  void resetScratch() {
    if (scratchBlocks.size() > 1) {
      // One block that holds what the operation before took, so that this happens once.
      long total = 0;
      driver.streamSynchronize(stream);
      for (long[] block : scratchBlocks) {
        total += block[1];
        driver.memFree(block[0]);
      }
      scratchBlocks.clear();
      scratchBlocks.add(new long[] {allocateBytes(total, "working memory"), total});
    }
    scratchBlock = 0;
    scratchUsed = 0;
  }

  /** Memory, not zeroed, for the running operation alone. */
  long scratch(long bytes) {
    long rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    while (scratchBlock < scratchBlocks.size()) {
      long[] block = scratchBlocks.get(scratchBlock);
      if (scratchUsed + rounded <= block[1]) {
        long address = block[0] + scratchUsed;
        scratchUsed += rounded;
        return address;
      }
      scratchBlock++;
      scratchUsed = 0;
    }
    long size = Math.max(rounded, SCRATCH_STEP);
    long address = allocateBytes(size, "working memory");
    scratchBlocks.add(new long[] {address, size});
    scratchUsed = rounded;
    return address;
  }

  // Transfers ------------------------------------------------------------------------------------

  void upload(MemorySegment from, long to) {
    long bytes = from.byteSize();
    for (long done = 0; done < bytes; ) {
      int slot = nextStaging;
      nextStaging ^= 1;
      long part = Math.min(STAGING_BYTES, bytes - done);
      driver.eventSynchronize(stagingFree[slot]);
      MemorySegment.copy(from, done, staging[slot], 0, part);
      driver.memcpyHtoDAsync(to + done, staging[slot], part, stream);
      driver.eventRecord(stagingFree[slot], stream);
      done += part;
    }
  }

  void download(long from, MemorySegment to) {
    long bytes = to.byteSize();
    for (long done = 0; done < bytes; ) {
      int slot = nextStaging;
      nextStaging ^= 1;
      long part = Math.min(STAGING_BYTES, bytes - done);
      driver.eventSynchronize(stagingFree[slot]);
      driver.memcpyDtoHAsync(staging[slot], from + done, part, stream);
      driver.streamSynchronize(stream);
      MemorySegment.copy(staging[slot], 0, to, done, part);
      done += part;
    }
  }

  void close() {
    for (long[] block : scratchBlocks) {
      releases.add(() -> driver.memFree(block[0]));
    }
    scratchBlocks.clear();
    for (Allocation allocation : List.copyOf(allocations)) {
      releases.add(() -> free(allocation));
    }
    releases.close();
  }
}
