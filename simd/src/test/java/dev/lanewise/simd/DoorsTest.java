package dev.lanewise.simd;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.reflect.Constructor;
import java.lang.reflect.Executable;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.Parameter;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Every public static method and constructor of the package that takes memory or a size, found by
 * reflection: called rightly, then with one argument spoilt.
 */
class DoorsTest {
  private static final int FLOATS = 1 << 14;

  /** What may be left out somewhere. */
  private static final Set<String> MAY_BE_NULL =
      Set.of(
          "mean",
          "rstd",
          "lse",
          "upstream",
          "epilogue",
          "classWeights",
          "keep",
          "dropout",
          "dWeight",
          "dBias",
          "positions",
          "dPositions",
          "dTable",
          "working",
          "dx",
          "dw",
          "matrix");

  /** Operands that a function may not read, and then does not look at. */
  private static boolean isUnread(Door door, String name) {
    return door.toString().startsWith("Elementwise.backward") && name.equals("x");
  }

  /** Doors that change the process, run code of the caller's, or take time in their argument. */
  private static final Set<String> ELSEWHERE =
      Set.of(
          "Workers.setThreads",
          "Workers.parallel",
          "Machine.bfloat16Operations",
          "Machine.int8Operations");

  record Door(Executable executable) {
    @Override
    public String toString() {
      String name = executable.getDeclaringClass().getSimpleName();
      if (executable instanceof Method) {
        name += "." + executable.getName();
      }
      return name + Arrays.toString(executable.getParameters());
    }

    Object call(Object[] arguments) throws Throwable {
      try {
        return executable instanceof Method method
            ? method.invoke(null, arguments)
            : ((Constructor<?>) executable).newInstance(arguments);
      } catch (InvocationTargetException e) {
        throw e.getCause();
      }
    }
  }

  static List<Door> doors() throws IOException, URISyntaxException {
    Path root = Path.of(Gemm.class.getProtectionDomain().getCodeSource().getLocation().toURI());
    List<Door> doors = new ArrayList<>();
    try (Stream<Path> files = Files.list(root.resolve("dev/lanewise/simd"))) {
      List<String> names =
          files
              .map(file -> file.getFileName().toString())
              .filter(n -> n.endsWith(".class"))
              .toList();
      for (String name : names) {
        String simple = name.substring(0, name.length() - ".class".length());
        if (simple.equals("package-info")) {
          continue;
        }
        Class<?> type;
        try {
          type = Class.forName("dev.lanewise.simd." + simple);
        } catch (ClassNotFoundException e) {
          throw new AssertionError(e);
        }
        if (!isOpen(type)) {
          continue;
        }
        Stream.concat(Arrays.stream(type.getMethods()), Arrays.stream(type.getConstructors()))
            .filter(e -> e.getDeclaringClass() == type && e.getParameterCount() > 0)
            .filter(e -> e instanceof Constructor || Modifier.isStatic(e.getModifiers()))
            .filter(e -> !e.getName().equals("valueOf"))
            .filter(e -> !ELSEWHERE.contains(type.getSimpleName() + "." + e.getName()))
            .map(Door::new)
            .forEach(doors::add);
      }
    }
    assertTrue(doors.size() > 90, () -> doors.size() + " doors");
    return doors;
  }

  private static boolean isOpen(Class<?> type) {
    boolean isPublic = Modifier.isPublic(type.getModifiers());
    Class<?> outer = type.getDeclaringClass();
    return isPublic && !type.isEnum() && (outer == null || isOpen(outer));
  }

  /** A right value of each parameter, in memory of {@code arena}, all of it noted. */
  private static Object[] arguments(Door door, Arena arena, List<MemorySegment> memory) {
    return Arrays.stream(door.executable.getParameters())
        .map(
            p ->
                p.getType() == PackedMatrix.class
                    ? packed(door.executable.getDeclaringClass(), memory)
                    : argument(p, arena, memory))
        .toArray();
  }

  private static MemorySegment floats(Arena arena, List<MemorySegment> memory) {
    MemorySegment s = arena.allocate(4L * FLOATS, 64);
    for (int i = 0; i < FLOATS; i++) {
      s.setAtIndex(ValueLayout.JAVA_FLOAT, i, (i * 37 + 5 * memory.size()) % 11 / 8f + 0.125f);
    }
    memory.add(s);
    return s;
  }

  private static MemorySegment zeros(Arena arena, List<MemorySegment> memory) {
    memory.add(arena.allocate(4L * FLOATS, 64));
    return memory.getLast();
  }

