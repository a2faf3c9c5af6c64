package dev.lanewise.simd;

import dev.lanewise.simd.machinecode.MachineCode;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * One product, cut into tasks. All operands are native and checked; offsets and strides are in
 * bytes.
 *
 * <p>The kernel reads rows of A where they lie and needs panels of B packed. As a rule a task owns
 * some columns of C: it packs their panels of B, a block of the depth at a time, into its core's
 * second-level cache and runs all rows of A past them, with no need to wait for any other task. A
 * transposed A that is the smaller operand is packed by all threads together before. If it is the
 * larger, or C too narrow, or B so small that every cache has room for it, they pack a part of B
 * together, and then a task owns some rows. An element of C is summed in the same order in any
 * case.
 *
 * <p>Where B is transposed and A has few rows, packing B would take long beside multiplying with
 * it. Then the operands change places: the stored rows of B are read where they lie, A's are the
 * panels, and the product comes out transposed, in strips that are turned on their way to C.
 *
 * <p>A product of bfloat16 runs the same way over pairs of elements: the depth counts pairs, which
 * take four bytes as floats do. Only packing and tiles differ. Where A's stored rows are no rows of
 * pairs yet, they are packed by all threads together, as a transposed A is.
 */
final class GemmJob implements Workers.Task {
  /** Products of fewer multiplications run on the calling thread. */
  private static final long SMALL = 1 << 18;

  /** Interpreted, products of so many multiplications take longer than compiling the kernels. */
  private static final long LARGE = 1 << 22;

  /** Up to so many rows, packing B costs more than it brings. */
  private static final int DIRECT_ROWS = 2 * MicroKernel.ROWS;

  /** Bytes of B that a task of few rows of A reads at most: fetching ahead starts anew in each. */
  private static final long SKINNY_BYTES = 512 << 10;

  /** Length, for each column of B, from which products of stored rows are worth adding lanes up. */
  private static final int LONG_ROW = 16;

  /**
   * Columns that a task of few rows of A and a B that is not transposed has: a page of each row.
   */
  private static final long SKINNY_COLS = 1024;

  private static final int ROWS = MicroKernel.ROWS;
  private static final int COLS = MicroKernel.COLS;

  /** Rows of tiles that a call of machine code computes at most: some tens of microseconds. */
  private static final int MOST_BELOW = 8;

  /** Room for tiles of one panel, used where C ends inside it, or for a square of vectors. */
  private static final long TEMP =
      Math.max(4L * MOST_BELOW * ROWS * COLS, Machine.LANES * Machine.VECTOR_BYTES);

  /** Rows of a transposed product that are turned at a time: whole tiles and whole vectors. */
  private static final int STRIP = 8 * ROWS;

  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  private enum Phase {
    OWN_COLUMNS,
    PACK_A,
    PACK_B,
    OWN_ROWS,
    DOTS,
    ROWS,
    BATCH
  }

  MemorySegment a;
  long aAt;
  long aStride;
  boolean aTransposed;
  MemorySegment b;
  long bAt;
  long bStride;
  boolean bTransposed;
  PackedMatrix packed;
  MemorySegment c;
  long cAt;
  long cStride;
  int m;
  int n;
  int k;
  float alpha;
  float beta;
  Epilogue epilogue;

  /** Whether operands are multiplied as bfloat16. */
  boolean isPaired;

  /** Whether A is stored as bfloat16. */
  boolean aHalf;

  /** Whether B is stored as bfloat16. */
  boolean bHalf;

  private long aBatch;
  private long bBatch;
  private long cBatch;

  /** Whether operands have changed places, and the product is C transposed. */
  private boolean isTurned;

  /** Whether tiles add bias and residual themselves, while C is still in registers. */
  private boolean addsInTiles;

  private Phase phase;

  /** Distances of rows, and of elements of a row, of an A of few rows. */
  private long fewRow;

  private long fewStep;

  /** Depth that is counted, in pairs if there are pairs. */
  private int units;

  private int blocks;
  private int blockDepth;
  private int tasks;
  private boolean packsA;

  /** Whether rows of A lie packed for all tasks. */
  private boolean hasSharedRows;

  private int firstBlock;
  private int endBlock;
  private int block;
  private MemorySegment shared;
  private int sharedFrom;
  private int sharedTo;

  /** Gives the job back without its operands, so that a spare keeps no memory alive. */
  void release() {
    a = null;
    b = null;
    c = null;
    packed = null;
    epilogue = null;
    shared = null;
    Gemm.JOBS.give(this);
  }

  void multiply() {
    multiply(threadsFor(1));
  }

