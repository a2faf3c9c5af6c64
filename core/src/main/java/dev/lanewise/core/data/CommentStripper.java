package dev.lanewise.core.data;

import java.io.ByteArrayOutputStream;

/**
 * Takes the comments out of source code with C's kind of comments and strings, Java's text blocks
 * among them, and the empty lines that they leave. Code may come in pieces, cut anywhere.
 */
final class CommentStripper {
  private enum In {
    CODE,
    SLASH,
    LINE_COMMENT,
    BLOCK_COMMENT,
    BLOCK_COMMENT_STAR,
    STRING,
    TEXT_BLOCK,
    CHARACTER
  }

  private final ByteArrayOutputStream out = new ByteArrayOutputStream();
  private final ByteArrayOutputStream line = new ByteArrayOutputStream();
  private In in = In.CODE;
  private boolean escaped;
  private int quotes;
  private boolean lineHadComment;
  private boolean lastWasBlank = true;

  /**
   * Takes a piece of code.
   *
   * @param ends whether the code ends with it
   * @return what is left of it and of what was kept back before; whole lines, unless it ends
   */
  byte[] strip(byte[] code, int from, int to, boolean ends) {
    for (int i = from; i < to; i++) {
      take(code[i]);
    }
    if (ends) {
      if (in == In.SLASH) {
        line.write('/');
      }
      endLine(false);
    }
    byte[] stripped = out.toByteArray();
    out.reset();
    return stripped;
  }

  private void take(byte b) {
    switch (in) {
      case CODE -> code(b);
      case SLASH -> {
        if (b == '/' || b == '*') {
          in = b == '/' ? In.LINE_COMMENT : In.BLOCK_COMMENT;
          lineHadComment = true;
        } else {
          in = In.CODE;
          line.write('/');
          code(b);
        }
      }
      case LINE_COMMENT -> {
        if (b == '\n') {
          in = In.CODE;
          code(b);
        }
      }
      case BLOCK_COMMENT, BLOCK_COMMENT_STAR -> {
        if (b == '/' && in == In.BLOCK_COMMENT_STAR) {
          in = In.CODE;
        } else {
          in = b == '*' ? In.BLOCK_COMMENT_STAR : In.BLOCK_COMMENT;
        }
        if (b == '\n') {
          endLine(true);
          lineHadComment = true;
        }
      }
      case STRING -> quoted(b, '"');
      case CHARACTER -> quoted(b, '\'');
      case TEXT_BLOCK -> {
        write(b);
        quotes = b == '"' && !escaped ? quotes + 1 : 0;
        escaped = b == '\\' && !escaped;
        if (quotes == 3) {
          in = In.CODE;
          quotes = 0;
        }
      }
    }
  }

  private void code(byte b) {
    quotes = b == '"' ? quotes + 1 : 0;
    escaped = false;
    if (b == '/') {
      in = In.SLASH;
      return;
    }
    write(b);
    if (b == '"') {
      // The first quote opens a string, the second closes it, the third opens a text block.
      in = quotes == 3 ? In.TEXT_BLOCK : In.STRING;
      quotes = quotes == 3 ? 0 : quotes;
    } else if (b == '\'') {
      in = In.CHARACTER;
    }
  }

  private void quoted(byte b, char end) {
    if (b == '\n') {
      // Not valid; whoever wrote it meant an apostrophe.
      in = In.CODE;
      code(b);
      return;
    }
    write(b);
    boolean closes = b == end && !escaped;
    quotes = closes && end == '"' && quotes == 1 ? 2 : 0;
    escaped = b == '\\' && !escaped;
    if (closes) {
      in = In.CODE;
    }
  }

  private void write(byte b) {
    if (b == '\n') {
      endLine(true);
    } else {
      line.write(b);
    }
  }

  private void endLine(boolean broken) {
    byte[] bytes = line.toByteArray();
    line.reset();
    int length = bytes.length;
    while (length > 0 && in != In.TEXT_BLOCK && bytes[length - 1] <= ' ') {
      length--;
    }
    boolean isBlank = length == 0;
    boolean isNothing = isBlank && in != In.TEXT_BLOCK && (lineHadComment || lastWasBlank);
    if (!isNothing) {
      out.write(bytes, 0, length);
      if (broken) {
        out.write('\n');
      }
      lastWasBlank = isBlank;
    }
    lineHadComment = false;
  }
}
