package dev.lanewise.core.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.random.TorchGenerator;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.List;
import java.util.function.Supplier;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class TokenBatchesTest {
  /** Tokens that are their own positions. */
  private static TokenSequence counting(int length) {
    return TokenSequence.of(IntStream.range(0, length).toArray());
  }

  private static int[] ints(MemorySegment segment) {
    return segment.toArray(ValueLayout.JAVA_INT);
  }

  private static List<int[]> take(TokenBatches batches, int count) {
    List<int[]> taken = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      batches.next();
      taken.add(ints(batches.inputs()));
    }
    return taken;
  }

  private static void assertShifted(TokenBatches batches) {
    int[] inputs = ints(batches.inputs());
    int[] targets = ints(batches.targets());
    for (int i = 0; i < inputs.length; i++) {
      assertEquals(inputs[i] + 1, targets[i]);
      if (i % batches.context() > 0) {
        assertEquals(inputs[i - 1] + 1, inputs[i]);
      }
    }
  }

  @Test
  void randomWindowsAreTorchsRandint() {
    TorchGenerator torch = new TorchGenerator(1337);
    try (TokenBatches batches = TokenBatches.random(counting(1000), 4, 8, 1337)) {
      for (int step = 0; step < 50; step++) {
        batches.next();
        assertShifted(batches);
        assertEquals(32, batches.tokens());
        for (int row = 0; row < 4; row++) {
          assertEquals(torch.nextLong(0, 992), ints(batches.inputs())[row * 8]);
        }
      }
    }
  }

  @ParameterizedTest
  @CsvSource({"1000,4,8", "1001,3,10", "9,2,8", "16,2,8", "17,1,8", "15,5,8", "2,3,1"})
  void anEpochVisitsEveryWindowOnce(int length, int batch, int context) {
    int phases = length >= 2 * context ? context : 1;
    int windows = (length - phases) / context;
    try (TokenBatches batches = TokenBatches.shuffled(counting(length), batch, context, 5)) {
      List<Integer> starts = new ArrayList<>();
      while (starts.size() < 6 * windows) {
        batches.next();
        assertShifted(batches);
        for (int row = 0; row < batch; row++) {
          starts.add(ints(batches.inputs())[row * context]);
        }
      }
      boolean reordered = false;
      for (int epoch = 0; epoch < 6; epoch++) {
        List<Integer> own = starts.subList(epoch * windows, (epoch + 1) * windows);
        List<Integer> sorted = own.stream().sorted().toList();
        reordered |= !own.equals(sorted);
        for (int i = 1; i < windows; i++) {
          assertEquals(sorted.get(i - 1) + context, sorted.get(i));
        }
        assertTrue(sorted.getFirst() < phases);
        assertTrue(sorted.getLast() + context < length);
      }
      assertTrue(reordered || windows == 1);
    }
  }

  @Test
  void seekContinuesExactly() {
    for (Supplier<TokenBatches> maker :
        List.<Supplier<TokenBatches>>of(
            () -> TokenBatches.random(counting(500), 3, 7, 11),
            () -> TokenBatches.shuffled(counting(500), 3, 7, 11),
            () -> TokenBatches.sequential(counting(2100), 3, 7),
            () -> TokenBatches.evenly(counting(5000), 3, 7, 90))) {
      try (TokenBatches one = maker.get();
          TokenBatches two = maker.get()) {
        List<int[]> all = take(one, 90);
        for (int start : new int[] {60, 7, 0, 89}) {
          two.seek(start);
          assertEquals(start, two.position());
          List<int[]> rest = take(two, 90 - start);
          for (int i = start; i < 90; i++) {
            assertArrayEquals(all.get(i), rest.get(i - start));
          }
        }
        assertThrows(IllegalArgumentException.class, () -> two.seek(-1));
      }
    }
  }

  @Test
  void seedsDiffer() {
    for (int kind = 0; kind < 2; kind++) {
      List<String> seen = new ArrayList<>();
      for (long seed : new long[] {0, 1, 2}) {
        try (TokenBatches batches =
            kind == 0
                ? TokenBatches.random(counting(9000), 8, 7, seed)
                : TokenBatches.shuffled(counting(9000), 8, 7, seed)) {
          for (int[] inputs : take(batches, 160)) {
            seen.add(Arrays.toString(inputs));
          }
        }
      }
      assertEquals(480, seen.stream().distinct().count());
    }
  }

  @ParameterizedTest
  @CsvSource({"2,1,1", "2,4,8", "9,1,8", "10,1,8", "17,1,8", "65,2,8", "100,3,7", "64,2,8"})
  void sequentialMeetsEveryTargetOnce(int length, int batch, int context) {
    BitSet seen = new BitSet();
    long tokens = 0;
    try (TokenBatches batches = TokenBatches.sequential(counting(length), batch, context)) {
      while (batches.hasNext()) {
        batches.next();
        int[] inputs = ints(batches.inputs());
        int[] targets = ints(batches.targets());
        long valid = 0;
        for (int i = 0; i < targets.length; i++) {
          if (targets[i] == TokenBatches.IGNORE) {
            assertEquals(0, inputs[i]);
          } else {
            assertEquals(inputs[i] + 1, targets[i]);
            assertFalse(seen.get(targets[i]));
            seen.set(targets[i]);
            valid++;
          }
        }
        assertEquals(valid, batches.tokens());
        tokens += valid;
      }
      assertEquals(batches.count(), batches.position());
      assertThrows(IllegalStateException.class, batches::next);
    }
    assertEquals(length - 1, tokens);
    assertEquals(1, seen.nextSetBit(0));
    assertEquals(length - 1, seen.cardinality());
  }

  /** Hugging Face's guide to perplexity, its loop over windows, held against the batches. */
  @ParameterizedTest
  @CsvSource({
    "2,1,8,3",
    "9,2,8,1",
    "10,1,8,7",
    "17,3,8,4",
    "65,2,8,5",
    "100,3,7,6",
    "64,2,8,2",
    "30,4,2,1"
  })
  void stridesAreThoseOfTheGuide(int length, int batch, int maxLength, int stride) {
    int[] historyOf = new int[length];
    for (int begin = 0, before = 0; before < length; begin += stride) {
      int end = Math.min(begin + maxLength, length);
      for (int target = Math.max(1, before); target < end; target++) {
        historyOf[target] = target - begin;
      }
      before = end;
    }
    int context = maxLength - 1;
    int found = 0;
    try (TokenBatches batches =
        TokenBatches.strided(counting(length), batch, context, Math.min(stride, context))) {
      while (batches.hasNext()) {
        batches.next();
        int[] inputs = ints(batches.inputs());
        int[] targets = ints(batches.targets());
        long valid = 0;
        for (int i = 0; i < targets.length; i++) {
          if (targets[i] != TokenBatches.IGNORE) {
            assertEquals(inputs[i] + 1, targets[i]);
            assertEquals(historyOf[targets[i]], i % context + 1);
            historyOf[targets[i]] = -1;
            valid++;
          }
        }
        assertEquals(valid, batches.tokens());
        assertTrue(valid > 0);
        found += (int) valid;
      }
    }
    assertEquals(length - 1, found);
  }

  @Test
  void evenlySpansTheDataTheSameWayEachTime() {
    try (TokenBatches batches = TokenBatches.evenly(counting(1000), 2, 10, 5)) {
      List<int[]> first = take(batches, 5);
      assertEquals(0, first.getFirst()[0]);
      assertEquals(989, first.getLast()[10]);
      assertShifted(batches);
      assertFalse(batches.hasNext());
      batches.seek(0);
      assertArrayEquals(first.getFirst(), take(batches, 1).getFirst());
    }
    try (TokenBatches batches = TokenBatches.evenly(counting(1000), 2, 10, 500)) {
      assertEquals(50, batches.count());
    }
    try (TokenBatches batches = TokenBatches.evenly(counting(1000), 1, 10, 1)) {
      batches.next();
      assertShifted(batches);
    }
  }

  @Test
  void aSplitIsNeverCrossed() {
    TokenSequence all = counting(1000);
    TokenSequence train = all.slice(0, 900);
    TokenSequence validation = all.slice(900, 1000);
    try (TokenBatches a = TokenBatches.random(train, 16, 32, 1);
        TokenBatches b = TokenBatches.shuffled(train, 16, 32, 1);
        TokenBatches c = TokenBatches.sequential(validation, 2, 32)) {
      for (int step = 0; step < 200; step++) {
        for (TokenBatches batches : List.of(a, b)) {
          batches.next();
          assertTrue(Arrays.stream(ints(batches.targets())).allMatch(id -> id < 900));
        }
      }
      while (c.hasNext()) {
        c.next();
        assertTrue(
            Arrays.stream(ints(c.targets())).allMatch(id -> id > 900 || id == TokenBatches.IGNORE));
      }
    }
  }

  @Test
  void tooLittleDataIsRefusedInASentence() {
    String expected =
        "The data holds 8 tokens, and a context of 8 needs at least 9; choose a shorter context or"
            + " give more text.";
    for (Runnable call :
        List.<Runnable>of(
            () -> TokenBatches.random(counting(8), 1, 8, 0),
            () -> TokenBatches.shuffled(counting(8), 1, 8, 0),
            () -> TokenBatches.evenly(counting(8), 1, 8, 1))) {
      assertEquals(expected, assertThrows(InputException.class, call::run).getMessage());
    }
    assertTrue(
        assertThrows(InputException.class, () -> TokenBatches.sequential(counting(1), 1, 8))
            .getMessage()
            .startsWith("The data holds 1 token, and"));
    assertThrows(IllegalArgumentException.class, () -> TokenBatches.random(counting(8), 0, 8, 0));
    assertThrows(IllegalArgumentException.class, () -> TokenBatches.random(counting(8), 1, 0, 0));
  }

  @Test
  void batchMemoryIsReusedAndAligned() {
    try (TokenBatches batches = TokenBatches.random(counting(100), 3, 5, 1)) {
      MemorySegment inputs = batches.inputs();
      batches.next();
      assertEquals(inputs, batches.inputs());
      assertEquals(0, inputs.address() % 64);
      assertEquals(0, batches.targets().address() % 64);
      assertNotEquals(inputs, batches.targets());
      assertEquals(60, inputs.byteSize());
    }
  }
}
