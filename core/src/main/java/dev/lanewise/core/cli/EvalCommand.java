package dev.lanewise.core.cli;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.PlanningBackend;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.UsageException;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.data.TokenBatches;
import dev.lanewise.core.data.TokenFiles;
import dev.lanewise.core.data.TokenSequence;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.report.TerminalProgress;
import dev.lanewise.core.tensor.Shape;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import dev.lanewise.core.train.Evaluation;
import dev.lanewise.core.train.RunData;
import dev.lanewise.core.train.Team;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.OptionalInt;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** Tells how well a trained model predicts a text. */
@Command(
    name = EvalCommand.NAME,
    description = {
      "Computes loss, perplexity and bits per byte of a trained model on texts, each on its own and"
          + " all together.",
      "The loss is the mean over tokens, in nats, of all but the first of a text; of examples in"
          + " .jsonl files, over what is learnt of them, which are the answers. Perplexity is its"
          + " exponential. Bits per byte are the nats of all these tokens, divided by ln 2 and by"
          + " the bytes that they stand for; the end of a text has no bytes."
    },
    footer = {
      "Examples:",
      "  lanewise eval --from runs/notes --data other-notes.txt",
      "  lanewise eval --from runs/notes --data a.txt b.txt --stride 32"
    })
final class EvalCommand implements Subcommand {
  static final String NAME = "eval";

  @Option(names = "--from", required = true, paramLabel = "MODEL", description = TrainedModel.FROM)
  private Path from;

  @Option(
      names = "--data",
      required = true,
      arity = "1..*",
      paramLabel = "PATH",
      description = "Text files, folders, archives, token files, or examples in .jsonl files.")
  private List<Path> data;

  @Option(
      names = "--include",
      paramLabel = "GLOB",
      description =
          "Which files of folders and archives to use, such as *.md. May be given several times.")
  private List<String> include = List.of();

  @Option(
      names = "--exclude",
      paramLabel = "GLOB",
      description = "Which of these files to leave out. May be given several times.")
  private List<String> exclude = List.of();

  @Option(
      names = "--context",
      paramLabel = "N",
      description = "Tokens to look back at. Default: as many as the model was trained with.")
  private Integer context;

  @Option(
      names = "--stride",
      paramLabel = "N",
      description = {
        "Tokens from one window to the next. A window scores the tokens that none before scored, so"
            + " each is predicted from at least context - N tokens; small strides take longer.",
        "Default: the context, as in training."
      })
  private Integer stride;

  @Option(
      names = "--batch",
      paramLabel = "N",
      description = "Windows of a forward pass. Default: as many as in training.")
  private Integer batch;

  @Mixin private FrozenOptions frozen = new FrozenOptions();

  @Mixin private DeviceOptions device = new DeviceOptions();

  @Spec private CommandSpec spec;

  private PrintWriter out;
  private PrintWriter err;

  /**
   * What was found of a text.
   *
   * @param nats sum over its tokens
   * @param tokens number of tokens that were predicted
   * @param bytes number of bytes that they stand for
   */
  private record Score(double nats, long tokens, long bytes) {
    Score plus(Score other) {
      return new Score(nats + other.nats, tokens + other.tokens, bytes + other.bytes);
    }

    @Override
    public String toString() {
      double loss = nats / tokens;
      return String.format(
          Locale.ROOT,
          "loss %.4f, perplexity %.2f, %s, %,d tokens, %,d bytes",
          loss,
          Math.exp(loss),
          bytes == 0
              ? "no bytes"
              : String.format(Locale.ROOT, "%.4f bits per byte", nats / Math.log(2) / bytes),
          tokens,
          bytes);
    }
  }

  /** Progress on standard error. */
  private static final class ErrorProgress implements AutoCloseable {
    private final TerminalProgress progress = TerminalProgress.on(System.err);
    private String phase = "";

    void update(String what, long done, long total) {
      if (Team.current().communicator().rank() > 0) {
        return;
      }
      if (!what.equals(phase)) {
        progress.begin(what, 0, total);
        phase = what;
      }
      progress.update(done, () -> "");
    }

    @Override
    public void close() {
      progress.close();
    }
  }

  /**
   * How texts are cut.
   *
   * @param batch windows of a forward pass
   * @param context tokens of a window that something is predicted from
   * @param stride tokens from one window to the next
   */
  private record Windows(int batch, int context, int stride) {}

  @Override
  public Integer call() {
    out = spec.commandLine().getOut();
    err = spec.commandLine().getErr();
    frozen.form(); // refused before anything is read
    Team team = Team.current();
    team.beginTogether();
    TrainedModel trained = TrainedModel.find(from, err::println);
    int length = trained.context(context, err::println);
    int step = stride == null ? length : stride;
    if (step < 1 || step > length) {
      throw new UsageException(
          String.format(
              Locale.ROOT,
              "--stride must be from 1 to the context, which is %d, not %d.",
              length,
              step));
    }
    int rows = batch == null ? trained.batch() : batch;
    if (rows < 1) {
      throw new UsageException("--batch must be at least 1, not " + rows + ".");
    }
    // A window of so many tokens predicts one fewer, unless the next one begins where it ends.
    Windows windows = new Windows(rows, step < length ? length - 1 : length, step);
    try (Backend backend = device.open(trained.precision());
        Tape tape = new Tape(backend, true)) {
      out.printf(
          Locale.ROOT, "Model       %s, context %d, stride %d%n", trained.name(), length, step);
      out.flush();
      Gpt model = trained.load(tape, frozen.form());
      tape.setRecording(false);
      Score all = new Score(0, 0, 0);
      List<Path> tooShort = new ArrayList<>();
      for (Path path : data) {
        if (out.checkError()) {
          return 0; // nobody reads on
        }
        try (Dataset text = open(path, trained.tokenizer())) {
          if (text.summary() != null && text.summary().skipped() > 0) {
            err.println(path + ": " + text.summary().leftOut());
          }
          TokenSequence tokens = tokens(text, trained, backend);
          if (predicted(tokens) == 0) {
            tooShort.add(path);
            continue;
          }
          Score score = score(model, tokens, text.tokenizer(), windows);
          out.println((data.size() == 1 ? "" : path + ": ") + score);
          out.flush();
          all = all.plus(score);
        }
      }
      if (all.tokens() == 0) {
        throw new InputException(
            String.format(
                Locale.ROOT,
                "There is nothing to predict in %s, as in a single token; give more text.",
                tooShort.getFirst()));
      }
      for (Path path : tooShort) {
        err.printf(
            Locale.ROOT,
            "%s is left out: there is nothing to predict, as in a single token.%n",
            path);
      }
      if (data.size() > 1) {
        out.println("All: " + all);
      }
    }
    team.endTogether();
    return 0;
  }

