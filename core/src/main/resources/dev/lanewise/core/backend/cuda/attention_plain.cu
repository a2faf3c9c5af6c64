// Causal attention for any type and head size: a warp owns a query (or, for the gradients of keys
// and values, a key), and lanes take turns at owning a position and a part of the head.
// Compiled for one HEAD_SIZE.

#define PER_LANE ((HEAD_SIZE + 31) / 32)
#define ROW (HEAD_SIZE + 1)
#define WARPS 8

// Where element (token, part, head, 0) of [batch * time, 3, heads, HEAD_SIZE] lies.
DEVICE i64 place(int b, int t, int part, int h, int time, int heads) {
  return ((((i64)b * time + t) * 3 + part) * heads + h) * HEAD_SIZE;
}

// 32 rows of a head into shared memory as floats; rows from `time` on become 0.
DEVICE void loadTile(float* tile, const T* x, int b, int first, int part, int parts, int h,
                     int time, int heads) {
  for (int i = threadIdx.x; i < 32 * HEAD_SIZE; i += WARPS * 32) {
    int r = i / HEAD_SIZE, d = i % HEAD_SIZE, t = first + r;
    float v = 0.0f;
    if (t < time) {
      v = toFloat(x[((((i64)b * time + t) * parts + part) * heads + h) * HEAD_SIZE + d]);
    }
    tile[r * ROW + d] = v;
  }
}

DEVICE float dot(const float* a, const float* b) {
  float sum = 0.0f;
  for (int d = 0; d < HEAD_SIZE; d++) {
    sum += a[d] * b[d];
  }
  return sum;
}

DEVICE float keep(const u8* mask, i64 row, int time, int j, float keepScale) {
  if (mask == 0) {
    return 1.0f;
  }
  i64 i = row * time + j;
  return (mask[i / 8] >> (i % 8) & 1) ? keepScale : 0.0f;
}

// Grid: (time / 8, batch * heads).
KERNEL __launch_bounds__(256)
    attentionForward(const T* qkv, const u8* mask, float keepScale, T* out, float* lse, int time,
                     int heads, float scale) {
  DYNAMIC_SHARED(shared);
  float* keys = (float*)shared;
  float* values = keys + 32 * ROW;
  float* queries = values + 32 * ROW;
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int b = blockIdx.y / heads, h = blockIdx.y % heads;
  int t = blockIdx.x * WARPS + warp;
  i64 row = (i64)blockIdx.y * time + t;
  float* q = queries + warp * HEAD_SIZE;
  for (int d = lane; d < HEAD_SIZE; d += 32) {
    q[d] = t < time ? toFloat(qkv[place(b, t, 0, h, time, heads) + d]) * scale : 0.0f;
  }
  float o[PER_LANE];
  for (int i = 0; i < PER_LANE; i++) {
    o[i] = 0.0f;
  }
  float max = -INFINITE, sum = 0.0f;
  int last = min(time, (int)(blockIdx.x + 1) * WARPS);
  for (int first = 0; first < last; first += 32) {
    __syncthreads();
    loadTile(keys, qkv, b, first, 1, 3, h, time, heads);
    loadTile(values, qkv, b, first, 2, 3, h, time, heads);
    __syncthreads();
    int j = first + lane;
    float s = j <= t ? dot(q, keys + lane * ROW) : -INFINITE;
    float newMax = fmaxf(max, warpMax(s));
    if (first > t) {
      continue;
    }
    float p = j <= t ? expf(s - newMax) : 0.0f;
    float shrink = expf(max - newMax);
    sum = sum * shrink + warpSum(p);
    max = newMax;
    if (j <= t) {
      p *= keep(mask, row, time, j, keepScale);
    }
    for (int i = 0; i < PER_LANE; i++) {
      o[i] *= shrink;
    }
    for (int k = 0; k < 32; k++) {
      float pk = __shfl_sync(FULL_WARP, p, k);
      for (int i = 0; i < PER_LANE; i++) {
        int d = i * 32 + lane;
        if (d < HEAD_SIZE) {
          o[i] += pk * values[k * ROW + d];
        }
      }
    }
  }
  if (t < time) {
    for (int i = 0; i < PER_LANE; i++) {
      int d = i * 32 + lane;
      if (d < HEAD_SIZE) {
        store(out + (((i64)b * time + t) * heads + h) * HEAD_SIZE + d, o[i] / sum);
      }
    }
    if (lane == 0) {
      lse[row] = max + logf(sum);
    }
  }
}

