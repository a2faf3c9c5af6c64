/** Layers as small objects that own their parameters, and the optimiser. */
package dev.lanewise.core.nn;