  private Dataset open(Path path, Tokenizer tokenizer) {
    TokenFiles tokenFiles = TokenFiles.of(path);
    if (!tokenFiles.validation().isEmpty()) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "%s holds tokens for training and for validation; name one of the files, such as %s.",
              path,
              tokenFiles.validation().getFirst()));
    }
    RunData source =
        new RunData(List.of(path), include, exclude, tokenizer.name(), 0, false, false, 0);
    try (ErrorProgress progress = new ErrorProgress()) {
      return source.open(tokenizer, TrainCommand.cache(), progress::update);
    }
  }

  /** A text's tokens, with its documents apart if the model knows them so. */
  private TokenSequence tokens(Dataset text, TrainedModel trained, Backend backend) {
    TokenSequence tokens = text.train();
    OptionalInt end = text.tokenizer().endOfText();
    if (!trained.isolatesDocuments() || end.isEmpty() && !tokens.marksDocuments()) {
      return tokens;
    }
    if (!backend.isolatesDocuments()) {
      err.printf(
          Locale.ROOT,
          "The model was trained with --isolate-documents, which %s cannot do: it looks across the"
              + " ends of documents here.%n",
          backend.name());
      return tokens;
    }
    return tokens.isolated(end);
  }

  /** The tokens of a text that a model is to predict. */
  private static long predicted(TokenSequence tokens) {
    if (tokens.allCount()) {
      return Math.max(0, tokens.length() - 1);
    }
    long count = 0;
    for (long i = 1; i < tokens.length(); i++) {
      count += tokens.counts(i) ? 1 : 0;
    }
    return count;
  }

  private Score score(Gpt model, TokenSequence tokens, Tokenizer tokenizer, Windows windows) {
    long most = (tokens.length() + windows.stride() - 1) / windows.stride();
    int rows = (int) Math.min(windows.batch(), most);
    Tape tape = model.tape();
    requireFits(model, rows, windows.context());
    int stride = Math.min(windows.stride(), windows.context());
    try (TokenBatches batches = TokenBatches.strided(tokens, rows, windows.context(), stride);
        ErrorProgress progress = new ErrorProgress()) {
      Shape shape = Shape.of(rows, windows.context());
      Tensor ids = tape.ids(shape);
      Tensor targets = tape.ids(shape);
      Tensor positions = tokens.isolates() ? tape.ids(shape) : null;
      Evaluation.Progress heard =
          (done, count) -> {
            progress.update("evaluating", done, count);
            return true;
          };
      double loss =
          Team.current().isAlone()
              ? Evaluation.meanLoss(model, batches, ids, targets, positions, heard)
              : Evaluation.dealt(
                  Team.current().communicator(), model, batches, ids, targets, positions, heard);
      long count = predicted(tokens);
      return new Score(loss * count, count, bytes(tokens, tokenizer));
    }
  }

  /** Refuses windows that take more memory than there is, before it is taken. */
  private static void requireFits(Gpt model, int rows, int context) {
    long tokens = (long) rows * context;
    Backend backend = model.tape().backend();
    long available = backend.availableMemory();
    long needed = Long.MAX_VALUE;
    if (tokens <= Integer.MAX_VALUE) {
      PlanningBackend planning = new PlanningBackend(backend);
      try (Backend counting = planning.backend();
          Tape tape = new Tape(counting, true)) {
        tape.setRecording(false);
        Gpt same = new Gpt(tape, model.config(), null);
        long parameters = planning.peakBytes();
        Shape shape = Shape.of(rows, context);
        same.loss(tape.ids(shape), tape.ids(shape));
        needed =
            planning.peakBytes()
                - parameters
                + backend.ownLogitBytes((int) tokens, model.config().vocabSize(), 0);
      }
    }
    if (needed > available) {
      throw new UsageException(
          String.format(
              Locale.ROOT,
              "%,d windows of %,d tokens do not fit into the memory that is free (%,d MiB); choose"
                  + " a smaller --batch or --context.",
              rows,
              context,
              available >> 20));
    }
  }

  private static long bytes(TokenSequence tokens, Tokenizer tokenizer) {
    OptionalInt end = tokenizer.endOfText();
    int[] lengths = new int[tokenizer.vocabSize()];
    for (int id = 0; id < lengths.length; id++) {
      lengths[id] = end.isPresent() && end.getAsInt() == id ? 0 : tokenizer.bytes(id).length;
    }
    long sum = 0;
    for (long i = 1; i < tokens.length(); i++) {
      sum += tokens.counts(i) ? lengths[tokens.get(i)] : 0;
    }
    return sum;
  }
}
