package dev.lanewise.bench.suite;

import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Contest;
import dev.lanewise.bench.contest.ContestBenchmark;
import dev.lanewise.bench.contest.Workload;
import java.util.List;
import org.openjdk.jmh.annotations.Param;

/**
 * Likeness of vectors, at widths of embeddings: a query with rows that lie in a cache or in memory,
 * and with vectors in arrays of their own, one call each.
 */
public class SearchBenchmark extends ContestBenchmark {
  /** What is compared. */
  @Param({
    "dotPairs rows=1000 cols=128",
    "dotPairs rows=1000 cols=768",
    "distancePairs rows=1000 cols=768",
    "cosinePairs rows=1000 cols=768",
    "dotRows rows=1000 cols=128",
    "dotRows rows=1000 cols=768",
    "distanceRows rows=1000 cols=768",
    "cosineRows rows=1000 cols=768",
    "dotRows rows=100000 cols=768",
    "cosineRows rows=100000 cols=768",
  })
  public String task;

  /** Called by JMH. */
  public SearchBenchmark() {}

  @Override
  protected Workload workload() {
    return Workloads.open(Case.parse(task));
  }

  @Override
  protected List<Contest.Beside> besides() {
    return Workloads.besides(Case.parse(task), threads);
  }
}