// delta[b, h, t] = dOut . out; a warp takes a row. Grid: (batch * time * heads / 8).
KERNEL attentionDelta(const T* dOut, const T* out, float* delta, int time, int heads, i64 rows) {
  int lane = threadIdx.x % 32;
  i64 row = (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (row >= rows) {
    return;
  }
  float sum = 0.0f;
  for (int d = lane; d < HEAD_SIZE; d += 32) {
    sum += toFloat(dOut[row * HEAD_SIZE + d]) * toFloat(out[row * HEAD_SIZE + d]);
  }
  sum = warpSum(sum);
  if (lane == 0) {
    int h = (int)(row % heads);
    i64 token = row / heads;
    delta[(token / time * heads + h) * time + token % time] = sum;
  }
}

KERNEL __launch_bounds__(256)
    attentionQueries(const T* dOut, const T* qkv, const float* lse, const float* delta,
                     const u8* mask, float keepScale, T* dQkv, int time, int heads, float scale) {
  DYNAMIC_SHARED(shared);
  float* keys = (float*)shared;
  float* values = keys + 32 * ROW;
  float* own = values + 32 * ROW;
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int b = blockIdx.y / heads, h = blockIdx.y % heads;
  int t = blockIdx.x * WARPS + warp;
  i64 row = (i64)blockIdx.y * time + t;
  float* q = own + warp * 2 * HEAD_SIZE;
  float* g = q + HEAD_SIZE;
  for (int d = lane; d < HEAD_SIZE; d += 32) {
    q[d] = t < time ? toFloat(qkv[place(b, t, 0, h, time, heads) + d]) * scale : 0.0f;
    g[d] = t < time ? toFloat(dOut[(((i64)b * time + t) * heads + h) * HEAD_SIZE + d]) : 0.0f;
  }
  float l = t < time ? lse[row] : 0.0f, dd = t < time ? delta[row] : 0.0f;
  float dq[PER_LANE];
  for (int i = 0; i < PER_LANE; i++) {
    dq[i] = 0.0f;
  }
  int last = min(time, (int)(blockIdx.x + 1) * WARPS);
  for (int first = 0; first < last; first += 32) {
    __syncthreads();
    loadTile(keys, qkv, b, first, 1, 3, h, time, heads);
    loadTile(values, qkv, b, first, 2, 3, h, time, heads);
    __syncthreads();
    int j = first + lane;
    float ds = 0.0f;
    if (j <= t && t < time) {
      float p = expf(dot(q, keys + lane * ROW) - l);
      float dp = dot(g, values + lane * ROW) * keep(mask, row, time, j, keepScale);
      ds = p * (dp - dd);
    }
    for (int k = 0; k < 32; k++) {
      float dsk = __shfl_sync(FULL_WARP, ds, k);
      for (int i = 0; i < PER_LANE; i++) {
        int d = i * 32 + lane;
        if (d < HEAD_SIZE) {
          dq[i] += dsk * keys[k * ROW + d];
        }
      }
    }
  }
  if (t < time) {
    for (int i = 0; i < PER_LANE; i++) {
      int d = i * 32 + lane;
      if (d < HEAD_SIZE) {
        store(dQkv + place(b, t, 0, h, time, heads) + d, dq[i] * scale);
      }
    }
  }
}

KERNEL __launch_bounds__(256)
    attentionKeys(const T* dOut, const T* qkv, const float* lse, const float* delta, const u8* mask,
                  float keepScale, T* dQkv, int time, int heads, float scale) {
  DYNAMIC_SHARED(shared);
  float* queries = (float*)shared;
  float* gradients = queries + 32 * ROW;
  float* own = gradients + 32 * ROW;
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int b = blockIdx.y / heads, h = blockIdx.y % heads;
  int j = blockIdx.x * WARPS + warp;
  float* k = own + warp * 2 * HEAD_SIZE;
  float* v = k + HEAD_SIZE;
  for (int d = lane; d < HEAD_SIZE; d += 32) {
    k[d] = j < time ? toFloat(qkv[place(b, j, 1, h, time, heads) + d]) * scale : 0.0f;
    v[d] = j < time ? toFloat(qkv[place(b, j, 2, h, time, heads) + d]) : 0.0f;
  }
  float dk[PER_LANE], dv[PER_LANE];
  for (int i = 0; i < PER_LANE; i++) {
    dk[i] = 0.0f;
    dv[i] = 0.0f;
  }
  for (int first = blockIdx.x * WARPS / 32 * 32; first < time; first += 32) {
    __syncthreads();
    loadTile(queries, qkv, b, first, 0, 3, h, time, heads);
    loadTile(gradients, dOut, b, first, 0, 1, h, time, heads);
    __syncthreads();
    int t = first + lane;
    float p = 0.0f, ds = 0.0f;
    if (j <= t && t < time) {
      i64 row = (i64)blockIdx.y * time + t;
      float kept = keep(mask, row, time, j, keepScale);
      p = expf(dot(k, queries + lane * ROW) - lse[row]);
      float dp = dot(v, gradients + lane * ROW) * kept;
      ds = p * (dp - delta[row]);
      p *= kept;
    }
    for (int r = 0; r < 32; r++) {
      float pr = __shfl_sync(FULL_WARP, p, r), dsr = __shfl_sync(FULL_WARP, ds, r);
      for (int i = 0; i < PER_LANE; i++) {
        int d = i * 32 + lane;
        if (d < HEAD_SIZE) {
          dv[i] += pr * gradients[r * ROW + d];
          dk[i] += dsr * queries[r * ROW + d];
        }
      }
    }
  }
  if (j < time) {
    for (int i = 0; i < PER_LANE; i++) {
      int d = i * 32 + lane;
      if (d < HEAD_SIZE) {
        store(dQkv + place(b, j, 1, h, time, heads) + d, dk[i] * scale);
        store(dQkv + place(b, j, 2, h, time, heads) + d, dv[i]);
      }
    }
  }
}

// Appends new keys and values to the cache [batch, maxTime, heads * HEAD_SIZE].
KERNEL cacheStore(const T* qkv, T* keys, T* values, int position, int maxTime, int time, int heads,
                  i64 count) {
  i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) {
    return;
  }
  int width = heads * HEAD_SIZE;
  i64 token = i / width;
  int c = (int)(i % width);
  i64 to = (token / time * maxTime + position + token % time) * width + c;
  keys[to] = qkv[(token * 3 + 1) * width + c];
  values[to] = qkv[(token * 3 + 2) * width + c];
}

