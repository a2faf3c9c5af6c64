package dev.lanewise.core.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.data.BpeTokenizer;
import dev.lanewise.core.data.ByteTokenizer;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.model.GptInit;
import dev.lanewise.core.model.TextGenerator;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tape;
import java.io.BufferedReader;
import java.io.PrintWriter;
import java.io.StringReader;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

class ConversationTest {
  private static Gpt model(Tape tape, int vocabulary) {
    TorchGenerator generator = new TorchGenerator(5);
    Gpt model = new Gpt(tape, GptConfig.gpt2(vocabulary, 96, 2, 2, 32), generator);
    GptInit.gpt2(model, generator);
    return model;
  }

  private static String talk(Tokenizer tokenizer, String input, List<String> stops) {
    try (CpuBackend backend = new CpuBackend();
        Tape tape = new Tape(backend, true)) {
      Gpt model = model(tape, tokenizer.vocabSize());
      Conversation conversation =
          new Conversation(
              new TextGenerator(model, 96, tokenizer),
              tokenizer,
              TextGenerator.Sampling.GREEDY,
              new TorchGenerator(1),
              8,
              stops);
      conversation.system("Be kind.");
      StringWriter out = new StringWriter();
      StringWriter err = new StringWriter();
      conversation.run(
          new BufferedReader(new StringReader(input)), new PrintWriter(out), new PrintWriter(err));
      assertEquals("> > > > " + System.lineSeparator(), err.toString());
      return out.toString();
    }
  }

  @Test
  void eachLineIsAnsweredUntilTheInputEnds() {
    String out = talk(new ByteTokenizer(), "Hi\n\nBye\n", List.of());
    assertTrue(out.endsWith(System.lineSeparator()), out);
    String learnt = talk(BpeTokenizer.train("hi bye ".repeat(30), 262), "Hi\n \nBye\n", List.of());
    assertTrue(learnt.split(System.lineSeparator(), -1).length >= 3, learnt);
  }

  /** Turn by turn from the cache, against the whole conversation at once. */
  @Test
  void repliesAreThoseOfTheWholeConversation() {
    try (CpuBackend backend = new CpuBackend();
        Tape tape = new Tape(backend, true)) {
      Gpt model = model(tape, 256);
      TextGenerator kept = new TextGenerator(model, 48);
      TextGenerator anew = new TextGenerator(model, 48);
      List<Integer> talk = new ArrayList<>();
      // The last turns are longer than what the model looks back at.
      for (String turn : List.of("hello", "and then?", "x", "a longer question, this time", "so")) {
        for (byte b : turn.getBytes(StandardCharsets.US_ASCII)) {
          talk.add((int) b);
        }
        int[] prompt = talk.stream().mapToInt(Integer::intValue).toArray();
        List<Integer> first = new ArrayList<>();
        List<Integer> second = new ArrayList<>();
        kept.reply(prompt, 7, TextGenerator.Sampling.GREEDY, null, first::add);
        anew.stream(prompt, 7, TextGenerator.Sampling.GREEDY, null, second::add);
        assertEquals(second, first, turn);
        talk.addAll(first);
      }
    }
  }
}