  /** Threads that a number of multiplications is worth; if it is large, has the kernels ready. */
  private int threadsFor(int products) {
    double multiplications = (double) m * n * k * products;
    if (multiplications >= LARGE && !isPaired) {
      MicroKernel.prepare();
    }
    return multiplications < SMALL ? 1 : Workers.threads();
  }

  private void multiply(int threads) {
    if (m == 0 || n == 0) {
      return;
    }
    if (alpha == 0) {
      k = 0;
    }
    units = isPaired ? Bfloat16Packing.pairs(k) : k;
    blocks = Math.max(1, Blocking.blocks(units));
    blockDepth = Blocking.depth(units);
    addsInTiles = false;
    boolean hasStoredFloats = packed == null && !isPaired;
    if (hasStoredFloats && m <= SkinnyKernel.ROWS) {
      long aRow = aTransposed ? Float.BYTES : aStride;
      long aStep = aTransposed ? aStride : Float.BYTES;
      if (bTransposed) {
        multiplyDots(aRow, aStep, threads);
        return;
      }
      if (alpha == 1 && n >= Machine.LANES) {
        multiplyRows(aRow, aStep, threads);
        return;
      }
    }
    if (hasStoredFloats
        && n <= SkinnyKernel.ROWS
        && aTransposed
        && alpha == 1
        && m >= Machine.LANES
        && k >= 2 * LONG_ROW) {
      // A's stored rows, times elements of B, are added up to columns of C.
      exchange();
      try {
        long aRow = bTransposed ? aStride : Float.BYTES;
        long aStep = bTransposed ? Float.BYTES : aStride;
        multiplyRows(aRow, aStep, threads);
      } finally {
        exchange();
      }
      return;
    }
    if (hasStoredFloats && n <= SkinnyKernel.ROWS && !aTransposed && k >= LONG_ROW * n) {
      // The same with operands in each other's place: rows of A are what is read once.
      exchange();
      try {
        long aRow = bTransposed ? aStride : Float.BYTES;
        long aStep = bTransposed ? Float.BYTES : aStride;
        multiplyDots(aRow, aStep, threads);
      } finally {
        exchange();
      }
      return;
    }
    if (bTransposed && !aTransposed && packed == null && Blocking.turns(m, n, units)) {
      exchange();
      try {
        multiplyTiles(threads);
      } finally {
        exchange();
      }
    } else {
      multiplyTiles(threads);
    }
  }

  private void multiplyRows(long aRow, long aStep, int threads) {
    fewRow = aRow;
    fewStep = aStep;
    tasks = Blocking.skinnyTasks(n, SKINNY_COLS, threads);
    run(Phase.ROWS, tasks, threads);
  }

  private void multiplyDots(long aRow, long aStep, int threads) {
    tasks = Blocking.skinnyTasks(n, SKINNY_BYTES / (4L * Math.max(1, k)), threads);
    try (Scratch scratch = Scratch.take(SkinnyKernel.bytes(m, k))) {
      shared = scratch.segment;
      SkinnyKernel.interleave(a, aAt, aRow, aStep, m, k, shared);
      run(Phase.DOTS, tasks, threads);
    }
  }

  /** Lets A and B change places, or back again. */
  private void exchange() {
    isTurned = !isTurned;
    MemorySegment segment = a;
    a = b;
    b = segment;
    long at = aAt;
    aAt = bAt;
    bAt = at;
    long stride = aStride;
    aStride = bStride;
    bStride = stride;
    int rows = m;
    m = n;
    n = rows;
    boolean isHalf = aHalf;
    aHalf = bHalf;
    bHalf = isHalf;
  }

  /** Whether the kernel can read rows of A where they lie, if there are enough for a tile. */
  private boolean readsRowsOfA() {
    return !isPaired || (aHalf && (k & 1) == 0);
  }

  private boolean sharesRows(int threads, boolean byColumns) {
    if (aTransposed) {
      return (packed == null || isPaired) && Blocking.sharesRows(m, n, units, threads);
    }
    return byColumns && Blocking.hasRoomForRows(m, units);
  }

