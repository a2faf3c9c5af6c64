/**
 * Text to tokens to batches: tokenizers, corpora of files, token files, and reproducible batches.
 *
 * <p>The way of the data: a {@link dev.lanewise.core.data.Corpus} yields UTF-8 text, a {@link
 * dev.lanewise.core.data.Tokenizer} turns it into ids, a {@link dev.lanewise.core.data.TokenFile}
 * keeps them on disk, and {@link dev.lanewise.core.data.TokenBatches} fills inputs and targets. A
 * {@link dev.lanewise.core.data.Dataset} does all of this in one call.
 */
package dev.lanewise.core.data;
