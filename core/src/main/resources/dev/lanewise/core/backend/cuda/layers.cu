// Embedding, bias, activation and bias gradient.

// out[i] = table[ids[i]] + positions[first + i % time]; a block takes a token. An id outside the
// table makes a row of NaN, and no gradient, rather than read or write elsewhere.
KERNEL embedding(const int* ids, const float* table, const float* positions, int first, T* out,
                 int time, int channels, i64 rows) {
  i64 token = blockIdx.x;
  int id = ids[token];
  bool inside = id >= 0 && id < rows;
  const float* row = table + (i64)(inside ? id : 0) * channels;
  const float* position =
      positions == 0 ? 0 : positions + (i64)(first + token % time) * channels;
  T* to = out + token * channels;
  for (int c = threadIdx.x; c < channels; c += blockDim.x) {
    float v = row[c] + (position == 0 ? 0.0f : position[c]);
    store(to + c, inside ? v : NOT_A_NUMBER);
  }
}

// dPositions[first + t] += sum over the batch of dOut[b, t], in the order of b.
KERNEL embeddingPositions(const T* dOut, float* dPositions, int first, int batch, int time,
                          int channels) {
  i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  i64 count = (i64)time * channels;
  if (i >= count) {
    return;
  }
  float sum = 0.0f;
  for (int b = 0; b < batch; b++) {
    sum += toFloat(dOut[b * count + i]);
  }
  dPositions[(i64)first * channels + i] += sum;
}

// Tokens are sorted by id, positions in order among equals, by a radix sort of 4 bits a pass, so
// that each row of the table is summed in a fixed order without atomics. A thread owns 16 tokens.
#define SORT_RUN 16

// counts[digit * threads + thread]
KERNEL sortCount(const int* ids, const int* order, int shift, int* counts, int n, int threads) {
  int t = blockIdx.x * blockDim.x + threadIdx.x;
  if (t >= threads) {
    return;
  }
  u64 low = 0, high = 0;  // eight counters of 8 bits each; a run is at most 16 long
  for (int i = t * SORT_RUN; i < min(n, (t + 1) * SORT_RUN); i++) {
    int digit = (ids[order == 0 ? i : order[i]] >> shift) & 15;
    u64 one = 1ull << (8 * (digit & 7));
    if (digit < 8) {
      low += one;
    } else {
      high += one;
    }
  }
  for (int d = 0; d < 16; d++) {
    counts[(i64)d * threads + t] = (int)(((d < 8 ? low : high) >> (8 * (d & 7))) & 255);
  }
}

// Exclusive prefix sum in place, by one block of 1024 threads.
KERNEL __launch_bounds__(1024) sortScan(int* counts, int n) {
  __shared__ int sums[32];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int per = (n + 1023) / 1024;
  int from = min(n, (int)threadIdx.x * per), to = min(n, from + per);
  int own = 0;
  for (int i = from; i < to; i++) {
    own += counts[i];
  }
  int inclusive = own;
  for (int offset = 1; offset < 32; offset *= 2) {
    int other = __shfl_up_sync(FULL_WARP, inclusive, offset);
    if (lane >= offset) {
      inclusive += other;
    }
  }
  if (lane == 31) {
    sums[warp] = inclusive;
  }
  __syncthreads();
  int before = inclusive - own;
  for (int w = 0; w < warp; w++) {
    before += sums[w];
  }
  for (int i = from; i < to; i++) {
    int c = counts[i];
    counts[i] = before;
    before += c;
  }
}

KERNEL sortScatter(const int* ids, const int* order, int shift, int* counts, int* sorted, int n,
                   int threads) {
  int t = blockIdx.x * blockDim.x + threadIdx.x;
  if (t >= threads) {
    return;
  }
  for (int i = t * SORT_RUN; i < min(n, (t + 1) * SORT_RUN); i++) {
    int token = order == 0 ? i : order[i];
    int digit = (ids[token] >> shift) & 15;
    int* place = counts + (i64)digit * threads + t;
    sorted[*place] = token;
    *place += 1;
  }
}

// Adds rows sorted[start .. last - 1] of x, n columns from c on, to a row, in order; several loads
// are under way at a time, since a frequent token has thousands of rows.
template <int n>
DEVICE void addRows(float* to, const int* sorted, int start, int last, const T* x, int channels,
                    int c) {
  float sum[n];
#pragma unroll
  for (int k = 0; k < n; k++) {
    sum[k] = 0.0f;
  }
  const int STEP = 8;
  for (int i = start; i < last; i += STEP) {
    Vector<T> v[STEP];
#pragma unroll
    for (int j = 0; j < STEP; j++) {
      const T* from = x + (i64)sorted[min(i + j, last - 1)] * channels + c;
      if (n == 1) {
        v[j].v[0] = toFloat(*from);
      } else {
        load(v[j], from);
      }
    }
#pragma unroll
    for (int j = 0; j < STEP; j++) {
#pragma unroll
      for (int k = 0; k < n; k++) {
        sum[k] += i + j < last ? v[j].v[k] : 0.0f;
      }
    }
  }
#pragma unroll
  for (int k = 0; k < n; k++) {
    to[c + k] += sum[k];
  }
}