  private void multiplyTiles(int threads) {
    hasSharedRows = false;
    addsInTiles =
        MicroKernel.ADDS
            && epilogue != null
            && epilogue.isSum()
            && blocks == 1
            && beta == 0
            && !isTurned
            && (!isPaired || usesMachineCode() && alpha == 1);
    boolean scalesA = packed != null && alpha != 1 && !isPaired;
    boolean needsRows = aTransposed || !readsRowsOfA();
    boolean byColumns =
        isTurned
            ? Blocking.dealsPanels(n, blockDepth, threads)
            : Blocking.byColumns(m, n, threads)
                && (packed != null || !Blocking.keepsRows(m, n, units, threads));
    if (!needsRows && !scalesA && byColumns) {
      packsA = m < ROWS;
      multiplyColumns(0, blocks, threads);
    } else if (needsRows && sharesRows(threads, byColumns)) {
      packsA = false;
      hasSharedRows = true;
      try (Scratch scratch = Scratch.take(packedRowsBytes(m))) {
        shared = scratch.segment;
        for (block = 0; block < blocks; block++) {
          tasks = Blocking.rowTasks(m, depth(block), threads);
          run(Phase.PACK_A, tasks, threads);
          multiplyColumns(block, block + 1, threads);
        }
      }
    } else {
      packsA = needsRows || scalesA || m < ROWS;
      int most = Blocking.sharedCols(n, blockDepth);
      try (Scratch scratch = Scratch.take(packed == null ? 4L * most * blockDepth + 64 : 64)) {
        shared = scratch.segment;
        for (block = 0; block < blocks; block++) {
          for (sharedFrom = 0; sharedFrom < n; sharedFrom = sharedTo) {
            sharedTo = (int) Math.min(n, (long) sharedFrom + most);
            if (packed == null) {
              run(Phase.PACK_B, Blocking.panels(sharedTo - sharedFrom), threads);
            }
            tasks = Blocking.rowTasks(m, depth(block), threads);
            run(Phase.OWN_ROWS, tasks, threads);
          }
        }
      }
    }
  }

  private void multiplyColumns(int from, int to, int threads) {
    firstBlock = from;
    endBlock = to;
    tasks = Blocking.columnTasks(n, blockDepth, threads);
    run(Phase.OWN_COLUMNS, tasks, threads);
  }

  private int depth(int ofBlock) {
    return Math.min(blockDepth, units - ofBlock * blockDepth);
  }

  private float beta(int ofBlock) {
    return ofBlock == 0 ? beta : 1;
  }

  private void run(Phase next, int tasks, int threads) {
    phase = next;
    if (threads == 1) {
      for (int i = 0; i < tasks; i++) {
        run(i);
      }
    } else {
      Workers.parallel(tasks, this);
    }
  }

  /** Runs {@code batches} products of one shape whose operands lie some bytes apart. */
  void batched(int batches, long aApart, long bApart, long cApart) {
    int threads = threadsFor(batches);
    aBatch = aApart;
    bBatch = bApart;
    cBatch = cApart;
    if (batches >= threads) {
      run(Phase.BATCH, batches, threads);
      return;
    }
    long a0 = aAt;
    long b0 = bAt;
    long c0 = cAt;
    for (int i = 0; i < batches; i++) {
      aAt = a0 + i * aApart;
      bAt = b0 + i * bApart;
      cAt = c0 + i * cApart;
      multiply();
    }
  }

  @Override
  public void run(int task) {
    switch (phase) {
      case OWN_COLUMNS -> ownColumns(task);
      case PACK_A -> {
        int from = Blocking.start(task, tasks, m, ROWS);
        int to = Blocking.start(task + 1, tasks, m, ROWS);
        packA(block, from, to, shared, 4L * from * depth(block));
      }
      case PACK_B -> {
        int from = sharedFrom + task * COLS;
        packB(block, from, (int) Math.min(sharedTo, (long) from + COLS), shared, sharedAt(from));
      }
      case OWN_ROWS -> ownRows(task);
      case DOTS -> dots(task);
      case ROWS -> rows(task);
      case BATCH -> one(task);
    }
  }

  private void one(int batch) {
    GemmJob job = Gemm.JOBS.take();
    job.a = a;
    job.aAt = aAt + batch * aBatch;
    job.aStride = aStride;
    job.aTransposed = aTransposed;
    job.b = b;
    job.bAt = bAt + batch * bBatch;
    job.bStride = bStride;
    job.bTransposed = bTransposed;
    job.c = c;
    job.cAt = cAt + batch * cBatch;
    job.cStride = cStride;
    job.m = m;
    job.n = n;
    job.k = k;
    job.alpha = alpha;
    job.beta = beta;
    job.epilogue = null;
    job.packed = null;
    job.isPaired = isPaired;
    job.aHalf = aHalf;
    job.bHalf = bHalf;
    try {
      job.multiply(1);
    } finally {
      job.release();
    }
  }

  private long sharedAt(int col) {
    return 4L * (col - sharedFrom) * depth(block);
  }

