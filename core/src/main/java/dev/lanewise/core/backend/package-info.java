/** The one seam between devices: memory, and the fused operations that a model is made of. */
package dev.lanewise.core.backend;
