package dev.lanewise.core.data;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.format.ByteAlphabet;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * The vocabularies without merges, {@code bytes} and {@code chars}, as other programs have them.
 *
 * <p>For Hugging Face's tokenizers they are byte pair encodings without pairs. In GGUF they are of
 * the kind {@code rwkv}, which takes the longest token that fits, here the only one: the kind
 * {@code gpt2} would make token 11 the end of the text where the vocabulary has none.
 */
final class PlainVocabulary {
  private static final String HEX = "0123456789abcdef";

  private PlainVocabulary() {}

  /** The object of a {@code tokenizer.json}. */
  static Map<String, Object> toHuggingFace(Tokenizer tokenizer) {
    boolean bytes = tokenizer instanceof ByteTokenizer;
    Map<String, Object> vocab = new LinkedHashMap<>();
    for (int id = 0; id < tokenizer.vocabSize(); id++) {
      byte[] token = tokenizer.bytes(id);
      vocab.put(bytes ? ByteAlphabet.text(token) : new String(token, StandardCharsets.UTF_8), id);
    }
    Map<String, Object> model = new LinkedHashMap<>();
    model.put("type", "BPE");
    model.put("dropout", null);
    model.put("unk_token", null);
    model.put("continuing_subword_prefix", null);
    model.put("end_of_word_suffix", null);
    model.put("fuse_unk", false);
    model.put("byte_fallback", false);
    model.put("ignore_merges", false);
    model.put("vocab", vocab);
    model.put("merges", List.of());
    Map<String, Object> file = new LinkedHashMap<>();
    file.put("version", "1.0");
    file.put("truncation", null);
    file.put("padding", null);
    file.put("added_tokens", List.of());
    file.put("normalizer", null);
    file.put("pre_tokenizer", bytes ? byteLevel() : null);
    file.put("post_processor", null);
    file.put("decoder", bytes ? byteLevel() : Map.of("type", "Fuse"));
    file.put("model", model);
    return file;
  }

  private static Map<String, Object> byteLevel() {
    Map<String, Object> map = new LinkedHashMap<>();
    map.put("type", "ByteLevel");
    map.put("add_prefix_space", false);
    map.put("trim_offsets", true);
    map.put("use_regex", false);
    return map;
  }

  /** Our tokenizer, if the object of a {@code tokenizer.json} is a vocabulary without merges. */
  static Optional<Tokenizer> ofHuggingFace(Map<String, Object> file) {
    boolean plain =
        file.get("normalizer") == null
            && file.get("added_tokens") instanceof List<?> added
            && added.isEmpty()
            && file.get("model") instanceof Map<?, ?> model
            && "BPE".equals(model.get("type"))
            && model.get("merges") instanceof List<?> merges
            && merges.isEmpty();
    if (!plain || !(((Map<?, ?>) file.get("model")).get("vocab") instanceof Map<?, ?> vocab)) {
      return Optional.empty();
    }
    boolean bytes = byteLevel().equals(file.get("pre_tokenizer"));
    if (!bytes && file.get("pre_tokenizer") != null) {
      return Optional.empty();
    }
    byte[][] tokens = new byte[vocab.size()][];
    for (Map.Entry<?, ?> entry : vocab.entrySet()) {
      String text = String.valueOf(entry.getKey());
      if (!(entry.getValue() instanceof Long id) || id < 0 || id >= tokens.length) {
        return Optional.empty();
      }
      tokens[id.intValue()] =
          bytes ? ByteAlphabet.bytes(text) : text.getBytes(StandardCharsets.UTF_8);
    }
    return of(List.of(tokens), bytes);
  }

