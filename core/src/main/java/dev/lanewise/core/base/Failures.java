package dev.lanewise.core.base;

import java.io.IOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileSystemException;
import java.nio.file.NoSuchFileException;

/** Words for failures of the file system. */
public final class Failures {
  private Failures() {}

  /** What went wrong, in a few words that fit into brackets: "no such file". */
  public static String describe(IOException failure) {
    return switch (failure) {
      case NoSuchFileException e -> "no such file or folder";
      case AccessDeniedException e -> "access denied";
      case FileSystemException e when e.getReason() != null -> e.getReason();
      default -> failure.getMessage() == null ? failure.toString() : failure.getMessage();
    };
  }
}
