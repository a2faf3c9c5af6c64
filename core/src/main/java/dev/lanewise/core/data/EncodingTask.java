package dev.lanewise.core.data;

import java.util.Arrays;
import java.util.OptionalInt;
import java.util.concurrent.Callable;

/** Pieces of text that are encoded at once, with the memory for them, which is used again. */
final class EncodingTask implements Callable<EncodingTask> {
  private final Tokenizer tokenizer;
  private final OptionalInt endOfText;
  private final TokenList ids = new TokenList(0);
  private byte[] text = new byte[1 << 10];
  private int size;
  private int[] pieceEnds = new int[16];
  private boolean[] endsDocument = new boolean[16];
  private int pieces;

  EncodingTask(Tokenizer tokenizer) {
    this.tokenizer = tokenizer;
    this.endOfText = tokenizer.endOfText();
  }

  void add(byte[] utf8, int from, int to, boolean ends) {
    int length = to - from;
    if (length > text.length - size) {
      text = Arrays.copyOf(text, Math.max(2 * text.length, Math.addExact(size, length)));
    }
    System.arraycopy(utf8, from, text, size, length);
    size += length;
    if (pieces == pieceEnds.length) {
      pieceEnds = Arrays.copyOf(pieceEnds, 2 * pieces);
      endsDocument = Arrays.copyOf(endsDocument, 2 * pieces);
    }
    pieceEnds[pieces] = size;
    endsDocument[pieces++] = ends;
  }

  /** Bytes of text. */
  int size() {
    return size;
  }

  @Override
  public EncodingTask call() {
    int from = 0;
    for (int i = 0; i < pieces; i++) {
      tokenizer.encode(text, from, pieceEnds[i], ids);
      from = pieceEnds[i];
      if (endsDocument[i] && endOfText.isPresent()) {
        ids.accept(endOfText.getAsInt());
      }
    }
    return this;
  }

  /** Hands the tokens on, and is empty afterwards. */
  void drain(TokenSink sink) {
    for (int i = 0; i < ids.size(); i++) {
      sink.accept(ids.get(i));
    }
    ids.clear();
    size = 0;
    pieces = 0;
  }
}
