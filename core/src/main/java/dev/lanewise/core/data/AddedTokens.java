package dev.lanewise.core.data;

import dev.lanewise.core.base.InputException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;

/**
 * Finds added tokens in text: from left to right, the longest where several begin, in a tree of
 * their bytes.
 */
final class AddedTokens {
  private static final CharSet SPACE = new CharSet(CharSet::isSpace);
  private static final CharSet WORD = new CharSet(AddedTokens::isWord);
  private static final int ROOT_WAYS = 256;

  private final AddedToken[] tokens;
  // A node's first child and next sibling, 0 for none; nodes 1 to 256 are the first bytes.
  private int[] child = new int[512];
  private int[] sibling = new int[512];
  private byte[] label = new byte[512];
  private int[] tokenAt = new int[512];
  private int nodes = ROOT_WAYS + 1;

  /** Takes what lies between tokens. */
  @FunctionalInterface
  interface Gap {
    /** Takes text; the range is not empty. */
    void text(byte[] utf8, int from, int to);
  }

  AddedTokens(List<AddedToken> tokens) {
    this.tokens = tokens.toArray(AddedToken[]::new);
    for (int i = 0; i < this.tokens.length; i++) {
      byte[] content = this.tokens[i].content().getBytes(StandardCharsets.UTF_8);
      if (content.length > 0) {
        int node = node(content);
        tokenAt[node] = i + 1;
      }
    }
  }

  private int node(byte[] content) {
    int node = 1 + (content[0] & 0xFF);
    for (int i = 1; i < content.length; i++) {
      int next = step(node, content[i]);
      if (next == 0) {
        if (nodes == child.length) {
          child = Arrays.copyOf(child, 2 * nodes);
          sibling = Arrays.copyOf(sibling, 2 * nodes);
          label = Arrays.copyOf(label, 2 * nodes);
          tokenAt = Arrays.copyOf(tokenAt, 2 * nodes);
        }
        next = nodes++;
        label[next] = content[i];
        sibling[next] = child[node];
        child[node] = next;
      }
      node = next;
    }
    return node;
  }

  private int step(int node, byte b) {
    int next = child[node];
    while (next != 0 && label[next] != b) {
      next = sibling[next];
    }
    return next;
  }

  /**
   * Goes through a text.
   *
   * @param policy what to make of special tokens
   * @param gap takes what is between tokens
   * @param sink takes tokens
   * @throws InputException if the text holds a special token that the policy refuses
   */
  void split(byte[] b, int from, int to, EndOfText policy, Gap gap, TokenSink sink) {
    int done = from;
    for (int i = from; i < to; ) {
      int node = 1 + (b[i] & 0xFF);
      if (child[node] == 0 && tokenAt[node] == 0) {
        i++;
        continue;
      }
      int found = 0;
      int end = i + 1;
      for (int at = i + 1; node != 0; node = at < to ? step(node, b[at++]) : 0) {
        if (tokenAt[node] != 0) {
          found = tokenAt[node];
          end = at;
        }
      }
      if (found == 0) {
        i++;
        continue;
      }
      AddedToken token = tokens[found - 1];
      int start = i;
      i = end;
      if (token.special() && policy == EndOfText.REFUSE) {
        throw refused(token, start - from);
      }
      if (token.special() && policy == EndOfText.AS_TEXT
          || token.singleWord() && (wordBefore(b, from, start) || WORD.next(b, end, to) >= 0)) {
        continue;
      }
      if (token.lstrip()) {
        start = Math.max(done, spaceBefore(b, from, start));
      }
      if (token.rstrip()) {
        end = SPACE.runEnd(b, end, to);
      }
      if (done < start) {
        gap.text(b, done, start);
      }
      sink.accept(token.id());
      done = end;
    }
    if (done < to) {
      gap.text(b, done, to);
    }
  }

  private static InputException refused(AddedToken token, int at) {
    return new InputException(
        "The text holds "
            + token.content()
            + " at byte "
            + at
            + ", which is refused here; remove it, or allow it as the end of a document.");
  }

  /** Unicode's word characters as of its report 18, which differ from Oniguruma's by numbers. */
  private static boolean isWord(int c) {
    return switch (Character.getType(c)) {
      case Character.NON_SPACING_MARK,
          Character.ENCLOSING_MARK,
          Character.COMBINING_SPACING_MARK,
          Character.DECIMAL_DIGIT_NUMBER,
          Character.CONNECTOR_PUNCTUATION ->
          true;
      default -> Character.isAlphabetic(c) || c == 0x200C || c == 0x200D;
    };
  }

  private static int before(byte[] b, int from, int i) {
    int start = i - 1;
    while (start > from && (b[start] & 0xC0) == 0x80) {
      start--;
    }
    return start;
  }

  private static boolean wordBefore(byte[] b, int from, int i) {
    return i > from && WORD.next(b, before(b, from, i), i) >= 0;
  }

  private static int spaceBefore(byte[] b, int from, int i) {
    int start = i;
    while (start > from && SPACE.next(b, before(b, from, start), start) >= 0) {
      start = before(b, from, start);
    }
    return start;
  }
}
