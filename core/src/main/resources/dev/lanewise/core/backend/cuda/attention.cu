// Causal flash attention on the tensor cores, bf16 in and out, float32 inside, for one HEAD_SIZE
// of 64 or 128. With DROPOUT, probabilities are kept by a bit mask. Gradients are deterministic:
// a block owns its keys (dK, dV) or its queries (dQ), and nothing is added atomically.
//
// A warp owns 16 * ROW_TILES rows. What it reads of shared memory, the other operand, it uses for
// all of them: with 16 rows, reading would take longer than the tensor cores do.
//
// Tiles lie in shared memory as rows of HEAD_SIZE bf16, in chunks of 16 bytes; chunk c of row r is
// stored at c ^ (r % 8), so that the eight rows of an 8x8 matrix fall into different banks.

#define CHUNKS (HEAD_SIZE / 8)
#define STEPS (HEAD_SIZE / 16)  // steps of 16 along the head
#define TILES (HEAD_SIZE / 8)   // tiles of 8 along the head
#define LOG2E 1.4426950408889634f

#if HEAD_SIZE == 64 && !defined(DROPOUT)  // as many as registers hold
#define ROW_TILES 2
#else
#define ROW_TILES 1
#endif
#define WARP_ROWS (16 * ROW_TILES)
#define OWN_ROWS (4 * WARP_ROWS)  // of a block, which owns queries or keys
#define OWN_TILE (OWN_ROWS * HEAD_SIZE)
#define OTHER_ROWS 64  // of a block's other operand, at a time
#define OTHER_TILE (OTHER_ROWS * HEAD_SIZE)
#define PART 32  // rows of OTHER_ROWS whose scores a gradient has in registers at a time

// Which head and which tile of its rows a block owns, of gridDim.x / tiles heads. Blocks of `group`
// heads come one after the other, so that what they share stays in the L2 cache meanwhile; within
// a group, all first tiles come before all second ones.
DEVICE void ownPlace(int tiles, int group, int& head, int& tile) {
  int first = blockIdx.x / (group * tiles) * group;
  int rest = blockIdx.x - first * tiles, heads = min(group, (int)gridDim.x / tiles - first);
  head = first + rest % heads;
  tile = rest / heads;
}

// Element of a tile where this chunk of this row lies. For a row of 16 * n + row, it is 16 * n rows
// further on; for a chunk of 2 * n + chunk, n even or odd, the place ^ 16 * n.
DEVICE int place(int row, int chunk) { return row * HEAD_SIZE + (chunk ^ (row & 7)) * 8; }

// Rows first .. first + ROWS - 1 of a matrix with `stride` elements from row to row; rows from
// `limit` on become 0.
template <int ROWS>
DEVICE void copyTile(bf16* tile, const bf16* from, i64 stride, int first, int limit) {
#pragma unroll
  for (int i = 0; i < ROWS * CHUNKS / 128; i++) {
    int n = i * 128 + threadIdx.x, row = n / CHUNKS, chunk = n % CHUNKS;
    bool present = first + row < limit;
    copyAsync16(tile + place(row, chunk),
                from + (i64)(present ? first + row : 0) * stride + chunk * 8, present);
  }
}

// Which rows and chunks of 16 x 16 elements a lane names to ldmatrix, as its place.
struct Lanes {
  int rowsFirst, chunksFirst;
};

DEVICE Lanes lanes() {
  int lane = threadIdx.x % 32;
  Lanes l = {place(lane % 16, lane / 16), place(lane % 8 + lane / 16 * 8, lane / 8 % 2)};
  return l;
}

// Rows row .. row + 15, columns 16 * step .. + 15, as the left operand of multiplyAdd.
DEVICE void loadLeft(u32 (&a)[4], const bf16* tile, Lanes l, int row, int step) {
  loadMatrices(a, tile + row * HEAD_SIZE + (l.rowsFirst ^ 16 * step));
}