  private void ownColumns(int task) {
    int from = Blocking.start(task, tasks, n, COLS);
    int to = Blocking.start(task + 1, tasks, n, COLS);
    long panelsAt = TEMP;
    long rowsAt = panelsAt + (packed == null ? 4L * (to - from + COLS) * blockDepth : 0);
    long stripAt = rowsAt + (packsA ? packedRowsBytes(m) : 0);
    try (Scratch own = Scratch.take(stripAt + stripBytes(to - from))) {
      MemorySegment mine = own.segment;
      boolean isDirect = packed == null && readsDirectly(to - from);
      boolean isApart = isDirect && !liesPacked(to - from);
      for (int kb = firstBlock; kb < endBlock; kb++) {
        int depth = depth(kb);
        MemorySegment panels = packed != null ? packed.segment : isDirect ? b : mine;
        long at = panelsAt;
        if (packed != null) {
          at = packed.panel(kb, from);
        } else if (isDirect) {
          at = bAt + (long) kb * blockDepth * bStride + 4L * from;
        } else {
          packB(kb, from, to, mine, panelsAt);
        }
        MemorySegment rows = a;
        long rowAt = aAt + 4L * kb * blockDepth;
        long aRow = aStride;
        if (packsA) {
          packA(kb, 0, m, mine, rowsAt);
          rows = mine;
          rowAt = rowsAt;
          aRow = 4L * depth;
        } else if (hasSharedRows) {
          rows = shared;
          rowAt = 0;
          aRow = 4L * depth;
        }
        multiplyRows(kb, rows, rowAt, aRow, 0, m, panels, at, isApart, from, to, mine, stripAt);
      }
    }
  }

  /** Few rows of A and B transposed: every element of C is the product of two stored rows. */
  private void dots(int task) {
    int from = Blocking.start(task, tasks, n, Machine.LANES);
    int to = Blocking.start(task + 1, tasks, n, Machine.LANES);
    try (Scratch own = Scratch.take(SkinnyKernel.TEMP)) {
      MemorySegment mine = own.segment;
      for (int col = from; col < to; col += Machine.LANES) {
        int cols = Math.min(Machine.LANES, to - col);
        long colAt = bAt + col * bStride;
        SkinnyKernel.dots(shared, m, b, colAt, bStride, cols, k, alpha, mine);
        if (isTurned) {
          scatter(mine, SkinnyKernel.SUMS, Machine.VECTOR_BYTES, col, cols, beta);
        } else {
          long at = cAt + 4L * col;
          long row = Machine.VECTOR_BYTES;
          Packing.merge(mine, SkinnyKernel.SUMS, row, c, at, cStride, m, cols, beta);
        }
      }
      if (isTurned) {
        finish(blocks - 1, from, to - from, 0, m, mine);
      } else {
        finish(blocks - 1, 0, m, from, to - from, mine);
      }
    }
  }

  /** Writes columns of the transposed product to rows of C. */
  private void scatter(
      MemorySegment mine, long productsAt, long stride, int row, int rows, float times) {
    for (int i = 0; i < rows; i++) {
      long at = cAt + (row + i) * cStride;
      for (int j = 0; j < m; j++) {
        float product = mine.get(FLOAT, productsAt + j * stride + 4L * i);
        float old = times == 0 ? 0 : c.get(FLOAT, at + 4L * j);
        c.set(FLOAT, at + 4L * j, times == 0 ? product : Math.fma(old, times, product));
      }
    }
  }

  /** Few rows of A and B as it is: rows of B, times elements of A, are added up. */
  private void rows(int task) {
    int from = Blocking.start(task, tasks, n, Machine.LANES);
    int to = Blocking.start(task + 1, tasks, n, Machine.LANES);
    long row = Machine.VECTOR_BYTES * ((to - from + Machine.LANES - 1) / Machine.LANES);
    try (Scratch own = Scratch.take(Math.max(TEMP, m * row))) {
      MemorySegment mine = own.segment;
      for (int kb = 0; kb < blocks; kb++) {
        long first = (long) kb * blockDepth;
        mine.asSlice(0, m * row).fill((byte) 0);
        SkinnyKernel.addRows(
            a,
            aAt + first * fewStep,
            fewRow,
            fewStep,
            m,
            b,
            bAt + first * bStride + 4L * from,
            bStride,
            depth(kb),
            to - from,
            mine,
            row);
        if (isTurned) {
          scatter(mine, 0, row, from, to - from, beta(kb));
        } else {
          long at = cAt + 4L * from;
          Packing.merge(mine, 0, row, c, at, cStride, m, to - from, beta(kb));
        }
      }
      if (isTurned) {
        finish(blocks - 1, from, to - from, 0, m, mine);
      } else {
        finish(blocks - 1, 0, m, from, to - from, mine);
      }
    }
  }

