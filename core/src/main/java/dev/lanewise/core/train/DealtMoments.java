package dev.lanewise.core.train;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.distributed.Communicator;
import dev.lanewise.core.nn.AdamW;
import dev.lanewise.core.nn.Share;
import dev.lanewise.core.tensor.ParameterBlock;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/**
 * Moments of parameters that lie with several processes, each of which has its share. The leader
 * gathers and scatters them one by one, for files that do not know of processes; so no process ever
 * holds more than one of them whole.
 */
public final class DealtMoments {
  private record Place(Tensor parameter, long offset, long blockLength) {}

  private final Team team;
  private final Communicator communicator;
  private final Backend backend;
  private final AdamW optimizer;
  private final List<Place> places = new ArrayList<>();
  private final MemorySegment nothing = Arena.ofAuto().allocate(Float.BYTES, Float.BYTES);
  private final int[] none;
  private final int[] at;
  private final int[] counts;
  private final int[] mineAt;
  private final int[] mineCounts;

  DealtMoments(Team team, Tape tape, AdamW optimizer) {
    this.team = team;
    this.communicator = team.communicator();
    this.backend = tape.backend();
    this.optimizer = optimizer;
    int size = communicator.size();
    none = new int[size];
    at = new int[size];
    counts = new int[size];
    mineAt = new int[size];
    mineCounts = new int[size];
    for (ParameterBlock block : tape.parameters()) {
      for (int i = 0; i < block.tensors().size(); i++) {
        if (block.tensors().get(i).requiresGrad()) {
          places.add(new Place(block.tensors().get(i), block.offset(i), block.data().length()));
        }
      }
    }
  }

  private int index(Tensor parameter) {
    for (int i = 0; i < places.size(); i++) {
      if (places.get(i).parameter == parameter) {
        return i;
      }
    }
    throw new IllegalArgumentException("no parameter that is trained");
  }

  /**
   * Reads a moment; the leader's.
   *
   * @param parameter whose
   * @param second whether the second moment, or else the first
   * @param into receives all of it
   */
  void read(Tensor parameter, boolean second, MemorySegment into) {
    int index = index(parameter);
    team.command(Team.Command.GATHER, index, second ? 1 : 0, 0);
    gather(index, second, into);
    team.done();
  }

  /**
   * Writes a moment; the leader's.
   *
   * @param parameter whose
   * @param second whether the second moment, or else the first
   * @param from all of it
   */
  void write(Tensor parameter, boolean second, MemorySegment from) {
    int index = index(parameter);
    team.command(Team.Command.SCATTER, index, second ? 1 : 0, 0);
    scatter(index, second, from);
    team.done();
  }

  /** This process's part of the command to gather; the others get nothing. */
  void gather(int index, boolean second) {
    gather(index, second, nothing);
  }

  /** This process's part of the command to scatter; the others give nothing. */
  void scatter(int index, boolean second) {
    scatter(index, second, nothing);
  }

  private void gather(int index, boolean second, MemorySegment into) {
    MemorySegment mine = mine(index, second);
    boolean leads = communicator.rank() == 0;
    communicator.allToAll(mine, mineAt, mineCounts, into, leads ? at : none, leads ? counts : none);
  }

  private void scatter(int index, boolean second, MemorySegment from) {
    MemorySegment mine = mine(index, second);
    boolean leads = communicator.rank() == 0;
    communicator.allToAll(from, leads ? at : none, leads ? counts : none, mine, mineAt, mineCounts);
  }

  /** This process's part of a moment, and where all parts are in it. */
  private MemorySegment mine(int index, boolean second) {
    Place place = places.get(index);
    long end = place.offset + place.parameter.shape().count();
    long from = 0;
    for (int rank = 0; rank < at.length; rank++) {
      Share share = new Share(rank, at.length);
      long low = Math.clamp(share.from(place.blockLength), place.offset, end);
      long high = Math.clamp(share.to(place.blockLength), place.offset, end);
      at[rank] = Math.toIntExact(low - place.offset);
      counts[rank] = Math.toIntExact(high - low);
      if (rank == communicator.rank()) {
        from = low - place.offset;
      }
    }
    int count = counts[communicator.rank()];
    mineCounts[0] = count;
    return count == 0
        ? nothing
        : backend.hostMemory(optimizer.moment(place.parameter, second, from, count));
  }
}
