// A stand-in for cuBLASLt and cuBLAS: products by plain loops, column-major, with the epilogues
// that Lanewise asks for. standin_refuse(epilogue) makes the heuristic find nothing for one.
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <map>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {
struct Description {
  int compute;
  std::map<int, int64_t> values;
};
struct Layout {
  int type;
  uint64_t rows, cols;
  int64_t ld;
  int count;
  int64_t stride;
};
struct Preference {
  std::map<int, int64_t> values;
};
int refused = -1;

float get(const void* p, int type, int64_t i) {
  if (type == 0) return ((const float*)p)[i];
  uint32_t bits = (uint32_t)((const uint16_t*)p)[i] << 16;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}
void put(void* p, int type, int64_t i, float x) {
  if (type == 0) {
    ((float*)p)[i] = x;
    return;
  }
  uint32_t bits;
  memcpy(&bits, &x, 4);
  ((uint16_t*)p)[i] = x != x ? 0x7fff : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
float gelu(float x) {
  return 0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
}
float geluDerivative(float x) {
  float t = tanhf(0.7978845608f * (x + 0.044715f * x * x * x));
  return 0.5f * (1 + t) +
         0.5f * x * (1 - t * t) * 0.7978845608f * (1 + 3 * 0.044715f * x * x);
}
// op(A) as m rows of k, so that products run along memory.
std::vector<float> rows(const void* p, int type, bool alongColumns, int64_t m, int64_t k,
                        int64_t ld) {
  std::vector<float> out(m * k);
  for (int64_t i = 0; i < m; i++) {
    for (int64_t j = 0; j < k; j++) {
      out[i * k + j] = get(p, type, alongColumns ? i * ld + j : j * ld + i);
    }
  }
  return out;
}
std::vector<float> product(const void* a, int typeA, bool transA, int64_t lda, const void* b,
                           int typeB, bool transB, int64_t ldb, int64_t m, int64_t n, int64_t k) {
  std::vector<float> left = rows(a, typeA, transA, m, k, lda);
  std::vector<float> right = rows(b, typeB, !transB, n, k, ldb);
  std::vector<float> out(m * n);
  for (int64_t j = 0; j < n; j++) {
    for (int64_t i = 0; i < m; i++) {
      const float *x = &left[i * k], *y = &right[j * k];
      float sum = 0;
      for (int64_t l = 0; l < k; l++) sum += x[l] * y[l];
      out[j * m + i] = sum;
    }
  }
  return out;
}
const int SIZES[27] = {4, 4, 4, 4, 4, 4, 4, 4, 8, 0, 8, 8, 8, 8, 4, 4,
                       0, 8, 8, 8, 8, 8, 4, 0, 0, 8, 4};
}  // namespace

EXPORT void standin_refuse(int epilogue) { refused = epilogue; }

EXPORT const char* cublasLtGetStatusName(int status) {
  return status == 7    ? "CUBLAS_STATUS_INVALID_VALUE"
         : status == 15 ? "CUBLAS_STATUS_NOT_SUPPORTED"
                        : "CUBLAS_STATUS";
}
EXPORT const char* cublasGetStatusName(int status) { return cublasLtGetStatusName(status); }
EXPORT size_t cublasLtGetVersion() { return 130100; }
EXPORT int cublasLtCreate(void** handle) {
  *handle = new char;
  return 0;
}
EXPORT int cublasLtDestroy(void* handle) {
  delete (char*)handle;
  return 0;
}
EXPORT int cublasLtMatmulDescCreate(Description** out, int compute, int scale) {
  *out = new Description{compute, {}};
  return scale == 0 ? 0 : 7;
}
EXPORT int cublasLtMatmulDescSetAttribute(Description* d, int id, const void* p, size_t size) {
  if (id < 0 || id > 26 || SIZES[id] == 0 || size != (size_t)SIZES[id]) return 7;
  int64_t value = 0;
  memcpy(&value, p, size);
  d->values[id] = value;
  return 0;
}
EXPORT int cublasLtMatmulDescGetAttribute(Description*, int id, void*, size_t, size_t* written) {
  if (id < 0 || id > 26 || SIZES[id] == 0) return 7;
  *written = SIZES[id];
  return 0;
}
EXPORT int cublasLtMatmulDescDestroy(Description* d) {
  delete d;
  return 0;
}
EXPORT int cublasLtMatrixLayoutCreate(Layout** out, int type, uint64_t r, uint64_t c, int64_t ld) {
  *out = new Layout{type, r, c, ld, 1, 0};
  return 0;
}
EXPORT int cublasLtMatrixLayoutSetAttribute(Layout* l, int id, const void* p, size_t size) {
  if (id == 5 && size == 4) {
    l->count = *(const int*)p;
  } else if (id == 6 && size == 8) {
    l->stride = *(const int64_t*)p;
  } else {
    return 7;
  }
  return 0;
}
EXPORT int cublasLtMatrixLayoutDestroy(Layout* l) {
  delete l;
  return 0;
}
EXPORT int cublasLtMatmulPreferenceCreate(Preference** out) {
  *out = new Preference;
  return 0;
}
EXPORT int cublasLtMatmulPreferenceSetAttribute(Preference* p, int id, const void* v, size_t size) {
  if (!(id == 1 && size == 8) && !(id >= 5 && id <= 8 && size == 4)) return 7;
  int64_t value = 0;
  memcpy(&value, v, size);
  p->values[id] = value;
  return 0;
}
EXPORT int cublasLtMatmulPreferenceDestroy(Preference* p) {
  delete p;
  return 0;
}
EXPORT int cublasLtMatmulAlgoGetHeuristic(void*, Description* d, Layout* a, Layout* b, Layout* c,
                                          Layout* result, Preference* p, int wanted, void* out,
                                          int* found) {
  *found = 0;
  if (wanted < 1 || p->values.size() != 5) return 7;
  bool ta = d->values[3], tb = d->values[4];
  uint64_t m = ta ? a->cols : a->rows, k = ta ? a->rows : a->cols;
  uint64_t n = tb ? b->rows : b->cols, k2 = tb ? b->cols : b->rows;
  if (k != k2 || m != result->rows || n != result->cols || c->rows != m || c->cols != n) return 7;
  if (a->ld < (int64_t)a->rows || b->ld < (int64_t)b->rows || result->ld < (int64_t)m) return 7;
  if (a->type != b->type || (a->type == 0 && result->type != 0)) return 15;
  int epilogue = d->values.count(7) ? (int)d->values[7] : 1;
  if (epilogue == refused) return 15;
  memset(out, 0, 96);
  *found = 1;
  return 0;
}
EXPORT int cublasLtMatmul(void*, Description* d, const float* alpha, const void* a, Layout* la,
                          const void* b, Layout* lb, const float* beta, const void* c, Layout* lc,
                          void* out, Layout* ld, const void*, void*, size_t, void*) {
  bool ta = d->values[3], tb = d->values[4];
  int64_t m = ld->rows, n = ld->cols, k = ta ? la->rows : la->cols;
  int epilogue = d->values.count(7) ? (int)d->values[7] : 1;
  bool bias = (epilogue & 4) != 0, geluForward = (epilogue & 32) != 0;
  bool aux = (epilogue & 128) != 0, geluBackward = epilogue == 192;
  const void* biasAt = (const void*)d->values[8];
  void* auxAt = (void*)d->values[11];
  int64_t auxLd = d->values[12];
  int sizeA = la->type == 0 ? 4 : 2, sizeD = ld->type == 0 ? 4 : 2;
  for (int i = 0; i < ld->count; i++) {
    const char* ai = (const char*)a + i * la->stride * sizeA;
    const char* bi = (const char*)b + i * lb->stride * sizeA;
    char* di = (char*)out + i * ld->stride * sizeD;
    const char* ci = (const char*)c + i * lc->stride * sizeD;
    std::vector<float> x = product(ai, la->type, ta, la->ld, bi, lb->type, tb, lb->ld, m, n, k);
    for (int64_t col = 0; col < n; col++) {
      for (int64_t row = 0; row < m; row++) {
        float v = *alpha * x[col * m + row];
        if (*beta != 0) v += *beta * get(ci, lc->type, col * lc->ld + row);
        if (bias) v += get(biasAt, (int)d->values[26], row);
        if (geluForward && aux) put(auxAt, (int)d->values[22], col * auxLd + row, v);
        if (geluForward) v = gelu(v);
        if (geluBackward) v *= geluDerivative(get(auxAt, (int)d->values[22], col * auxLd + row));
        put(di, ld->type, col * ld->ld + row, v);
      }
    }
    if (epilogue == 512) {
      for (int64_t col = 0; col < n; col++) {
        float sum = 0;
        for (int64_t l = 0; l < k; l++) {
          sum += get(bi, lb->type, tb ? l * lb->ld + col : col * lb->ld + l);
        }
        put((void*)biasAt, (int)d->values[26], col, sum);
      }
    }
  }
  return 0;
}

EXPORT int cublasCreate_v2(void** handle) { return cublasLtCreate(handle); }
EXPORT int cublasDestroy_v2(void* handle) { return cublasLtDestroy(handle); }
EXPORT int cublasGetVersion_v2(void*, int* version) {
  *version = 130100;
  return 0;
}
EXPORT int cublasSetStream_v2(void*, void*) { return 0; }
EXPORT int cublasSetMathMode(void*, int) { return 0; }
EXPORT int cublasGemmStridedBatchedEx(void*, int ta, int tb, int m, int n, int k,
                                      const void* alpha, const void* a, int typeA, int lda,
                                      long long strideA, const void* b, int typeB, int ldb,
                                      long long strideB, const void* beta, void* c, int typeC,
                                      int ldc, long long strideC, int batch, int, int) {
  for (int i = 0; i < batch; i++) {
    const char* ai = (const char*)a + i * strideA * (typeA == 0 ? 4 : 2);
    const char* bi = (const char*)b + i * strideB * (typeB == 0 ? 4 : 2);
    char* ci = (char*)c + i * strideC * (typeC == 0 ? 4 : 2);
    std::vector<float> x = product(ai, typeA, ta, lda, bi, typeB, tb, ldb, m, n, k);
    for (int64_t col = 0; col < n; col++) {
      for (int64_t row = 0; row < m; row++) {
        float v = *(const float*)alpha * x[col * m + row];
        if (*(const float*)beta != 0) v += *(const float*)beta * get(ci, typeC, col * ldc + row);
        put(ci, typeC, col * (int64_t)ldc + row, v);
      }
    }
  }
  return 0;
}
EXPORT int cublasSgemm_v2(void* handle, int ta, int tb, int m, int n, int k, const float* alpha,
                          const float* a, int lda, const float* b, int ldb, const float* beta,
                          float* c, int ldc) {
  return cublasGemmStridedBatchedEx(handle, ta, tb, m, n, k, alpha, a, 0, lda, 0, b, 0, ldb, 0,
                                    beta, c, 0, ldc, 0, 1, 68, -1);
}
