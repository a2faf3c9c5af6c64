package dev.lanewise.simd.machinecode;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

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
 * Linux on x86-64, a system that lets memory become executable, and a processor with AVX-512, for
 * bfloat16 also AVX512_BF16, for integers AVX512_VNNI. What is missing is told by {@link #describe}
 * and logged at level DEBUG; nothing else happens.
 *
 * <p>A call takes some nanoseconds, and the JVM cannot stop the thread for a collection of garbage
 * within one: calls must be short. Addresses and distances are in bytes.
 */
public final class MachineCode {
  /** The most rows of a call of {@link #int8}. */
  public static final int INT8_ROWS = Int8Rows.ROWS;

  private static final String PROPERTY = "lanewise.simd.machineCode";
  private static final Logger LOG = System.getLogger("dev.lanewise.simd");

  private static final String MISSING_FLOATS;
  private static final String MISSING_BFLOAT16;
  private static final String MISSING_INT8;
  private static final MethodHandle FLOATS_4;
  private static final MethodHandle FLOATS_2;
  private static final MethodHandle BFLOAT16_4;
  private static final MethodHandle BFLOAT16_2;
  private static final MethodHandle BFLOAT16_CHAINS;
  private static final MethodHandle INT8_CHAINS;
  private static final MethodHandle INT8;

  static {
    MethodHandle[] kernels = new MethodHandle[7];
    Processor.Missing missing = missing();
    if (missing.forFloats() == null) {
      try {
        kernels = kernels();
      } catch (UnsupportedOperationException e) {
        missing = Processor.Missing.all(e.getMessage());
      }
    }
    MISSING_FLOATS = missing.forFloats();
    MISSING_BFLOAT16 = missing.forBfloat16();
    MISSING_INT8 = missing.forInt8();
    FLOATS_4 = kernels[0];
    FLOATS_2 = kernels[1];
    BFLOAT16_4 = kernels[2];
    BFLOAT16_2 = kernels[3];
    BFLOAT16_CHAINS = kernels[4];
    INT8_CHAINS = kernels[5];
    INT8 = kernels[6];
    LOG.log(Level.DEBUG, MachineCode::describe);
  }

  private MachineCode() {}

  private static Processor.Missing missing() {
    String wanted = System.getProperty(PROPERTY, "on");
    if (!wanted.equals("on") && !wanted.equals("off")) {
      throw new IllegalArgumentException(PROPERTY + " is " + wanted + "; it may be on or off");
    }
    if (wanted.equals("off")) {
      return Processor.Missing.all("switched off by " + PROPERTY);
    }
    String system = System.getProperty("os.name");
    String processor = System.getProperty("os.arch");
    if (!system.equals("Linux") || !(processor.equals("amd64") || processor.equals("x86_64"))) {
      return Processor.Missing.all("only for Linux on x86-64");
    }
    if (!MachineCode.class.getModule().isNativeAccessEnabled()) {
      return Processor.Missing.all("no native access (--enable-native-access)");
    }
    try {
      return Processor.missing();
    } catch (UnsupportedOperationException e) {
      return Processor.Missing.all(e.getMessage());
    }
  }

  @SuppressWarnings("restricted")
  private static MethodHandle[] kernels() {
    Assembler code = new Assembler();
    int[] starts = new int[7];
    int kernel = 0;
    for (boolean isBfloat16 : new boolean[] {false, true}) {
      for (int vectors : new int[] {4, 2}) {
        code.align(64);
        starts[kernel++] = code.size();
        GemmTile.write(code, vectors, isBfloat16);
      }
    }
    for (boolean isInt8 : new boolean[] {false, true}) {
      code.align(64);
      starts[kernel++] = code.size();
      Chains.write(code, isInt8);
    }
    code.align(64);
    starts[kernel] = code.size();
    Int8Rows.write(code);
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
            JAVA_LONG,
            JAVA_LONG,
            ADDRESS,
            JAVA_LONG,
            ADDRESS,
            JAVA_LONG,
            JAVA_LONG,
            JAVA_FLOAT,
            JAVA_FLOAT);
    FunctionDescriptor chains = FunctionDescriptor.ofVoid(JAVA_LONG);
    FunctionDescriptor rows =
        FunctionDescriptor.ofVoid(
            ADDRESS,
            JAVA_LONG,
            JAVA_LONG,
            ADDRESS,
            JAVA_LONG,
            ADDRESS,
            JAVA_LONG,
            JAVA_LONG,
            JAVA_LONG,
            JAVA_LONG,
            JAVA_LONG,
            JAVA_LONG,
            JAVA_FLOAT);
    FunctionDescriptor[] types = {tile, tile, tile, tile, chains, chains, rows};
    Linker linker = Linker.nativeLinker();
    MethodHandle[] kernels = new MethodHandle[starts.length];
    for (int i = 0; i < starts.length; i++) {
      kernels[i] =
          linker.downcallHandle(memory.asSlice(starts[i]), types[i], Linker.Option.critical(false));
    }
    return kernels;
  }

  /** Whether there are kernels for floats, for vectors of 512 bits. */
  public static boolean hasFloats() {
    return MISSING_FLOATS == null;
  }

  /** Whether there are kernels for bfloat16, for vectors of 512 bits. */
  public static boolean hasBfloat16() {
    return MISSING_BFLOAT16 == null;
  }

  /** Whether there are kernels for integers of 8 bits, for vectors of 512 bits. */
  public static boolean hasInt8() {
    return MISSING_INT8 == null;
  }

  /**
   * What runs, and if it is no machine code, why.
   *
   * @return some words for a log or a report
   */
  public static String describe() {
    if (MISSING_FLOATS != null) {
      return "products by the Vector API: " + MISSING_FLOATS;
    }
    StringBuilder some = new StringBuilder("AVX-512");
    StringBuilder others = new StringBuilder();
    describe("AVX512_BF16", "bfloat16", MISSING_BFLOAT16, some, others);
    describe("AVX512_VNNI", "int8", MISSING_INT8, some, others);
    return "products by machine code (" + some + ")" + others;
  }

  private static void describe(
      String feature, String type, String missing, StringBuilder some, StringBuilder others) {
    if (missing == null) {
      some.append(", ").append(feature);
    } else {
      others.append(", ").append(type).append(" products by the Vector API: ").append(missing);
    }
  }

  /**
   * Tiles of six rows beside and below each other, {@code C = alpha A B + beta C} or {@code C =
   * alpha A B + bias + residual}, of floats or of pairs of bfloat16, if {@link #hasFloats} or
   * {@link #hasBfloat16}. With {@code beta} 0, C is not read.
   *
   * <p>Memory is held for the call: an arena that another thread closes meanwhile refuses to.
   *
   * @param isBfloat16 whether elements are pairs of bfloat16
   * @param tiles how many beside each other, at least 1, whose panels of B follow each other
   * @param rows how many below each other, at least 1, whose rows of A and C follow each other
   * @param vectors of 16 columns in a tile, 2 or 4
   * @param a memory of A
   * @param aAt where A's first row lies
   * @param aRow distance of A's rows, of {@code depth} elements each
   * @param b memory of B
   * @param bAt where B's first panel lies, {@code depth} groups of elements
   * @param depth elements
   * @param c memory of C
   * @param cAt where C's first row lies
   * @param cStride distance of C's rows
   * @param bias memory of what is added to each row instead of C, or null
   * @param biasAt where the first column's lies
   * @param residual memory of what is added to C besides a bias, or null
   * @param residualAt where its first row lies
   * @param residualStride distance of its rows
   */
  public static void tiles(
      boolean isBfloat16,
      long tiles,
      long rows,
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
      float beta,
      MemorySegment bias,
      long biasAt,
      MemorySegment residual,
      long residualAt,
      long residualStride) {
    long end = GemmTile.STORE;
    if (residual != null) {
      end = GemmTile.RESIDUAL;
    } else if (bias != null) {
      end = GemmTile.BIAS;
    } else if (beta != 0) {
      end = GemmTile.ADD;
    }
    MemorySegment x = bias == null ? MemorySegment.NULL : bias;
    MemorySegment y = residual == null ? MemorySegment.NULL : residual;
    try {
      if (isBfloat16) {
        if (vectors == 4) {
          BFLOAT16_4.invokeExact(
              a,
              aRow,
              b,
              depth,
              c,
              cStride,
              aAt,
              bAt,
              cAt,
              tiles,
              rows,
              end,
              x,
              biasAt,
              y,
              residualAt,
              residualStride,
              alpha,
              beta);
        } else {
          BFLOAT16_2.invokeExact(
              a,
              aRow,
              b,
              depth,
              c,
              cStride,
              aAt,
              bAt,
              cAt,
              tiles,
              rows,
              end,
              x,
              biasAt,
              y,
              residualAt,
              residualStride,
              alpha,
              beta);
        }
      } else if (vectors == 4) {
        FLOATS_4.invokeExact(
            a,
            aRow,
            b,
            depth,
            c,
            cStride,
            aAt,
            bAt,
            cAt,
            tiles,
            rows,
            end,
            x,
            biasAt,
            y,
            residualAt,
            residualStride,
            alpha,
            beta);
      } else {
        FLOATS_2.invokeExact(
            a,
            aRow,
            b,
            depth,
            c,
            cStride,
            aAt,
            bAt,
            cAt,
            tiles,
            rows,
            end,
            x,
            biasAt,
            y,
            residualAt,
            residualStride,
            alpha,
            beta);
      }
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  /**
   * Products of rows of A with panels of B that follow each other, both as {@link Int8Layout} has
   * them, {@code C = A B + beta C}, if {@link #hasInt8}. With {@code beta} 0, C is not read. Memory
   * is held for the call.
   *
   * @param rows of A and C, from 1 to {@link #INT8_ROWS}
   * @param panels at least 1
   * @param chunks of a panel
   * @param a memory of A
   * @param aAt where its first row lies
   * @param aRow distance of its rows
   * @param b memory of B
   * @param bAt where its first panel lies
   * @param c memory of C, with whole panels of columns
   * @param cAt where its first row lies
   * @param cStride distance of its rows
   */
  public static void int8(
      int rows,
      long panels,
      long chunks,
      MemorySegment a,
      long aAt,
      long aRow,
      MemorySegment b,
      long bAt,
      MemorySegment c,
      long cAt,
      long cStride,
      float beta) {
    try {
      INT8.invokeExact(
          a,
          aAt,
          aRow,
          b,
          bAt,
          c,
          cAt,
          cStride,
          chunks,
          panels,
          (long) rows,
          beta == 0 ? 0L : 1L,
          beta);
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
  public static long bfloat16Chains(long rounds) {
    run(BFLOAT16_CHAINS, rounds);
    return rounds * Chains.operations(2);
  }

  /**
   * Does nothing but multiply four integers of 8 bits in registers, if {@link #hasInt8}.
   *
   * @param rounds how often, at least 1
   * @return operations done, two for each product
   */
  public static long int8Chains(long rounds) {
    run(INT8_CHAINS, rounds);
    return rounds * Chains.operations(4);
  }

  private static void run(MethodHandle chains, long rounds) {
    try {
      chains.invokeExact(rounds);
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }
}
