// Operations on elements of any mix of types, for small models and for what is not worth a kernel
// of its own. Types: 0 float, 1 bf16.

DEVICE float get(const void* p, int type, i64 i) {
  return type == 0 ? ((const float*)p)[i] : toFloat(((const bf16*)p)[i]);
}

DEVICE void put(void* p, int type, i64 i, float x) {
  if (type == 0) {
    ((float*)p)[i] = x;
  } else {
    store((bf16*)p + i, x);
  }
}

DEVICE void put(void* p, int type, i64 i, float x, int accumulate) {
  put(p, type, i, accumulate ? get(p, type, i) + x : x);
}

#define ELEMENT ((i64)blockIdx.x * blockDim.x + threadIdx.x)

KERNEL castElements(const void* x, int typeX, void* y, int typeY, i64 count) {
  i64 i = ELEMENT;
  if (i < count) {
    put(y, typeY, i, get(x, typeX, i));
  }
}

KERNEL fillElements(void* y, int type, float value, i64 count) {
  i64 i = ELEMENT;
  if (i < count) {
    put(y, type, i, value);
  }
}

// Eight elements a thread, pointers aligned to 16 bytes.
KERNEL castToBf16(const float* x, bf16* y, i64 count) {
  i64 i = ELEMENT * 8;
  if (i + 8 <= count) {
    Vector<bf16> v;
    loadFloats(v.v, x + i);
    store(y + i, v);
  } else {
    for (; i < count; i++) {
      store(y + i, x[i]);
    }
  }
}

// The functions of Unary, numbered as CudaBackend passes them.
enum { GELU_TANH, GELU_ERF, TANH, RELU, SIGMOID, EXP, LOG, SQRT, SQUARE, NEGATE, RECIPROCAL };

KERNEL unary(int function, const void* x, void* y, int type, i64 count) {
  i64 i = ELEMENT;
  if (i >= count) {
    return;
  }
  float a = get(x, type, i), b;
  switch (function) {
    case GELU_TANH: b = geluTanh(a); break;
    case GELU_ERF: b = geluErf(a); break;
    case TANH: b = tanhf(a); break;
    case RELU: b = a > 0.0f || a != a ? a : 0.0f; break;
    case SIGMOID: b = 1.0f / (1.0f + expf(-a)); break;
    case EXP: b = expf(a); break;
    case LOG: b = logf(a); break;
    case SQRT: b = sqrtf(a); break;
    case SQUARE: b = a * a; break;
    case NEGATE: b = -a; break;
    default: b = 1.0f / a; break;
  }
  put(y, type, i, b);
}

KERNEL unaryBackward(int function, const void* x, const void* y, const void* dy, void* dx, int type,
                     int accumulate, i64 count) {
  i64 i = ELEMENT;
  if (i >= count) {
    return;
  }
  float a = x == 0 ? 0.0f : get(x, type, i), b = y == 0 ? 0.0f : get(y, type, i), d;
  float g = get(dy, type, i);
  switch (function) {
    case GELU_TANH: d = g * geluTanhDerivative(a); break;
    case GELU_ERF: d = g * geluErfDerivative(a); break;
    case TANH: d = g * (1.0f - b * b); break;
    case RELU: d = b > 0.0f ? g : 0.0f; break;
    case SIGMOID: d = g * b * (1.0f - b); break;
    case EXP: d = g * b; break;
    case LOG: d = g / a; break;
    case SQRT: d = g / (2.0f * b); break;
    case SQUARE: d = 2.0f * g * a; break;
    case NEGATE: d = -g; break;
    default: d = -g * b * b; break;
  }
  put(dx, type, i, d, accumulate);
}

// Functions: add, subtract, multiply, divide. Broadcasts: none, row, column, scalar.
KERNEL binary(int function, const void* a, int typeA, const void* b, int typeB, int broadcast,
              void* out, int typeOut, i64 count, int cols) {
  i64 i = ELEMENT;
  if (i >= count) {
    return;
  }
  i64 j = broadcast == 0 ? i : broadcast == 1 ? i % cols : broadcast == 2 ? i / cols : 0;
  float x = get(a, typeA, i), y = get(b, typeB, j);
  float z = function == 0 ? x + y : function == 1 ? x - y : function == 2 ? x * y : x / y;
  put(out, typeOut, i, z);
}

KERNEL affine(const void* x, int typeX, float alpha, float beta, void* y, int typeY, int accumulate,
              i64 count) {
  i64 i = ELEMENT;
  if (i < count) {
    put(y, typeY, i, alpha * get(x, typeX, i) + beta, accumulate);
  }
}

// A block sums a row.
KERNEL rowSums(const void* x, int typeX, void* out, int typeOut, int accumulate, int cols) {
  __shared__ float scratch[32];
  i64 row = blockIdx.x;
  float own = 0.0f;
  for (int c = threadIdx.x; c < cols; c += blockDim.x) {
    own += get(x, typeX, row * cols + c);
  }
  float sum = blockSum(own, scratch);
  if (threadIdx.x == 0) {
    put(out, typeOut, row, sum, accumulate);
  }
}