  private static PackedMatrix packed(Class<?> door, List<MemorySegment> memory) {
    boolean isHalf = door == Bfloat16Gemm.class;
    Matrix matrix = new Matrix(floats(Arena.ofAuto(), memory), 4, 4);
    return PackedMatrix.of(
        Arena.ofAuto(), matrix, isHalf ? ElementType.BFLOAT16 : ElementType.FLOAT32);
  }

  private static Object argument(Parameter p, Arena arena, List<MemorySegment> memory) {
    String name = p.getName();
    Class<?> type = p.getType();
    if (type == MemorySegment.class) {
      return name.equals("targets") ? zeros(arena, memory) : floats(arena, memory);
    } else if (type == Matrix.class || type == MatrixView.class) {
      return new Matrix(floats(arena, memory), 4, 4);
    } else if (type == Bfloat16Matrix.class) {
      return new Bfloat16Matrix(floats(arena, memory), 4, 4);
    } else if (type == Heads.class) {
      return Heads.ofRows(floats(arena, memory), 0, 4, 4, 4, 4, 16);
    } else if (type == Int8Matrix.class) {
      return Int8Matrix.of(Arena.ofAuto(), new Matrix(floats(Arena.ofAuto(), memory), 4, 4));
    } else if (type == Indices.class) {
      return Indices.ofInts(zeros(arena, memory), 4);
    } else if (type == Epilogue.class) {
      return new Epilogue().bias(floats(arena, memory), 0);
    } else if (type == CrossEntropy.Options.class) {
      return CrossEntropy.Options.DEFAULT;
    } else if (type == Attention.Dropout.class) {
      return new Attention.Dropout(floats(arena, memory), 0, 1);
    } else if (type == Arena.class) {
      return Arena.ofAuto();
    } else if (type.isEnum()) {
      return type.getEnumConstants()[0];
    } else if (type == boolean.class) {
      return false;
    } else if (type == float.class) {
      return name.equals("labelSmoothing") ? 0f : 1f;
    } else if (type == double.class) {
      return 0.5;
    } else if (type == float[].class) {
      return new float[] {0.5f, -1, 2, 3, 0.25f, -3, 1, 5};
    } else if (type == short.class) {
      return (short) 1;
    } else if (type == int.class) {
      return name.equals("firstPosition") ? 0 : 4;
    } else if (type == long.class) {
      if (name.endsWith("ffset") || name.endsWith("irstBit")) {
        return 0L;
      } else if (name.equals("headStride")) {
        return 4L;
      } else if (name.endsWith("Apart") || name.endsWith("atchStride")) {
        return 1024L;
      }
      return name.endsWith("tride") || name.startsWith("ld") ? 64L : 4L;
    }
    throw new AssertionError("no value for " + type);
  }

  private static Object[] rightly(Door door) throws Throwable {
    Object[] arguments = arguments(door, Arena.ofAuto(), new ArrayList<>());
    door.call(arguments);
    return arguments(door, Arena.ofAuto(), new ArrayList<>());
  }

  @ParameterizedTest
  @MethodSource("doors")
  void nullIsRefusedByName(Door door) throws Throwable {
    Object[] arguments = rightly(door);
    for (int i = 0; i < arguments.length; i++) {
      Parameter p = door.executable.getParameters()[i];
      if (p.getType().isPrimitive() || isUnread(door, p.getName())) {
        continue;
      }
      Object[] spoilt = arguments.clone();
      spoilt[i] = null;
      try {
        door.call(spoilt);
        assertTrue(MAY_BE_NULL.contains(p.getName()), () -> "null as " + p.getName());
      } catch (IllegalArgumentException e) {
        assertTrue(e.getMessage().contains(p.getName()), p.getName() + ": " + e.getMessage());
      }
    }
  }

