// Causal flash attention on the tensor cores, bf16 in and out, float32 inside, for one HEAD_SIZE
// of 64 or 128. With DROPOUT, probabilities are kept by a bit mask. Gradients are deterministic:
// a block owns its keys (dK, dV) or its queries (dQ), and nothing is added atomically.
//
// Tiles lie in shared memory as rows of HEAD_SIZE bf16, in chunks of 16 bytes; chunk c of row r is
// stored at c ^ (r % 8), so that the eight rows of an 8x8 matrix fall into different banks.

#define CHUNKS (HEAD_SIZE / 8)
#define STEPS (HEAD_SIZE / 16)  // steps of 16 along the head
#define TILES (HEAD_SIZE / 8)   // tiles of 8 along the head
#define LOG2E 1.4426950408889634f

DEVICE bf16* at(bf16* tile, int row, int chunk) {
  return tile + (row * CHUNKS + (chunk ^ (row & 7))) * 8;
}

// Rows first .. first + ROWS - 1 of a matrix with `stride` elements from row to row; rows from
// `limit` on become 0.
template <int ROWS, int THREADS>
DEVICE void copyTile(bf16* tile, const bf16* from, i64 stride, int first, int limit) {
#pragma unroll
  for (int i = 0; i < ROWS * CHUNKS / THREADS; i++) {
    int n = i * THREADS + threadIdx.x, row = n / CHUNKS, chunk = n % CHUNKS;
    bool present = first + row < limit;
    copyAsync16(at(tile, row, chunk), from + (i64)(present ? first + row : 0) * stride + chunk * 8,
                present);
  }
}

// Rows row .. row + 15, columns 16 * step .. + 15, as the left operand of multiplyAdd.
DEVICE void loadLeft(u32 (&a)[4], bf16* tile, int row, int step) {
  int lane = threadIdx.x % 32;
  loadMatrices(a, at(tile, row + lane % 16, 2 * step + lane / 16));
}

// The transpose of rows row .. + 15, columns 16 * step .. + 15, as two right operands: {b[0], b[1]}
// multiplies into the tile of rows row .. + 7, {b[2], b[3]} into that of the next 8.
DEVICE void loadRightTransposed(u32 (&b)[4], bf16* tile, int row, int step) {
  int lane = threadIdx.x % 32;
  loadMatrices(b, at(tile, row + lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2));
}

// Rows row .. + 15 as the summed axis, columns 16 * step .. + 15 as two tiles of results.
DEVICE void loadRight(u32 (&b)[4], bf16* tile, int row, int step) {
  int lane = threadIdx.x % 32;
  loadMatricesTransposed(b, at(tile, row + lane % 16, 2 * step + lane / 16));
}

// Two neighbouring result tiles of 8 columns, rounded, as a left operand of 16.
DEVICE void asLeft(u32 (&a)[4], const float (&low)[4], const float (&high)[4]) {
  a[0] = packBf16(low[0], low[1]);
  a[1] = packBf16(low[2], low[3]);
  a[2] = packBf16(high[0], high[1]);
  a[3] = packBf16(high[2], high[3]);
}

// 16 rows of results, times factors of rows l / 4 and l / 4 + 8, through the warp's own rows of
// shared memory to rows of device memory.
DEVICE void storeRows(const float (&x)[TILES][4], float factor0, float factor1, bf16* tile, int row,
                      bf16* to, i64 stride, int first, int limit) {
  int lane = threadIdx.x % 32;
  __syncwarp();
#pragma unroll
  for (int n = 0; n < TILES; n++) {
    u32* low = (u32*)at(tile, row + lane / 4, n) + lane % 4;
    u32* high = (u32*)at(tile, row + lane / 4 + 8, n) + lane % 4;
    *low = packBf16(x[n][0] * factor0, x[n][1] * factor0);
    *high = packBf16(x[n][2] * factor1, x[n][3] * factor1);
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < 16 * CHUNKS / 32; i++) {
    int n = i * 32 + lane, r = n / CHUNKS, chunk = n % CHUNKS;
    if (first + r < limit) {
      *(uint4*)(to + (i64)(first + r) * stride + chunk * 8) = *(uint4*)at(tile, row + r, chunk);
    }
  }
}

