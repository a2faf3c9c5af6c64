package dev.lanewise.simd;

import com.sun.management.HotSpotDiagnosticMXBean;
import java.lang.management.ManagementFactory;
import java.util.ArrayList;
import java.util.List;
import java.util.function.UnaryOperator;

/**
 * What of the JVM makes kernels slow, each in a sentence: they are written for HotSpot's optimising
 * compiler, C2, and give the right results under any other, perhaps a thousand times slower.
 */
final class Conditions {
  private Conditions() {}

  /** The sentences; none where all is well. */
  static List<String> find() {
    return find(System::getProperty);
  }

  /** As {@link #find()}, of a JVM with other system properties. */
  static List<String> find(UnaryOperator<String> property) {
    List<String> found = new ArrayList<>();
    if (property.apply("org.graalvm.nativeimage.imagecode") != null) {
      found.add(
          "This is a native image, for which kernels were never measured: its compiler is not C2,"
              + " so measure before you rely on it, or use a JVM.");
      return List.copyOf(found);
    }
    String info = property.apply("java.vm.info");
    if (info != null && info.contains("interpreted mode")) {
      found.add("This JVM only interprets (-Xint), a thousand times slower: leave the option out.");
      return List.copyOf(found);
    }
    String name = property.apply("java.vm.name");
    if (name == null || !name.matches(".*(HotSpot|OpenJDK).*")) {
      found.add(
          "This JVM, "
              + name
              + ", is not HotSpot, for whose compiler C2 kernels are written: measure before you"
              + " rely on it.");
      return List.copyOf(found);
    }
    if (isSet("UseJVMCICompiler", "true")) {
      found.add(
          "This JVM compiles with Graal, not with C2, for which kernels are written: start it with"
              + " -XX:-UseJVMCICompiler, or measure before you rely on it.");
    } else if (isBelow("TieredStopAtLevel", 4)) {
      found.add(
          "This JVM compiles without its optimising compiler, a thousand times slower: leave out"
              + " -XX:TieredStopAtLevel.");
    }
    if (isSet("UseFMA", "false")) {
      found.add(
          "This JVM or processor has no fused multiply-add (FMA), which Java then computes in"
              + " decimal numbers, 10,000 times slower: leave out -XX:-UseFMA and -XX:UseAVX, or"
              + " use a machine with AVX2.");
    }
    return List.copyOf(found);
  }

  private static boolean isSet(String option, String value) {
    return value.equals(option(option));
  }

  private static boolean isBelow(String option, int bound) {
    String value = option(option);
    return value != null && value.matches("\\d+") && Integer.parseInt(value) < bound;
  }

  /** An option of the JVM; null where there is none or it cannot be asked. */
  private static String option(String name) {
    try {
      HotSpotDiagnosticMXBean bean =
          ManagementFactory.getPlatformMXBean(HotSpotDiagnosticMXBean.class);
      return bean == null ? null : bean.getVMOption(name).getValue();
    } catch (IllegalArgumentException | LinkageError e) {
      return null;
    }
  }
}
