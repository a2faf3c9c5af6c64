package dev.lanewise.core.data;

import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import java.io.IOException;
import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * {@code meta.pkl}, in which nanoGPT leaves the characters that its token files were made of.
 *
 * <p>A pickle is a program; of its instructions only those are known that make numbers, texts,
 * lists and dictionaries, so reading one runs nothing of anybody's.
 */
final class NanoGptMeta {
  private static final String NAME = "meta.pkl";
  private static final long LARGEST = 64L << 20;
  private static final Object MARK = new Object();

  private NanoGptMeta() {}

  /** The file that belongs to token files, whether or not it is there. */
  static Path beside(Path tokens) {
    return Files.isDirectory(tokens)
        ? tokens.resolve(NAME)
        : tokens.toAbsolutePath().resolveSibling(NAME);
  }

  /**
   * Reads the characters.
   *
   * @throws InputException if the file cannot be read, or holds anything else than the sorted
   *     characters of a text
   */
  static CharTokenizer read(Path file) {
    Object root;
    try {
      if (Files.size(file) > LARGEST) {
        throw wrong(file, "it is too large");
      }
      root = new Machine(file, Files.readAllBytes(file)).run();
    } catch (IOException e) {
      throw new InputException(
          String.format(Locale.ROOT, "%s cannot be read (%s).", file, Failures.describe(e)), e);
    }
    if (!(root instanceof Map<?, ?> meta) || !(meta.get("itos") instanceof Map<?, ?> characters)) {
      throw wrong(file, "it has no 'itos'");
    }
    StringBuilder text = new StringBuilder();
    int last = -1;
    for (long id = 0; id < characters.size(); id++) {
      if (!(characters.get(id) instanceof String character)
          || character.codePointCount(0, character.length()) != 1
          || character.codePointAt(0) <= last) {
        throw wrong(file, "token " + id + " is not the next of a text's sorted characters");
      }
      last = character.codePointAt(0);
      text.append(character);
    }
    return new CharTokenizer(text.toString());
  }

  private static InputException wrong(Path file, String fault) {
    return new InputException(
        String.format(
            Locale.ROOT,
            "%s does not tell the characters of nanoGPT's token files: %s; name the tokenizer with"
                + " --tokenizer, or give the text itself.",
            file,
            fault));
  }

  /** Runs a pickle's harmless instructions, as Python's pickletools names them. */
  private static final class Machine {
    private final Path file;
    private final ByteBuffer in;
    private final Deque<Object> stack = new ArrayDeque<>();
    private final Map<Integer, Object> memo = new HashMap<>();

    Machine(Path file, byte[] bytes) {
      this.file = file;
      in = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
    }

    Object run() {
      try {
        while (true) {
          int code = in.get() & 0xFF;
          if (code == '.') {
            return stack.pop();
          }
          step(code);
        }
      } catch (BufferUnderflowException
          | IllegalArgumentException
          | java.util.NoSuchElementException e) {
        throw wrong(file, "it is damaged at byte " + in.position());
      }
    }

    private void step(int code) {
      switch (code) {
        case 0x80 -> in.get(); // PROTO
        case 0x95 -> in.getLong(); // FRAME
        case '}' -> stack.push(new HashMap<>());
        case ']' -> stack.push(new ArrayList<>());
        case '(' -> stack.push(MARK);
        case 'N' -> stack.push(Collections.emptyList());
        case 0x88 -> stack.push(true);
        case 0x89 -> stack.push(false);
        case 'K' -> stack.push((long) (in.get() & 0xFF));
        case 'M' -> stack.push((long) (in.getShort() & 0xFFFF));
        case 'J' -> stack.push((long) in.getInt());
        case 0x8A -> stack.push(integer(in.get() & 0xFF));
        case 0x8C -> stack.push(text(in.get() & 0xFF));
        case 'X' -> stack.push(text(in.getInt()));
        case 0x8D -> stack.push(text(Math.toIntExact(Math.min(in.getLong(), Integer.MAX_VALUE))));
        case 0x94 -> memo.put(memo.size(), stack.getFirst());
        case 'q' -> memo.put(in.get() & 0xFF, stack.getFirst());
        case 'r' -> memo.put(in.getInt(), stack.getFirst());
        case 'h' -> stack.push(known(in.get() & 0xFF));
        case 'j' -> stack.push(known(in.getInt()));
        case 's' -> {
          Object value = stack.pop();
          Object key = stack.pop();
          put(key, value);
        }
        case 'u' -> {
          List<Object> pairs = popToMark();
          if (pairs.size() % 2 != 0) {
            throw new IllegalArgumentException("a key without a value");
          }
          for (int i = 0; i < pairs.size(); i += 2) {
            put(pairs.get(i), pairs.get(i + 1));
          }
        }
        case 'a' -> {
          Object item = stack.pop();
          append(List.of(item));
        }
        case 'e' -> append(popToMark());
        default ->
            throw wrong(
                file,
                String.format(
                    Locale.ROOT, "its instruction 0x%02X makes more than texts and numbers", code));
      }
    }

    private long integer(int bytes) {
      if (bytes > Long.BYTES) {
        throw new IllegalArgumentException("a number of " + bytes + " bytes");
      }
      long value = 0;
      for (int i = 0; i < bytes; i++) {
        value |= (in.get() & 0xFFL) << 8 * i;
      }
      int unused = 64 - 8 * bytes;
      return bytes == 0 ? 0 : value << unused >> unused;
    }

    private String text(int bytes) {
      if (bytes < 0 || bytes > in.remaining()) {
        throw new BufferUnderflowException();
      }
      String text = new String(in.array(), in.position(), bytes, StandardCharsets.UTF_8);
      in.position(in.position() + bytes);
      return text;
    }

    private Object known(int place) {
      Object value = memo.get(place);
      if (value == null) {
        throw new IllegalArgumentException("nothing at " + place);
      }
      return value;
    }

    private List<Object> popToMark() {
      List<Object> items = new ArrayList<>();
      for (Object item = stack.pop(); item != MARK; item = stack.pop()) {
        items.add(item);
      }
      Collections.reverse(items);
      return items;
    }

    @SuppressWarnings("unchecked")
    private void put(Object key, Object value) {
      if (!(stack.getFirst() instanceof Map<?, ?> map)
          || !(key instanceof Long || key instanceof String)) {
        throw new IllegalArgumentException("no dictionary");
      }
      ((Map<Object, Object>) map).put(key, value);
    }

    @SuppressWarnings("unchecked")
    private void append(List<Object> items) {
      if (!(stack.getFirst() instanceof List<?> list)) {
        throw new IllegalArgumentException("no list");
      }
      ((List<Object>) list).addAll(items);
    }
  }
}
