package dev.lanewise.core.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.knuddels.jtokkit.Encodings;
import com.knuddels.jtokkit.api.Encoding;
import com.knuddels.jtokkit.api.EncodingType;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class TokenizerTest {
  private static final BpeTokenizer GPT2 = BpeTokenizer.gpt2(EndOfText.ALLOW);

  private static String message(Runnable call) {
    return assertThrows(InputException.class, call::run).getMessage();
  }

  private static int[] ids(Object list) {
    return ((List<?>) list).stream().mapToInt(id -> ((Long) id).intValue()).toArray();
  }

  /** Text of every kind of character, among it whatever trips word cutting. */
  private static String mixedText(long seed, int length) {
    Random random = new Random(seed);
    int[][] ranges = {
      {32, 127},
      {0, 128},
      {0x80, 0x800},
      {0x2000, 0x2070},
      {0x3040, 0x30ff},
      {0x1f600, 0x1f650},
      {0x800, 0x1900},
      {'a', 'e'},
      {'a', 'z'}
    };
    String common = "  \n\t\u00a0''s";
    StringBuilder text = new StringBuilder();
    while (text.length() < length) {
      int range = random.nextInt(ranges.length + 1);
      text.appendCodePoint(
          range == ranges.length
              ? common.charAt(random.nextInt(common.length()))
              : random.nextInt(ranges[range][0], ranges[range][1]));
    }
    return text.toString();
  }

  @Test
  void gpt2MatchesTiktoken() throws IOException {
    try (InputStream in = TokenizerTest.class.getResourceAsStream("gpt2-ids.json")) {
      String json = new String(in.readAllBytes(), StandardCharsets.UTF_8);
      BpeTokenizer plain = GPT2.withEndOfText(EndOfText.AS_TEXT);
      List<?> cases = (List<?>) Json.parseObject(json, "golden ids").get("cases");
      assertTrue(cases.size() > 30);
      for (Object item : cases) {
        Map<?, ?> one = (Map<?, ?>) item;
        String text = (String) one.get("text");
        assertArrayEquals(ids(one.get("ids")), plain.encode(text), text);
        assertEquals(text, plain.decode(plain.encode(text)));
      }
    }
  }

  @Test
  void gpt2MatchesJtokkit() {
    Encoding peer = Encodings.newLazyEncodingRegistry().getEncoding(EncodingType.R50K_BASE);
    BpeTokenizer plain = GPT2.withEndOfText(EndOfText.AS_TEXT);
    // Letters only in ranges whose classes do not vary between versions of Unicode.
    String text = mixedText(7, 60_000);
    assertArrayEquals(peer.encodeOrdinary(text).toArray(), plain.encode(text));
  }

  @Test
  void gpt2VocabularyIsWholeAndEndsWithEndOfText() {
    assertEquals(50257, GPT2.vocabSize());
    assertEquals(50256, GPT2.endOfText().orElseThrow());
    assertEquals("<|endoftext|>", GPT2.decode(50256));
    assertEquals(" the", GPT2.decode(262));
    assertEquals(
        "Token 50257 is not in the vocabulary of the gpt2 tokenizer, whose 50257 ids run from 0 to"
            + " 50256.",
        message(() -> GPT2.decode(50257)));
    assertTrue(message(() -> GPT2.decoder().next(-1)).startsWith("Token -1 is not"));
    for (int id = 0; id < 50256; id++) {
      byte[] bytes = GPT2.bytes(id);
      List<Integer> found = new ArrayList<>();
      GPT2.encode(bytes, 0, bytes.length, found::add);
      // Tokens that the word cutting splits, as several kinds of characters in one, are the
      // exception; all others must encode to themselves.
      if (Words.end(bytes, 0, bytes.length) == bytes.length) {
        assertEquals(List.of(id), found);
      }
    }
  }

  @Test
  void endOfTextIsAllowedRefusedOrText() {
    String text = "one<|endoftext|>two";
    assertArrayEquals(new int[] {505, 50256, 11545}, GPT2.encode(text));
    assertEquals(
        "The text holds <|endoftext|> at byte 3, which is refused here; remove it, or allow it as"
            + " the end of a document.",
        message(() -> GPT2.withEndOfText(EndOfText.REFUSE).encode(text)));
    int[] asText = GPT2.withEndOfText(EndOfText.AS_TEXT).encode(text);
    assertTrue(Arrays.stream(asText).noneMatch(id -> id == 50256));
    assertEquals(text, GPT2.decode(asText));
    assertArrayEquals(new int[] {50256, 50256}, GPT2.encode("<|endoftext|><|endoftext|>"));
    assertEquals("<|endoftext", GPT2.decode(GPT2.encode("<|endoftext")));
  }

  @Test
  void longWordsMergeAsShortOnesDo() {
    // Word lengths on both sides of the change from scanning to a heap, against a plain merge.
    Random random = new Random(3);
    BpeTokenizer tokenizer = BpeTokenizer.train(mixedText(11, 30_000), 600);
    for (int length : new int[] {2, 3, 47, 48, 49, 95, 96, 97, 98, 200, 1000}) {
      StringBuilder word = new StringBuilder();
      for (int i = 0; i < length; i++) {
        word.append((char) ('a' + random.nextInt(4)));
      }
      assertArrayEquals(plainMerge(tokenizer, word.toString()), tokenizer.encode(word.toString()));
    }
  }

  /** Merges the leftmost pair with the lowest id, one at a time, with nothing but a map. */
  private static int[] plainMerge(Tokenizer tokenizer, String word) {
    Map<String, Integer> idOf = new HashMap<>();
    for (int id = 0; id < tokenizer.vocabSize() - 1; id++) {
      idOf.put(new String(tokenizer.bytes(id), StandardCharsets.ISO_8859_1), id);
    }
    if (idOf.containsKey(word)) {
      return new int[] {idOf.get(word)};
    }
    List<String> parts = new ArrayList<>(List.of(word.split("")));
    while (true) {
      int best = -1;
      int bestId = Integer.MAX_VALUE;
      for (int i = 0; i + 1 < parts.size(); i++) {
        Integer id = idOf.get(parts.get(i) + parts.get(i + 1));
        if (id != null && id < bestId) {
          best = i;
          bestId = id;
        }
      }
      if (best < 0) {
        return parts.stream().mapToInt(idOf::get).toArray();
      }
      parts.set(best, parts.get(best) + parts.remove(best + 1));
    }
  }

  @Test
  void aMegabyteWithoutASpaceIsNotQuadratic() {
    String text = "x".repeat(1 << 20);
    assertEquals(text, GPT2.decode(GPT2.encode(text)));
  }

  @Test
  void bytesRoundTrip() {
    Tokenizer bytes = new ByteTokenizer();
    assertArrayEquals(new int[] {0xC3, 0xA9, 'x'}, bytes.encode("éx"));
    String text = mixedText(1, 5000);
    assertEquals(text, bytes.decode(bytes.encode(text)));
    assertEquals(256, bytes.vocabSize());
    assertTrue(bytes.endOfText().isEmpty());
    assertTrue(message(() -> bytes.decode(256)).contains("Token 256"));
  }

  @Test
  void charsAreNumberedAsPythonDoes() {
    Tokenizer chars = new CharTokenizer("hello é🙂\n");
    assertEquals(8, chars.vocabSize());
    assertArrayEquals(new int[] {0, 1, 2, 3, 4, 5, 6, 7}, chars.encode("\n ehloé🙂"));
    String text = mixedText(2, 5000);
    Tokenizer many = new CharTokenizer(text);
    assertEquals(text.codePoints().distinct().count(), many.vocabSize());
    assertEquals(text, many.decode(many.encode(text)));
    assertEquals(
        "The character 'z' (U+007A) at position 3 is not among the 8 characters that the tokenizer"
            + " knows.",
        message(() -> chars.encode("hé🙂z")));
    assertTrue(message(() -> chars.encode("\t")).startsWith("The character code (U+0009) at"));
    assertTrue(message(() -> chars.encode("中")).contains("'中' (U+4E2D) at position 0"));
    assertTrue(message(() -> new CharTokenizer("")).contains("at least one character"));
    assertTrue(message(() -> chars.decode(8)).contains("Token 8 is not"));
  }

  @Test
  void bpeLearnsFrequentPairsFirst() {
    BpeTokenizer bpe = BpeTokenizer.train("low low low lower lowest newest", 262);
    // " low" is seen 4 times: " l" is the lowest of the pairs that are, then "lo" joined to it...
    assertEquals(262, bpe.vocabSize());
    assertEquals(261, bpe.endOfText().orElseThrow());
    assertEquals("lo", bpe.decode(256));
    assertEquals("low", bpe.decode(257));
    assertEquals(" low", bpe.decode(258));
    assertEquals("<|endoftext|>", bpe.decode(261));
    assertArrayEquals(new int[] {257, 258}, bpe.encode("low low"));
  }

  @Test
  void bpeMatchesAPlainTrainer() {
    String text = mixedText(5, 20_000) + "the cat sat on the mat; then that cat sat. ".repeat(50);
    BpeTokenizer bpe = BpeTokenizer.train(text, 257 + 120);
    List<String> expected = plainTraining(text, 120);
    for (int i = 0; i < 120; i++) {
      assertEquals(
          expected.get(i),
          new String(bpe.bytes(256 + i), StandardCharsets.ISO_8859_1),
          "merge " + i);
    }
    assertEquals(text, bpe.decode(bpe.encode(text)));
  }

  /** Counts all pairs anew before every merge. */
  private static List<String> plainTraining(String text, int merges) {
    byte[] utf8 = text.getBytes(StandardCharsets.UTF_8);
    List<List<Integer>> words = new ArrayList<>();
    for (int i = 0; i < utf8.length; ) {
      int end = Words.end(utf8, i, utf8.length);
      List<Integer> word = new ArrayList<>();
      for (int k = i; k < end; k++) {
        word.add(utf8[k] & 0xFF);
      }
      words.add(word);
      i = end;
    }
    List<String> made = new ArrayList<>();
    List<String> tokens = new ArrayList<>();
    IntStream.range(0, 256).forEach(b -> tokens.add(String.valueOf((char) b)));
    for (int m = 0; m < merges; m++) {
      Map<Long, Integer> counts = new HashMap<>();
      for (List<Integer> word : words) {
        for (int i = 0; i + 1 < word.size(); i++) {
          counts.merge((long) word.get(i) << 32 | word.get(i + 1), 1, Integer::sum);
        }
      }
      long best =
          counts.entrySet().stream()
              .min(
                  Map.Entry.<Long, Integer>comparingByValue()
                      .reversed()
                      .thenComparing(Map.Entry.comparingByKey()))
              .orElseThrow()
              .getKey();
      int left = (int) (best >> 32);
      int right = (int) best;
      tokens.add(tokens.get(left) + tokens.get(right));
      made.add(tokens.getLast());
      for (List<Integer> word : words) {
        for (int i = 0; i + 1 < word.size(); i++) {
          if (word.get(i) == left && word.get(i + 1) == right) {
            word.set(i, 256 + m);
            word.remove(/* index */ i + 1);
          }
        }
      }
    }
    return made;
  }

  @Test
  void bpeStopsWhenPairsRunOut() {
    BpeTokenizer bpe = BpeTokenizer.train("abab", 5000);
    assertTrue(bpe.vocabSize() < 262);
    assertEquals("abab zz", bpe.decode(bpe.encode("abab zz")));
    assertTrue(message(() -> BpeTokenizer.train("x", 256)).contains("choose 257"));
    assertTrue(message(() -> BpeTokenizer.train("x", 65537)).contains("to 65536"));
    assertEquals(257, BpeTokenizer.train("", 257).vocabSize());
  }

  @Test
  void piecesCutBeforeWhiteSpaceGiveTheSameTokens() {
    String text = mixedText(9, 30_000);
    byte[] utf8 = text.getBytes(StandardCharsets.UTF_8);
    int[] whole = GPT2.encode(text);
    List<Integer> pieces = new ArrayList<>();
    int start = 0;
    int cuts = 0;
    for (int i = 1; i < utf8.length; i++) {
      if ((utf8[i] == ' ' || utf8[i] == '\n') && utf8[i - 1] > ' ') {
        GPT2.encode(utf8, start, i, pieces::add);
        start = i;
        cuts++;
      }
    }
    GPT2.encode(utf8, start, utf8.length, pieces::add);
    assertTrue(cuts > 200);
    assertArrayEquals(whole, pieces.stream().mapToInt(Integer::intValue).toArray());
  }

  @Test
  void streamsDecodeWholeCharacters() {
    String text = "a é 日本 🙂🙂 end";
    TokenDecoder decoder = new ByteTokenizer().decoder();
    StringBuilder out = new StringBuilder();
    for (int id : new ByteTokenizer().encode(text)) {
      String piece = decoder.next(id);
      assertEquals(-1, piece.indexOf('\uFFFD'));
      assertTrue(piece.isEmpty() || !Character.isHighSurrogate(piece.charAt(piece.length() - 1)));
      out.append(piece);
    }
    assertEquals("", decoder.finish());
    assertEquals(text, out.toString());
    assertEquals("", decoder.next(0xF0));
    assertEquals("", decoder.next(0x9F));
    assertEquals("\uFFFD", decoder.finish());
    assertEquals("x", decoder.next('x'));
    assertEquals("\uFFFD", decoder.next(0xFF));
    for (int _ : GPT2.encode(text)) {
      out.append(decoder.next('.'));
    }
    TokenDecoder gpt2 = GPT2.decoder();
    StringBuilder again = new StringBuilder();
    for (int id : GPT2.encode(mixedText(4, 3000))) {
      again.append(gpt2.next(id));
    }
    assertEquals(mixedText(4, 3000), again + gpt2.finish());
  }

  @Test
  void savedTokenizersAreEqual(@TempDir Path folder) {
    String text = mixedText(6, 8000);
    for (Tokenizer tokenizer :
        List.of(
            new ByteTokenizer(), new CharTokenizer(text), GPT2, BpeTokenizer.train(text, 400))) {
      Path file = folder.resolve(tokenizer.name() + ".json");
      Tokenizers.save(tokenizer, file);
      Tokenizer loaded = Tokenizers.load(file);
      assertEquals(tokenizer.name(), loaded.name());
      assertEquals(tokenizer.vocabSize(), loaded.vocabSize());
      assertArrayEquals(tokenizer.encode(text), loaded.encode(text));
      assertEquals(tokenizer.toJson(), loaded.toJson());
    }
    assertTrue(
        message(() -> Tokenizers.load(folder.resolve("none.json"))).startsWith("There is no"));
    assertEquals(
        "t describes a tokenizer of the unknown kind words; known are bytes, chars, gpt2, bpe and"
            + " huggingface.",
        message(() -> Tokenizers.fromJson("{\"kind\":\"words\"}", "t")));
    assertTrue(
        message(() -> Tokenizers.fromJson("{\"kind\":\"bpe\",\"tokensAfterBytes\":[7]}", "t"))
            .contains("damaged token 256"));
    assertTrue(message(() -> Tokenizers.fromJson("{\"kind\":", "t")).contains("not valid JSON"));
  }

  @Test
  void halfASurrogatePairIsNamed() {
    assertEquals(
        "The text holds half of a surrogate pair, U+D83D, at position 2, which is not a character.",
        message(() -> GPT2.encode("ab\uD83Dc")));
    assertTrue(message(() -> new ByteTokenizer().encode("\uDE00")).contains("position 0"));
  }

  @Test
  void threadsMayShareATokenizer() {
    String text = mixedText(8, 20_000);
    int[] expected = GPT2.encode(text);
    IntStream.range(0, 16).parallel().forEach(i -> assertArrayEquals(expected, GPT2.encode(text)));
  }

  @Test
  void utf8IsCheckedAsUnicodeDefinesIt() {
    Random random = new Random(17);
    byte[] bytes = new byte[40];
    for (int trial = 0; trial < 20_000; trial++) {
      byte[] text = mixedText(trial, 12).getBytes(StandardCharsets.UTF_8);
      System.arraycopy(text, 0, bytes, 0, 12);
      bytes[random.nextInt(12)] = (byte) random.nextInt(256);
      int invalid = Utf8.firstInvalid(bytes, 0, 12);
      assertEquals(javaFirstInvalid(bytes, 12), invalid, () -> Arrays.toString(bytes));
    }
  }

  private static int javaFirstInvalid(byte[] bytes, int length) {
    java.nio.ByteBuffer in = java.nio.ByteBuffer.wrap(bytes, 0, length);
    java.nio.charset.CoderResult result =
        StandardCharsets.UTF_8.newDecoder().decode(in, java.nio.CharBuffer.allocate(64), true);
    return result.isError() ? in.position() : -1;
  }
}
