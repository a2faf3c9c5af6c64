/**
 * Models in and out: weights and tokenizer from whatever holds them ({@link
 * dev.lanewise.core.exchange.Pretrained}), and in the forms that other programs open ({@link
 * dev.lanewise.core.exchange.ModelExport}).
 */
package dev.lanewise.core.exchange;
