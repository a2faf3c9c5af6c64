package dev.lanewise.core.cli;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.UsageException;
import dev.lanewise.core.data.TokenDecoder;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.model.TextGenerator;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tape;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharsetDecoder;
import java.nio.charset.CoderResult;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** Writes text with a trained model. */
@Command(
    name = "generate",
    description = {
      "Continues a text with a trained model, until the model ends it, a stop text turns up or all"
          + " tokens are written.",
      "The text goes to standard output, all else to standard error."
    },
    footer = {
      "Examples:",
      "  lanewise generate --from runs/notes --prompt \"Once upon a time\"",
      "  lanewise generate --from runs/notes --prompt \"# To do\" --max-tokens 500 --temperature"
          + " 0.7",
      "  lanewise generate --from runs/notes --prompt \"Q: Why?\" --stop \"Q:\" --samples 3",
      "  lanewise generate --from runs/helper --chat --system \"Answer in one sentence.\"",
      "  cat letter.txt | lanewise generate --from runs/notes --prompt-file - --greedy"
    })
final class GenerateCommand implements Subcommand {
  @Option(names = "--from", required = true, paramLabel = "MODEL", description = TrainedModel.FROM)
  private Path from;

  @Option(
      names = "--prompt",
      paramLabel = "TEXT",
      description = "How the text begins. Default: a line break.")
  private String prompt;

  @Option(
      names = "--prompt-file",
      paramLabel = "FILE",
      description =
          "File that holds how the text begins, - for standard input. It is taken as it is, with"
              + " the line break at its end.")
  private String promptFile;

  @Option(
      names = "--chat",
      description =
          "Talk with the model: each line of the input is answered, written as the tokenizer's chat"
              + " template has it.")
  private boolean chat;

  @Option(
      names = "--system",
      paramLabel = "TEXT",
      description = "What the model is told before a conversation.")
  private String system;

  @Option(
      names = "--max-tokens",
      paramLabel = "N",
      description = "Most tokens to write. Default: ${DEFAULT-VALUE}.")
  private long maxTokens = 200;

  @Option(
      names = "--stop",
      paramLabel = "TEXT",
      description = "End before this text; may be given several times.")
  private List<String> stops = List.of();

  @Option(
      names = "--samples",
      paramLabel = "N",
      description = "Texts to write, with seeds one after the other. Default: ${DEFAULT-VALUE}.")
  private int samples = 1;

  @Option(
      names = "--temperature",
      paramLabel = "T",
      description =
          "What logits are divided by; 0 always chooses the likeliest. Default: ${DEFAULT-VALUE}.")
  private double temperature = 0.8;

  @Option(
      names = "--top-k",
      paramLabel = "K",
      description = "Choose among the K likeliest tokens, 0 for all. Default: ${DEFAULT-VALUE}.")
  private int topK = 50;

  @Option(
      names = "--top-p",
      paramLabel = "P",
      description = "Choose among the likeliest tokens of this probability in all. Default: 1.")
  private double topP = 1;

  @Option(names = "--greedy", description = "Always choose the likeliest token.")
  private boolean greedy;

  @Option(names = "--seed", paramLabel = "N", description = "Seed. Default: ${DEFAULT-VALUE}.")
  private long seed = 1337;

  @Option(
      names = "--context",
      paramLabel = "N",
      description = "Tokens to look back at. Default: as many as the model was trained with.")
  private Integer context;

  @Mixin private FrozenOptions frozen = new FrozenOptions();

  @Mixin private DeviceOptions device = new DeviceOptions();

  @Spec private CommandSpec spec;

  private PrintWriter out;
  private PrintWriter err;

  @Override
  public Integer call() {
    out = spec.commandLine().getOut();
    err = spec.commandLine().getErr();
    TextGenerator.Sampling sampling = sampling();
    checkCounts();
    frozen.form(); // refused before anything is read
    TrainedModel trained = TrainedModel.find(from, err::println);
    int window = trained.context(context, err::println);
    Tokenizer tokenizer = trained.tokenizer();
    if (chat) {
      return converse(trained, window, tokenizer, sampling);
    }
    String begin = begin(tokenizer);
    int[] ids = tokenizer.encode(begin);
    if (ids.length == 0) {
      throw new InputException("The prompt is empty; give at least one character.");
    }
    if (ids.length > window) {
      err.printf(
          Locale.ROOT,
          "The prompt has %,d tokens; the model looks back at the last %,d of them.%n",
          ids.length,
          window);
    }
    try (Backend backend = device.open(trained.precision());
        Tape tape = new Tape(backend, true)) {
      err.printf(Locale.ROOT, "Model       %s, context %d%n", trained.name(), window);
      err.flush();
      TextGenerator generator =
          new TextGenerator(trained.load(tape, frozen.form()), window, tokenizer);
      for (int i = 0; i < samples && !out.checkError(); i++) {
        if (samples > 1) {
          out.printf(
              Locale.ROOT,
              "%s── sample %d of %d, seed %d ──%n",
              i == 0 ? "" : System.lineSeparator(),
              i + 1,
              samples,
              seed + i);
        }
        out.print(begin);
        out.flush();
        write(generator, ids, sampling, seed + i, tokenizer.decoder());
      }
    }
    return 0;
  }

