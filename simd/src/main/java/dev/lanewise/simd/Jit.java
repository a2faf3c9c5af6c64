package dev.lanewise.simd;

import java.io.IOException;
import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import javax.management.JMException;
import javax.management.ObjectName;

/**
 * Steers the JVM's compilers where the kernels need it.
 *
 * <p>The quick compiler cannot translate the large kernels ("out of virtual registers"), and once
 * it has failed the optimising compiler may never be asked, which leaves a kernel a hundred times
 * too slow for good: seen with the gradient of layer norm, at some sizes, in some runs. A directive
 * keeps the quick compiler away from every class with vector loops. It also lets a thread wait for
 * the optimising compiler: interpreted, a kernel is a thousand times slower, and would go on to ask
 * for a second translation, of the loop that it is in, that takes longer and is used once.
 *
 * <p>And it has the few methods inlined that lie between a scalar load and the instruction, and
 * that no annotation of the JDK's speaks for. The compiler leaves out what it thinks is rarely
 * called, and thinks so of all that began to be counted just before: one start in twelve had a tile
 * of gemm with a call for each element of A, ten times too slow for good. Methods with a minus are
 * kept apart: together with their caller they pass what the compiler will inline in one method, and
 * what is left out then are single additions; or a loop over rows comes to stand round theirs, and
 * one start in three read rows from memory at two thirds of the speed.
 *
 * <p>Where the management modules are absent, nothing is done.
 */
final class Jit {
  static final String DIRECTIVES =
      """
      [{
        match: ["dev/lanewise/simd/AdamW.*", "dev/lanewise/simd/AttentionBackward.*",
                "dev/lanewise/simd/AttentionDecode.*", "dev/lanewise/simd/AttentionForward.*",
                "dev/lanewise/simd/AttentionRows.*", "dev/lanewise/simd/AttentionTiles.*",
                "dev/lanewise/simd/Bfloat16.*", "dev/lanewise/simd/Bfloat16Kernel.*",
                "dev/lanewise/simd/Bfloat16Packing.*", "dev/lanewise/simd/Blas.*",
                "dev/lanewise/simd/CrossEntropy.*",
                "dev/lanewise/simd/Dropout.*", "dev/lanewise/simd/Elementwise.*",
                "dev/lanewise/simd/Embedding.*", "dev/lanewise/simd/EpilogueKernel.*",
                "dev/lanewise/simd/Exponentials.*", "dev/lanewise/simd/Gelu.*",
                "dev/lanewise/simd/Int8Kernel.*",
                "dev/lanewise/simd/Lanes.*", "dev/lanewise/simd/LayerNorm.*",
                "dev/lanewise/simd/LogSoftmax.*", "dev/lanewise/simd/MicroKernel.*",
                "dev/lanewise/simd/Packing.*", "dev/lanewise/simd/Rearrange.*",
                "dev/lanewise/simd/Reduce.*", "dev/lanewise/simd/SimilarityArrays.*",
                "dev/lanewise/simd/SimilarityHalves.*",
                "dev/lanewise/simd/SimilarityRows.*", "dev/lanewise/simd/SkinnyKernel.*",
                "dev/lanewise/simd/Softmax.*", "dev/lanewise/simd/TopK.next",
                "dev/lanewise/simd/VectorMath.*"],
        c1: { Exclude: true },
        inline: ["+jdk/internal/misc/Unsafe.*Unaligned", "+jdk/internal/misc/Unsafe.convEndian",
                 "+jdk/internal/foreign/NativeMemorySegmentImpl.unsafeGet*",
                 "+jdk/internal/foreign/NativeMemorySegmentImpl.maxAlignMask",
                 "+jdk/internal/foreign/NativeMemorySegmentImpl.isNative",
                 "+dev/lanewise/simd/SimilarityArrays.sum*",
                 "-dev/lanewise/simd/SimilarityArrays.cosineEnd",
                 "-dev/lanewise/simd/SimilarityArrays.cosineRest",
                 "-dev/lanewise/simd/SimilarityHalves.*Turns",
                 "-dev/lanewise/simd/SimilarityRows.*Turns"],
        c2: { BackgroundCompilation: false }
      }]
      """;

  private static boolean isAccepted;

  private Jit() {}

  /** Whether the compilers took the directives; they do where the rules' methods are gone, too. */
  static boolean isAccepted() {
    return isAccepted;
  }

  static void prepare() {
    meetAllSegments();
    try {
      String reply = addDirectives();
      // A JVM that does not know a word of them says so and takes none.
      isAccepted = reply.contains("directives added");
      if (!isAccepted) {
        System.getLogger("dev.lanewise.simd")
            .log(Level.DEBUG, "compiler directives were not accepted: {0}", reply);
      }
    } catch (IOException | JMException | LinkageError | RuntimeException e) {
      Logger log = System.getLogger("dev.lanewise.simd");
      log.log(Level.DEBUG, "compiler directives were not accepted", e);
    }
  }

  /**
   * Loads the JDK's kinds of segments and lifetimes. Compiled kernels rely on what is loaded; one
   * that came later, with the first checkpoint say, would throw all of them away.
   */
  private static void meetAllSegments() {
    try (Arena confined = Arena.ofConfined();
        Arena shared = Arena.ofShared()) {
      confined.allocate(1);
      shared.allocate(1);
    }
    Arena.ofAuto().allocate(1);
    Arena.global();
    Object[] arrays = {
      new byte[1], new char[1], new short[1], new int[1], new long[1], new float[1], new double[1]
    };
    for (Object array : arrays) {
      switch (array) {
        case byte[] a -> MemorySegment.ofArray(a);
        case char[] a -> MemorySegment.ofArray(a);
        case short[] a -> MemorySegment.ofArray(a);
        case int[] a -> MemorySegment.ofArray(a);
        case long[] a -> MemorySegment.ofArray(a);
        case float[] a -> MemorySegment.ofArray(a);
        default -> MemorySegment.ofArray((double[]) array);
      }
    }
    try {
      Class.forName("jdk.internal.foreign.MappedMemorySegmentImpl");
    } catch (ClassNotFoundException e) {
      // Another JDK may call it otherwise; kernels are then compiled once more, no more.
    }
  }

  private static String addDirectives() throws IOException, JMException {
    Path file = Files.createTempFile("lanewise", ".directives");
    try {
      Files.writeString(file, DIRECTIVES);
      return String.valueOf(
          ManagementFactory.getPlatformMBeanServer()
              .invoke(
                  new ObjectName("com.sun.management:type=DiagnosticCommand"),
                  "compilerDirectivesAdd",
                  new Object[] {new String[] {file.toString()}},
                  new String[] {String[].class.getName()}));
    } finally {
      Files.deleteIfExists(file);
    }
  }
}