// The block whose sorted token starts a run of equal ids adds the whole run to its row; grid.y
// splits the channels, of which a thread takes a vector where the caller finds rows aligned.
KERNEL __launch_bounds__(128, 8)
    embeddingTable(const int* ids, const int* sorted, const T* dOut, float* dTable, int n,
                   int channels, i64 rows, int vectors) {
  int start = blockIdx.x;
  int id = ids[sorted[start]];
  if (id < 0 || id >= rows) {
    return;
  }
  if (start > 0 && ids[sorted[start - 1]] == id) {
    return;
  }
  int c = (blockIdx.y * blockDim.x + threadIdx.x) * (vectors ? VECTOR_SIZE : 1);
  if (c >= channels) {
    return;
  }
  int last = start + 1;  // the first token after the run, by doubling and halving
  if (last < n && ids[sorted[last]] == id) {
    int step = 1;
    while (last + step < n && ids[sorted[last + step]] == id) {
      last += step;
      step *= 2;
    }
    for (; step > 0; step /= 2) {
      if (last + step < n && ids[sorted[last + step]] == id) {
        last += step;
      }
    }
    last++;
  }
  float* to = dTable + (i64)id * channels;
  if (vectors) {
    addRows<VECTOR_SIZE>(to, sorted, start, last, dOut, channels, c);
  } else {
    addRows<1>(to, sorted, start, last, dOut, channels, c);
  }
}

// partial[chunk][cols] = column sums of 512 rows. A block of 8 warps takes 32 vectors of columns.
#define SUM_ROWS 512

KERNEL __launch_bounds__(256)
    columnSums(const T* x, float* partial, int rows, int cols, int vectors) {
  __shared__ float sums[8][32 * VECTOR_SIZE];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int first = blockIdx.y * SUM_ROWS, last = min(rows, first + SUM_ROWS);
  int c = (blockIdx.x * 32 + lane) * VECTOR_SIZE;
  float own[VECTOR_SIZE];
#pragma unroll
  for (int j = 0; j < VECTOR_SIZE; j++) {
    own[j] = 0.0f;
  }
  if (vectors) {
    if (c < cols) {
#pragma unroll 4
      for (int row = first + warp; row < last; row += 8) {
        Vector<T> values;
        load(values, x + (i64)row * cols + c);
#pragma unroll
        for (int j = 0; j < VECTOR_SIZE; j++) {
          own[j] += values.v[j];
        }
      }
    }
  } else {
    for (int row = first + warp; row < last; row += 8) {
#pragma unroll
      for (int j = 0; j < VECTOR_SIZE; j++) {
        if (c + j < cols) {
          own[j] += toFloat(x[(i64)row * cols + c + j]);
        }
      }
    }
  }
#pragma unroll
  for (int j = 0; j < VECTOR_SIZE; j++) {
    sums[warp][lane * VECTOR_SIZE + j] = own[j];
  }
  __syncthreads();
  for (int j = threadIdx.x; j < 32 * VECTOR_SIZE; j += 256) {
    int column = blockIdx.x * 32 * VECTOR_SIZE + j;
    if (column < cols) {
      float sum = 0.0f;
      for (int w = 0; w < 8; w++) {
        sum += sums[w][j];
      }
      partial[(i64)blockIdx.y * cols + column] = sum;
    }
  }
}

// out += or = the sum of the chunks; out is float or T.
KERNEL __launch_bounds__(256) columnSumsReduce(const float* partial, int chunks, void* out,
                                               int outIsFloat, int accumulate, int cols) {
  int c = blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= cols) {
    return;
  }
  float sum = sumInOrder(partial + c, cols, chunks);
  if (outIsFloat) {
    float* to = (float*)out + c;
    *to = accumulate ? *to + sum : sum;
  } else {
    T* to = (T*)out + c;
    store(to, accumulate ? toFloat(*to) + sum : sum);
  }
}

// x += bias and, where wanted, preactivation = x and x = activation(x). Activations: 0 none,
// 1 GELU tanh, 2 GELU erf. Works in place on x [rows, cols]; bias and preactivation may be null.
// A thread takes a vector where the caller finds that rows are aligned, else one element.
KERNEL biasActivation(T* x, const float* bias, T* preactivation, int activation, i64 count,
                      int cols, int vectors) {
  i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (vectors) {
    i *= VECTOR_SIZE;
    if (i >= count) {
      return;
    }
    Vector<T> v;
    load(v, x + i);
    if (bias != 0) {
      float b[VECTOR_SIZE];
      loadFloats(b, bias + i % cols);
#pragma unroll
      for (int j = 0; j < VECTOR_SIZE; j++) {
        v.v[j] += b[j];
      }
    }
    if (preactivation != 0) {
      store(preactivation + i, v);
    }
#pragma unroll
    for (int j = 0; j < VECTOR_SIZE; j++) {
      v.v[j] = activation == 1 ? geluTanh(v.v[j]) : activation == 2 ? geluErf(v.v[j]) : v.v[j];
    }
    store(x + i, v);
  } else if (i < count) {
    float v = toFloat(x[i]) + (bias == 0 ? 0.0f : bias[i % cols]);
    if (preactivation != 0) {
      store(preactivation + i, v);
    }
    store(x + i, activation == 1 ? geluTanh(v) : activation == 2 ? geluErf(v) : v);
  }
}

// dx *= activation'(preactivation), in place.
KERNEL activationGradient(T* dx, const T* preactivation, int activation, i64 count, int vectors) {
  i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * VECTOR_SIZE;
  if (vectors && i + VECTOR_SIZE <= count) {
    Vector<T> d, p;
    load(d, dx + i);
    load(p, preactivation + i);
#pragma unroll
    for (int j = 0; j < VECTOR_SIZE; j++) {
      d.v[j] *= activation == 1 ? geluTanhDerivative(p.v[j]) : geluErfDerivative(p.v[j]);
    }
    store(dx + i, d);
  } else {
    for (i64 end = min(count, i + VECTOR_SIZE); i < end; i++) {
      float p = toFloat(preactivation[i]);
      store(dx + i,
            toFloat(dx[i]) * (activation == 1 ? geluTanhDerivative(p) : geluErfDerivative(p)));
    }
  }
}