// The transpose of rows row .. + 15, columns 16 * step .. + 15, as two right operands: {b[0], b[1]}
// multiplies into the tile of rows row .. + 7, {b[2], b[3]} into that of the next 8.
DEVICE void loadRightTransposed(u32 (&b)[4], const bf16* tile, Lanes l, int row, int step) {
  loadMatrices(b, tile + row * HEAD_SIZE + (l.chunksFirst ^ 16 * step));
}

// Rows row .. + 15 as the summed axis, columns 16 * step .. + 15 as two tiles of results.
DEVICE void loadRight(u32 (&b)[4], const bf16* tile, Lanes l, int row, int step) {
  loadMatricesTransposed(b, tile + row * HEAD_SIZE + (l.rowsFirst ^ 16 * step));
}

// Two neighbouring result tiles of 8 columns, rounded, as a left operand of 16.
DEVICE void asLeft(u32 (&a)[4], const float (&low)[4], const float (&high)[4]) {
  a[0] = packBf16(low[0], low[1]);
  a[1] = packBf16(low[2], low[3]);
  a[2] = packBf16(high[0], high[1]);
  a[3] = packBf16(high[2], high[3]);
}

template <int n>
DEVICE void clear(float (&x)[ROW_TILES][n][4]) {
#pragma unroll
  for (int m = 0; m < ROW_TILES; m++) {
#pragma unroll
    for (int i = 0; i < n; i++) {
#pragma unroll
      for (int j = 0; j < 4; j++) {
        x[m][i][j] = 0.0f;
      }
    }
  }
}

