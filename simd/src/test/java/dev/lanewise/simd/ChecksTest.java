package dev.lanewise.simd;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

class ChecksTest {
  private static void refused(String part, Executable call) {
    String message = assertThrows(IllegalArgumentException.class, call).getMessage();
    assertTrue(message.contains(part), message);
  }

  @Test
  void boundsAreCheckedWithoutOverflow() {
    MemorySegment ten = Arena.global().allocate(40);
    assertDoesNotThrow(() -> Checks.readable("x", ten, 3, 7));
    assertDoesNotThrow(() -> Checks.readable("x", ten, 10, 0));
    refused("do not fit", () -> Checks.readable("x", ten, 4, 7));
    refused("do not fit", () -> Checks.readable("x", ten, Long.MAX_VALUE, 2));
    refused("do not fit", () -> Checks.readable("x", ten, 2, Long.MAX_VALUE));
    refused("negative", () -> Checks.readable("x", ten, -1, 2));
    refused("null", () -> Checks.readable("x", null, 0, 2));
  }

  @Test
  void closedConfinedAndReadOnlyMemoryIsRefused() {
    MemorySegment closed;
    try (Arena arena = Arena.ofShared()) {
      closed = arena.allocate(8);
    }
    refused("closed", () -> Checks.readable("x", closed, 0, 1));
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment confined = arena.allocate(8);
      assertDoesNotThrow(() -> Checks.readable("x", confined, 0, 1));
      refused(
          "another thread",
          () -> {
            Throwable[] thrown = new Throwable[1];
            Thread other =
                Thread.ofPlatform()
                    .start(
                        () -> {
                          try {
                            Checks.readable("x", confined, 0, 1);
                          } catch (RuntimeException e) {
                            thrown[0] = e;
                          }
                        });
            other.join();
            throw thrown[0];
          });
    }
    MemorySegment readOnly = Arena.global().allocate(8).asReadOnly();
    assertDoesNotThrow(() -> Checks.readable("x", readOnly, 0, 2));
    refused("read-only", () -> Checks.writable("x", readOnly, 0, 2));
  }

  @Test
  void overlapIsFound() {
    MemorySegment s = Arena.global().allocate(400);
    assertDoesNotThrow(() -> Checks.disjoint("y", s, 0, 10, "x", s, 10, 10));
    refused("shares memory", () -> Checks.disjoint("y", s, 0, 11, "x", s, 10, 10));
    assertDoesNotThrow(() -> Checks.disjointOrSame("y", s, 5, 10, "x", s, 5, 10));
    refused("shares memory", () -> Checks.disjointOrSame("y", s, 5, 10, "x", s, 6, 10));
    float[] array = new float[20];
    MemorySegment heap = MemorySegment.ofArray(array);
    assertDoesNotThrow(() -> Checks.disjoint("y", heap, 0, 10, "x", s, 0, 10));
    refused(
        "shares memory",
        () -> Checks.disjoint("y", heap, 0, 10, "x", MemorySegment.ofArray(array), 9, 1));
    assertDoesNotThrow(
        () -> Checks.disjoint("y", heap, 0, 9, "x", MemorySegment.ofArray(new float[9]), 0, 9));
    assertDoesNotThrow(
        () ->
            Checks.disjoint(
                "y", heap, 0, 9, "x", MemorySegment.ofArray(new float[9]).asReadOnly(), 0, 9));
    refused("shares memory", () -> Checks.disjoint("y", heap, 0, 10, "x", heap.asReadOnly(), 9, 1));
  }

  @Test
  void columnBlocksOfOneMatrixDoNotOverlap() {
    Matrix wide = new Matrix(Arena.global().allocate(4 * 60), 5, 12);
    assertDoesNotThrow(
        () -> Checks.disjoint("y", wide.cols(0, 4), "x", wide.cols(4, 12).transposed()));
    refused("shares memory", () -> Checks.disjoint("y", wide.cols(0, 5), "x", wide.cols(4, 12)));
    refused("shares memory", () -> Checks.disjoint("y", wide.rows(0, 2), "x", wide.rows(1, 3)));
    assertDoesNotThrow(() -> Checks.disjoint("y", wide.rows(0, 2), "x", wide.rows(2, 5)));
  }

  @Test
  void stagingBringsBackTheRowsAndLeavesTheGaps() {
    float[] array = {1, 2, 3, 4, 5, 6, 7, 8};
    MemorySegment heap = MemorySegment.ofArray(array);
    assertTrue(Staging.needed(null, heap));
    try (var staging = new Staging()) {
      MemorySegment copy = staging.output(heap, 4, 2, 8, 16);
      assertEquals(2, copy.get(ValueLayout.JAVA_FLOAT, 0));
      for (int i = 0; i < 6; i++) {
        copy.setAtIndex(ValueLayout.JAVA_FLOAT, i, -1 - i);
      }
      staging.finish();
    }
    assertArrayEquals(new float[] {1, -1, -2, 4, 5, -5, -6, 8}, array);
  }

  @Test
  void largeCopiesAreGivenBack() {
    long held = Scratch.heldBytes();
    byte[] array = new byte[100 << 20];
    array[array.length - 1] = 7;
    try (var staging = new Staging()) {
      MemorySegment copy = staging.output(MemorySegment.ofArray(array), 0, array.length);
      assertEquals(7, copy.get(ValueLayout.JAVA_BYTE, array.length - 1));
      copy.set(ValueLayout.JAVA_BYTE, 3, (byte) 5);
      staging.finish();
    }
    assertEquals(5, array[3]);
    assertEquals(held, Scratch.heldBytes());
  }

  @Test
  void arraysOfOtherNumbersAreRefused() {
    for (MemorySegment s :
        new MemorySegment[] {
          MemorySegment.ofArray(new double[4]),
          MemorySegment.ofArray(new long[4]),
          MemorySegment.ofArray(new short[4]),
          MemorySegment.ofArray(new char[4]),
          MemorySegment.ofArray(new int[4]),
          MemorySegment.ofArray(new double[4]).asReadOnly()
        }) {
      refused("x is an array", () -> Checks.readable("x", s, 0, 1));
      refused("segment is an array", () -> new Matrix(s, 1, 1));
    }
    assertDoesNotThrow(() -> Checks.readable("x", MemorySegment.ofArray(new byte[4]), 0, 1));
    MemorySegment ints = MemorySegment.ofArray(new int[4]);
    assertDoesNotThrow(() -> Indices.ofInts(ints, 4));
    refused("segment is an array", () -> Indices.ofLongs(ints, 2));
    refused("segment is an array", () -> Indices.ofInts(MemorySegment.ofArray(new float[4]), 4));
  }

  @Test
  void scratchIsUsedAgain() {
    Scratch first = Scratch.take(100_000);
    assertTrue(first.segment.byteSize() >= 100_000);
    assertEquals(0, first.segment.address() % 64);
    first.close();
    long held = Scratch.heldBytes();
    Scratch.take(99_000).close();
    assertEquals(held, Scratch.heldBytes());
  }
}
