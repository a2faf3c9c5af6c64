/** Checks and measurements of a GPU against the CPU and against PyTorch. */
package dev.lanewise.bench.gpu;