// A block of 8 warps takes a query; each warp a share of the keys; the shares are merged at the
// end. Grid: (batch * time, heads).
KERNEL __launch_bounds__(256)
    attentionCached(const T* qkv, const T* keys, const T* values, int position, int maxTime, T* out,
                    int time, int heads, float scale) {
  __shared__ float q[HEAD_SIZE], parts[WARPS][HEAD_SIZE], maxima[WARPS], sums[WARPS];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, h = blockIdx.y;
  i64 token = blockIdx.x;
  int width = heads * HEAD_SIZE;
  int last = position + (int)(token % time);
  i64 cache = token / time * maxTime * width + h * HEAD_SIZE;
  for (int d = threadIdx.x; d < HEAD_SIZE; d += WARPS * 32) {
    q[d] = toFloat(qkv[token * 3 * width + h * HEAD_SIZE + d]) * scale;
  }
  __syncthreads();
  float o[PER_LANE], max = -INFINITE, sum = 0.0f;
  for (int i = 0; i < PER_LANE; i++) {
    o[i] = 0.0f;
  }
  for (int first = warp * 32; first <= last; first += WARPS * 32) {
    int j = first + lane;
    float s = -INFINITE;
    if (j <= last) {
      const T* k = keys + cache + (i64)j * width;
      s = 0.0f;
      for (int d = 0; d < HEAD_SIZE; d++) {
        s += q[d] * toFloat(k[d]);
      }
    }
    float newMax = fmaxf(max, warpMax(s));
    float p = j <= last ? expf(s - newMax) : 0.0f;
    float shrink = expf(max - newMax);
    sum = sum * shrink + warpSum(p);
    max = newMax;
    for (int i = 0; i < PER_LANE; i++) {
      o[i] *= shrink;
    }
    for (int k = 0; k < min(32, last + 1 - first); k++) {
      float pk = __shfl_sync(FULL_WARP, p, k);
      const T* v = values + cache + (i64)(first + k) * width;
      for (int i = 0; i < PER_LANE; i++) {
        int d = i * 32 + lane;
        if (d < HEAD_SIZE) {
          o[i] += pk * toFloat(v[d]);
        }
      }
    }
  }
  for (int i = 0; i < PER_LANE; i++) {
    int d = i * 32 + lane;
    if (d < HEAD_SIZE) {
      parts[warp][d] = o[i];
    }
  }
  if (lane == 0) {
    maxima[warp] = max;
    sums[warp] = sum;
  }
  __syncthreads();
  float m = -INFINITE;
  for (int w = 0; w < WARPS; w++) {
    m = fmaxf(m, maxima[w]);
  }
  float total = 0.0f;
  for (int w = 0; w < WARPS; w++) {
    total += maxima[w] == -INFINITE ? 0.0f : sums[w] * expf(maxima[w] - m);
  }
  for (int d = threadIdx.x; d < HEAD_SIZE; d += WARPS * 32) {
    float v = 0.0f;
    for (int w = 0; w < WARPS; w++) {
      v += maxima[w] == -INFINITE ? 0.0f : parts[w][d] * expf(maxima[w] - m);
    }
    store(out + token * width + h * HEAD_SIZE + d, v / total);
  }
}