// s = own · otherᵀ, where the warp's rows lie at `ownRow` of their tile and `rows` of the other
// operand's at `otherRow`.
template <int rows>
DEVICE void scores(float (&s)[ROW_TILES][rows / 8][4], const bf16* own, int ownRow,
                   const bf16* other, int otherRow, Lanes l) {
  clear(s);
#pragma unroll
  for (int step = 0; step < STEPS; step++) {
    u32 a[ROW_TILES][4];
#pragma unroll
    for (int m = 0; m < ROW_TILES; m++) {
      loadLeft(a[m], own, l, ownRow + m * 16, step);
    }
#pragma unroll
    for (int n = 0; n < rows / 16; n++) {
      u32 b[4];
      loadRightTransposed(b, other, l, otherRow + n * 16, step);
#pragma unroll
      for (int m = 0; m < ROW_TILES; m++) {
        multiplyAdd(s[m][2 * n], a[m], b[0], b[1]);
        multiplyAdd(s[m][2 * n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// out += s, rounded, · `rows` rows of the other operand.
template <int rows>
DEVICE void weightedSum(float (&out)[ROW_TILES][TILES][4], const float (&s)[ROW_TILES][rows / 8][4],
                        const bf16* other, int otherRow, Lanes l) {
#pragma unroll
  for (int step = 0; step < rows / 16; step++) {
    u32 a[ROW_TILES][4];
#pragma unroll
    for (int m = 0; m < ROW_TILES; m++) {
      asLeft(a[m], s[m][2 * step], s[m][2 * step + 1]);
    }
#pragma unroll
    for (int n = 0; n < STEPS; n++) {
      u32 b[4];
      loadRight(b, other, l, otherRow + step * 16, n);
#pragma unroll
      for (int m = 0; m < ROW_TILES; m++) {
        multiplyAdd(out[m][2 * n], a[m], b[0], b[1]);
        multiplyAdd(out[m][2 * n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// 16 rows of results, times factors of rows l / 4 and l / 4 + 8, through the warp's own rows of
// shared memory to rows of device memory.
DEVICE void storeRows(const float (&x)[TILES][4], float factor0, float factor1, bf16* tile, int row,
                      bf16* to, i64 stride, int first, int limit) {
  int lane = threadIdx.x % 32;
  __syncwarp();
#pragma unroll
  for (int n = 0; n < TILES; n++) {
    u32* low = (u32*)(tile + place(row + lane / 4, n)) + lane % 4;
    u32* high = (u32*)(tile + place(row + lane / 4 + 8, n)) + lane % 4;
    *low = packBf16(x[n][0] * factor0, x[n][1] * factor0);
    *high = packBf16(x[n][2] * factor1, x[n][3] * factor1);
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < 16 * CHUNKS / 32; i++) {
    int n = i * 32 + lane, r = n / CHUNKS, chunk = n % CHUNKS;
    if (first + r < limit) {
      *(uint4*)(to + (i64)(first + r) * stride + chunk * 8) =
          *(uint4*)(tile + place(row + r, chunk));
    }
  }
}

DEVICE bool kept(const u8* mask, i64 element) { return mask[element / 8] >> (element % 8) & 1; }

// Grid: heads of the batch times query tiles, the longest rows first. Shared memory: two stages of
// keys and values; queries pass through the same room first.
KERNEL __launch_bounds__(128)
    attentionForward(const bf16* qkv, const u8* mask, float keepScale, bf16* out, float* lse,
                     int time, int heads, float scale, int group) {
  DYNAMIC_SHARED(shared);
  bf16* keys = (bf16*)shared;
  bf16* values = keys + 2 * OTHER_TILE;
  bf16* queries = (bf16*)shared;
  int lane = threadIdx.x % 32, own = threadIdx.x / 32 * WARP_ROWS;
  Lanes l = lanes();
  int tiles = (time + OWN_ROWS - 1) / OWN_ROWS, head, tile;
  ownPlace(tiles, group, head, tile);
  int first = (tiles - 1 - tile) * OWN_ROWS;
  i64 stride = (i64)3 * heads * HEAD_SIZE;
  const bf16* base = qkv + (i64)(head / heads) * time * stride + head % heads * HEAD_SIZE;
  const bf16* keyBase = base + heads * HEAD_SIZE;
  const bf16* valueBase = keyBase + heads * HEAD_SIZE;
  float scale2 = scale * LOG2E;

  copyTile<OWN_ROWS>(queries, base, stride, first, time);
  commitCopies();
  waitCopies<0>();
  __syncthreads();
  u32 q[ROW_TILES][STEPS][4];
#pragma unroll
  for (int m = 0; m < ROW_TILES; m++) {
#pragma unroll
    for (int s = 0; s < STEPS; s++) {
      loadLeft(q[m][s], queries, l, own + m * 16, s);
    }
  }
  __syncthreads();

  float o[ROW_TILES][TILES][4];
  clear(o);
  float max[ROW_TILES][2], sum[ROW_TILES][2];
#pragma unroll
  for (int m = 0; m < ROW_TILES; m++) {
    max[m][0] = max[m][1] = -INFINITE;
    sum[m][0] = sum[m][1] = 0.0f;
  }

  int limit = min(first + OWN_ROWS, time);
  copyTile<OTHER_ROWS>(keys, keyBase, stride, 0, time);
  copyTile<OTHER_ROWS>(values, valueBase, stride, 0, time);
  commitCopies();
  for (int key = 0, stage = 0; key < limit; key += OTHER_ROWS, stage ^= OTHER_TILE) {
    int next = key + OTHER_ROWS;
    if (next < limit) {
      copyTile<OTHER_ROWS>(keys + (stage ^ OTHER_TILE), keyBase, stride, next, time);
      copyTile<OTHER_ROWS>(values + (stage ^ OTHER_TILE), valueBase, stride, next, time);
      commitCopies();
      waitCopies<1>();
    } else {
      waitCopies<0>();
    }
    __syncthreads();

    if (key < first + own + WARP_ROWS) {
      float s[ROW_TILES][OTHER_ROWS / 8][4];
      clear(s);
#pragma unroll
      for (int step = 0; step < STEPS; step++) {
#pragma unroll
        for (int n = 0; n < OTHER_ROWS / 16; n++) {
          u32 k[4];
          loadRightTransposed(k, keys + stage, l, n * 16, step);
#pragma unroll
          for (int m = 0; m < ROW_TILES; m++) {
            multiplyAdd(s[m][2 * n], q[m][step], k[0], k[1]);
            multiplyAdd(s[m][2 * n + 1], q[m][step], k[2], k[3]);
          }
        }
      }

      bool masked = next > first + own;
#pragma unroll
      for (int m = 0; m < ROW_TILES; m++) {
        int row = first + own + m * 16 + lane / 4;
        if (masked) {
#pragma unroll
          for (int n = 0; n < OTHER_ROWS / 8; n++) {
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
          for (int n = 0; n < OTHER_ROWS / 8; n++) {
            largest = fmaxf(largest, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
          }
          largest = fmaxf(largest, __shfl_xor_sync(FULL_WARP, largest, 1));
          largest = fmaxf(largest, __shfl_xor_sync(FULL_WARP, largest, 2));
          float shrink = fastExp2((max[m][half] - largest) * scale2);
          max[m][half] = largest;
          float shift = largest * scale2, total = 0.0f;
#pragma unroll
          for (int n = 0; n < OTHER_ROWS / 8; n++) {
#pragma unroll
            for (int i = 2 * half; i < 2 * half + 2; i++) {
              float p = fastExp2(s[m][n][i] * scale2 - shift);
              total += p;
#ifdef DROPOUT
              int t = row + half * 8, j = key + n * 8 + lane % 4 * 2 + (i & 1);
              if (t >= time || j > t || !kept(mask, ((i64)head * time + t) * time + j)) {
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
      weightedSum<OTHER_ROWS>(o, s, values + stage, 0, l);
    }
    __syncthreads();
  }

#pragma unroll
  for (int m = 0; m < ROW_TILES; m++) {
    int tileRow = own + m * 16;
    float factor[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float total = sum[m][half];
      total += __shfl_xor_sync(FULL_WARP, total, 1);
      total += __shfl_xor_sync(FULL_WARP, total, 2);
      factor[half] = keepScale / total;
      int row = first + tileRow + lane / 4 + half * 8;
      if (lane % 4 == 0 && row < time) {
        lse[(i64)head * time + row] = max[m][half] * scale + logf(total);
      }
    }
    storeRows(o[m], factor[0], factor[1], queries, tileRow,
              out + ((i64)(head / heads) * time * heads + head % heads) * HEAD_SIZE,
              (i64)heads * HEAD_SIZE, first + tileRow, time);
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

// dK and dV of a block's keys. Scores are held transposed, rows of keys and columns of queries, so
// that they are left operands of both products as they come.
// Grid: heads of the batch times key tiles, the longest first. Shared memory: keys, values, two
// stages of queries and dOut, and of their lse and delta.
KERNEL __launch_bounds__(128)
    attentionKeys(const bf16* dOut, const bf16* qkv, const float* lse, const float* delta,
                  const u8* mask, float keepScale, bf16* dQkv, int time, int heads, float scale,
                  int group) {
  DYNAMIC_SHARED(shared);
  bf16* keys = (bf16*)shared;
  bf16* values = keys + OWN_TILE;
  bf16* queries = values + OWN_TILE;
  bf16* gradients = queries + 2 * OTHER_TILE;
  float* statistics = (float*)(gradients + 2 * OTHER_TILE);  // [stage][lse, delta][OTHER_ROWS]
  int lane = threadIdx.x % 32, own = threadIdx.x / 32 * WARP_ROWS;
  Lanes l = lanes();
  int tiles = (time + OWN_ROWS - 1) / OWN_ROWS, head, tile;
  ownPlace(tiles, group, head, tile);
  int first = tile * OWN_ROWS;
  int width = heads * HEAD_SIZE;
  i64 stride = (i64)3 * width;
  i64 start = (i64)(head / heads) * time;
  const bf16* base = qkv + start * stride + head % heads * HEAD_SIZE;
  const bf16* gradientBase = dOut + start * width + head % heads * HEAD_SIZE;
  const float* lseRow = lse + (i64)head * time;
  const float* deltaRow = delta + (i64)head * time;
  float scale2 = scale * LOG2E;

  copyTile<OWN_ROWS>(keys, base + width, stride, first, time);
  copyTile<OWN_ROWS>(values, base + 2 * width, stride, first, time);
  copyTile<OTHER_ROWS>(queries, base, stride, first, time);
  copyTile<OTHER_ROWS>(gradients, gradientBase, width, first, time);
  commitCopies();

  float dk[ROW_TILES][TILES][4], dv[ROW_TILES][TILES][4];
  clear(dk);
  clear(dv);
  for (int query = first, stage = 0; query < time; query += OTHER_ROWS, stage ^= 1) {
    float* lses = statistics + stage * 2 * OTHER_ROWS;
    if (threadIdx.x < OTHER_ROWS) {
      int t = query + threadIdx.x;
      lses[threadIdx.x] = t < time ? lseRow[t] * LOG2E : 0.0f;
      lses[OTHER_ROWS + threadIdx.x] = t < time ? deltaRow[t] : 0.0f;
    }
    int next = query + OTHER_ROWS;
    if (next < time) {
      copyTile<OTHER_ROWS>(queries + (stage ^ 1) * OTHER_TILE, base, stride, next, time);
      copyTile<OTHER_ROWS>(gradients + (stage ^ 1) * OTHER_TILE, gradientBase, width, next, time);
      commitCopies();
      waitCopies<1>();
    } else {
      waitCopies<0>();
    }
    __syncthreads();

#pragma unroll 1
    for (int part = 0; part < OTHER_ROWS; part += PART) {
      if (query + part + PART <= first + own) {
        continue;  // all of these come before the warp's keys
      }
      float s[ROW_TILES][PART / 8][4], dp[ROW_TILES][PART / 8][4];
      scores<PART>(s, keys, own, queries + stage * OTHER_TILE, part, l);
      scores<PART>(dp, values, own, gradients + stage * OTHER_TILE, part, l);
      bool masked = query + part < first + own + WARP_ROWS;
#pragma unroll
      for (int n = 0; n < PART / 8; n++) {
        int column = part + n * 8 + lane % 4 * 2;
        float2 shift = *(float2*)(lses + column);
        float2 d = *(float2*)(lses + OTHER_ROWS + column);
#pragma unroll
        for (int m = 0; m < ROW_TILES; m++) {
#pragma unroll
          for (int i = 0; i < 4; i++) {
            int t = query + column + (i & 1);
            int j = first + own + m * 16 + lane / 4 + i / 2 * 8;
            float p = fastExp2(s[m][n][i] * scale2 - (i & 1 ? shift.y : shift.x));
            if (masked && j > t) {
              p = 0.0f;
            }
            float g = dp[m][n][i];
#ifdef DROPOUT
            bool keep = j <= t && t < time && kept(mask, ((i64)head * time + t) * time + j);
            g = keep ? g * keepScale : 0.0f;
            s[m][n][i] = keep ? p * keepScale : 0.0f;
#else
            s[m][n][i] = p;
#endif
            dp[m][n][i] = p * (g - (i & 1 ? d.y : d.x));
          }
        }
      }
      weightedSum<PART>(dv, s, gradients + stage * OTHER_TILE, part, l);
      weightedSum<PART>(dk, dp, queries + stage * OTHER_TILE, part, l);
    }
    __syncthreads();
  }
  bf16* to = dQkv + start * stride + head % heads * HEAD_SIZE;
#pragma unroll
  for (int m = 0; m < ROW_TILES; m++) {
    int row = own + m * 16;
    storeRows(dk[m], scale, scale, keys, row, to + width, stride, first + row, time);
    storeRows(dv[m], 1.0f, 1.0f, values, row, to + 2 * width, stride, first + row, time);
  }
}

// dQ of a block's queries. Grid: heads of the batch times query tiles, the longest rows first.
// Shared memory: queries, dOut, and two stages of keys and values.
KERNEL __launch_bounds__(128)
    attentionQueries(const bf16* dOut, const bf16* qkv, const float* lse, const float* delta,
                     const u8* mask, float keepScale, bf16* dQkv, int time, int heads, float scale,
                     int group) {
  DYNAMIC_SHARED(shared);
  bf16* queries = (bf16*)shared;
  bf16* gradients = queries + OWN_TILE;
  bf16* keys = gradients + OWN_TILE;
  bf16* values = keys + 2 * OTHER_TILE;
  int lane = threadIdx.x % 32, own = threadIdx.x / 32 * WARP_ROWS;
  Lanes l = lanes();
  int tiles = (time + OWN_ROWS - 1) / OWN_ROWS, head, tile;
  ownPlace(tiles, group, head, tile);
  int first = (tiles - 1 - tile) * OWN_ROWS;
  int width = heads * HEAD_SIZE;
  i64 stride = (i64)3 * width;
  i64 start = (i64)(head / heads) * time;
  const bf16* base = qkv + start * stride + head % heads * HEAD_SIZE;
  float scale2 = scale * LOG2E;

  copyTile<OWN_ROWS>(queries, base, stride, first, time);
  copyTile<OWN_ROWS>(gradients, dOut + start * width + head % heads * HEAD_SIZE, width, first,
                     time);
  copyTile<OTHER_ROWS>(keys, base + width, stride, 0, time);
  copyTile<OTHER_ROWS>(values, base + 2 * width, stride, 0, time);
  commitCopies();

  float shift[ROW_TILES][2], d[ROW_TILES][2];
#pragma unroll
  for (int m = 0; m < ROW_TILES; m++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      int t = first + own + m * 16 + lane / 4 + half * 8;
      i64 row = (i64)head * time + t;
      shift[m][half] = t < time ? lse[row] * LOG2E : 0.0f;
      d[m][half] = t < time ? delta[row] : 0.0f;
    }
  }
  float dq[ROW_TILES][TILES][4];
  clear(dq);
  int limit = min(first + OWN_ROWS, time);
  for (int key = 0, stage = 0; key < limit; key += OTHER_ROWS, stage ^= OTHER_TILE) {
    int next = key + OTHER_ROWS;
    if (next < limit) {
      copyTile<OTHER_ROWS>(keys + (stage ^ OTHER_TILE), base + width, stride, next, time);
      copyTile<OTHER_ROWS>(values + (stage ^ OTHER_TILE), base + 2 * width, stride, next, time);
      commitCopies();
      waitCopies<1>();
    } else {
      waitCopies<0>();
    }
    __syncthreads();

#pragma unroll 1
    for (int part = 0; part < OTHER_ROWS; part += PART) {
      if (key + part >= first + own + WARP_ROWS) {
        break;  // these and the rest come after the warp's queries
      }
      float s[ROW_TILES][PART / 8][4], dp[ROW_TILES][PART / 8][4];
      scores<PART>(s, queries, own, keys + stage, part, l);
      scores<PART>(dp, gradients, own, values + stage, part, l);
      bool masked = key + part + PART > first + own;
#pragma unroll
      for (int m = 0; m < ROW_TILES; m++) {
#pragma unroll
        for (int n = 0; n < PART / 8; n++) {
#pragma unroll
          for (int i = 0; i < 4; i++) {
            int t = first + own + m * 16 + lane / 4 + i / 2 * 8;
            int j = key + part + n * 8 + lane % 4 * 2 + (i & 1);
            float p = fastExp2(s[m][n][i] * scale2 - shift[m][i / 2]);
            if (masked && j > t) {
              p = 0.0f;
            }
            float g = dp[m][n][i];
#ifdef DROPOUT
            bool keep = j <= t && t < time && kept(mask, ((i64)head * time + t) * time + j);
            g = keep ? g * keepScale : 0.0f;
#endif
            dp[m][n][i] = p * (g - d[m][i / 2]);
          }
        }
      }
      weightedSum<PART>(dq, dp, keys + stage, part, l);
    }
    __syncthreads();
  }
#pragma unroll
  for (int m = 0; m < ROW_TILES; m++) {
    int row = own + m * 16;
    storeRows(dq[m], scale, scale, queries, row, dQkv + start * stride + head % heads * HEAD_SIZE,
              stride, first + row, time);
  }
}
