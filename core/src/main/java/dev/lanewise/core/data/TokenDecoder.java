package dev.lanewise.core.data;

import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharsetDecoder;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;

/**
 * Decodes tokens one at a time. A character whose bytes are spread over several tokens comes out
 * whole with its last token; bytes that can never become a character come out as U+FFFD.
 *
 * <p>Not for use by several threads at once.
 */
public final class TokenDecoder {
  private final Tokenizer tokenizer;
  private final CharsetDecoder decoder =
      StandardCharsets.UTF_8
          .newDecoder()
          .onMalformedInput(CodingErrorAction.REPLACE)
          .onUnmappableCharacter(CodingErrorAction.REPLACE);
  private ByteBuffer pending = ByteBuffer.allocate(64);

  TokenDecoder(Tokenizer tokenizer) {
    this.tokenizer = tokenizer;
  }

  /**
   * Adds a token.
   *
   * @param id the token's id
   * @return the characters that are complete with it; often empty inside a character
   * @throws dev.lanewise.core.base.InputException if the id is outside the vocabulary
   */
  public String next(int id) {
    byte[] bytes = tokenizer.bytes(id);
    if (pending.remaining() < bytes.length) {
      pending = ByteBuffer.allocate(2 * (pending.position() + bytes.length)).put(pending.flip());
    }
    pending.put(bytes).flip();
    CharBuffer chars = CharBuffer.allocate(pending.remaining() + 1);
    decoder.decode(pending, chars, false);
    pending.compact();
    return chars.flip().toString();
  }

  /**
   * Ends the stream and makes the decoder ready for another.
   *
   * @return U+FFFD if the stream ended inside a character, else the empty string
   */
  public String finish() {
    pending.flip();
    CharBuffer chars = CharBuffer.allocate(pending.remaining() + 1);
    decoder.decode(pending, chars, true);
    decoder.flush(chars);
    decoder.reset();
    pending.clear();
    return chars.flip().toString();
  }
}
