package dev.lanewise.core.backend.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.backend.Activation;
import dev.lanewise.core.backend.Buffer;
import dev.lanewise.core.backend.DType;
import dev.lanewise.core.backend.Precision;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.random.TorchGenerator;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What goes wrong on a GPU machine has its sentence; run against the stand-in driver. */
class CudaBackendDoorsTest {
  @BeforeAll
  static void useStandIn() {
    StandIn.use();
    StandIn.reset();
  }

  @AfterAll
  static void forgetStandIn() {
    StandIn.forget();
  }

  @AfterEach
  void resetStandIn() {
    StandIn.reset();
    System.clearProperty(CudaBackend.DEVICE_PROPERTY);
    System.clearProperty(CudaBackend.EPILOGUE_PROPERTY);
  }

  private static CudaBackend open() {
    return CudaBackend.open(Precision.FP32);
  }

  private static void assertMessage(Throwable e, String... parts) {
    for (String part : parts) {
      assertTrue(e.getMessage().contains(part), "\"" + e.getMessage() + "\" lacks " + part);
    }
  }

  @Test
  void probeNamesEveryPiece() {
    List<CudaProbe.Line> lines = CudaProbe.describe();
    assertEquals(
        List.of("driver", "GPU 0", "cuBLASLt", "NVRTC", "cuBLAS"),
        lines.stream().map(CudaProbe.Line::piece).toList());
    assertTrue(lines.stream().allMatch(CudaProbe.Line::found), lines.toString());
    assertTrue(lines.get(0).detail().endsWith("libcuda.so.1, CUDA 13.0"), lines.toString());
    assertEquals(
        "Stand-in, compute capability 9.0, 132 multiprocessors, 2.0 GiB", lines.get(1).detail());
    assertTrue(lines.get(3).detail().endsWith("libnvrtc.so.13, 13.99"), lines.toString());
    assertTrue(CudaProbe.usable());
  }

  @Test
  void probeSaysWhatIsWrong() {
    StandIn.set("init", 34);
    List<CudaProbe.Line> lines = CudaProbe.describe();
    assertFalse(lines.get(0).found());
    assertTrue(lines.get(0).detail().contains("CUDA_ERROR_STUB_LIBRARY (34)"), lines.toString());
    assertTrue(lines.get(0).detail().contains("nvidia-smi"), lines.toString());
    assertFalse(CudaProbe.usable());
    StandIn.reset();
    StandIn.set("devices", 0);
    assertFalse(CudaProbe.usable());
    StandIn.reset();
    StandIn.set("capability", 75);
    assertTrue(CudaProbe.describe().get(1).detail().contains("too old"));
  }

  @Test
  void noDevice() {
    StandIn.set("init", 100);
    assertMessage(
        assertThrows(CudaUnavailableException.class, CudaBackendDoorsTest::open),
        "cuInit returned CUDA_ERROR_NO_DEVICE (100)",
        "CUDA_VISIBLE_DEVICES");
    StandIn.reset();
    StandIn.set("devices", 0);
    assertMessage(
        assertThrows(CudaUnavailableException.class, CudaBackendDoorsTest::open), "sees no GPU");
    StandIn.reset();
    System.setProperty(CudaBackend.DEVICE_PROPERTY, "3");
    assertMessage(
        assertThrows(CudaUnavailableException.class, CudaBackendDoorsTest::open),
        "no GPU 3",
        "sees 1");
    System.setProperty(CudaBackend.DEVICE_PROPERTY, "first");
    assertMessage(
        assertThrows(CudaUnavailableException.class, CudaBackendDoorsTest::open), "\"first\"");
  }

  @Test
  void oldDevice() {
    StandIn.set("capability", 75);
    assertMessage(
        assertThrows(CudaUnavailableException.class, CudaBackendDoorsTest::open),
        "Stand-in",
        "7.5",
        "8.0");
  }

  @Test
  void libraryThatCannotBeOpened() throws IOException {
    Path broken = StandIn.folder().resolve("broken");
    Files.createDirectories(broken);
    Files.writeString(broken.resolve("libnvrtc.so.13"), "not a library");
    System.setProperty(CudaLibraries.PATH_PROPERTY, broken.toString());
    try {
      CudaUnavailableException e =
          assertThrows(CudaUnavailableException.class, () -> Nvrtc.open(13));
      assertMessage(
          e, "libnvrtc.so.13", "pip install nvidia-cuda-nvrtc", "-Dlanewise.cuda.path=FOLDER");
      assertMessage(e, broken.resolve("libnvrtc.so.13").toString());
    } finally {
      StandIn.use();
    }
  }

