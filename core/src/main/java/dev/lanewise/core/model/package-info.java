/** Models: GPT, and the multi-layer perceptron of makemore; and text generation. */
package dev.lanewise.core.model;
