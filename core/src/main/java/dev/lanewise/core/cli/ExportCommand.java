package dev.lanewise.core.cli;

import dev.lanewise.core.exchange.ModelExport;
import dev.lanewise.core.exchange.Pretrained;
import dev.lanewise.core.format.ElementType;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.Locale;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** Writes a trained model in a form that other programs open. */
@Command(
    name = "export",
    description = {
      "Writes a model for transformers, llama.cpp or llm.c.",
      "A folder for transformers (hf), a file for llama.cpp and its kin (gguf), or one for llm.c"
          + " (llmc), with the tokenizer."
    },
    footer = {
      "Examples:",
      "  lanewise export --from runs/notes --to hf --out notes-hf",
      "  lanewise export --from runs/notes --to gguf --type q8_0 --out notes.gguf"
    })
final class ExportCommand implements Subcommand {
  /** What weights can be stored as. */
  enum Type {
    F32,
    F16,
    BF16,
    Q8_0
  }

  /** Who is to open the model. */
  enum Form {
    HF,
    PEFT,
    GGUF,
    LLMC
  }

  @Option(names = "--from", required = true, paramLabel = "MODEL", description = TrainedModel.FROM)
  private Path from;

  @Option(
      names = "--to",
      required = true,
      paramLabel = "FORM",
      description =
          "hf, gguf or llmc, with the corrections of --lora in the weights; or peft for these"
              + " alone.")
  private Form form;

  @Option(
      names = "--out",
      required = true,
      paramLabel = "PATH",
      description = "Folder (hf, peft) or file to write; it must not be there yet.")
  private Path out;

  @Option(
      names = "--type",
      paramLabel = "TYPE",
      description = "What weights are stored as: f32, f16, bf16, or for gguf q8_0. Default: f32.")
  private Type type = Type.F32;

  @Spec private CommandSpec spec;

  @Override
  public Integer call() {
    PrintWriter err = spec.commandLine().getErr();
    Pretrained model = Pretrained.open(from, err::println);
    ModelExport.valueOf(form.name()).export(model, out, ElementType.valueOf(type.name()));
    spec.commandLine()
        .getOut()
        .printf(
            Locale.ROOT,
            "Exported    %s to %s (%s, %s)%n",
            model.name(),
            out,
            form.name().toLowerCase(Locale.ROOT),
            type.name().toLowerCase(Locale.ROOT));
    return 0;
  }
}
