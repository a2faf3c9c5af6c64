package dev.lanewise.core.backend.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class RealLibrariesTest {
  @BeforeEach
  void useRealLibraries() {
    assumeTrue(RealLibraries.folder() != null, RealLibraries.missing());
    System.setProperty(CudaLibraries.PATH_PROPERTY, RealLibraries.folder().toString());
  }

  @AfterEach
  void forget() {
    StandIn.forget();
  }

  @Test
  void everyKernelCompilesForEveryTarget() {
    Nvrtc nvrtc = Nvrtc.open(13);
    assertTrue(nvrtc.path().startsWith(RealLibraries.folder().toString()), nvrtc.path());
    List<String> architectures = List.of("sm_80", "sm_90", "sm_100", "sm_120");
    for (int i = 0; i < KernelVariant.ALL.size(); i++) {
      KernelVariant variant = KernelVariant.ALL.get(i);
      for (String architecture : architectures) {
        // Only attention leans on the architecture; the others take turns, to keep this short.
        if (!variant.file().equals("attention")
            && !architecture.equals(architectures.get(i % architectures.size()))) {
          continue;
        }
        byte[] cubin =
            nvrtc.compile(
                KernelCompiler.source(variant.file()),
                variant.file() + ".cu",
                variant.options("-arch=" + architecture));
        assertEquals("ELF", new String(cubin, 1, 3, java.nio.charset.StandardCharsets.US_ASCII));
      }
    }
  }

  @Test
  void gpuNewerThanTheCompilerGetsPtx() {
    Nvrtc nvrtc = Nvrtc.open(13);
    assertEquals("-arch=sm_90", nvrtc.target(90));
    String target = nvrtc.target(999);
    byte[] ptx = nvrtc.compile(KernelCompiler.source("norm"), "norm.cu", List.of(target));
    String text = new String(ptx, java.nio.charset.StandardCharsets.US_ASCII);
    assertTrue(text.contains(".target " + target.replace("-arch=compute_", "sm_")), target);
    assertEquals(0, ptx[ptx.length - 1]);
  }

  @Test
  void compileErrorCarriesTheLog() {
    Nvrtc nvrtc = Nvrtc.open(13);
    CudaException e =
        assertThrows(
            CudaException.class,
            () -> nvrtc.compile("int x = y;", "bad.cu", List.of("-arch=sm_90")));
    assertTrue(e.getMessage().contains("NVRTC_ERROR_COMPILATION (6)"), e.getMessage());
    assertTrue(e.getMessage().contains("\"y\" is undefined"), e.getMessage());
    CudaException unknown =
        assertThrows(
            CudaException.class, () -> nvrtc.compile("", "none.cu", List.of("-arch=sm_999")));
    assertTrue(unknown.getMessage().contains("newer CUDA toolkit"), unknown.getMessage());
  }

  @Test
  void descriptorAttributesHaveTheSizesThatAreSet() {
    CublasLt library = CublasLt.open(13);
    long description = library.matmulDescCreate(CublasLt.COMPUTE_32F);
    Map.of(
            CublasLt.MATMUL_TRANSPOSE_A, 4L,
            CublasLt.MATMUL_TRANSPOSE_B, 4L,
            CublasLt.MATMUL_EPILOGUE, 4L,
            CublasLt.MATMUL_BIAS_POINTER, 8L,
            CublasLt.MATMUL_AUX_POINTER, 8L,
            CublasLt.MATMUL_AUX_LD, 8L,
            CublasLt.MATMUL_AUX_DATA_TYPE, 4L,
            CublasLt.MATMUL_BIAS_DATA_TYPE, 4L)
        .forEach(
            (attribute, size) ->
                assertEquals(
                    size,
                    library.matmulDescAttributeSize(description, attribute),
                    "attribute " + attribute));
    assertEquals(-1, library.matmulDescAttributeSize(description, 9));
    library.matmulDescSet(description, CublasLt.MATMUL_EPILOGUE, CublasLt.EPILOGUE_GELU_AUX_BIAS);
    library.matmulDescDestroy(description);
    long layout = library.layoutCreate(CublasLt.TYPE_BFLOAT16, 8, 16, 8);
    library.layoutSetBatch(layout, 3, 128);
    library.layoutDestroy(layout);
    assertTrue(library.version() >= 120000, "version " + library.version());
    assertTrue(
        assertThrows(CudaException.class, library::create)
            .getMessage()
            .startsWith("cublasLtCreate failed with CUBLAS_STATUS_NOT_INITIALIZED (1)"),
        "a machine with a GPU runs more than this test");
  }

  @Test
  void cublasHasEveryFunction() {
    assertTrue(Cublas.open(13).path().contains("libcublas.so"));
  }
}