  @Test
  void outOfMemoryIsOneSentenceWithFigures() {
    try (CudaBackend backend = open()) {
      long available = backend.availableMemory();
      assertTrue(available > 0 && available < 2L << 30);
      InputException e =
          assertThrows(InputException.class, () -> backend.allocate(DType.FLOAT32, (3L << 30) / 4));
      assertMessage(e, "Stand-in", "of 2.00 GiB free", "needs 3.00 GiB", "smaller batch");
    }
  }

  @Test
  void failingLaunchNamesFunctionAndStatus() {
    try (CudaBackend backend = open()) {
      Buffer x = backend.allocate(DType.FLOAT32, 4);
      StandIn.set("launch", 719);
      CudaException e = assertThrows(CudaException.class, () -> backend.fill(x, 1));
      assertMessage(
          e, "cuLaunchKernel failed with CUDA_ERROR_LAUNCH_FAILED (719)", "elements.fillElements");
      assertEquals(719, e.status());
      assertEquals("cuLaunchKernel", e.function());
      StandIn.reset();
    }
  }

  /** The device says late that a kernel failed, and from then on refuses everything. */
  @Test
  void faultIsReportedAndTheContextGivenBack() {
    long contexts = StandIn.get("contexts");
    CudaBackend backend = open();
    Buffer x = backend.allocate(DType.FLOAT32, 4);
    StandIn.set("fault", 700);
    backend.fill(x, 1);
    assertMessage(
        assertThrows(CudaException.class, backend::synchronize),
        "cuStreamSynchronize failed with CUDA_ERROR_ILLEGAL_ADDRESS (700)");
    assertThrows(CudaException.class, backend::close);
    assertEquals(contexts, StandIn.get("contexts"));
    backend.close();
  }

  @Test
  void waitingFindsTheKernelThatFailed() {
    System.setProperty(CudaProfile.WAIT_PROPERTY, "true");
    try (CudaBackend backend = open()) {
      Buffer x = backend.allocate(DType.FLOAT32, 4);
      StandIn.set("fault", 700);
      assertMessage(
          assertThrows(CudaException.class, () -> backend.fill(x, 1)),
          "CUDA_ERROR_ILLEGAL_ADDRESS (700)",
          "during elements.fillElements");
      StandIn.reset();
    } finally {
      System.clearProperty(CudaProfile.WAIT_PROPERTY);
    }
  }

  @Test
  void openingThatFailsKeepsNothing() {
    long contexts = StandIn.get("contexts");
    long blocks = StandIn.get("blocks");
    StandIn.set("memory", 1 << 20);
    assertMessage(assertThrows(InputException.class, CudaBackendDoorsTest::open), "Stand-in");
    assertEquals(blocks, StandIn.get("blocks"));
    assertEquals(contexts, StandIn.get("contexts"));
  }

  /** The stand-in compiler knows 8.0, 9.0, 10.0 and 12.0. */
  @Test
  void gpuNewerThanTheCompilerGetsPtx() {
    assertEquals("-arch=sm_90", Nvrtc.open(13).target(90));
    assertEquals("-arch=compute_100", Nvrtc.open(13).target(103));
    StandIn.set("capability", 121);
    try (CudaBackend backend = open()) {
      Buffer x = backend.allocate(DType.FLOAT32, 2);
      backend.fill(x, 3);
      float[] values = new float[2];
      backend.download(x, MemorySegment.ofArray(values));
      assertArrayEquals(new float[] {3, 3}, values);
    }
  }

  @Test
  void librariesOfTheDriversVersionComeFirst(@TempDir Path folder) throws IOException {
    for (String version : List.of("12", "13")) {
      Files.copy(
          StandIn.folder().resolve("libnvrtc.so.13"), folder.resolve("libnvrtc.so." + version));
    }
    System.setProperty(CudaLibraries.PATH_PROPERTY, folder.toString());
    try {
      assertEquals(folder.resolve("libnvrtc.so.12").toString(), Nvrtc.open(12).path());
      assertEquals(folder.resolve("libnvrtc.so.13").toString(), Nvrtc.open(13).path());
    } finally {
      StandIn.use();
    }
  }

