package dev.lanewise.core.data;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.JsonFields;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * Cuts text into the words inside which byte pairs are merged: one cutter after the other, each on
 * the words of the one before, as the {@code pre_tokenizer} of Hugging Face's {@code
 * tokenizer.json} says.
 */
final class PreTokenizer {
  /** GPT-2's own expression, which {@link Words} follows by hand. */
  static final String GPT2_PATTERN =
      "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

  /** GPT-2's way. */
  static final PreTokenizer GPT2 =
      new PreTokenizer(List.of((b, from, i, to) -> Words.end(b, i, to)), false);

  private final WordCutter[] cutters;
  private final boolean prefixSpace;

  private PreTokenizer(List<WordCutter> cutters, boolean prefixSpace) {
    this.cutters = cutters.toArray(WordCutter[]::new);
    this.prefixSpace = prefixSpace;
  }

  /**
   * Reads the description in a {@code tokenizer.json}.
   *
   * @param description its {@code pre_tokenizer}
   * @param source the file, for error messages
   * @throws InputException if it is none for bytes, or has a part that is not supported
   */
  static PreTokenizer of(JsonFields description, String source) {
    Reader reader = new Reader(source);
    reader.add(description);
    if (!reader.bytes) {
      throw new InputException(
          source
              + " has the pre-tokenizer "
              + description.members().get("type")
              + " and no ByteLevel; only tokenizers over bytes can be read.");
    }
    return new PreTokenizer(reader.cutters, reader.prefixSpace);
  }

  /** Cuts a text and encodes its words. */
  void encode(BytePairs.Encoder encoder, byte[] b, int from, int to, TokenSink sink) {
    encode(0, encoder, b, from, to, sink);
  }

  private void encode(
      int stage, BytePairs.Encoder encoder, byte[] b, int from, int to, TokenSink sink) {
    // The space comes before the cutter that ByteLevel brings with it, which is the last.
    if (prefixSpace && stage == cutters.length - 1 && b[from] != ' ') {
      byte[] spaced = new byte[to - from + 1];
      spaced[0] = ' ';
      System.arraycopy(b, from, spaced, 1, to - from);
      encodeWords(stage, encoder, spaced, 0, spaced.length, sink);
      return;
    }
    encodeWords(stage, encoder, b, from, to, sink);
  }

  private void encodeWords(
      int stage, BytePairs.Encoder encoder, byte[] b, int from, int to, TokenSink sink) {
    WordCutter cutter = cutters[stage];
    boolean last = stage == cutters.length - 1;
    for (int i = from; i < to; ) {
      int end = cutter.end(b, from, i, to);
      if (end < 0) {
        i = -end;
        continue;
      }
      if (last) {
        encoder.encode(b, i, end, sink);
      } else {
        encode(stage + 1, encoder, b, i, end, sink);
      }
      i = end;
    }
  }

  /** Finds out what a piece of text is cut at. */
  private interface Finder {
    /** The end of the match that begins at i, above i; or any number up to i if none does. */
    int match(byte[] b, int from, int i, int to);
  }

  /** What becomes of matches and of what lies between them. */
  private enum Behavior {
    REMOVED,
    ISOLATED,
    MERGED_WITH_PREVIOUS,
    MERGED_WITH_NEXT,
    CONTIGUOUS
  }

  /** Cuts at matches. */
  private record Split(Finder finder, Behavior behavior, boolean invert) implements WordCutter {
    @Override
    public int end(byte[] b, int from, int i, int to) {
      int end = segmentEnd(b, from, i, to);
      boolean match = matchAt(b, from, i, to) != invert;
      return switch (behavior) {
        case ISOLATED -> end;
        case REMOVED -> match ? -end : end;
        case MERGED_WITH_PREVIOUS ->
            !match && end < to && matchAt(b, from, end, to) != invert
                ? segmentEnd(b, from, end, to)
                : end;
        case MERGED_WITH_NEXT ->
            match && end < to && matchAt(b, from, end, to) == invert
                ? segmentEnd(b, from, end, to)
                : end;
        case CONTIGUOUS -> {
          while (end < to && matchAt(b, from, end, to) != invert == match) {
            end = segmentEnd(b, from, end, to);
          }
          yield end;
        }
      };
    }

    private boolean matchAt(byte[] b, int from, int i, int to) {
      return finder.match(b, from, i, to) > i;
    }

