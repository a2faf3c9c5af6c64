package dev.lanewise.core.data;

/** What a tokenizer makes of the characters {@code <|endoftext|>} when it meets them in a text. */
public enum EndOfText {
  /** They become the token that ends a document. Right for corpora and prompts of one's own. */
  ALLOW,
  /** They are an error. Right for text from others that must not end a document. */
  REFUSE,
  /** They are encoded like any other characters. */
  AS_TEXT
}