  /** Whether the kernel reads the columns of B where they lie, without packing. */
  private boolean readsDirectly(int cols) {
    if (bTransposed || alpha != 1 || isPaired || cols % MicroKernel.FEW_COLS != 0) {
      return false;
    }
    return m <= DIRECT_ROWS || liesPacked(cols);
  }

  private boolean liesPacked(int cols) {
    return cols == COLS && bStride == 4L * COLS && (b.address() + bAt) % 64 == 0;
  }

  private void ownRows(int task) {
    int piece = isTurned ? STRIP : ROWS;
    int from = Blocking.start(task, tasks, m, piece);
    int to = Blocking.start(task + 1, tasks, m, piece);
    int depth = depth(block);
    int group = Blocking.groupCols(depth);
    long stripAt = TEMP + (packsA ? packedRowsBytes(to - from) : 0);
    try (Scratch own = Scratch.take(stripAt + stripBytes(Math.min(group, sharedTo - sharedFrom)))) {
      MemorySegment mine = own.segment;
      MemorySegment rows = a;
      long rowAt = aAt + from * aStride + 4L * block * blockDepth;
      long aRow = aStride;
      if (packsA) {
        packA(block, from, to, mine, TEMP);
        rows = mine;
        rowAt = TEMP;
        aRow = 4L * depth;
      }
      MemorySegment panels = packed == null ? shared : packed.segment;
      long panelAt = packed == null ? 0 : packed.panel(block, sharedFrom);
      for (int first = sharedFrom; first < sharedTo; first += group) {
        int end = (int) Math.min(sharedTo, (long) first + group);
        long at = panelAt + 4L * (first - sharedFrom) * depth;
        multiplyRows(
            block, rows, rowAt, aRow, from, to, panels, at, false, first, end, mine, stripAt);
      }
    }
  }

  /**
   * Multiplies some rows with some columns, row of tiles by row of tiles.
   *
   * @param rowAt where row {@code from} lies
   * @param panelAt where column {@code first} lies
   * @param isApart whether B is not packed
   * @param stripAt where strips of a product that is turned may lie
   */
  private void multiplyRows(
      int kb,
      MemorySegment rows,
      long rowAt,
      long aRow,
      int from,
      int to,
      MemorySegment panels,
      long panelAt,
      boolean isApart,
      int first,
      int end,
      MemorySegment mine,
      long stripAt) {
    int depth = depth(kb);
    boolean isPadded = packsA || hasSharedRows;
    boolean isPlain =
        isPaired && isPlain(rows, rowAt, aRow, to - from, panels, panelAt, first, end, depth);
    int whole = (end - first) / COLS;
    boolean takesMany = usesMachineCode() && !isApart;
    int height;
    for (int i = from; i < to; i += height) {
      // The last tile is moved up to end with the last row.
      int start = isPadded ? i : Math.min(i, m - ROWS);
      int line = (i - from) % STRIP;
      long tileAt = rowAt + (start - from) * aRow;
      long at = panelAt;
      int col = first;
      height = ROWS;
      if (takesMany && to - i >= ROWS) {
        int below = Math.min(MOST_BELOW, (to - i) / ROWS);
        if (isTurned) {
          below = Math.min(below, (STRIP - line) / ROWS);
        }
        height = below * ROWS;
        long lineAt = isTurned ? inStrip(stripAt, line, end - first, 0) : 0;
        long stride = stripStride(end - first);
        if (whole > 0) {
          tiles(
              whole, COLS, below, rows, tileAt, aRow, panels, at, kb, i, first, mine, lineAt,
              stride);
          at += 4L * COLS * depth * whole;
          col += COLS * whole;
        }
        if (col < end) {
          // The last panel, which may have more columns than C.
          int cols = Blocking.panelCols(col, n);
          lineAt += 4L * (col - first);
          tiles(1, cols, below, rows, tileAt, aRow, panels, at, kb, i, col, mine, lineAt, stride);
          col = end;
        }
      }
      int width;
      for (; col < end; col += width) {
        width = isApart ? MicroKernel.FEW_COLS : Blocking.panelCols(col, n);
        if (isTurned) {
          long stripTileAt = inStrip(stripAt, line + start - i, end - first, col - first);
          long stride = stripStride(end - first);
          if (isPaired) {
            Bfloat16Kernel.multiply(
                width,
                rows,
                tileAt,
                aRow,
                panels,
                at,
                depth,
                mine,
                stripTileAt,
                stride,
                alpha,
                0,
                isPlain,
                mine);
          } else {
            MicroKernel.multiply(
                width, rows, tileAt, aRow, panels, at, depth, mine, stripTileAt, stride, 0);
          }
        } else {
          long bStep = isApart ? bStride : 0;
          if (isPaired) {
            pairedTile(
                width, rows, tileAt, aRow, panels, at, kb, i, to, i - start, col, isPlain, mine);
          } else {
            tile(width, rows, tileAt, aRow, panels, at, bStep, kb, i, to, i - start, col, mine);
          }
        }
        at += isApart ? 4L * width : 4L * width * depth;
      }
      if (!isTurned) {
        finish(kb, i, Math.min(height, to - i), first, end - first, mine);
      } else if (line + height == STRIP || i + height >= to) {
        int top = i - line;
        turn(kb, top, Math.min(STRIP, to - top), first, end - first, mine, stripAt);
      }
    }
  }