DEVICE bool kept(const u8* mask, i64 element) { return mask[element / 8] >> (element % 8) & 1; }

#if HEAD_SIZE == 64
#define ROW_TILES 2  // tiles of 16 queries a warp owns
#else
#define ROW_TILES 1
#endif
#define FORWARD_ROWS (64 * ROW_TILES)
#define KEY_ROWS 64
#define KEY_TILE (KEY_ROWS * HEAD_SIZE)

// Grid: (batch * heads, query tiles), the longest rows first. Shared memory: two stages of keys and
// values; queries pass through the same room first.
KERNEL __launch_bounds__(128)
    attentionForward(const bf16* qkv, const u8* mask, float keepScale, bf16* out, float* lse,
                     int time, int heads, float scale) {
  DYNAMIC_SHARED(shared);
  bf16* keys = (bf16*)shared;
  bf16* values = keys + 2 * KEY_TILE;
  bf16* queries = (bf16*)shared;
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int b = blockIdx.x / heads, h = blockIdx.x % heads;
  int first = (gridDim.y - 1 - blockIdx.y) * FORWARD_ROWS;
  i64 stride = (i64)3 * heads * HEAD_SIZE;
  const bf16* base = qkv + (i64)b * time * stride + h * HEAD_SIZE;
  const bf16* keyBase = base + heads * HEAD_SIZE;
  const bf16* valueBase = keyBase + heads * HEAD_SIZE;
  float scale2 = scale * LOG2E;

  copyTile<FORWARD_ROWS, 128>(queries, base, stride, first, time);
  commitCopies();
  waitCopies<0>();
  __syncthreads();
  u32 q[ROW_TILES][STEPS][4];
#pragma unroll
  for (int m = 0; m < ROW_TILES; m++) {
#pragma unroll
    for (int s = 0; s < STEPS; s++) {
      loadLeft(q[m][s], queries, (warp * ROW_TILES + m) * 16, s);
    }
  }
  __syncthreads();

  float o[ROW_TILES][TILES][4];
  float max[ROW_TILES][2], sum[ROW_TILES][2];
#pragma unroll
  for (int m = 0; m < ROW_TILES; m++) {
#pragma unroll
    for (int n = 0; n < TILES; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        o[m][n][i] = 0.0f;
      }
    }
    max[m][0] = max[m][1] = -INFINITE;
    sum[m][0] = sum[m][1] = 0.0f;
  }

  int blocks = (min(first + FORWARD_ROWS, time) + KEY_ROWS - 1) / KEY_ROWS;
  copyTile<KEY_ROWS, 128>(keys, keyBase, stride, 0, time);
  copyTile<KEY_ROWS, 128>(values, valueBase, stride, 0, time);
  commitCopies();
  for (int block = 0; block < blocks; block++) {
    int stage = block & 1, key = block * KEY_ROWS;
    if (block + 1 < blocks) {
      copyTile<KEY_ROWS, 128>(keys + (stage ^ 1) * KEY_TILE, keyBase, stride, key + KEY_ROWS, time);
      copyTile<KEY_ROWS, 128>(values + (stage ^ 1) * KEY_TILE, valueBase, stride, key + KEY_ROWS, time);
      commitCopies();
      waitCopies<1>();
    } else {
      waitCopies<0>();
    }
    __syncthreads();

    float s[ROW_TILES][KEY_ROWS / 8][4];
#pragma unroll
    for (int m = 0; m < ROW_TILES; m++) {
#pragma unroll
      for (int n = 0; n < KEY_ROWS / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          s[m][n][i] = 0.0f;
        }
      }
    }
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
#pragma unroll
      for (int n = 0; n < KEY_ROWS / 16; n++) {
        u32 k[4];
        loadRightTransposed(k, keys + stage * KEY_TILE, n * 16, step);
#pragma unroll
        for (int m = 0; m < ROW_TILES; m++) {
          multiplyAdd(s[m][2 * n], q[m][step], k[0], k[1]);
          multiplyAdd(s[m][2 * n + 1], q[m][step], k[2], k[3]);
        }
      }
    }

    bool masked = key + KEY_ROWS > first || key + KEY_ROWS > time;
