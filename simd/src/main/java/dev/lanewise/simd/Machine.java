package dev.lanewise.simd;

import dev.lanewise.simd.machinecode.MachineCode;
import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.util.List;
import java.util.Locale;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/**
 * What varies with the machine, chosen once when the class loads.
 *
 * <p>The system property {@code lanewise.simd.width} (128, 256 or 512) forces the vector width;
 * without it the JVM's preferred width is taken. One width serves the whole process, because code
 * of two widths in one JVM spoils the compiler's profiles for both.
 */
public final class Machine {
  private static final String WIDTH_PROPERTY = "lanewise.simd.width";
  private static final Logger LOG = System.getLogger("dev.lanewise.simd");

  /** Float vectors; every kernel uses this species and those derived from it, no other. */
  static final VectorSpecies<Float> F = chooseSpecies();

  /** Integers, as many lanes as {@link #F}. */
  static final VectorSpecies<Integer> I = VectorSpecies.of(int.class, F.vectorShape());

  /** Shorts, as many lanes as {@link #F}, hence in a vector of half the width. */
  static final VectorSpecies<Short> S =
      VectorSpecies.of(short.class, VectorShape.forBitSize(F.vectorBitSize() / 2));

  /** Floats in a vector. */
  static final int LANES = F.length();

  /** Bytes in a vector. */
  static final int VECTOR_BYTES = LANES * Float.BYTES;

  private static final List<String> SLOW = Conditions.find();

  static {
    Jit.prepare();
    SLOW.forEach(sentence -> LOG.log(Level.WARNING, sentence));
    LOG.log(Level.DEBUG, Machine::describe);
  }

  private Machine() {}

  private static VectorSpecies<Float> chooseSpecies() {
    int preferred = Math.clamp(FloatVector.SPECIES_PREFERRED.vectorBitSize(), 128, 512);
    String forced = System.getProperty(WIDTH_PROPERTY);
    int bits = forced == null ? preferred : forcedBits(forced);
    if (bits > preferred) {
      LOG.log(
          Level.WARNING,
          "{0}={1} is wider than this machine''s vectors of {2} bits: kernels will be very slow",
          WIDTH_PROPERTY,
          bits,
          preferred);
    }
    return VectorSpecies.of(float.class, VectorShape.forBitSize(bits));
  }

  private static int forcedBits(String text) {
    return switch (text) {
      case "128" -> 128;
      case "256" -> 256;
      case "512" -> 512;
      default ->
          throw new IllegalArgumentException(
              WIDTH_PROPERTY + " is " + text + "; it may be 128, 256 or 512");
    };
  }

  /**
   * The width of the vectors that every kernel of this process uses.
   *
   * @return 128, 256 or 512
   */
  public static int vectorBits() {
    return VECTOR_BYTES * Byte.SIZE;
  }

  /**
   * The choices of this process in one line.
   *
   * @return a line for a log or a report
   */
  public static String describe() {
    String forced = System.getProperty(WIDTH_PROPERTY);
    return String.format(
        Locale.ROOT,
        "vectors of %d bits (%s), %s, %d threads, %s %s, Java %s%s%s",
        vectorBits(),
        forced == null ? "preferred by the JVM" : "forced by " + WIDTH_PROPERTY,
        products(),
        Workers.threads(),
        System.getProperty("os.name"),
        System.getProperty("os.arch"),
        Runtime.version().feature(),
        Jit.isAccepted() ? "" : ", the compiler does not take directives",
        SLOW.isEmpty() ? "" : ". " + String.join(" ", SLOW));
  }

  /**
   * What of this JVM makes kernels much slower than they could be: no C2 compiler, no fused
   * multiply-add, a native image. Each is logged once as a warning, too.
   *
   * @return a sentence for each, which says what to do; none where all is well
   */
  public static List<String> obstacles() {
    return SLOW;
  }

  /**
   * How matrices are multiplied, and if it is not by machine code, why.
   *
   * @return some words for a log or a report
   */
  public static String products() {
    return MachineCode.hasFloats() && vectorBits() != 512
        ? "products by the Vector API: machine code is for vectors of 512 bits"
        : MachineCode.describe();
  }

  /**
   * Multiplies pairs of bfloat16 in registers and nothing else, for a measure of the most that a
   * processor can do.
   *
   * @param rounds how often, at least 1; a thousand take some microseconds, in which the JVM cannot
   *     stop the thread
   * @return operations done, two for each product; 0 where products of bfloat16 are not computed by
   *     machine code
   * @throws IllegalArgumentException if there are no rounds
   */
  public static long bfloat16Operations(int rounds) {
    checkRounds(rounds);
    return MachineCode.hasBfloat16() && vectorBits() == 512
        ? MachineCode.bfloat16Chains(rounds)
        : 0;
  }

  /**
   * Multiplies integers of 8 bits in registers, as {@link #bfloat16Operations} does bfloat16.
   *
   * @param rounds how often, at least 1; a thousand take some microseconds, in which the JVM cannot
   *     stop the thread
   * @return operations done, two for each product; 0 where products of integers are not computed by
   *     machine code
   * @throws IllegalArgumentException if there are no rounds
   */
  public static long int8Operations(int rounds) {
    checkRounds(rounds);
    return MachineCode.hasInt8() && vectorBits() == 512 ? MachineCode.int8Chains(rounds) : 0;
  }

  private static void checkRounds(int rounds) {
    if (rounds < 1) {
      throw new IllegalArgumentException(rounds + " rounds: there must be at least 1");
    }
  }
}
