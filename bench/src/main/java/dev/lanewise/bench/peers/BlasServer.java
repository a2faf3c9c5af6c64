package dev.lanewise.bench.peers;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Inputs;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.util.Locale;
import java.util.Optional;

/** Speaks for a native library with CBLAS's or oneDNN's matrix product. */
@SuppressWarnings("restricted")
public final class BlasServer implements PeerServer.Library {
  private static final Linker LINKER = Linker.nativeLinker();
  private static final int ROW_MAJOR = 101;
  private static final int PLAIN = 111;
  private static final int TRANSPOSED = 112;

  private final SymbolLookup library;
  private final String name;
  private final Optional<MethodHandle> cblas;
  private final Optional<MethodHandle> dnnl;

  private BlasServer(String name, SymbolLookup library) {
    this.name = name;
    this.library = library;
    cblas =
        handle(
            "cblas_sgemm",
            FunctionDescriptor.ofVoid(
                JAVA_INT,
                JAVA_INT,
                JAVA_INT,
                JAVA_INT,
                JAVA_INT,
                JAVA_INT,
                JAVA_FLOAT,
                ADDRESS,
                JAVA_INT,
                ADDRESS,
                JAVA_INT,
                JAVA_FLOAT,
                ADDRESS,
                JAVA_INT));
    dnnl =
        handle(
            "dnnl_sgemm",
            FunctionDescriptor.of(
                JAVA_INT,
                JAVA_BYTE,
                JAVA_BYTE,
                JAVA_LONG,
                JAVA_LONG,
                JAVA_LONG,
                JAVA_FLOAT,
                ADDRESS,
                JAVA_LONG,
                ADDRESS,
                JAVA_LONG,
                JAVA_FLOAT,
                ADDRESS,
                JAVA_LONG));
    if (cblas.isEmpty() && dnnl.isEmpty()) {
      throw new IllegalArgumentException(name + " has neither cblas_sgemm nor dnnl_sgemm");
    }
  }

  /**
   * Serves a library.
   *
   * @param args the peer's name and the library's path or name
   * @throws IOException if the conversation breaks off
   */
  public static void main(String[] args) throws IOException {
    PeerServer.serve(new BlasServer(args[0], SymbolLookup.libraryLookup(args[1], Arena.global())));
  }

  private Optional<MethodHandle> handle(String symbol, FunctionDescriptor descriptor) {
    return library.find(symbol).map(address -> LINKER.downcallHandle(address, descriptor));
  }

  @Override
  public String describe() {
    return text("openblas_get_config")
        .map(c -> c + text("openblas_get_corename").map(n -> ", kernels " + n).orElse(""))
        .or(this::mklVersion)
        .or(this::dnnlVersion)
        .or(() -> text("bli_info_get_version_str").map(v -> "BLIS " + v))
        .orElse(name);
  }

  private Optional<String> text(String symbol) {
    return handle(symbol, FunctionDescriptor.of(ADDRESS))
        .map(
            h -> {
              try {
                MemorySegment text = (MemorySegment) h.invokeExact();
                return text.reinterpret(256).getString(0).strip();
              } catch (Throwable e) {
                throw new IllegalStateException(e);
              }
            });
  }

  private Optional<String> mklVersion() {
    return handle("MKL_Get_Version_String", FunctionDescriptor.ofVoid(ADDRESS, JAVA_INT))
        .map(
            h -> {
              try (Arena arena = Arena.ofConfined()) {
                MemorySegment text = arena.allocate(256);
                h.invokeExact(text, 256);
                return text.getString(0).strip().replaceAll("\\s+", " ");
              } catch (Throwable e) {
                throw new IllegalStateException(e);
              }
            });
  }

