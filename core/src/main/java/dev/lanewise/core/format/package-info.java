/**
 * Files that hold models and tokens: safetensors, llm.c, Hugging Face's GPT-2 and GGUF.
 *
 * <p>All of them read and write maps from a name to a {@link
 * dev.lanewise.core.format.StoredTensor}; none knows the model itself. Files that are missing,
 * damaged or of the wrong kind give an {@link dev.lanewise.core.base.InputException}.
 */
package dev.lanewise.core.format;
