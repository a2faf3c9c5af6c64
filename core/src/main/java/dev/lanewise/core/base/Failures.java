package dev.lanewise.core.base;

import java.io.EOFException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileSystemException;
import java.nio.file.NoSuchFileException;

/** Words for failures of the file system. */
public final class Failures {
  private Failures() {}

  /** Why something failed, in words that fit into brackets, for people. */
  public static String reason(Throwable failure) {
    String reason =
        switch (failure) {
          case InputException e -> e.getMessage();
          case UncheckedIOException e -> describe(e.getCause());
          case IOException e -> describe(e);
          case OutOfMemoryError e -> "out of memory: " + e.getMessage();
          default -> failure.toString();
        };
    return reason.endsWith(".") ? reason.substring(0, reason.length() - 1) : reason;
  }

  /** What went wrong, in a few words that fit into brackets: "no such file". */
  public static String describe(IOException failure) {
    return switch (failure) {
      case EOFException e -> "it ends too early";
      case NoSuchFileException e -> "no such file or folder";
      case AccessDeniedException e -> "access denied";
      case FileSystemException e when e.getReason() != null -> e.getReason();
      default ->
          failure.getMessage() != null ? failure.getMessage() : failure.getClass().getSimpleName();
    };
  }
}