#pragma unroll
    for (int m = 0; m < ROW_TILES; m++) {
      int row = first + (warp * ROW_TILES + m) * 16 + lane / 4;
      if (masked) {
#pragma unroll
        for (int n = 0; n < KEY_ROWS / 8; n++) {
#pragma unroll
          for (int i = 0; i < 4; i++) {
            if (key + n * 8 + lane % 4 * 2 + (i & 1) > row + i / 2 * 8) {
              s[m][n][i] = -INFINITE;
            }
          }
        }
      }
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float largest = max[m][half];
#pragma unroll
        for (int n = 0; n < KEY_ROWS / 8; n++) {
          largest = fmaxf(largest, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
        }
        largest = fmaxf(largest, __shfl_xor_sync(FULL_WARP, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(FULL_WARP, largest, 2));
        float shrink = fastExp2((max[m][half] - largest) * scale2);
        max[m][half] = largest;
        float shift = largest * scale2, total = 0.0f;
#pragma unroll
        for (int n = 0; n < KEY_ROWS / 8; n++) {
#pragma unroll
          for (int i = 2 * half; i < 2 * half + 2; i++) {
            float p = fastExp2(s[m][n][i] * scale2 - shift);
            total += p;
#ifdef DROPOUT
            int t = row + half * 8, j = key + n * 8 + lane % 4 * 2 + (i & 1);
            if (t >= time || j > t || !kept(mask, ((i64)blockIdx.x * time + t) * time + j)) {
              p = 0.0f;
            }
#endif
            s[m][n][i] = p;
          }
        }
        sum[m][half] = sum[m][half] * shrink + total;
#pragma unroll
        for (int n = 0; n < TILES; n++) {
          o[m][n][2 * half] *= shrink;
          o[m][n][2 * half + 1] *= shrink;
        }
      }
    }

#pragma unroll
    for (int step = 0; step < KEY_ROWS / 16; step++) {
      u32 p[ROW_TILES][4];
#pragma unroll
      for (int m = 0; m < ROW_TILES; m++) {
        asLeft(p[m], s[m][2 * step], s[m][2 * step + 1]);
      }
#pragma unroll
      for (int n = 0; n < STEPS; n++) {
        u32 v[4];
        loadRight(v, values + stage * KEY_TILE, step * 16, n);
#pragma unroll
        for (int m = 0; m < ROW_TILES; m++) {
          multiplyAdd(o[m][2 * n], p[m], v[0], v[1]);
          multiplyAdd(o[m][2 * n + 1], p[m], v[2], v[3]);
        }
      }
    }
    __syncthreads();
  }

#pragma unroll
  for (int m = 0; m < ROW_TILES; m++) {
    int tileRow = (warp * ROW_TILES + m) * 16;
    float factor[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float total = sum[m][half];
      total += __shfl_xor_sync(FULL_WARP, total, 1);
      total += __shfl_xor_sync(FULL_WARP, total, 2);
      factor[half] = keepScale / total;
      int row = first + tileRow + lane / 4 + half * 8;
      if (lane % 4 == 0 && row < time) {
        lse[(i64)blockIdx.x * time + row] = max[m][half] * scale + logf(total);
      }
    }
    storeRows(o[m], factor[0], factor[1], queries, tileRow,
              out + (i64)b * time * heads * HEAD_SIZE + h * HEAD_SIZE, (i64)heads * HEAD_SIZE,
              first + tileRow, time);
  }
}

// delta[b, h, t] = dOut . out; CHUNKS threads take a row of a head.
KERNEL __launch_bounds__(256)
    attentionDelta(const bf16* dOut, const bf16* out, float* delta, int time, int heads, i64 rows) {
  i64 n = (i64)blockIdx.x * 256 + threadIdx.x;
  i64 row = n / CHUNKS;
  float sum = 0.0f;
  if (row < rows) {
    Vector<bf16> a, b;
    load(a, dOut + n * 8);
    load(b, out + n * 8);
#pragma unroll
    for (int i = 0; i < 8; i++) {
      sum += a.v[i] * b.v[i];
    }
  }
#pragma unroll
  for (int offset = CHUNKS / 2; offset > 0; offset /= 2) {
    sum += __shfl_xor_sync(FULL_WARP, sum, offset);
  }
  if (row < rows && n % CHUNKS == 0) {
    int h = (int)(row % heads);
    i64 token = row / heads;
    delta[(token / time * heads + h) * time + token % time] = sum;
  }
}

