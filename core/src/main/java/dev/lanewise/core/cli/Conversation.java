package dev.lanewise.core.cli;

import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.data.ChatFormat;
import dev.lanewise.core.data.TokenDecoder;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.model.TextGenerator;
import dev.lanewise.core.random.TorchGenerator;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.PrintWriter;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;

/**
 * Talks with a model: a line from a person, an answer, and so on until the input ends. What was
 * said stays in the model's cache, so a turn costs its own tokens only.
 */
final class Conversation {
  /** An answer that no template holds itself. */
  private static final String MARK = "\u0001";

  private final TextGenerator generator;
  private final Tokenizer tokenizer;
  private final TextGenerator.Sampling sampling;
  private final TorchGenerator random;
  private final long maxTokens;
  private final List<String> stops = new ArrayList<>();
  private final ChatFormat format;
  private final List<ChatFormat.Message> messages = new ArrayList<>();
  private String written = "";
  private int[] ids = {};

  /**
   * A conversation.
   *
   * @param generator the model
   * @param tokenizer its tokenizer, whose chat template writes the conversation
   * @param sampling how tokens are chosen
   * @param random draws
   * @param maxTokens most tokens of an answer
   * @param stops texts that end an answer, besides what the template ends it with
   */
  Conversation(
      TextGenerator generator,
      Tokenizer tokenizer,
      TextGenerator.Sampling sampling,
      TorchGenerator random,
      long maxTokens,
      List<String> stops) {
    this.generator = generator;
    this.tokenizer = tokenizer;
    this.sampling = sampling;
    this.random = random;
    this.maxTokens = maxTokens;
    this.format = ChatFormat.of(tokenizer);
    this.stops.addAll(stops);
    List<ChatFormat.Message> question = List.of(new ChatFormat.Message("user", "x"));
    String asked = format.write(question, true);
    List<ChatFormat.Message> both = new ArrayList<>(question);
    both.add(new ChatFormat.Message("assistant", MARK));
    String answered = format.write(both, false);
    String end = answered.substring(answered.lastIndexOf(MARK) + MARK.length());
    if (answered.startsWith(asked) && !end.isEmpty()) {
      this.stops.add(end.isBlank() ? end : end.strip());
    }
  }

  /** What the model is told before the conversation. */
  void system(String text) {
    messages.add(new ChatFormat.Message("system", text));
  }

  /** Reads lines and answers them. */
  void run(BufferedReader in, PrintWriter out, PrintWriter prompt) {
    try {
      while (!out.checkError()) {
        prompt.print("> ");
        prompt.flush();
        String line = in.readLine();
        if (line == null) {
          prompt.println();
          prompt.flush();
          return;
        }
        if (!line.isBlank()) {
          answer(line, out);
        }
      }
    } catch (IOException e) {
      throw new InputException("The input cannot be read: " + Failures.describe(e), e);
    }
  }

  private void answer(String line, PrintWriter out) {
    messages.add(new ChatFormat.Message("user", line));
    String question = format.write(messages, true);
    boolean goesOn = question.startsWith(written);
    int[] before = goesOn ? ids : new int[0];
    int[] more = tokenizer.encode(goesOn ? question.substring(written.length()) : question);
    IntStream.Builder all = IntStream.builder();
    Arrays.stream(before).forEach(all::add);
    Arrays.stream(more).forEach(all::add);
    StringBuilder answer = new StringBuilder();
    StopTexts text = new StopTexts(stops);
    TokenDecoder decoder = tokenizer.decoder();
    int[] asked = all.build().toArray();
    IntStream.Builder said = IntStream.builder();
    generator.reply(
        asked,
        maxTokens,
        sampling,
        random,
        id -> {
          show(text.next(decoder.next(id)), answer, out);
          if (!text.met()) {
            said.add(id);
          }
          return !text.met() && !out.checkError();
        });
    show(text.next(decoder.finish()), answer, out);
    show(text.finish(), answer, out);
    out.println();
    out.flush();
    messages.add(new ChatFormat.Message("assistant", answer.toString().strip()));
    int[] answered = said.build().toArray();
    written = question + answer;
    ids = Arrays.copyOf(asked, asked.length + answered.length);
    System.arraycopy(answered, 0, ids, asked.length, answered.length);
    if (!tokenizer.decode(answered).contentEquals(answer)) {
      // The last token held a part of what ends an answer; all is encoded anew.
      written = "";
      ids = new int[0];
    }
  }

  private static void show(String piece, StringBuilder answer, PrintWriter out) {
    // The blank behind the speaker's name is no part of the answer.
    out.print(answer.isEmpty() ? piece.stripLeading() : piece);
    out.flush();
    answer.append(piece);
  }
}
