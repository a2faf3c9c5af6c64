package dev.lanewise.core.data;

import dev.lanewise.core.base.Json;
import java.util.Map;
import java.util.Objects;

/** The bytes of UTF-8 as tokens: 256 ids, each its byte. */
public final class ByteTokenizer implements Tokenizer {
  /** Creates the tokenizer. */
  public ByteTokenizer() {}

  @Override
  public String name() {
    return "bytes";
  }

  @Override
  public int vocabSize() {
    return 256;
  }

  @Override
  public void encode(byte[] utf8, int from, int to, TokenSink sink) {
    Objects.checkFromToIndex(from, to, utf8.length);
    for (int i = from; i < to; i++) {
      sink.accept(utf8[i] & 0xFF);
    }
  }

  @Override
  public byte[] bytes(int id) {
    if (id < 0 || id > 255) {
      throw badId(id);
    }
    return new byte[] {(byte) id};
  }

  @Override
  public String toJson() {
    return Json.write(Map.of("kind", name()));
  }
}