  @Test
  void idsOutsideATableReadAndWriteNothing() {
    try (CudaBackend backend = open()) {
      Buffer ids = backend.allocate(DType.INT32, 3);
      backend.upload(MemorySegment.ofArray(new int[] {1, -1, 1 << 30}), ids);
      Buffer table = backend.allocate(DType.FLOAT32, 4);
      backend.upload(MemorySegment.ofArray(new float[] {1, 2, 3, 4}), table);
      Buffer out = backend.allocate(DType.FLOAT32, 6);
      float[] values = new float[6];
      float nan = Float.NaN;
      backend.embedding(ids, table, null, 0, out, 1, 3, 2);
      backend.download(out, MemorySegment.ofArray(values));
      assertArrayEquals(new float[] {3, 4, nan, nan, nan, nan}, values);
      backend.fill(out, 1);
      backend.embeddingBackward(ids, out, table, null, 0, 1, 3, 2);
      Buffer gathered = backend.allocate(DType.FLOAT32, 3);
      backend.gather(out, ids, gathered, 3, 2);
      backend.gatherBackward(ids, gathered, out, 3, 2);
      backend.download(table, MemorySegment.ofArray(values).asSlice(0, 16));
      assertArrayEquals(new float[] {1, 2, 4, 5}, Arrays.copyOf(values, 4));
      backend.download(gathered, MemorySegment.ofArray(values).asSlice(0, 12));
      assertArrayEquals(new float[] {1, nan, nan}, Arrays.copyOf(values, 3));
    }
  }

  /** With little memory, three chunks of logits: the same loss and gradients as in one. */
  @Test
  void headInChunks() {
    int rows = 2500;
    int channels = 8;
    int vocab = 1000;
    List<float[]> results = new ArrayList<>();
    for (long memory : new long[] {2L << 30, 160L << 20}) {
      StandIn.set("memory", memory);
      try (CudaBackend backend = open()) {
        TorchGenerator generator = new TorchGenerator(7);
        Buffer x = backend.allocate(DType.FLOAT32, rows * channels);
        Buffer weight = backend.allocate(DType.FLOAT32, vocab * channels);
        for (Buffer buffer : List.of(x, weight)) {
          MemorySegment values = Arena.ofAuto().allocate(buffer.byteSize(), 64);
          generator.normal(values, 0, 1);
          backend.upload(values, buffer);
        }
        int[] ids = new int[rows];
        generator.randint(ids, 0, vocab);
        Buffer targets = backend.allocate(DType.INT32, rows);
        backend.upload(MemorySegment.ofArray(ids), targets);
        Buffer loss = backend.allocate(DType.FLOAT32, 1);
        Buffer dx = backend.allocate(DType.FLOAT32, rows * channels);
        Buffer dWeight = backend.allocate(DType.FLOAT32, vocab * channels);
        long launches = StandIn.get("launches");
        backend.linearCrossEntropy(
            x, weight, targets, -1, loss, dx, dWeight, false, 1, rows, channels, vocab, 0, null);
        assertEquals(memory > 1L << 30 ? 3 : 5, StandIn.get("launches") - launches);
        for (Buffer buffer : List.of(loss, dx, dWeight)) {
          float[] values = new float[(int) buffer.length()];
          backend.download(buffer, MemorySegment.ofArray(values));
          results.add(values);
        }
      }
    }
    for (int i = 0; i < 3; i++) {
      assertArrayEquals(results.get(i), results.get(i + 3), i == 0 ? 0 : 1e-6f);
    }
  }

  @Test
  void buffersAreChecked() {
    try (CudaBackend backend = open();
        CudaBackend other = open()) {
      Buffer x = backend.allocate(DType.FLOAT32, 8);
      Buffer ids = backend.allocate(DType.INT32, 8);
      Buffer foreign = other.allocate(DType.FLOAT32, 8);
      assertMessage(
          assertThrows(IllegalArgumentException.class, () -> backend.softmax(x, x, 3, 3)),
          "x has 8 elements and needs 9");
      assertMessage(
          assertThrows(IllegalArgumentException.class, () -> backend.softmax(foreign, x, 2, 4)),
          "x is not a buffer of this backend");
      assertMessage(
          assertThrows(IllegalArgumentException.class, () -> backend.softmax(ids, x, 2, 4)),
          "x is INT32");
      assertMessage(
          assertThrows(IllegalArgumentException.class, () -> backend.gather(x, x, x, 2, 4)),
          "ids is FLOAT32, and must be INT32");
      assertMessage(
          assertThrows(IllegalArgumentException.class, () -> backend.gather(x, null, x, 2, 4)),
          "ids is null");
      assertMessage(
          assertThrows(
              IllegalArgumentException.class,
              () -> backend.upload(MemorySegment.ofArray(new float[7]), x)),
          "28 bytes for a buffer of 32");
      assertMessage(
          assertThrows(
              IllegalArgumentException.class,
              () -> backend.download(x, MemorySegment.ofArray(new float[8]).asReadOnly())),
          "read-only");
      assertMessage(
          assertThrows(
              IllegalArgumentException.class,
              () -> backend.linear(x, x, null, Activation.GELU_TANH, null, x, x, 1, 2, 2)),
          "activation and residual");
      backend.free(x);
      assertMessage(assertThrows(IllegalStateException.class, () -> backend.fill(x, 1)), "freed");
      assertThrows(IllegalStateException.class, () -> backend.free(x));
    }
  }

