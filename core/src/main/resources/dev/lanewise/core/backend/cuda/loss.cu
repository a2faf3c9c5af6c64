// Softmax, its logarithm, and cross-entropy. A block takes a row of `cols` elements that starts
// `stride` elements after the one before it.

// Largest element and sum of exp(x - largest), merged pairwise; starts at (-inf, 0).
struct Softmax {
  float max, sum;
};

// The fast exponential errs by about 2 ulp, far below what bf16 logits hold.
DEVICE float rowExp(float x) {
#ifdef BFLOAT16
  return fastExp2(x * 1.4426950408889634f);
#else
  return expf(x);
#endif
}

// exp(x - max), where -inf counts as 0 even against a maximum of -inf, and NaN stays.
DEVICE float term(float x, float max) { return x == -INFINITE ? 0.0f : rowExp(x - max); }

DEVICE void include(Softmax& s, float x) {
  if (x > s.max) {
    s.sum *= s.max == -INFINITE ? 1.0f : rowExp(s.max - x);
    s.max = x;
  }
  s.sum += term(x, s.max);
}

DEVICE Softmax merge(Softmax a, Softmax b) {
  float max = fmaxf(a.max, b.max);
  // A sum of NaN survives, since NaN times 0 is NaN.
  float scaleA = a.max == max ? 1.0f : rowExp(a.max - max);
  float scaleB = b.max == max ? 1.0f : rowExp(b.max - max);
  Softmax merged = {max, a.sum * scaleA + b.sum * scaleB};
  return merged;
}

DEVICE Softmax blockMerge(Softmax s, Softmax* scratch) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  for (int offset = 16; offset > 0; offset /= 2) {
    Softmax other;
    other.max = __shfl_xor_sync(FULL_WARP, s.max, offset);
    other.sum = __shfl_xor_sync(FULL_WARP, s.sum, offset);
    s = merge(s, other);
  }
  __syncthreads();
  if (lane == 0) {
    scratch[warp] = s;
  }
  __syncthreads();
  s.max = -INFINITE;
  s.sum = 0.0f;
  if (lane < warps) {
    s = scratch[lane];
  }
  for (int offset = 16; offset > 0; offset /= 2) {
    Softmax other;
    other.max = __shfl_xor_sync(FULL_WARP, s.max, offset);
    other.sum = __shfl_xor_sync(FULL_WARP, s.sum, offset);
    s = merge(s, other);
  }
  return s;
}

// Each thread's share of a row, and of its mean if that is wanted; vectors where the row's stride
// allows aligned ones.
DEVICE Softmax rowSoftmax(const T* x, int cols, bool vectors, float* mean) {
  Softmax s = {-INFINITE, 0.0f};
  float sum = 0.0f, share = 1.0f / cols;  // a sum of huge logits would overflow
  int done = 0;
  if (vectors) {
    done = cols / VECTOR_SIZE * VECTOR_SIZE;
    for (int c = threadIdx.x * VECTOR_SIZE; c < done; c += blockDim.x * VECTOR_SIZE) {
      Vector<T> v;
      load(v, x + c);
      float max = s.max;
#pragma unroll
      for (int j = 0; j < VECTOR_SIZE; j++) {
        max = fmaxf(max, v.v[j]);
        sum += v.v[j] * share;
      }
      if (max > s.max) {
        s.sum *= s.max == -INFINITE ? 1.0f : rowExp(s.max - max);
        s.max = max;
      }
#pragma unroll
      for (int j = 0; j < VECTOR_SIZE; j++) {
        s.sum += term(v.v[j], max);
      }
    }
  }
  for (int c = done + threadIdx.x; c < cols; c += blockDim.x) {
    float v = toFloat(x[c]);
    include(s, v);
    sum += v * share;
  }
  if (mean != 0) {
    *mean = sum;
  }
  return s;
}

DEVICE bool aligned(const T* x, i64 stride) {
  return ((u64)x & 15) == 0 && stride % VECTOR_SIZE == 0;
}

// counted[0] = number of targets that are not ignored, as a float is exact up to 2^24 rows.
KERNEL __launch_bounds__(1024) countTargets(const int* targets, int ignoreIndex, int rows,
                                            float* counted) {
  __shared__ float scratch[32];
  float count = 0.0f;
  for (int i = threadIdx.x; i < rows; i += 1024) {
    count += targets[i] != ignoreIndex ? 1.0f : 0.0f;
  }
  float sum = blockSum(count, scratch);
  if (threadIdx.x == 0) {
    counted[0] = sum;
  }
}

