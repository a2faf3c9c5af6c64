package dev.lanewise.core.cli;

import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.Locale;
import picocli.CommandLine;
import picocli.CommandLine.TypeConversionException;

/** How numbers and paths are read from a command line: in words for people, and no NaN. */
final class Converters {
  private Converters() {}

  /**
   * Has a command line and its subcommands read values so.
   *
   * @param line the command line, with all its subcommands
   */
  static void register(CommandLine line) {
    line.registerConverter(Integer.class, Converters::int32);
    line.registerConverter(int.class, Converters::int32);
    line.registerConverter(Long.class, Converters::int64);
    line.registerConverter(long.class, Converters::int64);
    line.registerConverter(Double.class, Converters::number);
    line.registerConverter(double.class, Converters::number);
    line.registerConverter(Path.class, Converters::path);
  }

  private static int int32(String text) {
    try {
      return Integer.parseInt(text);
    } catch (NumberFormatException e) {
      throw notWhole(text, Integer.MIN_VALUE, Integer.MAX_VALUE);
    }
  }

  private static long int64(String text) {
    try {
      return Long.parseLong(text);
    } catch (NumberFormatException e) {
      throw notWhole(text, Long.MIN_VALUE, Long.MAX_VALUE);
    }
  }

  private static TypeConversionException notWhole(String text, long least, long most) {
    return new TypeConversionException(
        text.matches("[+-]?\\d+")
            ? String.format(Locale.ROOT, "%s is not between %d and %d.", text, least, most)
            : String.format(Locale.ROOT, "'%s' is not a whole number.", text));
  }

  private static double number(String text) {
    try {
      double value = Double.parseDouble(text);
      if (Double.isFinite(value)) {
        return value;
      }
    } catch (NumberFormatException e) {
      // Falls through to the sentence.
    }
    throw new TypeConversionException(
        String.format(Locale.ROOT, "'%s' is not a finite number.", text));
  }

  private static Path path(String text) {
    try {
      if (!text.isEmpty()) {
        return Path.of(text);
      }
    } catch (InvalidPathException e) {
      throw new TypeConversionException(
          String.format(Locale.ROOT, "'%s' is no path: %s.", text, e.getReason()));
    }
    throw new TypeConversionException("a path cannot be empty.");
  }
}