  @Test
  void anyPlatformThreadMayCall() throws InterruptedException {
    try (CudaBackend backend = open()) {
      Buffer x = backend.allocate(DType.FLOAT32, 5);
      float[] values = new float[5];
      AtomicReference<Throwable> failure = new AtomicReference<>();
      Thread thread =
          Thread.ofPlatform()
              .start(
                  () -> {
                    try {
                      backend.fill(x, 2.5f);
                    } catch (RuntimeException e) {
                      failure.set(e);
                    }
                  });
      thread.join();
      assertEquals(null, failure.get());
      backend.download(x, MemorySegment.ofArray(values));
      assertArrayEquals(new float[] {2.5f, 2.5f, 2.5f, 2.5f, 2.5f}, values);
      Thread virtual =
          Thread.ofVirtual()
              .start(
                  () -> {
                    try {
                      backend.fill(x, 1);
                    } catch (RuntimeException e) {
                      failure.set(e);
                    }
                  });
      virtual.join();
      assertMessage(failure.get(), "platform thread");
    }
  }

  @Test
  void closedBackendSaysSo() {
    CudaBackend backend = open();
    backend.close();
    backend.close();
    assertMessage(assertThrows(IllegalStateException.class, backend::synchronize), "closed");
  }

  @Test
  void damagedFileInTheCacheIsMadeAnew() throws IOException {
    open().close();
    Path cache = StandIn.folder().resolve("cubin");
    List<Path> files;
    try (Stream<Path> list = Files.list(cache)) {
      files = list.toList();
    }
    assertTrue(files.stream().allMatch(file -> file.toString().endsWith(".cubin")));
    for (Path file : files) {
      Files.writeString(file, "torn");
    }
    try (CudaBackend backend = open()) {
      backend.fill(backend.allocate(DType.FLOAT32, 3), 1);
    }
    assertTrue(Files.size(files.getFirst()) >= 4);
  }

  @Test
  void withoutAPlaceForTheCacheKernelsAreCompiledAnyway(@TempDir Path folder) throws IOException {
    Path file = Files.writeString(folder.resolve("file"), "");
    String home = System.getProperty("user.home");
    try {
      System.setProperty(KernelCompiler.CACHE_PROPERTY, file.resolve("cubin").toString());
      assertTrue(new KernelCompiler(Nvrtc.open(13), 90).compile("optimizer", List.of()).length > 0);
      System.clearProperty(KernelCompiler.CACHE_PROPERTY);
      System.setProperty("user.home", "?");
      assertTrue(new KernelCompiler(Nvrtc.open(13), 90).compile("optimizer", List.of()).length > 0);
      assertTrue(System.getenv("XDG_CACHE_HOME") != null || Files.notExists(Path.of("?")));
    } finally {
      System.setProperty("user.home", home);
      StandIn.use();
    }
  }

  @Test
  void sourceThatDoesNotCompileShowsTheLog() {
    Nvrtc nvrtc = Nvrtc.open(13);
    CudaException e =
        assertThrows(
            CudaException.class,
            () -> nvrtc.compile("int x = y;", "bad.cu", List.of("-arch=sm_90")));
    assertMessage(
        e,
        "nvrtcCompileProgram failed with NVRTC_ERROR_COMPILATION (6)",
        "bad.cu with -arch=sm_90",
        "was not declared");
    CudaException unknown =
        assertThrows(
            CudaException.class, () -> nvrtc.compile("", "none.cu", List.of("-arch=sm_999")));
    assertMessage(unknown, "NVRTC_ERROR_INVALID_OPTION", "newer CUDA toolkit");
  }

  @Test
  void epilogueSwitchIsChecked() {
    System.setProperty(CudaBackend.EPILOGUE_PROPERTY, "some");
    assertMessage(
        assertThrows(IllegalArgumentException.class, CudaBackendDoorsTest::open), "not some");
  }

  @Test
  void hugeTransfersGoThroughStagingInParts() {
    try (CudaBackend backend = open()) {
      int count = 2_500_001;
      float[] values = new float[count];
      for (int i = 0; i < count; i++) {
        values[i] = i;
      }
      Buffer x = backend.allocate(DType.FLOAT32, count);
      backend.upload(MemorySegment.ofArray(values), x);
      float[] back = new float[count];
      backend.download(x, MemorySegment.ofArray(back));
      assertArrayEquals(values, back);
    }
  }
}
