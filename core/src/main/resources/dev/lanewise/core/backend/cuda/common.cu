// Types and primitives that every kernel file starts with. No header is included: NVRTC compiles
// these files on machines that have no CUDA toolkit.

typedef unsigned char u8;
typedef unsigned short bf16;  // storage only; arithmetic is done in float
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#define FULL_WARP 0xffffffffu

#ifdef __CUDACC__
#define DEVICE __device__ __forceinline__
#define KERNEL extern "C" __global__ void
#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]

// Two floats rounded to nearest even; the first lies in the low half.
DEVICE u32 packBf16(float low, float high) {
  u32 packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

DEVICE float fastExp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

DEVICE u32 sharedAddress(const void* pointer) {
  return (u32)__cvta_generic_to_shared(pointer);
}

// Four 8x8 matrices of 16-bit elements; lane l names row l % 8 of matrix l / 8. Lane l receives
// columns 2 * (l % 4) and the next of row l / 4 of each.
DEVICE void loadMatrices(u32 (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(sharedAddress(row)));
}

// As loadMatrices, each matrix transposed.
DEVICE void loadMatricesTransposed(u32 (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(sharedAddress(row)));
}

// d[16][8] += a[16][16] * b[16][8] by the tensor cores. Lane l holds rows l / 4 and l / 4 + 8 of d,
// columns 2 * (l % 4) and the next.
DEVICE void multiplyAdd(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Copies 16 bytes to shared memory without waiting, or writes zeros when not present.
DEVICE void copyAsync16(void* shared, const void* global, bool present) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(sharedAddress(shared)),
               "l"(global), "r"(present ? 16 : 0));
}

DEVICE void commitCopies() { asm volatile("cp.async.commit_group;"); }

// Waits until at most `pending` of this thread's groups are under way.
template <int pending>
DEVICE void waitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending));
}
#endif

#define INFINITE __int_as_float(0x7f800000)
#define NOT_A_NUMBER __int_as_float(0x7fc00000)

DEVICE float toFloat(float x) { return x; }
DEVICE float toFloat(bf16 x) { return __uint_as_float((u32)x << 16); }
DEVICE void store(float* to, float x) { *to = x; }
DEVICE void store(bf16* to, float x) { *to = (bf16)packBf16(x, 0.0f); }

// Sixteen bytes of a row of type T as floats.
template <typename T>
struct Vector {
  static const int SIZE = 16 / (int)sizeof(T);
  float v[SIZE];
};

DEVICE void load(Vector<float>& to, const float* from) {
  float4 raw = *(const float4*)from;
  to.v[0] = raw.x;
  to.v[1] = raw.y;
  to.v[2] = raw.z;
  to.v[3] = raw.w;
}

DEVICE void load(Vector<bf16>& to, const bf16* from) {
  uint4 raw = *(const uint4*)from;
  u32 words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    to.v[2 * i] = __uint_as_float(words[i] << 16);
    to.v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}

DEVICE void store(float* to, const Vector<float>& x) {
  *(float4*)to = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]);
}

DEVICE void store(bf16* to, const Vector<bf16>& x) {
  *(uint4*)to = make_uint4(packBf16(x.v[0], x.v[1]), packBf16(x.v[2], x.v[3]),
                           packBf16(x.v[4], x.v[5]), packBf16(x.v[6], x.v[7]));
}

// As many floats as a vector of T has elements.
template <int n>
DEVICE void loadFloats(float (&to)[n], const float* from) {
#pragma unroll
  for (int i = 0; i < n; i += 4) {
    float4 raw = *(const float4*)(from + i);
    to[i] = raw.x;
    to[i + 1] = raw.y;
    to[i + 2] = raw.z;
    to[i + 3] = raw.w;
  }
}

DEVICE float warpSum(float x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    x += __shfl_xor_sync(FULL_WARP, x, offset);
  }
  return x;
}

DEVICE double warpSum(double x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    x += __shfl_xor_sync(FULL_WARP, x, offset);
  }
  return x;
}

DEVICE float warpMax(float x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    x = fmaxf(x, __shfl_xor_sync(FULL_WARP, x, offset));
  }
  return x;
}

// Sum over the block, the same bits in every thread; `scratch` holds 32 elements.
template <typename S>
DEVICE S blockSum(S x, S* scratch) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  x = warpSum(x);
  __syncthreads();
  if (lane == 0) {
    scratch[warp] = x;
  }
  __syncthreads();
  return warpSum(lane < warps ? scratch[lane] : (S)0);
}

// Sum of `count` elements, in order, with 16 loads under way at a time.
DEVICE float sumInOrder(const float* x, i64 stride, int count) {
  float sum = 0.0f;
  int i = 0;
  for (; i + 16 <= count; i += 16) {
    float v[16];
#pragma unroll
    for (int j = 0; j < 16; j++) {
      v[j] = x[(i + j) * stride];
    }
#pragma unroll
    for (int j = 0; j < 16; j++) {
      sum += v[j];
    }
  }
  for (; i < count; i++) {
    sum += x[i * stride];
  }
  return sum;
}

// GELU in its tanh form and its derivative; y = x * sigmoid(2u).
#define GELU_SCALE 0.7978845608028654f
#define GELU_CUBIC 0.044715f

DEVICE float geluArgument(float x) { return GELU_SCALE * (x + GELU_CUBIC * x * x * x); }

// tanh(u); the short form errs by about 1e-6, far below what bf16 holds.
DEVICE float geluTangent(float u) {
#ifdef BFLOAT16
  return 1.0f - __fdividef(2.0f, 1.0f + fastExp2(2.8853900817779268f * u));
#else
  return tanhf(u);
#endif
}

DEVICE float geluTanh(float x) {
#ifdef BFLOAT16
  return x / (1.0f + fastExp2(-2.8853900817779268f * geluArgument(x)));
#else
  return 0.5f * x * (1.0f + tanhf(geluArgument(x)));
#endif
}

DEVICE float geluTanhDerivative(float x) {
  float t = geluTangent(geluArgument(x));
  return 0.5f * (1.0f + t) +
         0.5f * x * (1.0f - t * t) * GELU_SCALE * (1.0f + 3.0f * GELU_CUBIC * x * x);
}

DEVICE float geluErf(float x) { return 0.5f * x * (1.0f + erff(x * 0.7071067811865476f)); }

DEVICE float geluErfDerivative(float x) {
  return 0.5f * (1.0f + erff(x * 0.7071067811865476f)) +
         x * 0.3989422804014327f * expf(-0.5f * x * x);
}

// Type of activations.
#ifdef BFLOAT16
typedef bf16 T;
#else
typedef float T;
#endif
#define VECTOR_SIZE (Vector<T>::SIZE)
