package dev.lanewise.simd.machinecode;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.lanewise.simd.machinecode.Bfloat16Tile.End;
import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;

/**
 * The kernels in machine code of this process, made once when the class loads, and whether there
 * are any.
 *
 * <p>The system property {@code lanewise.simd.machineCode}, {@code on} (the default) or {@code
 * off}, says whether machine code may be made at all. It also needs native access for this module,
 * Linux on x86-64, a system that lets memory become executable, and a processor with AVX512_BF16.
 * What is missing is told by {@link #describe} and logged at level DEBUG; nothing else happens.
 *
 * <p>A call takes some nanoseconds, and the JVM cannot stop the thread for a collection of garbage
 * within one: calls must be short. Addresses and distances are in bytes.
 */
public final class MachineCode {
  private static final String PROPERTY = "lanewise.simd.machineCode";
  private static final Logger LOG = System.getLogger("dev.lanewise.simd");

  private static final String MISSING;
  private static final MethodHandle STORE_4;
  private static final MethodHandle SCALE_4;
  private static final MethodHandle ADD_4;
  private static final MethodHandle STORE_2;
  private static final MethodHandle SCALE_2;
  private static final MethodHandle ADD_2;
  private static final MethodHandle CHAINS;

  static {
    MethodHandle[] kernels = new MethodHandle[7];
    String missing = missing();
    if (missing == null) {
      try {
        kernels = kernels();
      } catch (UnsupportedOperationException e) {
        missing = e.getMessage();
      }
    }
    MISSING = missing;
    STORE_4 = kernels[0];
    SCALE_4 = kernels[1];
    ADD_4 = kernels[2];
    STORE_2 = kernels[3];
    SCALE_2 = kernels[4];
    ADD_2 = kernels[5];
    CHAINS = kernels[6];
    LOG.log(Level.DEBUG, MachineCode::describe);
  }

  private MachineCode() {}

  private static String missing() {
    String wanted = System.getProperty(PROPERTY, "on");
    if (!wanted.equals("on") && !wanted.equals("off")) {
      throw new IllegalArgumentException(PROPERTY + " is " + wanted + "; it may be on or off");
    }
    if (wanted.equals("off")) {
      return "switched off by " + PROPERTY;
    }
    String system = System.getProperty("os.name");
    String processor = System.getProperty("os.arch");
    if (!system.equals("Linux") || !(processor.equals("amd64") || processor.equals("x86_64"))) {
      return "only for Linux on x86-64";
    }
    if (!MachineCode.class.getModule().isNativeAccessEnabled()) {
      return "no native access (--enable-native-access)";
    }
    try {
      return Processor.missingForBfloat16();
    } catch (UnsupportedOperationException e) {
      return e.getMessage();
    }
  }

  @SuppressWarnings("restricted")
  private static MethodHandle[] kernels() {
    Assembler code = new Assembler();
    int[] starts = new int[7];
    int kernel = 0;
    for (int vectors : new int[] {4, 2}) {
      for (End end : End.values()) {
        code.align(64);
        starts[kernel++] = code.size();
        Bfloat16Tile.write(code, vectors, end);
      }
    }
    code.align(64);
    starts[kernel] = code.size();
    Bfloat16Chains.write(code);
    MemorySegment memory = ExecutableMemory.of(code.toBytes());
    FunctionDescriptor tile =
        FunctionDescriptor.ofVoid(
            ADDRESS,
            JAVA_LONG,
            ADDRESS,
            JAVA_LONG,
            ADDRESS,
            JAVA_LONG,
            JAVA_LONG,
            JAVA_LONG,
            JAVA_LONG,
            JAVA_LONG,
            JAVA_FLOAT,
            JAVA_FLOAT);
    FunctionDescriptor chains = FunctionDescriptor.ofVoid(JAVA_LONG);
    Linker linker = Linker.nativeLinker();
    MethodHandle[] kernels = new MethodHandle[starts.length];
    for (int i = 0; i < starts.length; i++) {
      kernels[i] =
          linker.downcallHandle(
              memory.asSlice(starts[i]),
              i == kernel ? chains : tile,
              Linker.Option.critical(false));
    }
    return kernels;
  }

  /** Whether there are kernels for bfloat16, for vectors of 512 bits. */
  public static boolean hasBfloat16() {
    return MISSING == null;
  }

  /**
   * What runs, and if it is no machine code, why.
   *
   * @return some words for a log or a report
   */
  public static String describe() {
    return MISSING == null
        ? "bfloat16 products by machine code (AVX512_BF16)"
        : "bfloat16 products by the Vector API: " + MISSING;
  }

  /**
   * Tiles of six rows beside each other, {@code C = alpha A B + beta C}, of pairs of bfloat16, if
   * {@link #hasBfloat16}. With {@code beta} 0, C is not read.
   *
   * <p>Memory is held for the call: an arena that another thread closes meanwhile refuses to.
   *
   * @param tiles how many, at least 1, whose panels of B follow each other
   * @param vectors of 16 columns in a tile, 2 or 4
   * @param a memory of A
   * @param aAt where A's first row lies
   * @param aRow distance of A's rows, of {@code depth} pairs each
   * @param b memory of B
   * @param bAt where B's first panel lies, {@code depth} groups of pairs
   * @param depth pairs
   * @param c memory of C
   * @param cAt where C's first row lies
   * @param cStride distance of C's rows
   */
  public static void tiles(
      long tiles,
      int vectors,
      MemorySegment a,
      long aAt,
      long aRow,
      MemorySegment b,
      long bAt,
      long depth,
      MemorySegment c,
      long cAt,
      long cStride,
      float alpha,
      float beta) {
    try {
      if (vectors == 4) {
        if (beta != 0) {
          ADD_4.invokeExact(a, aRow, b, depth, c, cStride, aAt, bAt, cAt, tiles, alpha, beta);
        } else if (alpha != 1) {
          SCALE_4.invokeExact(a, aRow, b, depth, c, cStride, aAt, bAt, cAt, tiles, alpha, beta);
        } else {
          STORE_4.invokeExact(a, aRow, b, depth, c, cStride, aAt, bAt, cAt, tiles, alpha, beta);
        }
      } else {
        if (beta != 0) {
          ADD_2.invokeExact(a, aRow, b, depth, c, cStride, aAt, bAt, cAt, tiles, alpha, beta);
        } else if (alpha != 1) {
          SCALE_2.invokeExact(a, aRow, b, depth, c, cStride, aAt, bAt, cAt, tiles, alpha, beta);
        } else {
          STORE_2.invokeExact(a, aRow, b, depth, c, cStride, aAt, bAt, cAt, tiles, alpha, beta);
        }
      }
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  /**
   * Does nothing but multiply pairs of bfloat16 in registers, if {@link #hasBfloat16}.
   *
   * @param rounds how often, at least 1
   * @return operations done, two for each product
   */
  public static long chains(long rounds) {
    try {
      CHAINS.invokeExact(rounds);
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
    return rounds * Bfloat16Chains.CHAINS * 16 * 4;
  }
}
