/**
 * The tutorials that people learn language models with, in Java: the same seeds, the same numbers.
 */
package dev.lanewise.core.examples;