// losses[row], and dLogits (may be logits) = scale / counted * gradient. A target outside the row
// makes the loss NaN rather than read elsewhere.
KERNEL __launch_bounds__(1024)
    crossEntropy(const T* logits, i64 stride, const int* targets, int ignoreIndex, float smoothing,
                 float* losses, T* dLogits, float scale, const float* counted, int cols) {
  __shared__ Softmax scratch[32];
  __shared__ float sums[32];
  i64 row = blockIdx.x;
  const T* x = logits + row * stride;
  T* d = dLogits == 0 ? 0 : dLogits + row * stride;
  int target = targets[row];
  bool vectors = aligned(logits, stride) && (dLogits == 0 || aligned(dLogits, stride));
  if (target == ignoreIndex) {
    if (threadIdx.x == 0) {
      losses[row] = 0.0f;
    }
    if (d != 0) {
      for (int c = threadIdx.x; c < cols; c += blockDim.x) {
        store(d + c, 0.0f);
      }
    }
    return;
  }
  bool inside = target >= 0 && target < cols;
  float at = inside ? toFloat(x[target]) : 0.0f;
  float own = 0.0f;
  Softmax s = rowSoftmax(x, cols, vectors, smoothing != 0.0f ? &own : 0);
  s = blockMerge(s, scratch);
  // Differences from the largest logit first: their sum is exact where logits are huge.
  float logSum = logf(s.sum);
  float mean = smoothing != 0.0f ? blockSum(own, sums) : 0.0f;
  if (threadIdx.x == 0) {
    float loss = logSum - (at - s.max);
    if (smoothing != 0.0f) {
      // Of huge logits only the sum of both parts may fit a float.
      double hard = logSum - ((double)at - s.max), even = logSum - ((double)mean - s.max);
      loss = (float)((1.0 - smoothing) * hard + smoothing * even);
    }
    losses[row] = inside ? loss : NOT_A_NUMBER;
  }
  if (d == 0) {
    return;
  }
  // Every thread has read the target's logit before any writes over it.
  __syncthreads();
  float factor = scale / counted[0];
  float spread = smoothing / cols;
  float hit = 1.0f - smoothing;
  int done = 0;
  if (vectors) {
    done = cols / VECTOR_SIZE * VECTOR_SIZE;
    for (int c = threadIdx.x * VECTOR_SIZE; c < done; c += blockDim.x * VECTOR_SIZE) {
      Vector<T> v;
      load(v, x + c);
#pragma unroll
      for (int j = 0; j < VECTOR_SIZE; j++) {
        float p = rowExp(v.v[j] - s.max - logSum) - spread;
        v.v[j] = factor * (c + j == target ? p - hit : p);
      }
      store(d + c, v);
    }
  }
  for (int c = done + threadIdx.x; c < cols; c += blockDim.x) {
    float p = rowExp(toFloat(x[c]) - s.max - logSum) - spread;
    store(d + c, factor * (c == target ? p - hit : p));
  }
}

// loss[0] = sum of losses / counted; one block of 1024 threads.
KERNEL __launch_bounds__(1024) meanLoss(const float* losses, int rows, const float* counted,
                                        float* loss) {
  __shared__ double scratch[32];
  double sum = 0.0;
  for (int i = threadIdx.x; i < rows; i += 1024) {
    sum += losses[i];
  }
  double total = blockSum(sum, scratch);
  if (threadIdx.x == 0) {
    loss[0] = (float)(total / counted[0]);
  }
}

KERNEL softmax(const T* x, T* y, int cols, int logarithm) {
  __shared__ Softmax scratch[32];
  const T* from = x + (i64)blockIdx.x * cols;
  T* to = y + (i64)blockIdx.x * cols;
  Softmax s = blockMerge(rowSoftmax(from, cols, false, 0), scratch);
  float logSum = logf(s.sum);
  for (int c = threadIdx.x; c < cols; c += blockDim.x) {
    float v = toFloat(from[c]);
    store(to + c, logarithm ? v - s.max - logSum : rowExp(v - s.max) / s.sum);
  }
}

KERNEL softmaxBackward(const T* y, const T* dy, T* dx, int accumulate, int cols, int logarithm) {
  __shared__ float scratch[32];
  i64 start = (i64)blockIdx.x * cols;
  float own = 0.0f;
  for (int c = threadIdx.x; c < cols; c += blockDim.x) {
    float d = toFloat(dy[start + c]);
    own += logarithm ? d : d * toFloat(y[start + c]);
  }
  float sum = blockSum(own, scratch);
  for (int c = threadIdx.x; c < cols; c += blockDim.x) {
    float v = toFloat(y[start + c]), d = toFloat(dy[start + c]);
    float g = logarithm ? d - rowExp(v) * sum : v * (d - sum);
    store(dx + start + c, accumulate ? toFloat(dx[start + c]) + g : g);
  }
}