  /** What {@link Bfloat16Kernel#isPlain} says of some rows and columns. */
  private boolean isPlain(
      MemorySegment rows,
      long rowAt,
      long aRow,
      int count,
      MemorySegment panels,
      long panelAt,
      int first,
      int end,
      int depth) {
    if (Bfloat16Kernel.usesMachineCode()) {
      return true;
    }
    int ofRows = Bfloat16Kernel.smallest(rows, rowAt, count, aRow, depth);
    int ofPanels = Integer.MAX_VALUE;
    int width;
    for (int col = first; col < end; col += width) {
      width = Blocking.panelCols(col, n);
      int cols = Math.min(width, n - col);
      int ofPanel = Bfloat16Kernel.smallest(panels, panelAt, depth, 4L * width, cols);
      ofPanels = Math.min(ofPanels, ofPanel);
      panelAt += 4L * width * depth;
    }
    return Bfloat16Kernel.isPlain(ofRows, ofPanels);
  }

  /** Whether tiles run as machine code. */
  private boolean usesMachineCode() {
    return isPaired ? Bfloat16Kernel.usesMachineCode() : MicroKernel.usesMachineCode();
  }

  /**
   * Tiles beside and below each other by machine code, in C or, if the product is turned, in a
   * strip. One call for many holds the memory once: that of an arena that threads share is counted
   * for each, which takes a tenth of the time of single tiles and more.
   *
   * @param width columns of a tile, and of its panel
   */
  private void tiles(
      int tiles,
      int width,
      int below,
      MemorySegment rows,
      long rowAt,
      long aRow,
      MemorySegment panels,
      long panelAt,
      int kb,
      int i,
      int col,
      MemorySegment mine,
      long stripAt,
      long stripStride) {
    int cols = Math.min(width, n - col);
    boolean isPart = !isTurned && cols < width;
    boolean adds = addsInTiles && !isPart;
    Matrix residual = adds ? epilogue.residual : null;
    MemorySegment to = c;
    long at = cAt + i * cStride + 4L * col;
    long stride = cStride;
    if (isTurned) {
      to = mine;
      at = stripAt;
      stride = stripStride;
    } else if (isPart) {
      to = mine;
      at = 0;
      stride = 4L * width;
    }
    MachineCode.tiles(
        isPaired,
        tiles,
        below,
        width / Machine.LANES,
        rows,
        rowAt,
        aRow,
        panels,
        panelAt,
        depth(kb),
        to,
        at,
        stride,
        isPaired ? alpha : 1,
        isTurned || isPart ? 0 : beta(kb),
        adds ? epilogue.bias : null,
        adds ? EpilogueKernel.biasAt(epilogue, col) : 0,
        EpilogueKernel.segment(residual),
        EpilogueKernel.at(residual, i, col),
        EpilogueKernel.stride(residual));
    if (isPart) {
      long target = cAt + i * cStride + 4L * col;
      Packing.merge(mine, 0, stride, c, target, cStride, below * ROWS, cols, beta(kb));
      if (addsInTiles) {
        EpilogueKernel.apply(epilogue, c, cAt, cStride, i, below * ROWS, col, cols, mine);
      }
    }
  }

