// Speaks for llm.c: performs training steps on request, one line a question, one line an answer.
// Compiled with llm.c's folder on the include path; nothing of it is copied here.
#define TESTING // leaves out llm.c's own main
#include "train_gpt2.c"

#include <omp.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

static uint32_t mixed(uint32_t index, uint32_t operand) {
  uint32_t h = index + operand * 0x9E3779B1u;
  h ^= h >> 16;
  h *= 0x7FEB352Du;
  h ^= h >> 15;
  h *= 0x846CA68Bu;
  return h ^ h >> 16;
}

static long parameter(const char *line, const char *key) {
  const char *at = strstr(line, key);
  return at ? atol(at + strlen(key)) : 0;
}

// Writes a model of random weights in llm.c's format, since it can only read one.
static void write_model(const char *path, const int *header) {
  long maxT = header[2], V = header[3], L = header[4], C = header[6], Vp = header[7];
  long sizes[16] = {Vp * C, maxT * C, L * C, L * C, L * 3 * C * C, L * 3 * C, L * C * C, L * C,
                    L * C, L * C, L * 4 * C * C, L * 4 * C, L * 4 * C * C, L * C, C, C};
  int norm_weight[16] = {[2] = 1, [8] = 1, [14] = 1};
  int matrix[16] = {[0] = 1, [1] = 1, [4] = 1, [6] = 1, [10] = 1, [12] = 1};
  FILE *file = fopenCheck(path, "wb");
  fwriteCheck((void *)header, sizeof(int), 256, file);
  float row[4096];
  uint32_t next = 0;
  for (int t = 0; t < 16; t++) {
    for (long i = 0; i < sizes[t];) {
      long n = sizes[t] - i < 4096 ? sizes[t] - i : 4096;
      for (long j = 0; j < n; j++) {
        float even = (mixed(next++, 7) >> 8) * 0x1p-23f - 1;
        row[j] = norm_weight[t] ? 1 : matrix[t] && (t > 0 || i + j < V * C) ? 0.0346f * even : 0;
      }
      fwriteCheck(row, sizeof(float), n, file);
      i += n;
    }
  }
  fcloseCheck(file);
}

static GPT2 model;
static int is_open, B, T, steps, *inputs, *targets;
static float first_loss;

static void close_case(void) {
  if (is_open) {
    gpt2_free(&model);
    free(inputs);
    free(targets);
  }
  is_open = 0;
}

static void open_case(const char *line) {
  int header[256] = {20240326, 3};
  B = parameter(line, " batch=");
  T = parameter(line, " tokens=");
  header[2] = T;
  header[3] = parameter(line, " vocabulary=");
  header[4] = parameter(line, " layers=");
  header[5] = parameter(line, " heads=");
  header[6] = parameter(line, " width=");
  header[7] = (header[3] + 127) / 128 * 128;
  char path[4096];
  snprintf(path, sizeof path, "%s.model", getenv("LANEWISE_PEER_SOCKET"));
  write_model(path, header);
  memset(&model, 0, sizeof model);
  gpt2_build_from_checkpoint(&model, path);
  unlink(path);
  inputs = mallocCheck(B * T * sizeof(int));
  targets = mallocCheck(B * T * sizeof(int));
  for (int i = 0; i < B * T; i++) {
    inputs[i] = (mixed(i, 1) >> 1) % header[3];
    targets[i] = (mixed(i, 2) >> 1) % header[3];
  }
  steps = 0;
  is_open = 1;
}

static void step(void) {
  gpt2_forward(&model, inputs, targets, B, T);
  if (steps == 0) {
    first_loss = model.mean_loss;
  }
  gpt2_zero_grad(&model);
  gpt2_backward(&model);
  gpt2_update(&model, 3e-4f, 0.9f, 0.999f, 1e-8f, 0.1f, ++steps);
}

static void converse(FILE *in, FILE *out) {
  char line[4096];
  while (fgets(line, sizeof line, in)) {
    long before, count;
    if (strncmp(line, "case ", 5) == 0) {
      close_case();
      if (strncmp(line, "case train ", 11) == 0 && !strstr(line, "device=") && !strstr(line, "precision=")) {
        omp_set_num_threads(parameter(line, " threads="));
        open_case(line);
        fprintf(out, "ok\n");
      } else {
        fprintf(out, "skip knows training only\n");
      }
    } else if (sscanf(line, "run %ld %ld", &before, &count) == 2) {
      while (before-- > 0) {
        step();
      }
      struct timespec start, end;
      clock_gettime(CLOCK_MONOTONIC, &start);
      for (long i = 0; i < count; i++) {
        step();
      }
      clock_gettime(CLOCK_MONOTONIC, &end);
      fprintf(out, "nanos %ld\n",
              (end.tv_sec - start.tv_sec) * 1000000000L + end.tv_nsec - start.tv_nsec);
    } else if (strncmp(line, "result", 6) == 0) {
      fprintf(out, "values %.9g\n", first_loss);
    } else {
      fprintf(out, "error no such request\n");
    }
    fflush(out);
  }
  close_case();
}

static void *end_with_input(void *nothing) {
  char byte;
  while (read(0, &byte, 1) > 0) {
  }
  _exit(0);
}

int main(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", getenv("LANEWISE_PEER_SOCKET"));
  int server = socket(AF_UNIX, SOCK_STREAM, 0);
  if (bind(server, (struct sockaddr *)&address, sizeof address) || listen(server, 1)) {
    perror("socket");
    return 1;
  }
  FILE *starter = fdopen(dup(1), "w");
  dup2(2, 1); // llm.c prints
  fprintf(starter, "ready llm.c train_gpt2.c, " BUILD "\n");
  fflush(starter);
  pthread_t thread;
  pthread_create(&thread, NULL, end_with_input, NULL);
  while (1) {
    int connection = accept(server, NULL, NULL);
    FILE *in = fdopen(connection, "r");
    FILE *out = fdopen(dup(connection), "w");
    converse(in, out);
    fclose(in);
    fclose(out);
  }
}
