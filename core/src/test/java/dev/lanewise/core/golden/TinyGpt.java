package dev.lanewise.core.golden;

import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.tensor.Tape;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** One of the two tiny GPTs of the golden values, with its weights. */
public final class TinyGpt {
  /** Number of tokens. */
  public static final int VOCAB = 97;

  /** Positions. */
  public static final int CONTEXT = 16;

  private static final int LAYERS = 2;

  /** The model. */
  public final Gpt model;

  private final Golden golden;
  private final boolean tied;

  /**
   * A model with the weights of a file.
   *
   * @param tape where it runs
   * @param golden the file
   * @param tied whether it is GPT-2's architecture, else the tutorial's
   */
  public TinyGpt(Tape tape, Golden golden, boolean tied) {
    this.golden = golden;
    this.tied = tied;
    model =
        new Gpt(
            tape,
            tied
                ? GptConfig.gpt2(VOCAB, CONTEXT, LAYERS, 3, 48)
                : GptConfig.tutorial(VOCAB, CONTEXT, LAYERS, 3, 48, 0),
            null);
    parts().forEach((ours, theirs) -> model.namedParameters().get(ours).set(join("w.", theirs)));
  }

  /** Our names, and of what they are made; queries, keys and values are three tensors there. */
  public Map<String, List<String>> parts() {
    Map<String, List<String>> names = new LinkedHashMap<>();
    names.put("wte.weight", List.of("tok_emb.weight"));
    names.put("wpe.weight", List.of("pos_emb.weight"));
    names.put("ln_f.weight", List.of("final_norm.scale"));
    names.put("ln_f.bias", List.of("final_norm.shift"));
    if (!tied) {
      names.put("lm_head.weight", List.of("out_head.weight"));
    }
    for (int i = 0; i < LAYERS; i++) {
      String ours = "h." + i + ".";
      String theirs = "trf_blocks." + i + ".";
      // The tutorial makes queries with W_key and keys with W_query.
      String query = theirs + (tied ? "att.W_query." : "att.W_key.");
      String key = theirs + (tied ? "att.W_key." : "att.W_query.");
      String value = theirs + "att.W_value.";
      for (String kind : List.of("weight", "bias")) {
        if (tied || kind.equals("weight")) {
          names.put(ours + "attn.c_attn." + kind, List.of(query + kind, key + kind, value + kind));
        }
        names.put(ours + "attn.c_proj." + kind, List.of(theirs + "att.out_proj." + kind));
        names.put(ours + "mlp.c_fc." + kind, List.of(theirs + "ff.layers.0." + kind));
        names.put(ours + "mlp.c_proj." + kind, List.of(theirs + "ff.layers.2." + kind));
      }
      for (int n = 1; n <= 2; n++) {
        names.put(ours + "ln_" + n + ".weight", List.of(theirs + "norm" + n + ".scale"));
        names.put(ours + "ln_" + n + ".bias", List.of(theirs + "norm" + n + ".shift"));
      }
    }
    return names;
  }

  /** Tensors of the file, one after the other. */
  public float[] join(String prefix, List<String> parts) {
    float[] all = new float[0];
    for (String part : parts) {
      float[] values = golden.floats(prefix + part);
      int start = all.length;
      all = Arrays.copyOf(all, start + values.length);
      System.arraycopy(values, 0, all, start, values.length);
    }
    return all;
  }
}
