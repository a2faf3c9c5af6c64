package dev.lanewise.core.data;

import dev.lanewise.core.base.InputException;
import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.OptionalInt;

/**
 * Turns text into token ids and back.
 *
 * <p>Every token stands for a fixed sequence of bytes, and the bytes of a text's tokens, joined,
 * are the text in UTF-8; so {@code decode(encode(text))} is the text. Instances never change and
 * may be used by several threads.
 */
public interface Tokenizer {
  /**
   * The kind of tokenizer, as named on the command line.
   *
   * @return {@code bytes}, {@code chars}, {@code gpt2} or {@code bpe} for the built-in ones
   */
  String name();

  /**
   * The number of tokens; ids run from 0 to one less.
   *
   * @return the size of the vocabulary
   */
  int vocabSize();

  /**
   * Encodes text that is held as UTF-8.
   *
   * <p>A long text may be given in pieces. The tokens are the same as for the whole if every piece
   * but the first starts at a space that follows something else, or at a line feed that follows a
   * letter or digit; of GPT-2's words, at any white space that follows something else.
   *
   * @param utf8 valid UTF-8
   * @param from index of the first byte
   * @param to index after the last byte
   * @param sink takes the ids in order
   * @throws InputException if the vocabulary cannot express the text
   * @throws IndexOutOfBoundsException if the range is outside the array
   */
  void encode(byte[] utf8, int from, int to, TokenSink sink);

  /**
   * Encodes a text.
   *
   * @param text the text
   * @return its ids
   * @throws InputException if the vocabulary cannot express the text, or the text holds half of a
   *     surrogate pair
   */
  default int[] encode(String text) {
    byte[] utf8 = Utf8.encode(text);
    TokenList ids = new TokenList(utf8.length / 2);
    encode(utf8, 0, utf8.length, ids);
    return ids.toArray();
  }

  /**
   * The bytes that one token stands for.
   *
   * @param id a token's id
   * @return a new array
   * @throws InputException if the id is outside the vocabulary
   */
  byte[] bytes(int id);

  /**
   * Decodes tokens. Bytes that are not valid UTF-8, as at a cut inside a character, become U+FFFD.
   *
   * @param ids token ids
   * @return the text
   * @throws InputException if an id is outside the vocabulary
   */
  default String decode(int... ids) {
    ByteArrayOutputStream out = new ByteArrayOutputStream(ids.length * 4);
    for (int id : ids) {
      out.writeBytes(bytes(id));
    }
    return out.toString(StandardCharsets.UTF_8);
  }

  /**
   * Starts decoding a stream of tokens, for printing while generating.
   *
   * @return a decoder that holds back incomplete characters
   */
  default TokenDecoder decoder() {
    return new TokenDecoder(this);
  }

  /**
   * The token that ends a document, where the vocabulary has one.
   *
   * @return its id or nothing
   */
  default OptionalInt endOfText() {
    return OptionalInt.empty();
  }

  /**
   * This tokenizer as a JSON object from which {@link Tokenizers#fromJson} makes an equal one.
   *
   * @return the object's text
   */
  String toJson();

  /**
   * The exception for an id that is not a token.
   *
   * @param id the id
   * @return an exception that names the id and the vocabulary
   */
  default InputException badId(int id) {
    return new InputException(
        "Token "
            + id
            + " is not in the vocabulary of the "
            + name()
            + " tokenizer, whose "
            + vocabSize()
            + " ids run from 0 to "
            + (vocabSize() - 1)
            + ".");
  }
}
