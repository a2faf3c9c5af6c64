// Layer normalisation, biased variance, eps 1e-5. A warp handles a row. With CHANNELS given, a
// multiple of 32 vectors, a row stays in registers between its passes.

#define EPSILON 1e-5f

#ifdef CHANNELS
#define VECTORS (CHANNELS / (32 * VECTOR_SIZE))

KERNEL __launch_bounds__(256) layerNorm(const T* x, const float* weight, const float* bias, T* out,
                                        float* mean, float* rstd, int rows, int channels) {
  int lane = threadIdx.x % 32;
  int row = blockIdx.x * 8 + threadIdx.x / 32;
  if (row >= rows) {
    return;
  }
  const T* from = x + (i64)row * CHANNELS;
  Vector<T> values[VECTORS];
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < VECTORS; i++) {
    load(values[i], from + (i * 32 + lane) * VECTOR_SIZE);
#pragma unroll
    for (int j = 0; j < VECTOR_SIZE; j++) {
      sum += values[i].v[j];
    }
  }
  float m = warpSum(sum) / CHANNELS;
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < VECTORS; i++) {
#pragma unroll
    for (int j = 0; j < VECTOR_SIZE; j++) {
      float d = values[i].v[j] - m;
      squares += d * d;
    }
  }
  float s = rsqrtf(warpSum(squares) / CHANNELS + EPSILON);
  T* to = out + (i64)row * CHANNELS;
#pragma unroll
  for (int i = 0; i < VECTORS; i++) {
    int c = (i * 32 + lane) * VECTOR_SIZE;
    float w[VECTOR_SIZE], b[VECTOR_SIZE];
    loadFloats(w, weight + c);
    loadFloats(b, bias + c);
    Vector<T> y;
#pragma unroll
    for (int j = 0; j < VECTOR_SIZE; j++) {
      y.v[j] = (values[i].v[j] - m) * s * w[j] + b[j];
    }
    store(to + c, y);
  }
  if (lane == 0) {
    mean[row] = m;
    rstd[row] = s;
  }
}

// dx, and this block's part of dWeight and dBias: partial[block] holds the two, CHANNELS each.
// Block b takes the same rows for a given grid, so that sums have a fixed order.
KERNEL __launch_bounds__(256)
    layerNormBackward(const T* dOut, const T* x, const float* weight, const float* mean,
                      const float* rstd, T* dx, int accumulate, float* partial, int rows,
                      int channels) {
  DYNAMIC_SHARED(shared);
  float* sums = (float*)shared;  // [2][CHANNELS]
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float dw[VECTORS][VECTOR_SIZE], db[VECTORS][VECTOR_SIZE];
#pragma unroll
  for (int i = 0; i < VECTORS; i++) {
#pragma unroll
    for (int j = 0; j < VECTOR_SIZE; j++) {
      dw[i][j] = 0.0f;
      db[i][j] = 0.0f;
    }
  }
  for (int row = blockIdx.x * 8 + warp; row < rows; row += gridDim.x * 8) {
    i64 start = (i64)row * CHANNELS;
    float m = mean[row], s = rstd[row];
    Vector<T> hat[VECTORS], gradient[VECTORS];
    float sumG = 0.0f, sumGx = 0.0f;
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
      int c = (i * 32 + lane) * VECTOR_SIZE;
      load(hat[i], x + start + c);
      load(gradient[i], dOut + start + c);
      float w[VECTOR_SIZE];
      loadFloats(w, weight + c);
#pragma unroll
      for (int j = 0; j < VECTOR_SIZE; j++) {
        float h = (hat[i].v[j] - m) * s;
        float d = gradient[i].v[j];
        hat[i].v[j] = h;
        dw[i][j] += d * h;
        db[i][j] += d;
        float g = d * w[j];
        gradient[i].v[j] = g;
        sumG += g;
        sumGx += g * h;
      }
    }
    float meanG = warpSum(sumG) / CHANNELS;
    float meanGx = warpSum(sumGx) / CHANNELS;
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
      int c = (i * 32 + lane) * VECTOR_SIZE;
      Vector<T> y;
      if (accumulate) {
        load(y, dx + start + c);
      } else {
#pragma unroll
        for (int j = 0; j < VECTOR_SIZE; j++) {
          y.v[j] = 0.0f;
        }
      }
#pragma unroll
      for (int j = 0; j < VECTOR_SIZE; j++) {
        y.v[j] += s * (gradient[i].v[j] - meanG - hat[i].v[j] * meanGx);
      }
      store(dx + start + c, y);
    }
  }
  if (partial == 0) {
    return;
  }
  for (int w = 0; w < 8; w++) {
    if (warp == w) {
#pragma unroll
      for (int i = 0; i < VECTORS; i++) {
        int c = (i * 32 + lane) * VECTOR_SIZE;
#pragma unroll
        for (int j = 0; j < VECTOR_SIZE; j++) {
          sums[c + j] = w == 0 ? dw[i][j] : sums[c + j] + dw[i][j];
          sums[CHANNELS + c + j] = w == 0 ? db[i][j] : sums[CHANNELS + c + j] + db[i][j];
        }
      }
    }
    __syncthreads();
  }
  for (int c = threadIdx.x; c < 2 * CHANNELS; c += 256) {
    partial[(i64)blockIdx.x * 2 * CHANNELS + c] = sums[c];
  }
}

