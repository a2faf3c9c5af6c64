package dev.lanewise.core.data;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.BitSet;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;

/**
 * The characters of a corpus as tokens: its distinct code points, sorted, numbered from 0, as
 * Python's {@code sorted(set(text))} numbers them.
 */
public final class CharTokenizer implements Tokenizer {
  private final int[] codePoints;
  private final int[] asciiIds = new int[128];

  /**
   * Creates a tokenizer for the characters of a text.
   *
   * @param text any text that holds each character at least once
   * @throws InputException if the text is empty or holds half of a surrogate pair
   */
  public CharTokenizer(String text) {
    this(Vocabulary.of(Utf8.encode(text)));
  }

  CharTokenizer(BitSet codePointSet) {
    if (codePointSet.isEmpty()) {
      throw new InputException("A character tokenizer needs a text with at least one character.");
    }
    codePoints = codePointSet.stream().toArray();
    Arrays.fill(asciiIds, -1);
    for (int id = 0; id < codePoints.length && codePoints[id] < 128; id++) {
      asciiIds[codePoints[id]] = id;
    }
  }

  @Override
  public String name() {
    return "chars";
  }

  @Override
  public int vocabSize() {
    return codePoints.length;
  }

  @Override
  public void encode(byte[] utf8, int from, int to, TokenSink sink) {
    Objects.checkFromToIndex(from, to, utf8.length);
    int position = 0;
    for (int i = from; i < to; position++) {
      int length = Utf8.sequenceLength(utf8, i, to);
      int id =
          utf8[i] >= 0
              ? asciiIds[utf8[i]]
              : Arrays.binarySearch(codePoints, Utf8.codePoint(utf8, i, length));
      if (id < 0) {
        int c = Utf8.codePoint(utf8, i, length);
        throw new InputException(
            String.format(
                Locale.ROOT,
                "The character %s (U+%04X) at position %d is not among the %d characters that the"
                    + " tokenizer knows.",
                Character.isISOControl(c) ? "code" : "'" + Character.toString(c) + "'",
                c,
                position,
                codePoints.length));
      }
      sink.accept(id);
      i += Math.max(1, length);
    }
  }

  @Override
  public byte[] bytes(int id) {
    if (id < 0 || id >= codePoints.length) {
      throw badId(id);
    }
    return Character.toString(codePoints[id]).getBytes(StandardCharsets.UTF_8);
  }

  @Override
  public String toJson() {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("kind", name());
    json.put("characters", new String(codePoints, 0, codePoints.length));
    return Json.write(json);
  }

  /** Collects the distinct characters of text that comes in pieces. */
  static final class Vocabulary {
    private final BitSet codePoints = new BitSet(0x3000);

    static BitSet of(byte[] utf8) {
      Vocabulary vocabulary = new Vocabulary();
      vocabulary.add(utf8, 0, utf8.length);
      return vocabulary.codePoints;
    }

    void add(byte[] utf8, int from, int to) {
      // A flag array for ASCII keeps the bit set out of the loop that sees nearly every byte.
      boolean[] ascii = new boolean[128];
      for (int i = from; i < to; ) {
        if (utf8[i] >= 0) {
          ascii[utf8[i++]] = true;
        } else {
          int length = Utf8.sequenceLength(utf8, i, to);
          codePoints.set(Utf8.codePoint(utf8, i, length));
          i += Math.max(1, length);
        }
      }
      for (int c = 0; c < 128; c++) {
        if (ascii[c]) {
          codePoints.set(c);
        }
      }
    }

    CharTokenizer tokenizer() {
      return new CharTokenizer(codePoints);
    }
  }
}