    /** The end of the match at i, or of what lies before the next one. */
    private int segmentEnd(byte[] b, int from, int i, int to) {
      int end = finder.match(b, from, i, to);
      for (int at = i; end <= at; ) {
        at += Math.max(1, Utf8.sequenceLength(b, at, to));
        if (at >= to || finder.match(b, from, at, to) > at) {
          return Math.min(at, to);
        }
      }
      return end;
    }
  }

  private static final class Reader {
    private final String source;
    private final List<WordCutter> cutters = new ArrayList<>();
    private boolean prefixSpace;
    private boolean bytes;

    Reader(String source) {
      this.source = source;
    }

    void add(JsonFields part) {
      String type = part.text("type");
      if (bytes) {
        throw new InputException(
            source
                + " has the pre-tokenizer "
                + type
                + " after ByteLevel, which is not supported.");
      }
      switch (type) {
        case "Sequence" -> {
          if (!(part.members().get("pretokenizers") instanceof List<?> parts)) {
            throw new InputException(source + ": 'pretokenizers' must be a list.");
          }
          parts.forEach(each -> add(fields(each)));
        }
        case "ByteLevel" -> {
          bytes = true;
          prefixSpace = flag(part, "add_prefix_space", true);
          if (flag(part, "use_regex", true)) {
            cutters.add((b, from, i, to) -> Words.end(b, i, to));
          } else if (prefixSpace || cutters.isEmpty()) {
            cutters.add((b, from, i, to) -> to);
          }
        }
        case "Split" -> cutters.add(split(part));
        case "Digits" -> {
          Behavior behavior =
              flag(part, "individual_digits", false) ? Behavior.ISOLATED : Behavior.CONTIGUOUS;
          cutters.add(characters(new CharSet(CharSet::isNumber), behavior));
        }
        case "Punctuation" ->
            cutters.add(characters(new CharSet(CharSet::isPunctuation), behavior(part)));
        default ->
            throw new InputException(
                source
                    + " has the pre-tokenizer "
                    + type
                    + ", which is not supported; known are ByteLevel, Split, Digits, Punctuation"
                    + " and a Sequence of them.");
      }
    }

    @SuppressWarnings("unchecked")
    private JsonFields fields(Object value) {
      if (value instanceof Map<?, ?> map) {
        return new JsonFields((Map<String, Object>) map, source + ", pre_tokenizer");
      }
      throw new InputException(source + " has a pre-tokenizer that is not an object.");
    }

    private static boolean flag(JsonFields part, String name, boolean byDefault) {
      return part.has(name) ? part.flag(name) : byDefault;
    }

    private static WordCutter characters(CharSet set, Behavior behavior) {
      return new Split((b, from, i, to) -> set.next(b, i, to), behavior, false);
    }

    private WordCutter split(JsonFields part) {
      JsonFields pattern = part.object("pattern");
      Behavior behavior = behavior(part);
      boolean invert = flag(part, "invert", false);
      if (pattern.has("String")) {
        return new Split(
            SplitPattern.ofText(pattern.text("String"), source)::end, behavior, invert);
      }
      String regex = pattern.text("Regex");
      // An expression that leaves nothing between its matches makes words of them either way.
      boolean isolated = behavior == Behavior.ISOLATED && !invert;
      boolean kept = behavior == Behavior.REMOVED && invert;
      if (regex.equals(GPT2_PATTERN) && (isolated || kept)) {
        return (b, from, i, to) -> Words.end(b, i, to);
      }
      SplitPattern compiled = SplitPattern.of(regex, source);
      Split split = new Split(compiled::end, behavior, invert);
      if (!isolated) {
        return split;
      }
      return (b, from, i, to) -> {
        int end = compiled.end(b, from, i, to);
        return end > i ? end : split.segmentEnd(b, from, i, to);
      };
    }

    private Behavior behavior(JsonFields part) {
      String name = part.has("behavior") ? part.text("behavior") : "Isolated";
      return switch (name) {
        case "Removed" -> Behavior.REMOVED;
        case "Isolated" -> Behavior.ISOLATED;
        case "MergedWithPrevious" -> Behavior.MERGED_WITH_PREVIOUS;
        case "MergedWithNext" -> Behavior.MERGED_WITH_NEXT;
        case "Contiguous" -> Behavior.CONTIGUOUS;
        default ->
            throw new InputException(
                source + " cuts text with the behavior " + name + ", which is not known.");
      };
    }
  }
}