#else

KERNEL __launch_bounds__(256) layerNorm(const T* x, const float* weight, const float* bias, T* out,
                                        float* mean, float* rstd, int rows, int channels) {
  int lane = threadIdx.x % 32;
  int row = blockIdx.x * 8 + threadIdx.x / 32;
  if (row >= rows) {
    return;
  }
  const T* from = x + (i64)row * channels;
  float sum = 0.0f;
  for (int c = lane; c < channels; c += 32) {
    sum += toFloat(from[c]);
  }
  float m = warpSum(sum) / channels;
  float squares = 0.0f;
  for (int c = lane; c < channels; c += 32) {
    float d = toFloat(from[c]) - m;
    squares += d * d;
  }
  float s = rsqrtf(warpSum(squares) / channels + EPSILON);
  T* to = out + (i64)row * channels;
  for (int c = lane; c < channels; c += 32) {
    store(to + c, (toFloat(from[c]) - m) * s * weight[c] + bias[c]);
  }
  if (lane == 0) {
    mean[row] = m;
    rstd[row] = s;
  }
}

// dx, and this block's part of dWeight and dBias, whose sums live in the block's own part of
// `partial`: [gridDim.x][2][channels].
KERNEL __launch_bounds__(256)
    layerNormBackward(const T* dOut, const T* x, const float* weight, const float* mean,
                      const float* rstd, T* dx, int accumulate, float* partial, int rows,
                      int channels) {
  __shared__ float rowMean[8], rowRstd[8];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float* dw = partial + (i64)blockIdx.x * 2 * channels;
  float* db = dw + channels;
  if (partial != 0) {
    for (int c = threadIdx.x; c < 2 * channels; c += 256) {
      dw[c] = 0.0f;
    }
  }
  for (int first = blockIdx.x * 8; first < rows; first += gridDim.x * 8) {
    int row = first + warp;
    __syncthreads();
    if (row < rows) {
      i64 start = (i64)row * channels;
      float m = mean[row], s = rstd[row];
      float sumG = 0.0f, sumGx = 0.0f;
      for (int c = lane; c < channels; c += 32) {
        float g = toFloat(dOut[start + c]) * weight[c];
        sumG += g;
        sumGx += g * ((toFloat(x[start + c]) - m) * s);
      }
      float meanG = warpSum(sumG) / channels;
      float meanGx = warpSum(sumGx) / channels;
      for (int c = lane; c < channels; c += 32) {
        float g = toFloat(dOut[start + c]) * weight[c];
        float y = s * (g - meanG - (toFloat(x[start + c]) - m) * s * meanGx);
        store(dx + start + c, accumulate ? toFloat(dx[start + c]) + y : y);
      }
      if (lane == 0) {
        rowMean[warp] = m;
        rowRstd[warp] = s;
      }
    }
    __syncthreads();
    if (partial != 0) {
      int count = min(8, rows - first);
      for (int c = threadIdx.x; c < channels; c += 256) {
        float w = dw[c], b = db[c];
        for (int r = 0; r < count; r++) {
          i64 at = (i64)(first + r) * channels + c;
          float d = toFloat(dOut[at]);
          w += d * ((toFloat(x[at]) - rowMean[r]) * rowRstd[r]);
          b += d;
        }
        dw[c] = w;
        db[c] = b;
      }
    }
  }
}

#endif

// Adds the blocks' parts to dWeight and dBias, either of which may be null.
KERNEL __launch_bounds__(256) layerNormReduce(const float* partial, int blocks, float* dWeight,
                                              float* dBias, int channels) {
  int c = blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= 2 * channels) {
    return;
  }
  float* to = c < channels ? dWeight : dBias;
  if (to == 0) {
    return;
  }
  to[c < channels ? c : c - channels] += sumInOrder(partial + c, (i64)2 * channels, blocks);
}