// An id outside its row gives NaN, and no gradient.
KERNEL gather(const void* x, int typeX, const int* ids, void* out, int typeOut, int rows,
              int cols) {
  i64 row = ELEMENT;
  if (row < rows) {
    int id = ids[row];
    bool inside = id >= 0 && id < cols;
    put(out, typeOut, row, inside ? get(x, typeX, row * cols + id) : NOT_A_NUMBER);
  }
}

KERNEL gatherBackward(const int* ids, const void* dy, int typeDy, void* dx, int typeDx, int rows,
                      int cols) {
  i64 row = ELEMENT;
  if (row < rows && ids[row] >= 0 && ids[row] < cols) {
    put(dx, typeDx, row * cols + ids[row], get(dy, typeDy, row), 1);
  }
}

// 32 x 32 tiles through shared memory; 256 threads.
KERNEL transposeElements(const void* x, void* y, int type, int rows, int cols) {
  __shared__ float tile[32][33];
  i64 base = (i64)blockIdx.z * rows * cols;
  int tx = threadIdx.x % 32, ty = threadIdx.x / 32;
  for (int i = ty; i < 32; i += 8) {
    int r = blockIdx.y * 32 + i, c = blockIdx.x * 32 + tx;
    if (r < rows && c < cols) {
      tile[i][tx] = get(x, type, base + (i64)r * cols + c);
    }
  }
  __syncthreads();
  for (int i = ty; i < 32; i += 8) {
    int c = blockIdx.x * 32 + i, r = blockIdx.y * 32 + tx;
    if (r < rows && c < cols) {
      put(y, type, base + (i64)c * rows + r, tile[tx][i]);
    }
  }
}

// A block takes a row. NaN counts as largest, and the first of equals wins, as in PyTorch.
KERNEL argmax(const void* x, int type, int* out, int cols) {
  __shared__ float values[32];
  __shared__ int places[32];
  i64 row = blockIdx.x;
  float best = -INFINITE;
  int place = 0x7fffffff;
  for (int c = threadIdx.x; c < cols; c += blockDim.x) {
    float v = get(x, type, row * cols + c);
    if (place == 0x7fffffff || v > best || (v != v && best == best)) {
      best = v;
      place = c;
    }
  }
  for (int round = 0; round < 2; round++) {
    for (int offset = 16; offset > 0; offset /= 2) {
      float v = __shfl_xor_sync(FULL_WARP, best, offset);
      int p = __shfl_xor_sync(FULL_WARP, place, offset);
      bool same = v == best || (v != v && best != best);
      bool larger = v > best || (v != v && best == best);
      if (p != 0x7fffffff && (place == 0x7fffffff || larger || (same && p < place))) {
        best = v;
        place = p;
      }
    }
    if (round == 0) {
      if (threadIdx.x % 32 == 0) {
        values[threadIdx.x / 32] = best;
        places[threadIdx.x / 32] = place;
      }
      __syncthreads();
      int lane = threadIdx.x % 32;
      bool there = lane < blockDim.x / 32;
      best = there ? values[lane] : -INFINITE;
      place = there ? places[lane] : 0x7fffffff;
    }
  }
  if (threadIdx.x == 0) {
    out[row] = place;
  }
}

KERNEL applyMask(const void* x, int typeX, const u8* mask, float keepScale, void* y, int typeY,
                 int accumulate, i64 count) {
  i64 i = ELEMENT;
  if (i < count) {
    bool keep = mask[i / 8] >> (i % 8) & 1;
    put(y, typeY, i, keep ? get(x, typeX, i) * keepScale : 0.0f, accumulate);
  }
}

// Philox 4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3".
DEVICE void philox(u32 (&x)[4], u32 key0, u32 key1) {
#pragma unroll
  for (int round = 0; round < 10; round++) {
    u64 p0 = (u64)0xD2511F53u * x[0], p1 = (u64)0xCD9E8D57u * x[2];
    u32 a = (u32)(p1 >> 32) ^ x[1] ^ key0, c = (u32)(p0 >> 32) ^ x[3] ^ key1;
    x[0] = a;
    x[1] = (u32)p1;
    x[2] = c;
    x[3] = (u32)p0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
}

// One thread draws a byte of keep bits from two blocks of the counter; an element is dropped when
// its 32 bits lie below `threshold`, or always when `none` is kept.
KERNEL dropoutMask(u8* mask, u64 seed, u32 threshold, int none, i64 count) {
  i64 byte = ELEMENT;
  if (byte >= (count + 7) / 8) {
    return;
  }
  u32 bits = 0;
  for (int half = 0; half < 2; half++) {
    u64 counter = (u64)byte * 2 + half;
    u32 x[4] = {(u32)counter, (u32)(counter >> 32), 0u, 0u};
    philox(x, (u32)seed, (u32)(seed >> 32));
#pragma unroll
    for (int j = 0; j < 4; j++) {
      bits |= (!none && x[j] >= threshold ? 1u : 0u) << (half * 4 + j);
    }
  }
  i64 left = count - byte * 8;
  mask[byte] = (u8)(left >= 8 ? bits : bits & ((1u << left) - 1));
}
