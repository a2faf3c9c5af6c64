package dev.lanewise.core.format;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SequencedMap;

/** GPT-2's byte pair tokenizer as GGUF metadata. */
public final class GgufTokenizer {
  private static final int NORMAL = 1;
  private static final int CONTROL = 3;

  private GgufTokenizer() {}

  /**
   * Metadata for a tokenizer whose tokens are ranked by their number, as GPT-2's: each token longer
   * than a byte is the merger of two tokens before it.
   *
   * @param tokens bytes of each token in order of its number; the last one is the end-of-text
   *     token, which takes no part in mergers
   */
  public static SequencedMap<String, Object> metadata(List<byte[]> tokens) {
    Map<ByteBuffer, Integer> ranks = new HashMap<>();
    for (int i = 0; i < tokens.size() - 1; i++) {
      ranks.put(ByteBuffer.wrap(tokens.get(i)), i);
    }
    List<String> texts = new ArrayList<>();
    List<Integer> types = new ArrayList<>();
    List<String> mergers = new ArrayList<>();
    int last = tokens.size() - 1;
    for (int i = 0; i < last; i++) {
      byte[] token = tokens.get(i);
      texts.add(ByteAlphabet.text(token));
      types.add(NORMAL);
      if (token.length > 1) {
        int split = split(token, i, ranks);
        mergers.add(
            ByteAlphabet.text(token, 0, split)
                + " "
                + ByteAlphabet.text(token, split, token.length));
      }
    }
    texts.add(new String(tokens.get(last), StandardCharsets.UTF_8));
    types.add(CONTROL);
    SequencedMap<String, Object> metadata = new LinkedHashMap<>();
    metadata.put("tokenizer.ggml.model", "gpt2");
    metadata.put("tokenizer.ggml.pre", "gpt-2");
    metadata.put("tokenizer.ggml.tokens", texts);
    metadata.put("tokenizer.ggml.token_type", types);
    metadata.put("tokenizer.ggml.merges", mergers);
    metadata.put("tokenizer.ggml.bos_token_id", (long) last);
    metadata.put("tokenizer.ggml.eos_token_id", (long) last);
    return metadata;
  }

  /** Where a token's last merger joins it, found by merging its bytes with the tokens before it. */
  private static int split(byte[] token, int rank, Map<ByteBuffer, Integer> ranks) {
    int[] ends = new int[token.length];
    for (int i = 0; i < ends.length; i++) {
      ends[i] = i + 1;
    }
    for (int parts = ends.length; parts > 2; parts--) {
      int best = -1;
      int bestRank = rank;
      for (int i = 0; i + 1 < parts; i++) {
        int from = i == 0 ? 0 : ends[i - 1];
        ByteBuffer pair = ByteBuffer.wrap(Arrays.copyOfRange(token, from, ends[i + 1]));
        int pairRank = ranks.getOrDefault(pair, Integer.MAX_VALUE);
        if (pairRank < bestRank) {
          best = i;
          bestRank = pairRank;
        }
      }
      if (best < 0) {
        throw new IllegalArgumentException(
            "Token " + rank + " is not the merger of two tokens before it.");
      }
      System.arraycopy(ends, best + 1, ends, best, parts - best - 1);
    }
    return ends[0];
  }
}