  private int converse(
      TrainedModel trained, int window, Tokenizer tokenizer, TextGenerator.Sampling sampling) {
    try (Backend backend = device.open(trained.precision());
        Tape tape = new Tape(backend, true)) {
      err.printf(Locale.ROOT, "Model       %s, context %d%n", trained.name(), window);
      TextGenerator generator =
          new TextGenerator(trained.load(tape, frozen.form()), window, tokenizer);
      Conversation conversation =
          new Conversation(
              generator, tokenizer, sampling, new TorchGenerator(seed), maxTokens, stops);
      if (system != null) {
        conversation.system(system);
      }
      conversation.run(
          new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8)), out, err);
      return 0;
    }
  }

  private void write(
      TextGenerator generator,
      int[] ids,
      TextGenerator.Sampling sampling,
      long sampleSeed,
      TokenDecoder decoder) {
    StopTexts text = new StopTexts(stops);
    generator.stream(
        ids,
        maxTokens,
        sampling,
        new TorchGenerator(sampleSeed),
        id -> {
          out.print(text.next(decoder.next(id)));
          out.flush();
          return !text.met() && !out.checkError();
        });
    out.print(text.next(decoder.finish()));
    out.println(text.finish());
  }

  private TextGenerator.Sampling sampling() {
    if (!(temperature >= 0)) {
      throw new UsageException("--temperature must be at least 0, not " + temperature + ".");
    }
    if (topK < 0) {
      throw new UsageException("--top-k must be at least 0, not " + topK + ".");
    }
    if (!(topP > 0 && topP <= 1)) {
      throw new UsageException("--top-p must be above 0 and at most 1, not " + topP + ".");
    }
    if (!greedy && temperature > 0) {
      return new TextGenerator.Sampling(temperature, topK, topP);
    }
    if (samples > 1) {
      throw new UsageException(
          "The likeliest tokens make the same text every time; leave out --samples, or --greedy and"
              + " --temperature 0.");
    }
    List<String> idle =
        List.of("--temperature", "--top-k", "--top-p", "--seed").stream()
            .filter(name -> spec.commandLine().getParseResult().hasMatchedOption(name))
            .filter(name -> greedy || !name.equals("--temperature"))
            .toList();
    if (!idle.isEmpty()) {
      err.println(
          "The likeliest token is always chosen, whatever "
              + String.join(", ", idle)
              + (idle.size() == 1 ? " says." : " say."));
    }
    return TextGenerator.Sampling.GREEDY;
  }

  private void checkCounts() {
    if (maxTokens < 1) {
      throw new UsageException("--max-tokens must be at least 1, not " + maxTokens + ".");
    }
    if (samples < 1) {
      throw new UsageException("--samples must be at least 1, not " + samples + ".");
    }
    if (stops.contains("")) {
      throw new UsageException("--stop needs a text of at least one character.");
    }
    if (chat && (prompt != null || promptFile != null || samples > 1)) {
      throw new UsageException(
          "With --chat the input is answered line by line; leave out --prompt, --prompt-file and"
              + " --samples.");
    }
    if (system != null && !chat) {
      throw new UsageException("--system is for --chat.");
    }
    if (prompt != null && promptFile != null) {
      throw new UsageException("--prompt and --prompt-file cannot both be given.");
    }
  }

  private String begin(Tokenizer tokenizer) {
    if (promptFile != null) {
      return read(promptFile);
    }
    if (prompt != null) {
      return prompt;
    }
    try {
      tokenizer.encode("\n");
      return "\n";
    } catch (InputException e) {
      String any = tokenizer.decode(0);
      err.printf(
          Locale.ROOT,
          "The vocabulary has no line break, so the text begins with '%s'; choose another"
              + " --prompt.%n",
          any);
      return any;
    }
  }

  private static String read(String file) {
    String name = file.equals("-") ? "standard input" : file;
    byte[] bytes;
    try {
      bytes = file.equals("-") ? System.in.readAllBytes() : Files.readAllBytes(Path.of(file));
    } catch (IOException e) {
      throw new InputException(
          String.format(
              Locale.ROOT, "The prompt in %s cannot be read (%s).", name, Failures.describe(e)),
          e);
    }
    ByteBuffer utf8 = ByteBuffer.wrap(bytes);
    CharBuffer text = CharBuffer.allocate(bytes.length);
    CharsetDecoder decoder = StandardCharsets.UTF_8.newDecoder();
    CoderResult result = decoder.decode(utf8, text, true);
    if (result.isError()) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "The prompt in %s is not valid UTF-8 at byte %d; convert it to UTF-8 first.",
              name,
              utf8.position()));
    }
    String read = text.flip().toString();
    // As at the start of a document.
    return read.startsWith("\uFEFF") ? read.substring(1) : read;
  }
}
