// Gradient norm, AdamW and casts over float32 parameters.

// partial[block] = sum of squares of 16384 elements; chunks do not depend on the machine.
#define NORM_CHUNK 16384

KERNEL __launch_bounds__(256) sumSquares(const float* x, i64 count, double* partial) {
  __shared__ double scratch[32];
  i64 first = (i64)blockIdx.x * NORM_CHUNK, last = first + NORM_CHUNK;
  float sum = 0.0f;
  if (last <= count && ((u64)x & 15) == 0) {
#pragma unroll 4
    for (i64 i = first + threadIdx.x * 4; i < last; i += 1024) {
      float4 v = *(const float4*)(x + i);
      sum += v.x * v.x;
      sum += v.y * v.y;
      sum += v.z * v.z;
      sum += v.w * v.w;
    }
  } else {
    for (i64 i = first + threadIdx.x; i < last && i < count; i += 256) {
      sum += x[i] * x[i];
    }
  }
  double total = blockSum((double)sum, scratch);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = total;
  }
}

// result[0] = norm, result[1] = factor that clips it; one block of 1024 threads.
KERNEL __launch_bounds__(1024) normResult(const double* partial, int blocks, float maxNorm,
                                          float* result) {
  __shared__ double scratch[32];
  double sum = 0.0;
  for (int i = threadIdx.x; i < blocks; i += 1024) {
    sum += partial[i];
  }
  float norm = (float)sqrt(blockSum(sum, scratch));
  if (threadIdx.x == 0) {
    result[0] = norm;
    float factor = 1.0f;
    if (maxNorm > 0.0f) {
      factor = fminf(1.0f, maxNorm / (norm + 1e-6f));
    }
    result[1] = norm < INFINITE ? factor : 0.0f;
  }
}

DEVICE float adamWElement(float p, float g, float& m, float& v, float learningRate, float beta1,
                          float beta2, float epsilon, float decay, float correction1,
                          float rootCorrection2) {
  m = beta1 * m + (1.0f - beta1) * g;
  v = beta2 * v + (1.0f - beta2) * g * g;
  float denominator = sqrtf(v) / rootCorrection2 + epsilon;
  return p * decay - learningRate * (m / correction1) / denominator;
}

// decay = 1 - learningRate * weightDecay; copy, if not null, receives the new parameters in bf16.
// A thread takes four elements; the four pointers and the copy are aligned to four elements.
KERNEL __launch_bounds__(256)
    adamW(float* parameter, const float* gradient, float* first, float* second, bf16* copy,
          i64 count, float learningRate, float beta1, float beta2, float epsilon, float decay,
          float correction1, float rootCorrection2, const float* clip) {
  float factor = clip == 0 ? 1.0f : clip[1];
  if (factor == 0.0f) {
    return;
  }
  i64 i = ((i64)blockIdx.x * 256 + threadIdx.x) * 4;
  if (i + 4 <= count) {
    float4 p = *(float4*)(parameter + i), g = *(const float4*)(gradient + i);
    float4 m = *(float4*)(first + i), v = *(float4*)(second + i);
    p.x = adamWElement(p.x, g.x * factor, m.x, v.x, learningRate, beta1, beta2, epsilon, decay,
                       correction1, rootCorrection2);
    p.y = adamWElement(p.y, g.y * factor, m.y, v.y, learningRate, beta1, beta2, epsilon, decay,
                       correction1, rootCorrection2);
    p.z = adamWElement(p.z, g.z * factor, m.z, v.z, learningRate, beta1, beta2, epsilon, decay,
                       correction1, rootCorrection2);
    p.w = adamWElement(p.w, g.w * factor, m.w, v.w, learningRate, beta1, beta2, epsilon, decay,
                       correction1, rootCorrection2);
    *(float4*)(parameter + i) = p;
    *(float4*)(first + i) = m;
    *(float4*)(second + i) = v;
    if (copy != 0) {
      *(uint2*)(copy + i) = make_uint2(packBf16(p.x, p.y), packBf16(p.z, p.w));
    }
  } else {
    for (; i < count; i++) {
      float m = first[i], v = second[i];
      float p = adamWElement(parameter[i], gradient[i] * factor, m, v, learningRate, beta1, beta2,
                             epsilon, decay, correction1, rootCorrection2);
      parameter[i] = p;
      first[i] = m;
      second[i] = v;
      if (copy != 0) {
        store(copy + i, p);
      }
    }
  }
}

// As adamW, for pointers of any alignment.
KERNEL adamWUnaligned(float* parameter, const float* gradient, float* first, float* second,
                      bf16* copy, i64 count, float learningRate, float beta1, float beta2,
                      float epsilon, float decay, float correction1, float rootCorrection2,
                      const float* clip) {
  float factor = clip == 0 ? 1.0f : clip[1];
  i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (factor == 0.0f || i >= count) {
    return;
  }
  float m = first[i], v = second[i];
  float p = adamWElement(parameter[i], gradient[i] * factor, m, v, learningRate, beta1, beta2,
                         epsilon, decay, correction1, rootCorrection2);
  parameter[i] = p;
  first[i] = m;
  second[i] = v;
  if (copy != 0) {
    store(copy + i, p);
  }
}
