package dev.lanewise.core.format;

/** Texts that files in UTF-8 can hold. */
final class Texts {
  private Texts() {}

  /** Whether every surrogate has its other half, without which UTF-8 cannot hold it. */
  static boolean isWhole(String text) {
    for (int i = 0; i < text.length(); i++) {
      if (Character.isSurrogate(text.charAt(i))) {
        if (i + 1 == text.length()
            || !Character.isSurrogatePair(text.charAt(i), text.charAt(i + 1))) {
          return false;
        }
        i++;
      }
    }
    return true;
  }

  /**
   * Refuses half of a surrogate pair, which would be written as a question mark.
   *
   * @param what the subject of the sentence
   * @throws IllegalArgumentException if there is one
   */
  static void checkWhole(String what, String text) {
    if (!isWhole(text)) {
      throw new IllegalArgumentException(
          what + " has half of a surrogate pair, which UTF-8 cannot hold.");
    }
  }
}
