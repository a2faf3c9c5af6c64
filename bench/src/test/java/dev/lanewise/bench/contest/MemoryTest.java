package dev.lanewise.bench.contest;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;

class MemoryTest {
  @Test
  void readsTheStatusOfAProcess() {
    List<String> status = List.of("Name:\tjava", "VmHWM:\t    300 kB", "VmRSS:\t     200 kB");
    assertEquals(new Memory(200 << 10, 300 << 10), Memory.parse(status));
    assertEquals(new Memory(0, 0), Memory.parse(List.of("Name:\tkthreadd")));
    assertEquals(new Memory(0, 0), Memory.of(-1));
  }

  @Test
  void thePeakIsAtLeastWhatIsHeld() {
    Assumptions.assumeTrue(Files.exists(Path.of("/proc/self/status")), "no /proc");
    Memory own = Memory.of(ProcessHandle.current().pid());
    assertTrue(own.peak() >= own.settled() && own.settled() > 1 << 20, own.toString());
  }

  @Test
  void storedFiguresComeBackAndOldOnesToo() {
    Memory memory = new Memory(5, 7);
    assertEquals(memory, Memory.fromJson(memory.toJson()));
    assertEquals(new Memory(5, 0), Memory.fromJson(5L));
    assertEquals(new Memory(5, 8), memory.most(new Memory(4, 8)));
  }
}
