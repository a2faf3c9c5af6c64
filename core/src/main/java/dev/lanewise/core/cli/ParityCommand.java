package dev.lanewise.core.cli;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.Precision;
import dev.lanewise.core.base.AtomicFile;
import dev.lanewise.core.base.Json;
import dev.lanewise.core.examples.Parity;
import dev.lanewise.core.examples.TrainingParity;
import dev.lanewise.core.report.Chart;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** Holds what is computed here against what the tutorials print. */
@Command(
    name = "parity",
    description = {
      "Computes every seeded number that the tutorials print, at full size, and shows it beside"
          + " the printed one.",
      "Exit code 1 if any differs beyond what is allowed."
    },
    footer = {
      "Examples:",
      "  lanewise parity",
      "  lanewise parity --json parity.json",
      "  lanewise parity --pictures docs/images"
    })
final class ParityCommand implements Subcommand {
  private static final String TABLE = "  %-4s  %-44s  %-24s  %s%n";

  @Option(names = "--json", paramLabel = "FILE", description = "Write the comparisons as JSON.")
  private Path json;

  @Option(
      names = "--pictures",
      paramLabel = "FOLDER",
      description = "Write the loss curves of Lanewise and PyTorch there, as SVG.")
  private Path pictures;

  @Option(
      names = "--device",
      paramLabel = "KIND",
      description = "auto, cpu or cuda. Default: ${DEFAULT-VALUE}.")
  private String device = "cpu";

  @Option(names = "--threads", paramLabel = "N", description = "Threads. Default: all cores.")
  private Integer threads;

  @Spec private CommandSpec spec;

  @Override
  public Integer call() {
    PrintWriter out = spec.commandLine().getOut();
    List<Parity.Row> rows;
    String[] tutorial = {""};
    try (Backend backend = Devices.open(device, Precision.FP32, false, threads)) {
      rows =
          Parity.run(
              backend,
              row -> {
                if (!row.tutorial().equals(tutorial[0])) {
                  tutorial[0] = row.tutorial();
                  out.printf(Locale.ROOT, "%n%s%n%n", tutorial[0]);
                  out.printf(Locale.ROOT, TABLE, "", "statement", "printed", "ours");
                }
                print(out, row);
                out.flush();
              });
      if (pictures != null) {
        List<TrainingParity.Curves> curves = TrainingParity.compare(backend);
        write("parity-losses.svg", TrainingParity.picture(curves));
        write("parity-distance.svg", TrainingParity.pictureOfDistance(curves));
      }
    }
    long differ = rows.stream().filter(row -> !row.agrees()).count();
    out.printf(
        Locale.ROOT,
        "%n%d values, %d agree, %d differ%n",
        rows.size(),
        rows.size() - differ,
        differ);
    if (json != null) {
      List<Map<String, Object>> list = new ArrayList<>();
      for (Parity.Row row : rows) {
        Map<String, Object> map = new LinkedHashMap<>();
        map.put("tutorial", row.tutorial());
        map.put("statement", row.statement());
        map.put("printed", row.printed());
        map.put("ours", row.ours());
        map.put("agrees", row.agrees());
        map.put("allowed", row.allowed());
        list.add(map);
      }
      AtomicFile.writeText(json, Json.writePretty(list) + "\n");
    }
    return differ == 0 ? 0 : 1;
  }

  /** One line of the table; values that are too wide for it stand beneath. */
  private static void print(PrintWriter out, Parity.Row row) {
    String verdict = row.agrees() ? "ok" : "DIFF";
    if (row.printed().length() <= 24 && row.ours().length() <= 24) {
      out.printf(Locale.ROOT, TABLE, verdict, row.statement(), row.printed(), row.ours());
    } else {
      out.printf(Locale.ROOT, "  %-4s  %s%n", verdict, row.statement());
      out.printf(Locale.ROOT, "        printed  %s%n", row.printed());
      out.printf(Locale.ROOT, "        ours     %s%n", row.ours());
    }
    if (!row.allowed().isEmpty()) {
      out.printf(Locale.ROOT, "        allowed: %s%n", row.allowed());
    }
  }

  private void write(String name, Chart chart) {
    AtomicFile.writeText(pictures.resolve(name), chart.standalone(880, 380));
  }
}
