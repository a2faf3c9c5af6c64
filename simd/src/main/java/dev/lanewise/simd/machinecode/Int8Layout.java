package dev.lanewise.simd.machinecode;

/**
 * How operands of 8 bits lie in memory, as {@link MachineCode#int8} and its likes in Java read
 * them. A block is {@value #BLOCK} neighbours of the depth, which share a scale.
 *
 * <p>A row of A is blocks of {@value #A_BLOCK_BYTES} bytes: the signed elements, -128 times their
 * sum in 32 bits, and the scale as a float.
 *
 * <p>B is panels of {@value #COLS} columns, each a run of chunks of {@value #CHUNK_BYTES} bytes,
 * whole cache lines, of two blocks: 16 lines with, for each column, four neighbours of the depth,
 * plus 128 each, and one with the scales of both blocks as float16. So each product of the
 * processor's takes unsigned elements of B, and what they are too large comes off with A's sum.
 */
public final class Int8Layout {
  /** Elements that share a scale. */
  public static final int BLOCK = 32;

  /** Blocks of a chunk. */
  public static final int CHUNK_BLOCKS = 2;

  /** Elements of the depth that a chunk has. */
  public static final int CHUNK = CHUNK_BLOCKS * BLOCK;

  /** Columns of a panel. */
  public static final int COLS = 16;

  /** Elements of the depth that lie in 32 bits. */
  public static final int GROUP = 4;

  /** What elements of B are too large. */
  public static final int BIAS = 128;

  /** Where a row's block has -128 times its sum. */
  public static final int SUM = BLOCK;

  /** Where a row's block has its scale. */
  public static final int SCALE = SUM + Integer.BYTES;

  /** Bytes of a block of a row of A. */
  public static final int A_BLOCK_BYTES = SCALE + Float.BYTES;

  /** Bytes of the four neighbours of all columns of a panel. */
  public static final int GROUP_BYTES = GROUP * COLS;

  /** Bytes of a block's elements in a panel. */
  public static final int B_BLOCK_BYTES = BLOCK * COLS;

  /** Where the scales of a chunk begin. */
  public static final int SCALES = CHUNK_BLOCKS * B_BLOCK_BYTES;

  /** Bytes of a chunk of a panel. */
  public static final int CHUNK_BYTES = SCALES + CHUNK_BLOCKS * COLS * Short.BYTES;

  private Int8Layout() {}

  /** Chunks that a depth takes. */
  public static int chunks(int depth) {
    return depth / CHUNK + (depth % CHUNK == 0 ? 0 : 1);
  }
}
