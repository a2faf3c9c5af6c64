/**
 * NVIDIA GPUs from plain Java: the CUDA driver, NVRTC and cuBLASLt are found on the machine at run
 * time and called through the Foreign Function and Memory API. Nothing native is shipped.
 */
package dev.lanewise.core.backend.cuda;
