package dev.lanewise.core.report;

import java.math.BigDecimal;
import java.math.MathContext;
import java.util.Locale;

/** Numbers and durations as people read them. */
public final class Numbers {
  private Numbers() {}

  /**
   * A number in few characters: four significant digits, and k, M, G or T for thousands.
   *
   * @param value any number
   * @return for example {@code 1.234}, {@code 12.3k}, {@code 6e-4}, {@code NaN}
   */
  public static String compact(double value) {
    double size = Math.abs(value);
    if (!Double.isFinite(value)) {
      return Double.isNaN(value) ? "NaN" : value > 0 ? "∞" : "−∞";
    }
    if (size == 0) {
      return "0";
    }
    if (size < 0.001 || size >= 1e15) {
      return scientific(value, 3);
    }
    if (size < 9_999.5) {
      return plain(value, 4);
    }
    return thousands(value, 3);
  }

  /** A number with k, M, G or T for thousands. */
  static String thousands(double value, int digits) {
    if (Math.abs(value) >= 1e15) {
      return scientific(value, digits);
    }
    String[] units = {"k", "M", "G", "T"};
    int unit = 0;
    double scaled = value / 1e3;
    while (Math.abs(scaled) >= 999.5 && unit < units.length - 1) {
      scaled /= 1e3;
      unit++;
    }
    return plain(scaled, digits) + units[unit];
  }

  /**
   * A whole number with its digits in groups of three.
   *
   * @param value any number
   * @return for example {@code 12,345}
   */
  public static String grouped(long value) {
    return format("%,d", value);
  }

  /**
   * A duration.
   *
   * @param seconds its length
   * @return for example {@code 8.2 s}, {@code 1 min 58 s}, {@code 3 h 20 min}
   */
  public static String duration(double seconds) {
    if (!(seconds >= 0) || Double.isInfinite(seconds)) {
      return "?";
    }
    if (seconds < 9.95) {
      return format("%.1f s", seconds);
    }
    long whole = Math.round(seconds);
    if (whole < 60) {
      return whole + " s";
    }
    if (whole < 3600) {
      return whole / 60 + " min " + whole % 60 + " s";
    }
    long minutes = Math.round(seconds / 60);
    return minutes / 60 + " h " + minutes % 60 + " min";
  }

  /** Fills a template the same way in every country: a page's coordinates need dots and 0 to 9. */
  @SuppressWarnings("AnnotateFormatMethod")
  static String format(String template, Object... values) {
    return String.format(Locale.ROOT, template, values);
  }

  static String scientific(double value, int digits) {
    BigDecimal rounded = new BigDecimal(value).round(new MathContext(digits)).stripTrailingZeros();
    int exponent = rounded.precision() - rounded.scale() - 1;
    return rounded.movePointLeft(exponent).stripTrailingZeros().toPlainString() + "e" + exponent;
  }

  private static String plain(double value, int digits) {
    return new BigDecimal(value)
        .round(new MathContext(digits))
        .stripTrailingZeros()
        .toPlainString();
  }
}
