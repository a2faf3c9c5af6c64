package dev.lanewise.core.train;

import dev.lanewise.core.base.Json;
import dev.lanewise.core.base.JsonFields;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.data.Tokenizers;
import dev.lanewise.core.model.GptPresets;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;

/**
 * What a leader tells other processes of its run.
 *
 * @param version of the leader's program
 * @param run what the run is made from
 * @param tokenizer its tokenizer
 * @param stamp what tells its tokens from others
 */
public record Announcement(
    String version, RunFolder.Description run, Tokenizer tokenizer, DataStamp stamp) {

  /** A run of this program. */
  static Announcement of(RunFolder.Description description, Dataset data) {
    return new Announcement(ownVersion(), description, data.tokenizer(), DataStamp.of(data));
  }

  private static String ownVersion() {
    var descriptor = Announcement.class.getModule().getDescriptor();
    String own = descriptor == null ? "unknown" : descriptor.rawVersion().orElse("unknown");
    return own + ", Java " + Runtime.version().feature();
  }

  /** The announcement as text. */
  String toJson() {
    Map<String, Object> document = new LinkedHashMap<>();
    document.put("version", version);
    document.put("model", GptPresets.toMap(run.model()));
    document.put("training", run.training().toMap());
    document.put("data", run.data());
    document.put("tokenizer", tokenizer.toJson());
    Map<String, Object> tokens = new LinkedHashMap<>();
    stamp.addTo(tokens);
    document.put("tokens", tokens);
    return Json.write(document);
  }

  /** What {@link #toJson} wrote, by this version or another. */
  public static Announcement parse(String text) {
    String source = "The announcement of the run";
    JsonFields fields = new JsonFields(Json.parseObject(text, source), source);
    return new Announcement(
        fields.text("version"),
        new RunFolder.Description(
            GptPresets.fromFields(fields.object("model")),
            TrainConfig.fromMap(fields.object("training").members(), source),
            fields.object("data").members()),
        Tokenizers.fromJson(fields.text("tokenizer"), source),
        DataStamp.find(fields.object("tokens")).orElseThrow());
  }

  /**
   * Why this process cannot take part, before it has opened its data; empty if it can.
   *
   * @return a sentence
   */
  public String differs() {
    return version.equals(ownVersion())
        ? ""
        : String.format(
            Locale.ROOT,
            "this is version %s, and the first process %s; start the same everywhere.",
            ownVersion(),
            version);
  }

  /**
   * Why this process cannot take part with the data that it finds; empty if it can.
   *
   * @param data what was opened here
   * @return a sentence
   */
  public String differs(Dataset data) {
    DataStamp here = DataStamp.of(data);
    return here.equals(stamp)
        ? ""
        : String.format(
            Locale.ROOT,
            "%s holds other data than where the first process runs: %s; give all hosts the same.",
            run.source().pathNames(),
            stamp.difference(here).replace(" then", " there").replace(" now", " here"));
  }
}
