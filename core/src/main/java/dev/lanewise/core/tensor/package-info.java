/** Tensors and autograd over fused operations. */
package dev.lanewise.core.tensor;