  private void pairedTile(
      int width,
      MemorySegment rows,
      long rowAt,
      long aRow,
      MemorySegment panels,
      long panelAt,
      int kb,
      int i,
      int rowEnd,
      int above,
      int col,
      boolean isPlain,
      MemorySegment temp) {
    long at = cAt + i * cStride + 4L * col;
    int height = Math.min(ROWS, rowEnd - i);
    int cols = Math.min(width, n - col);
    int depth = depth(kb);
    float times = beta(kb);
    if (height == ROWS && cols == width) {
      Bfloat16Kernel.multiply(
          width, rows, rowAt, aRow, panels, panelAt, depth, c, at, cStride, alpha, times, isPlain,
          temp);
    } else {
      long rowBytes = 4L * width;
      Bfloat16Kernel.multiply(
          width, rows, rowAt, aRow, panels, panelAt, depth, temp, 0, rowBytes, alpha, 0, isPlain,
          temp);
      Packing.merge(temp, above * rowBytes, rowBytes, c, at, cStride, height, cols, times);
    }
    if (addsInTiles) {
      EpilogueKernel.apply(epilogue, c, cAt, cStride, i, height, col, cols, temp);
    }
  }

  private long packedRowsBytes(int rows) {
    return 4L * (rows + ROWS) * blockDepth + 64;
  }

  /** Packs whole rows of A, at least a tile of them. */
  private void packA(int kb, int from, int to, MemorySegment target, long at) {
    if (isPaired) {
      packPairsOfA(kb, from, to, target, at);
      return;
    }
    int depth = depth(kb);
    long firstAt = (long) kb * blockDepth;
    long rowBytes = 4L * depth;
    int rows = (to - from + ROWS - 1) / ROWS * ROWS;
    if (aTransposed) {
      long fromAt = aAt + firstAt * aStride + 4L * from;
      Packing.transposeInParts(a, fromAt, aStride, depth, to - from, target, at, depth);
    } else {
      for (int i = 0; i < rows; i++) {
        long rowAt = aAt + Math.min(from + i, to - 1) * aStride + 4 * firstAt;
        MemorySegment.copy(a, rowAt, target, at + i * rowBytes, rowBytes);
      }
    }
    if (packed != null && alpha != 1) {
      Packing.scale(target, at, (long) rows * depth, alpha);
    }
  }

  private void packPairsOfA(int kb, int from, int to, MemorySegment target, long at) {
    long rowBytes = 4L * depth(kb);
    int first = 2 * kb * blockDepth;
    int depth = Math.min(k - first, 2 * depth(kb));
    long bytes = elementBytes(aHalf);
    if (aTransposed) {
      long fromAt = aAt + first * aStride + bytes * from;
      Bfloat16Packing.turnedRows(a, fromAt, aStride, aHalf, to - from, depth, target, at);
      return;
    }
    int rows = (to - from + ROWS - 1) / ROWS * ROWS;
    for (int i = 0; i < rows; i++) {
      long rowAt = aAt + Math.min(from + i, to - 1) * aStride + bytes * first;
      Bfloat16Packing.row(a, rowAt, aHalf, depth, target, at + i * rowBytes);
    }
  }

  private static long elementBytes(boolean isHalf) {
    return isHalf ? Short.BYTES : Float.BYTES;
  }

  private void packB(int kb, int from, int to, MemorySegment target, long at) {
    int depth = depth(kb);
    if (isPaired) {
      int first = 2 * kb * blockDepth;
      int elements = Math.min(k - first, 2 * depth);
      packPairsOfB(b, bAt, bStride, bTransposed, bHalf, first, elements, from, to, n, target, at);
      return;
    }
    packB(b, bAt, bStride, bTransposed, kb * blockDepth, depth, from, to, n, target, at);
    if (alpha != 1) {
      long cols = to == n ? Blocking.packedCols(n) - from : to - from;
      Packing.scale(target, at, cols * depth, alpha);
    }
  }

  /** Packs the panels of B, of {@code n} columns, from a column where one starts to another. */
  static void packB(
      MemorySegment b,
      long bAt,
      long bStride,
      boolean isTransposed,
      int first,
      int depth,
      int from,
      int to,
      int n,
      MemorySegment target,
      long at) {
    int width;
    for (int col = from; col < to; col += width) {
      width = Blocking.panelCols(col, n);
      int lines = Math.min(width, to - col);
      if (isTransposed) {
        long fromAt = bAt + col * bStride + 4L * first;
        Packing.transpose(b, fromAt, bStride, lines, depth, target, at, width);
      } else {
        long fromAt = bAt + first * bStride + 4L * col;
        Packing.copy(b, fromAt, bStride, lines, depth, target, at, width);
      }
      at += 4L * width * depth;
    }
  }