  private Optional<String> dnnlVersion() {
    return handle("dnnl_version", FunctionDescriptor.of(ADDRESS))
        .map(
            h -> {
              try {
                MemorySegment version = ((MemorySegment) h.invokeExact()).reinterpret(12);
                return String.format(
                    Locale.ROOT,
                    "oneDNN %d.%d.%d",
                    version.get(JAVA_INT, 0),
                    version.get(JAVA_INT, 4),
                    version.get(JAVA_INT, 8));
              } catch (Throwable e) {
                throw new IllegalStateException(e);
              }
            });
  }

  @Override
  public PeerServer.Job open(Case task, int threads) {
    if (!task.operation().equals("gemm") || task.isBfloat16()) {
      return null;
    }
    handle("openblas_set_num_threads", FunctionDescriptor.ofVoid(JAVA_INT))
        .ifPresent(h -> call(h, threads));
    handle("MKL_Set_Num_Threads", FunctionDescriptor.ofVoid(JAVA_INT))
        .ifPresent(h -> call(h, threads));
    return new Gemm(task);
  }

  private static void call(MethodHandle handle, int value) {
    try {
      handle.invokeExact(value);
    } catch (Throwable e) {
      throw new IllegalStateException(e);
    }
  }

  /** C = op(A) op(B), or several such products one after another. */
  private final class Gemm implements PeerServer.Job {
    private final int m;
    private final int n;
    private final int k;
    private final boolean isATransposed;
    private final boolean isBTransposed;
    private final MemorySegment[] a;
    private final MemorySegment[] b;
    private final MemorySegment[] c;
    private final MemorySegment all;
    private final Arena arena = Arena.ofShared();

    Gemm(Case task) {
      m = task.number("m");
      n = task.number("n");
      k = task.number("k");
      String layout = task.word("layout", "NN");
      isATransposed = layout.charAt(0) == 'T';
      isBTransposed = layout.charAt(1) == 'T';
      int batch = task.number("batch", 1);
      a = slices(Inputs.floats(arena, (long) batch * m * k, 1), batch);
      b = slices(Inputs.floats(arena, (long) batch * k * n, 2), batch);
      all = arena.allocate(4L * batch * m * n, 64);
      c = slices(all, batch);
    }

    private static MemorySegment[] slices(MemorySegment all, int batch) {
      MemorySegment[] slices = new MemorySegment[batch];
      long size = all.byteSize() / batch;
      for (int i = 0; i < batch; i++) {
        slices[i] = all.asSlice(i * size, size);
      }
      return slices;
    }

    @Override
    public void run() {
      try {
        if (dnnl.isPresent()) {
          MethodHandle handle = dnnl.get();
          byte ta = (byte) (isATransposed ? 'T' : 'N');
          byte tb = (byte) (isBTransposed ? 'T' : 'N');
          long lda = isATransposed ? m : k;
          long ldb = isBTransposed ? k : n;
          for (int i = 0; i < a.length; i++) {
            int status =
                (int)
                    handle.invokeExact(
                        ta, tb, (long) m, (long) n, (long) k, 1f, a[i], lda, b[i], ldb, 0f, c[i],
                        (long) n);
            if (status != 0) {
              throw new IllegalStateException("dnnl_sgemm returns " + status);
            }
          }
        } else {
          MethodHandle handle = cblas.orElseThrow();
          int ta = isATransposed ? TRANSPOSED : PLAIN;
          int tb = isBTransposed ? TRANSPOSED : PLAIN;
          int lda = isATransposed ? m : k;
          int ldb = isBTransposed ? k : n;
          for (int i = 0; i < a.length; i++) {
            handle.invokeExact(ROW_MAJOR, ta, tb, m, n, k, 1f, a[i], lda, b[i], ldb, 0f, c[i], n);
          }
        }
      } catch (RuntimeException | Error e) {
        throw e;
      } catch (Throwable e) {
        throw new IllegalStateException(e);
      }
    }

    @Override
    public double at(long position) {
      return all.getAtIndex(JAVA_FLOAT, position);
    }

    @Override
    public void close() {
      arena.close();
    }
  }
}
