package dev.lanewise.core.backend.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Numbers that the bindings hold are those of the real headers. */
class CudaHeadersTest {
  @TempDir Path folder;

  private void check(String includes, Map<String, Long> expected, Path... includePaths)
      throws IOException {
    assumeTrue(StandIn.has("gcc"), "gcc is not on this machine");
    StringBuilder program = new StringBuilder("#include <stdio.h>\n#include <stddef.h>\n");
    program.append(includes).append("int main(void) {\n");
    expected
        .keySet()
        .forEach(e -> program.append("printf(\"%ld\\n\", (long)(").append(e).append("));\n"));
    Path source = folder.resolve("print.c");
    Files.writeString(source, program.append("}\n"));
    String[] command = new String[4 + includePaths.length];
    command[0] = "gcc";
    command[1] = source.toString();
    command[2] = "-o";
    command[3] = folder.resolve("print").toString();
    for (int i = 0; i < includePaths.length; i++) {
      command[4 + i] = "-I" + includePaths[i];
    }
    StandIn.Output compiled = StandIn.run(command);
    assertEquals(0, compiled.status(), compiled.text());
    String[] lines = StandIn.run(folder.resolve("print").toString()).text().strip().split("\n", -1);
    int i = 0;
    for (Map.Entry<String, Long> entry : expected.entrySet()) {
      assertEquals(entry.getValue(), Long.parseLong(lines[i++]), entry.getKey());
    }
  }

  @Test
  void driver() throws IOException {
    assumeTrue(StandIn.include() != null, "cuda.h is not on this machine");
    Map<String, Long> expected = new LinkedHashMap<>();
    expected.put(
        "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR", (long) Driver.COMPUTE_CAPABILITY_MAJOR);
    expected.put(
        "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR", (long) Driver.COMPUTE_CAPABILITY_MINOR);
    expected.put("CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT", (long) Driver.MULTIPROCESSOR_COUNT);
    expected.put("CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE", (long) Driver.L2_CACHE_BYTES);
    expected.put("CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES", (long) Driver.FUNCTION_LOCAL_BYTES);
    expected.put("CU_FUNC_ATTRIBUTE_NUM_REGS", (long) Driver.FUNCTION_REGISTERS);
    expected.put(
        "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES",
        (long) Driver.FUNCTION_MAX_DYNAMIC_SHARED_BYTES);
    expected.put("CUDA_ERROR_OUT_OF_MEMORY", (long) Driver.ERROR_OUT_OF_MEMORY);
    expected.put("CUDA_ERROR_NO_DEVICE", (long) Driver.ERROR_NO_DEVICE);
    expected.put("CU_STREAM_NON_BLOCKING", 1L);
    expected.put("sizeof(CUdeviceptr)", 8L);
    expected.put("sizeof(CUdevice)", 4L);
    expected.put("sizeof(CUresult)", 4L);
    check("#include <cuda.h>\n", expected, StandIn.include());
  }

  @Test
  void cublasLt() throws IOException {
    Path include = RealLibraries.include();
    assumeTrue(include != null && StandIn.include() != null, "cublasLt.h is not on this machine");
    Map<String, Long> expected = new LinkedHashMap<>();
    expected.put("CUBLASLT_MATMUL_DESC_TRANSA", (long) CublasLt.MATMUL_TRANSPOSE_A);
    expected.put("CUBLASLT_MATMUL_DESC_TRANSB", (long) CublasLt.MATMUL_TRANSPOSE_B);
    expected.put("CUBLASLT_MATMUL_DESC_EPILOGUE", (long) CublasLt.MATMUL_EPILOGUE);
    expected.put("CUBLASLT_MATMUL_DESC_BIAS_POINTER", (long) CublasLt.MATMUL_BIAS_POINTER);
    expected.put("CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER", (long) CublasLt.MATMUL_AUX_POINTER);
    expected.put("CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD", (long) CublasLt.MATMUL_AUX_LD);
    expected.put(
        "CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE", (long) CublasLt.MATMUL_AUX_DATA_TYPE);
    expected.put("CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE", (long) CublasLt.MATMUL_BIAS_DATA_TYPE);
    expected.put("CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT", (long) CublasLt.LAYOUT_BATCH_COUNT);
    expected.put(
        "CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET", (long) CublasLt.LAYOUT_BATCH_STRIDE);
    expected.put(
        "CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES", (long) CublasLt.PREFERENCE_MAX_WORKSPACE);
    expected.put(
        "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES", (long) CublasLt.PREFERENCE_ALIGNMENT_A);
    expected.put(
        "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES", CublasLt.PREFERENCE_ALIGNMENT_A + 3L);
    expected.put("CUBLASLT_EPILOGUE_DEFAULT", (long) CublasLt.EPILOGUE_NONE);
    expected.put("CUBLASLT_EPILOGUE_BIAS", (long) CublasLt.EPILOGUE_BIAS);
    expected.put("CUBLASLT_EPILOGUE_GELU", (long) CublasLt.EPILOGUE_GELU);
    expected.put("CUBLASLT_EPILOGUE_GELU_BIAS", (long) CublasLt.EPILOGUE_GELU_BIAS);
    expected.put("CUBLASLT_EPILOGUE_GELU_AUX", (long) CublasLt.EPILOGUE_GELU_AUX);
    expected.put("CUBLASLT_EPILOGUE_GELU_AUX_BIAS", (long) CublasLt.EPILOGUE_GELU_AUX_BIAS);
    expected.put("CUBLASLT_EPILOGUE_DGELU", (long) CublasLt.EPILOGUE_DGELU);
    expected.put("CUBLASLT_EPILOGUE_BGRADB", (long) CublasLt.EPILOGUE_BIAS_GRADIENT_B);
    expected.put("CUBLAS_COMPUTE_32F", (long) CublasLt.COMPUTE_32F);
    expected.put("CUBLAS_COMPUTE_32F_FAST_TF32", (long) CublasLt.COMPUTE_32F_FAST_TF32);
    expected.put("CUBLAS_STATUS_NOT_SUPPORTED", (long) CublasLt.STATUS_NOT_SUPPORTED);
    expected.put("CUDA_R_32F", (long) CublasLt.TYPE_FLOAT32);
    expected.put("CUDA_R_16BF", (long) CublasLt.TYPE_BFLOAT16);
    expected.put("sizeof(cublasLtMatmulHeuristicResult_t)", (long) CublasLt.HEURISTIC_BYTES);
    expected.put(
        "offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize)",
        (long) CublasLt.HEURISTIC_WORKSPACE);
    expected.put(
        "offsetof(cublasLtMatmulHeuristicResult_t, state)", (long) CublasLt.HEURISTIC_STATE);
    expected.put("CUBLAS_TF32_TENSOR_OP_MATH", (long) Cublas.MATH_TF32);
    check("#include <cublasLt.h>\n#include <cublas_v2.h>\n", expected, include, StandIn.include());
  }
}