#define QUERY_ROWS 64
#define QUERY_TILE (QUERY_ROWS * HEAD_SIZE)
#if HEAD_SIZE == 64
#define PART 64  // queries (or keys) whose scores are in registers at a time
#else
#define PART 32
#endif

// dK and dV of 64 keys, 16 a warp. Scores are held transposed, rows of keys and columns of queries,
// so that they are left operands of both products as they come.
// Grid: (batch * heads, key tiles). Shared memory: keys, values, two stages of queries and dOut,
// and of their lse and delta.
KERNEL __launch_bounds__(128)
    attentionKeys(const bf16* dOut, const bf16* qkv, const float* lse, const float* delta,
                  const u8* mask, float keepScale, bf16* dQkv, int time, int heads, float scale) {
  DYNAMIC_SHARED(shared);
  bf16* keys = (bf16*)shared;
  bf16* values = keys + KEY_TILE;
  bf16* queries = values + KEY_TILE;
  bf16* gradients = queries + 2 * QUERY_TILE;
  float* statistics = (float*)(gradients + 2 * QUERY_TILE);  // [stage][lse, delta][64]
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int b = blockIdx.x / heads, h = blockIdx.x % heads;
  int first = blockIdx.y * KEY_ROWS;
  int width = heads * HEAD_SIZE;
  i64 stride = (i64)3 * width;
  const bf16* base = qkv + (i64)b * time * stride + h * HEAD_SIZE;
  const bf16* gradientBase = dOut + (i64)b * time * width + h * HEAD_SIZE;
  const float* lseRow = lse + (i64)blockIdx.x * time;
  const float* deltaRow = delta + (i64)blockIdx.x * time;
  float scale2 = scale * LOG2E;

  copyTile<KEY_ROWS, 128>(keys, base + width, stride, first, time);
  copyTile<KEY_ROWS, 128>(values, base + 2 * width, stride, first, time);
  int query = first;
  copyTile<QUERY_ROWS, 128>(queries, base, stride, query, time);
  copyTile<QUERY_ROWS, 128>(gradients, gradientBase, width, query, time);
  commitCopies();

  float dk[TILES][4], dv[TILES][4];
#pragma unroll
  for (int n = 0; n < TILES; n++) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      dk[n][i] = 0.0f;
      dv[n][i] = 0.0f;
    }
  }
  for (int stage = 0; query < time; query += QUERY_ROWS, stage ^= 1) {
    if (threadIdx.x < QUERY_ROWS) {
      int t = query + threadIdx.x;
      statistics[stage * 128 + threadIdx.x] = t < time ? lseRow[t] * LOG2E : 0.0f;
      statistics[stage * 128 + 64 + threadIdx.x] = t < time ? deltaRow[t] : 0.0f;
    }
    if (query + QUERY_ROWS < time) {
      copyTile<QUERY_ROWS, 128>(queries + (stage ^ 1) * QUERY_TILE, base, stride, query + QUERY_ROWS, time);
      copyTile<QUERY_ROWS, 128>(gradients + (stage ^ 1) * QUERY_TILE, gradientBase, width, query + QUERY_ROWS,
                                time);
      commitCopies();
      waitCopies<1>();
    } else {
      waitCopies<0>();
    }
    __syncthreads();

    bool masked = query < first + KEY_ROWS || query + QUERY_ROWS > time;
#pragma unroll 1
    for (int part = 0; part < QUERY_ROWS / PART; part++) {
      float s[PART / 8][4], dp[PART / 8][4];
#pragma unroll
      for (int n = 0; n < PART / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          s[n][i] = 0.0f;
          dp[n][i] = 0.0f;
        }
      }
#pragma unroll
      for (int step = 0; step < STEPS; step++) {
        u32 k[4], v[4];
        loadLeft(k, keys, warp * 16, step);
        loadLeft(v, values, warp * 16, step);
#pragma unroll
        for (int n = 0; n < PART / 16; n++) {
          u32 r[4];
          loadRightTransposed(r, queries + stage * QUERY_TILE, part * PART + n * 16, step);
          multiplyAdd(s[2 * n], k, r[0], r[1]);
          multiplyAdd(s[2 * n + 1], k, r[2], r[3]);
          loadRightTransposed(r, gradients + stage * QUERY_TILE, part * PART + n * 16, step);
          multiplyAdd(dp[2 * n], v, r[0], r[1]);
          multiplyAdd(dp[2 * n + 1], v, r[2], r[3]);
        }
      }
#pragma unroll
      for (int n = 0; n < PART / 8; n++) {
        int column = part * PART + n * 8 + lane % 4 * 2;
        float2 l = *(float2*)(statistics + stage * 128 + column);
        float2 d = *(float2*)(statistics + stage * 128 + 64 + column);
#pragma unroll
        for (int i = 0; i < 4; i++) {
          int t = query + column + (i & 1), j = first + warp * 16 + lane / 4 + i / 2 * 8;
          float p = fastExp2(s[n][i] * scale2 - (i & 1 ? l.y : l.x));
          if (masked && (j > t || t >= time)) {
            p = 0.0f;
          }
          float g = dp[n][i];
#ifdef DROPOUT
          bool keep = j <= t && t < time && kept(mask, ((i64)blockIdx.x * time + t) * time + j);
          g = keep ? g * keepScale : 0.0f;
          s[n][i] = keep ? p * keepScale : 0.0f;
#else
          s[n][i] = p;
#endif
          dp[n][i] = p * (g - (i & 1 ? d.y : d.x));
        }
      }
#pragma unroll
      for (int step = 0; step < PART / 16; step++) {
        u32 p[4], ds[4];
        asLeft(p, s[2 * step], s[2 * step + 1]);
        asLeft(ds, dp[2 * step], dp[2 * step + 1]);
#pragma unroll
        for (int n = 0; n < STEPS; n++) {
          u32 r[4];
          loadRight(r, gradients + stage * QUERY_TILE, part * PART + step * 16, n);
          multiplyAdd(dv[2 * n], p, r[0], r[1]);
          multiplyAdd(dv[2 * n + 1], p, r[2], r[3]);
          loadRight(r, queries + stage * QUERY_TILE, part * PART + step * 16, n);
          multiplyAdd(dk[2 * n], ds, r[0], r[1]);
          multiplyAdd(dk[2 * n + 1], ds, r[2], r[3]);
        }
      }
    }
    __syncthreads();
  }
  bf16* to = dQkv + (i64)b * time * stride + h * HEAD_SIZE;
  storeRows(dk, scale, scale, keys, warp * 16, to + width, stride, first + warp * 16, time);
  storeRows(dv, 1.0f, 1.0f, values, warp * 16, to + 2 * width, stride, first + warp * 16, time);
}

