package dev.lanewise.core.data;

import dev.lanewise.core.base.InputException;
import java.util.List;

/**
 * A regular expression, matched at a place of UTF-8 text, by trying its alternatives in order as
 * Oniguruma does, which Hugging Face's tokenizers use.
 *
 * <p>{@link PatternParser} reads the expression. Repetitions of one set of characters are loops;
 * those of groups are written out, so the stack never grows with the text.
 */
final class SplitPattern {
  /** Most parts one after the other, each of which takes some stack. */
  static final int LONGEST = 4000;

  private final Node start;

  private SplitPattern(Node start) {
    this.start = start;
  }

  /**
   * Compiles a regular expression.
   *
   * @throws InputException if it is not sound, or holds what is not supported; the message names it
   */
  static SplitPattern of(String regex, String source) {
    SplitPattern pattern = new SplitPattern(new PatternParser(regex, source).parse());
    if (pattern.end(new byte[0], 0, 0, 0) == 0) {
      throw new InputException(
          source
              + " cuts text by the regular expression "
              + regex
              + ", which matches where there is nothing; that is not supported here.");
    }
    return pattern;
  }

  /**
   * The pattern that matches a text as it stands.
   *
   * @throws InputException if it is empty or very long
   */
  static SplitPattern ofText(String text, String source) {
    Node node = END;
    int[] characters = text.codePoints().toArray();
    if (characters.length == 0 || characters.length > LONGEST) {
      throw new InputException(
          source + " cuts text at a text of " + characters.length + " characters.");
    }
    for (int i = characters.length - 1; i >= 0; i--) {
      node = new Run(CharSet.of(characters[i]), 1, 1, false, node);
    }
    return new SplitPattern(node);
  }

  /**
   * The end of the match that begins at i, or -1.
   *
   * @param b UTF-8
   * @param from where the text begins; nothing before is looked at
   * @param i where the match is to begin
   * @param to where the text ends; nothing from there on is looked at
   */
  int end(byte[] b, int from, int i, int to) {
    return start.match(b, from, i, to);
  }

  /** A part of the expression together with all that follows it. */
  abstract static class Node {
    /** Where the match of this and all that follows ends, or -1. */
    abstract int match(byte[] b, int from, int i, int to);

    /** Whether a match can begin with this byte of ASCII; true where that is not known. */
    boolean mayBegin(int firstByte) {
      return true;
    }
  }

  /** The end of the expression. */
  static final Node END =
      new Node() {
        @Override
        int match(byte[] b, int from, int i, int to) {
          return i;
        }
      };

  /** A set of characters, repeated: as often as possible, or as seldom if lazy. */
  static final class Run extends Node {
    private final CharSet set;
    private final int least;
    private final int most;
    private final boolean lazy;
    private final Node next;

    Run(CharSet set, int least, int most, boolean lazy, Node next) {
      this.set = set;
      this.least = least;
      this.most = most;
      this.lazy = lazy;
      this.next = next;
    }

    @Override
    int match(byte[] b, int from, int i, int to) {
      if (most == 1 && least == 1) {
        int end = set.next(b, i, to);
        return end < 0 ? -1 : next.match(b, from, end, to);
      }
      int shortest = i;
      for (int n = 0; n < least; n++) {
        shortest = set.next(b, shortest, to);
        if (shortest < 0) {
          return -1;
        }
      }
      return lazy ? lazily(b, from, shortest, to) : greedily(b, from, shortest, to);
    }

    private int greedily(byte[] b, int from, int shortest, int to) {
      int end =
          most == Integer.MAX_VALUE
              ? set.runEnd(b, shortest, to)
              : set.runEnd(b, shortest, to, most - least);
      if (next == END) {
        return end;
      }
      while (true) {
        int found = next.match(b, from, end, to);
        if (found >= 0 || end == shortest) {
          return found;
        }
        end--;
        while (end > shortest && (b[end] & 0xC0) == 0x80) {
          end--;
        }
      }
    }

    private int lazily(byte[] b, int from, int shortest, int to) {
      int end = shortest;
      for (int n = least; ; n++) {
        int found = next.match(b, from, end, to);
        if (found >= 0 || n == most) {
          return found;
        }
        end = set.next(b, end, to);
        if (end < 0) {
          return -1;
        }
      }
    }

    @Override
    boolean mayBegin(int firstByte) {
      return set.mayBegin(firstByte) || least == 0 && next.mayBegin(firstByte);
    }
  }

  /** The first of several ways that leads to the end. */
  static final class Choice extends Node {
    private final Node[] options;
    // For each byte of ASCII, and at 128 for all others, the options that may begin with it.
    private final Node[][] byFirst = new Node[129][];

    Choice(List<Node> options) {
      this.options = options.toArray(Node[]::new);
      for (int c = 0; c <= 128; c++) {
        int first = c;
        byFirst[c] = options.stream().filter(o -> o.mayBegin(first)).toArray(Node[]::new);
      }
    }

    @Override
    int match(byte[] b, int from, int i, int to) {
      Node[] some = i >= to ? options : byFirst[b[i] < 0 ? 128 : b[i]];
      for (Node option : some) {
        int end = option.match(b, from, i, to);
        if (end >= 0) {
          return end;
        }
      }
      return -1;
    }

    @Override
    boolean mayBegin(int firstByte) {
      return byFirst[Math.min(firstByte, 128)].length > 0;
    }
  }

  /** A part whose first match is final. */
  static final class Atomic extends Node {
    private final Node part;
    private final Node next;

    Atomic(Node part, Node next) {
      this.part = part;
      this.next = next;
    }

    @Override
    int match(byte[] b, int from, int i, int to) {
      int end = part.match(b, from, i, to);
      return end < 0 ? -1 : next.match(b, from, end, to);
    }

    @Override
    boolean mayBegin(int firstByte) {
      return part.mayBegin(firstByte);
    }
  }

  /** A part that must match, or must not, without being taken. */
  static final class Ahead extends Node {
    private final Node part;
    private final boolean wanted;
    private final Node next;

    Ahead(Node part, boolean wanted, Node next) {
      this.part = part;
      this.wanted = wanted;
      this.next = next;
    }

    @Override
    int match(byte[] b, int from, int i, int to) {
      return part.match(b, from, i, to) >= 0 == wanted ? next.match(b, from, i, to) : -1;
    }

    @Override
    boolean mayBegin(int firstByte) {
      return next.mayBegin(firstByte);
    }
  }

  /** A character that must be, or must not be, just before. */
  static final class Behind extends Node {
    private final CharSet set;
    private final boolean wanted;
    private final Node next;

    Behind(CharSet set, boolean wanted, Node next) {
      this.set = set;
      this.wanted = wanted;
      this.next = next;
    }

    @Override
    int match(byte[] b, int from, int i, int to) {
      int start = i - 1;
      while (start > from && (b[start] & 0xC0) == 0x80) {
        start--;
      }
      boolean there = start >= from && set.next(b, start, i) >= 0;
      return there == wanted ? next.match(b, from, i, to) : -1;
    }

    @Override
    boolean mayBegin(int firstByte) {
      return next.mayBegin(firstByte);
    }
  }
}