  /**
   * Metadata of a GGUF file.
   *
   * @param tokenizer bytes or characters
   * @param rows rows of the model's embedding; those beyond the vocabulary stand for nothing
   */
  static Map<String, Object> toGguf(Tokenizer tokenizer, int rows) {
    List<String> texts = new ArrayList<>();
    List<Integer> types = new ArrayList<>();
    for (int id = 0; id < rows; id++) {
      boolean known = id < tokenizer.vocabSize();
      // Bytes that no text has, so that padding is never found in one.
      texts.add(known ? escaped(tokenizer.bytes(id)) : "\\xff\\xfe" + id);
      types.add(known ? GgufVocabulary.NORMAL : GgufVocabulary.UNUSED);
    }
    Map<String, Object> metadata = new LinkedHashMap<>();
    metadata.put("tokenizer.ggml.model", "rwkv");
    metadata.put("tokenizer.ggml.tokens", texts);
    metadata.put("tokenizer.ggml.token_type", types);
    metadata.put("tokenizer.ggml.add_bos_token", false);
    return metadata;
  }

  /**
   * The tokenizer in the metadata of a GGUF file of the kind {@code rwkv}.
   *
   * @throws InputException if its tokens are neither the 256 bytes nor characters
   */
  static Tokenizer ofGguf(List<String> texts, List<?> types, String source) {
    List<byte[]> tokens = new ArrayList<>();
    for (int id = 0; id < texts.size(); id++) {
      int type = id < types.size() && types.get(id) instanceof Number n ? n.intValue() : 1;
      if (type != GgufVocabulary.UNUSED) {
        tokens.add(unescaped(texts.get(id)));
      }
    }
    return of(tokens)
        .orElseThrow(
            () ->
                new InputException(
                    source
                        + " holds a tokenizer of the kind 'rwkv'; such can be read if its tokens"
                        + " are single bytes or single characters."));
  }

  /** The tokenizer whose tokens these are, if they are the 256 bytes or sorted characters. */
  static Optional<Tokenizer> of(List<byte[]> tokens) {
    return of(tokens, true).or(() -> of(tokens, false));
  }

  private static Optional<Tokenizer> of(List<byte[]> tokens, boolean bytes) {
    StringBuilder characters = new StringBuilder();
    int last = -1;
    for (int id = 0; id < tokens.size(); id++) {
      byte[] token = tokens.get(id);
      if (bytes) {
        if (token == null || token.length != 1 || (token[0] & 0xff) != id) {
          return Optional.empty();
        }
        continue;
      }
      int c;
      try {
        String text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(token)).toString();
        if (text.isEmpty() || text.codePointCount(0, text.length()) != 1) {
          return Optional.empty();
        }
        c = text.codePointAt(0);
      } catch (CharacterCodingException e) {
        return Optional.empty();
      }
      if (c <= last) {
        return Optional.empty();
      }
      last = c;
      characters.appendCodePoint(c);
    }
    if (bytes) {
      return tokens.size() == 256 ? Optional.of(new ByteTokenizer()) : Optional.empty();
    }
    return characters.isEmpty()
        ? Optional.empty()
        : Optional.of(new CharTokenizer(characters.toString()));
  }

  private static String escaped(byte[] token) {
    StringBuilder text = new StringBuilder();
    for (byte b : token) {
      if (b > ' ' && b <= '~' && b != '\\') {
        text.append((char) b);
      } else {
        text.append("\\x").append(HEX.charAt(b >> 4 & 15)).append(HEX.charAt(b & 15));
      }
    }
    return text.toString();
  }

  private static byte[] unescaped(String text) {
    byte[] in = text.getBytes(StandardCharsets.UTF_8);
    ByteBuffer out = ByteBuffer.allocate(in.length);
    int i = 0;
    while (i < in.length) {
      byte b = in[i++];
      if (b != '\\' || i == in.length) {
        out.put(b);
        continue;
      }
      byte code = in[i++];
      switch (code) {
        case 't' -> out.put((byte) '\t');
        case 'n' -> out.put((byte) '\n');
        case 'r' -> out.put((byte) '\r');
        case 'x' -> {
          int high = i < in.length ? Character.digit(in[i], 16) : -1;
          int low = i + 1 < in.length ? Character.digit(in[i + 1], 16) : -1;
          if (high < 0 || low < 0) {
            return new byte[0];
          }
          out.put((byte) (high << 4 | low));
          i += 2;
        }
        default -> out.put(code);
      }
    }
    byte[] bytes = new byte[out.position()];
    out.flip().get(bytes);
    return bytes;
  }
}