  @ParameterizedTest
  @MethodSource("doors")
  void sizesOfAllKindsAreTakenOrRefused(Door door) throws Throwable {
    Object[] arguments = rightly(door);
    for (int i = 0; i < arguments.length; i++) {
      Object[] values = {};
      if (arguments[i] instanceof Integer) {
        values = new Object[] {-1, Integer.MIN_VALUE, Integer.MAX_VALUE, 0};
      } else if (arguments[i] instanceof Long) {
        values = new Object[] {-1L, Long.MIN_VALUE, Long.MAX_VALUE, 1L << 62, 1L << 61, 1L << 40};
      }
      for (Object value : values) {
        Object[] spoilt = arguments.clone();
        spoilt[i] = value;
        try {
          door.call(spoilt);
        } catch (IllegalArgumentException | OutOfMemoryError e) {
          // Refused, or more than the machine has where memory is asked for.
          boolean isMemory =
              door.executable.getDeclaringClass() == PackedMatrix.class
                  || door.executable.getDeclaringClass() == Int8Matrix.class
                  || door.executable.getDeclaringClass() == NativeMemory.class;
          if (e instanceof OutOfMemoryError && !isMemory) {
            fail(e);
          }
          assertTrue(e.getMessage() != null && !e.getMessage().isEmpty());
        } catch (Exception e) {
          fail(door.executable.getParameters()[i].getName() + " = " + value, e);
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource("doors")
  void arraysOfOtherNumbersAreRefusedByName(Door door) throws Throwable {
    Object[] arguments = rightly(door);
    for (int i = 0; i < arguments.length; i++) {
      String name = door.executable.getParameters()[i].getName();
      if (isUnread(door, name)) {
        continue;
      }
      // Of a read-only array no more is known than how wide its elements are.
      boolean isKnown = !door.toString().startsWith("Indices.ofLongs");
      if (arguments[i] instanceof MemorySegment && !(name.equals("mask") || name.equals("keep"))) {
        for (boolean isReadOnly : new boolean[] {false, true}) {
          if (isReadOnly && !isKnown) {
            continue;
          }
          MemorySegment doubles = MemorySegment.ofArray(new double[FLOATS / 2]);
          Object[] spoilt = arguments.clone();
          spoilt[i] = isReadOnly ? doubles.asReadOnly() : doubles;
          try {
            door.call(spoilt);
            fail(name + " is an array of doubles");
          } catch (IllegalArgumentException e) {
            assertTrue(e.getMessage().contains(name), name + ": " + e.getMessage());
          }
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource("doors")
  void confinedMemoryGivesTheSameBits(Door door) throws Throwable {
    List<MemorySegment> shared = new ArrayList<>();
    Object expected = door.call(arguments(door, Arena.ofAuto(), shared));
    try (Arena arena = Arena.ofConfined()) {
      List<MemorySegment> confined = new ArrayList<>();
      Object[] arguments = arguments(door, arena, confined);
      Object result = door.call(arguments);
      if (expected instanceof Number) {
        assertTrue(expected.equals(result), () -> expected + " became " + result);
      }
      for (int i = 0; i < shared.size(); i++) {
        assertArrayEquals(
            shared.get(i).toArray(ValueLayout.JAVA_BYTE),
            confined.get(i).toArray(ValueLayout.JAVA_BYTE));
      }
      boolean hasMemory =
          Arrays.stream(arguments)
              .anyMatch(a -> a instanceof MemorySegment || a instanceof MatrixView);
      if (hasMemory && door.executable instanceof Method m && !m.getReturnType().isRecord()) {
        Throwable thrown =
            CompletableFuture.supplyAsync(
                            () -> {
                              try {
                                return door.call(arguments);
                              } catch (Throwable e) {
                                return e;
                              }
                            })
                        .get()
                    instanceof Throwable t
                ? t
                : null;
        assertInstanceOf(IllegalArgumentException.class, thrown);
        assertTrue(thrown.getMessage().contains("another thread"), thrown.getMessage());
      }
    }
  }

  /** The same as {@link #confinedMemoryGivesTheSameBits}, of many threads and many tasks. */
  @Test
  void allThreadsWorkOnConfinedMemory() {
    int threads = Workers.threads();
    Workers.setThreads(4);
    try (Arena arena = Arena.ofConfined()) {
      int n = 300;
      MemorySegment a = arena.allocate(4L * n * n);
      MemorySegment b = arena.allocate(4L * n * n);
      MemorySegment c = arena.allocate(4L * n * n);
      float[] d = new float[n * n];
      for (int i = 0; i < n * n; i++) {
        a.setAtIndex(ValueLayout.JAVA_FLOAT, i, i % 7 - 3);
        b.setAtIndex(ValueLayout.JAVA_FLOAT, i, i % 5 - 2);
      }
      Gemm.multiply(new Matrix(a, n, n), new Matrix(b, n, n), new Matrix(c, n, n));
      Gemm.multiply(
          new Matrix(MemorySegment.ofArray(a.toArray(ValueLayout.JAVA_FLOAT)), n, n),
          new Matrix(b, n, n),
          new Matrix(MemorySegment.ofArray(d), n, n));
      assertArrayEquals(d, c.toArray(ValueLayout.JAVA_FLOAT));
      Softmax.forward(new Matrix(a, n, n), new Matrix(c, n, n));
      double sum = Reduce.sum(c, 0, (long) n * n);
      assertTrue(Math.abs(sum - n) < 1e-3, () -> "sum " + sum);
    } finally {
      Workers.setThreads(threads);
    }
  }
}
