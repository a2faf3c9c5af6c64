package dev.lanewise.core.train;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.model.GptConfig;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/**
 * What is trained when nothing is asked for: a small GPT on the sources of the JDK that runs it, in
 * about two minutes on two cores.
 */
public final class DefaultJob {
  /** The model; its vocabulary is that of the data. */
  public static final GptConfig MODEL = GptConfig.gpt2(1024, 128, 4, 4, 256);

  private static final long TEXT_BYTES = 24L << 20;

  private DefaultJob() {}

  /**
   * The JDK's sources, or those of this checkout when the JDK came without.
   *
   * @param validation share of the tokens to validate on
   */
  public static RunData data(double validation) {
    Path jdk = Path.of(System.getProperty("java.home"), "lib", "src.zip");
    if (Files.isReadable(jdk)) {
      return source(jdk, "java.base/java/**.java", validation);
    }
    String home = System.getProperty("lanewise.home");
    if (home == null) {
      throw new InputException(
          "This JDK came without its sources (lib/src.zip); name text to train on with --data.");
    }
    return source(Path.of(home), "*.java", validation);
  }

  private static RunData source(Path path, String include, double validation) {
    return new RunData(
        List.of(path), List.of(include), List.of(), "bpe:1024", validation, true, true, TEXT_BYTES);
  }

  /**
   * How samples of a run begin when nobody says: with a line break, which most texts have, or, of
   * code, with the start of a class.
   *
   * @param data the run's data
   */
  public static String promptFor(RunData data) {
    return data.dropComments() ? "public class " : "\n";
  }

  /**
   * A run that suits a model: small models take large rates and small batches.
   *
   * @param model the model
   */
  public static TrainConfig training(GptConfig model) {
    boolean small = model.channels() <= 512;
    double peak = small ? 1e-3 : 6e-4;
    return TrainConfig.builder()
        .steps(small ? 800 : 200)
        .batch(small ? 12 : 4)
        .context(model.contextLength())
        .learningRate(peak)
        .minLearningRate(peak / 10)
        .beta2(small ? 0.99 : 0.95)
        .build();
  }
}