  /** As {@link #packB} in pairs of bfloat16; {@code first} and {@code depth} count elements. */
  static void packPairsOfB(
      MemorySegment b,
      long bAt,
      long bStride,
      boolean isTransposed,
      boolean isHalf,
      int first,
      int depth,
      int from,
      int to,
      int n,
      MemorySegment target,
      long at) {
    long bytes = elementBytes(isHalf);
    int width;
    for (int col = from; col < to; col += width) {
      width = Blocking.panelCols(col, n);
      int lines = Math.min(width, to - col);
      if (isTransposed) {
        long fromAt = bAt + col * bStride + bytes * first;
        Bfloat16Packing.panelOfRows(b, fromAt, bStride, isHalf, lines, depth, target, at, width);
      } else {
        long fromAt = bAt + first * bStride + bytes * col;
        Bfloat16Packing.columns(b, fromAt, bStride, isHalf, lines, depth, target, at, 4L * width);
      }
      at += 4L * width * Bfloat16Packing.pairs(depth);
    }
  }

  /**
   * Computes the tile at row {@code i} and column {@code col}.
   *
   * @param bStep distance of B's rows if B is not packed, or else 0
   * @param rowEnd row after the last that this task owns
   * @param above rows that the tile has in excess above row {@code i}
   */
  private void tile(
      int width,
      MemorySegment rows,
      long rowAt,
      long aRow,
      MemorySegment panels,
      long panelAt,
      long bStep,
      int kb,
      int i,
      int rowEnd,
      int above,
      int col,
      MemorySegment temp) {
    long at = cAt + i * cStride + 4L * col;
    int height = Math.min(ROWS, rowEnd - i);
    int cols = Math.min(width, n - col);
    int depth = depth(kb);
    if (height == ROWS && cols == width && bStep == 0) {
      if (addsInTiles && width == COLS) {
        Matrix residual = epilogue.residual;
        MicroKernel.multiplyAndAdd(
            rows,
            rowAt,
            aRow,
            panels,
            panelAt,
            depth,
            c,
            at,
            cStride,
            epilogue.bias,
            EpilogueKernel.biasAt(epilogue, col),
            EpilogueKernel.segment(residual),
            EpilogueKernel.at(residual, i, col),
            EpilogueKernel.stride(residual));
        return;
      }
      MicroKernel.multiply(
          width, rows, rowAt, aRow, panels, panelAt, depth, c, at, cStride, beta(kb));
    } else {
      long rowBytes = 4L * width;
      if (bStep == 0) {
        MicroKernel.multiply(
            width, rows, rowAt, aRow, panels, panelAt, depth, temp, 0, rowBytes, 0);
      } else {
        MicroKernel.multiplyApart(
            rows, rowAt, aRow, panels, panelAt, bStep, depth, temp, 0, rowBytes);
      }
      Packing.merge(temp, above * rowBytes, rowBytes, c, at, cStride, height, cols, beta(kb));
    }
    if (addsInTiles) {
      EpilogueKernel.apply(epilogue, c, cAt, cStride, i, height, col, cols, temp);
    }
  }

  private long stripBytes(int cols) {
    return isTurned ? (STRIP + ROWS) * stripStride(cols) + 64 : 0;
  }

  /** Bytes from one row of a strip to the next: whole panels. */
  private static long stripStride(int cols) {
    return 4L * Blocking.panels(cols) * COLS;
  }

  /** Where an element of a strip lies; a tile that is moved up may begin above the strip. */
  private static long inStrip(long stripAt, int row, int cols, int col) {
    return stripAt + (row + ROWS) * stripStride(cols) + 4L * col;
  }

  /** Turns a strip of the transposed product and adds it to {@code beta} times its part of C. */
  private void turn(
      int kb, int row, int rows, int col, int cols, MemorySegment mine, long stripAt) {
    long stride = stripStride(cols);
    float times = beta(kb);
    for (int j = 0; j < cols; j += Machine.LANES) {
      int height = Math.min(Machine.LANES, cols - j);
      for (int i = 0; i < rows; i += Machine.LANES) {
        int width = Math.min(Machine.LANES, rows - i);
        long from = inStrip(stripAt, i, cols, j);
        long to = cAt + (col + j) * cStride + 4L * (row + i);
        if (times == 0 && height == Machine.LANES && width == Machine.LANES) {
          Packing.transposeSquare(mine, from, stride, c, to, cStride);
        } else {
          Packing.transposeSquare(mine, from, stride, mine, 0, Machine.VECTOR_BYTES);
          Packing.merge(mine, 0, Machine.VECTOR_BYTES, c, to, cStride, height, width, times);
        }
      }
    }
    finish(kb, col, cols, row, rows, mine);
  }

  private void finish(int kb, int i, int rows, int col, int cols, MemorySegment temp) {
    if (epilogue != null && kb == blocks - 1 && !addsInTiles) {
      EpilogueKernel.apply(epilogue, c, cAt, cStride, i, rows, col, cols, temp);
    }
  }
}