// dQ of 64 queries, 16 a warp. Grid: (batch * heads, query tiles), the longest rows first. Shared
// memory: queries, dOut, and two stages of keys and values.
KERNEL __launch_bounds__(128)
    attentionQueries(const bf16* dOut, const bf16* qkv, const float* lse, const float* delta,
                     const u8* mask, float keepScale, bf16* dQkv, int time, int heads,
                     float scale) {
  DYNAMIC_SHARED(shared);
  bf16* queries = (bf16*)shared;
  bf16* gradients = queries + QUERY_TILE;
  bf16* keys = gradients + QUERY_TILE;
  bf16* values = keys + 2 * KEY_TILE;
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int b = blockIdx.x / heads, h = blockIdx.x % heads;
  int first = (gridDim.y - 1 - blockIdx.y) * QUERY_ROWS;
  int width = heads * HEAD_SIZE;
  i64 stride = (i64)3 * width;
  const bf16* base = qkv + (i64)b * time * stride + h * HEAD_SIZE;
  float scale2 = scale * LOG2E;

  copyTile<QUERY_ROWS, 128>(queries, base, stride, first, time);
  copyTile<QUERY_ROWS, 128>(gradients, dOut + (i64)b * time * width + h * HEAD_SIZE, width, first,
                            time);
  copyTile<KEY_ROWS, 128>(keys, base + width, stride, 0, time);
  copyTile<KEY_ROWS, 128>(values, base + 2 * width, stride, 0, time);
  commitCopies();

  float l[2], d[2];
#pragma unroll
  for (int half = 0; half < 2; half++) {
    int t = first + warp * 16 + lane / 4 + half * 8;
    i64 row = (i64)blockIdx.x * time + t;
    l[half] = t < time ? lse[row] * LOG2E : 0.0f;
    d[half] = t < time ? delta[row] : 0.0f;
  }
  float dq[TILES][4];
#pragma unroll
  for (int n = 0; n < TILES; n++) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      dq[n][i] = 0.0f;
    }
  }
  int limit = min(first + QUERY_ROWS, time);
  for (int key = 0, stage = 0; key < limit; key += KEY_ROWS, stage ^= 1) {
    if (key + KEY_ROWS < limit) {
      copyTile<KEY_ROWS, 128>(keys + (stage ^ 1) * KEY_TILE, base + width, stride, key + KEY_ROWS, time);
      copyTile<KEY_ROWS, 128>(values + (stage ^ 1) * KEY_TILE, base + 2 * width, stride, key + KEY_ROWS, time);
      commitCopies();
      waitCopies<1>();
    } else {
      waitCopies<0>();
    }
    __syncthreads();

    bool masked = key + KEY_ROWS > first;
#pragma unroll 1
    for (int part = 0; part < KEY_ROWS / PART; part++) {
      float s[PART / 8][4], dp[PART / 8][4];
#pragma unroll
      for (int n = 0; n < PART / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          s[n][i] = 0.0f;
          dp[n][i] = 0.0f;
        }
      }
#pragma unroll
      for (int step = 0; step < STEPS; step++) {
        u32 q[4], g[4];
        loadLeft(q, queries, warp * 16, step);
        loadLeft(g, gradients, warp * 16, step);
#pragma unroll
        for (int n = 0; n < PART / 16; n++) {
          u32 r[4];
          loadRightTransposed(r, keys + stage * KEY_TILE, part * PART + n * 16, step);
          multiplyAdd(s[2 * n], q, r[0], r[1]);
          multiplyAdd(s[2 * n + 1], q, r[2], r[3]);
          loadRightTransposed(r, values + stage * KEY_TILE, part * PART + n * 16, step);
          multiplyAdd(dp[2 * n], g, r[0], r[1]);
          multiplyAdd(dp[2 * n + 1], g, r[2], r[3]);
        }
      }
#pragma unroll
      for (int n = 0; n < PART / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          int t = first + warp * 16 + lane / 4 + i / 2 * 8;
          int j = key + part * PART + n * 8 + lane % 4 * 2 + (i & 1);
          float p = fastExp2(s[n][i] * scale2 - l[i / 2]);
          if (masked && j > t) {
            p = 0.0f;
          }
          float g = dp[n][i];
#ifdef DROPOUT
          bool keep = j <= t && t < time && kept(mask, ((i64)blockIdx.x * time + t) * time + j);
          g = keep ? g * keepScale : 0.0f;
#endif
          dp[n][i] = p * (g - d[i / 2]);
        }
      }
#pragma unroll
      for (int step = 0; step < PART / 16; step++) {
        u32 ds[4];
        asLeft(ds, dp[2 * step], dp[2 * step + 1]);
#pragma unroll
        for (int n = 0; n < STEPS; n++) {
          u32 r[4];
          loadRight(r, keys + stage * KEY_TILE, part * PART + step * 16, n);
          multiplyAdd(dq[2 * n], ds, r[0], r[1]);
          multiplyAdd(dq[2 * n + 1], ds, r[2], r[3]);
        }
      }
    }
    __syncthreads();
  }
  storeRows(dq, scale, scale, queries, warp * 16,
            dQkv + (i64)b * time * stride + h * HEAD_SIZE, stride, first + warp * 16, time);
}
