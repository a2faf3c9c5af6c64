/** Random numbers: the streams of PyTorch's CPU generator, bit for bit. */
package dev.lanewise.core.random;
