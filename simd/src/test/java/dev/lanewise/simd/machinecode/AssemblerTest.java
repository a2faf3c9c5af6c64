package dev.lanewise.simd.machinecode;

import static dev.lanewise.simd.machinecode.Assembler.Address.at;
import static dev.lanewise.simd.machinecode.Assembler.R12;
import static dev.lanewise.simd.machinecode.Assembler.R13;
import static dev.lanewise.simd.machinecode.Assembler.RBP;
import static dev.lanewise.simd.machinecode.Assembler.RSP;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.lanewise.simd.machinecode.Assembler.Address;
import dev.lanewise.simd.machinecode.Assembler.Condition;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Encodings, held to those of the GNU assembler: as bytes, and anew where it is installed. */
class AssemblerTest {
  private record Case(String text, String bytes, Consumer<Assembler> code) {}

  private static final List<Case> CASES =
      List.of(
          new Case("add r8, r9", "4d01c8", c -> c.add(Assembler.R8, Assembler.R9)),
          new Case("add rdi, [rsp + 8]", "48037c2408", c -> c.add(Assembler.RDI, at(RSP, 8))),
          new Case("add r8, [rsp + 24]", "4c03442418", c -> c.add(Assembler.R8, at(RSP, 24))),
          new Case("add rdi, 4", "4883c704", c -> c.addImmediate(Assembler.RDI, 4)),
          new Case("add r11, -128", "4983c380", c -> c.addImmediate(Assembler.R11, -128)),
          new Case("add rdx, 256", "4881c200010000", c -> c.addImmediate(Assembler.RDX, 256)),
          new Case("mov r8, rdx", "4989d0", c -> c.move(Assembler.R8, Assembler.RDX)),
          new Case("dec rcx", "48ffc9", c -> c.decrement(Assembler.RCX)),
          new Case("dec r10", "49ffca", c -> c.decrement(Assembler.R10)),
          new Case("test rcx, rcx", "4885c9", c -> c.test(Assembler.RCX)),
          new Case("xor rcx, rcx", "4831c9", c -> c.clear(Assembler.RCX)),
          new Case("shl rdx, 32", "48c1e220", c -> c.shiftLeft(Assembler.RDX, 32)),
          new Case("or rax, rdx", "4809d0", c -> c.or(Assembler.RAX, Assembler.RDX)),
          new Case(
              "lea r10, [rsi + rsi * 2]",
              "4c8d1476",
              c -> c.lea(Assembler.R10, at(Assembler.RSI, Assembler.RSI, 2))),
          new Case(
              "lea r11, [r13 + r12 * 8 + 1000]",
              "4f8d9ce5e8030000",
              c -> c.lea(Assembler.R11, new Address(R13, R12, 8, 1000))),
          new Case("lea rax, [rsp + 8]", "488d442408", c -> c.lea(Assembler.RAX, at(RSP, 8))),
          new Case("lea rax, [rbp]", "488d4500", c -> c.lea(Assembler.RAX, at(RBP, 0))),
          new Case(
              "mov [r8 + 12], edx",
              "4189500c",
              c -> c.store32(at(Assembler.R8, 12), Assembler.RDX)),
          new Case("mov [rdi], r9d", "44890f", c -> c.store32(at(Assembler.RDI, 0), Assembler.R9)),
          new Case("mov [rdi], eax", "8907", c -> c.store32(at(Assembler.RDI, 0), Assembler.RAX)),
          new Case("push rbx", "53", c -> c.push(Assembler.RBX)),
          new Case("pop rbx", "5b", c -> c.pop(Assembler.RBX)),
          new Case("push r12", "4154", c -> c.push(R12)),
          new Case("pop r15", "415f", c -> c.pop(Assembler.R15)),
          new Case("sub rdi, r13", "4c29ef", c -> c.subtract(Assembler.RDI, R13)),
          new Case(
              "vaddps zmm9, zmm9, [rdi + 64]",
              "62713448584f01",
              c -> c.vaddps(9, 9, at(Assembler.RDI, 64))),
          new Case("vfmadd231ps zmm31, zmm4, zmm3", "62625d48b8fb", c -> c.vfmadd231ps(31, 4, 3)),
          new Case(
              "vmovups zmm2, [r14 + rdi * 1 + 128]",
              "62d17c4810543e02",
              c -> c.vmovups(2, new Address(Assembler.R14, Assembler.RDI, 1, 128))),
          new Case("cpuid", "0fa2", Assembler::cpuid),
          new Case("xgetbv", "0f01d0", Assembler::xgetbv),
          new Case("ret", "c3", Assembler::ret),
          new Case("vzeroupper", "c5f877", Assembler::vzeroupper),
          new Case(
              "vmovups zmm3, [rdx + 192]",
              "62f17c48105a03",
              c -> c.vmovups(3, at(Assembler.RDX, 192))),
          new Case(
              "vmovups zmm31, [r12 + 65]",
              "62417c4810bc2441000000",
              c -> c.vmovups(31, at(R12, 65))),
          new Case(
              "vmovups zmm17, [rbp + r9 * 4]",
              "62a17c48104c8d00",
              c -> c.vmovups(17, at(RBP, Assembler.R9, 4))),
          new Case(
              "vmovups [r8 + 64], zmm20",
              "62c17c48116001",
              c -> c.vmovups(at(Assembler.R8, 64), 20)),
          new Case(
              "vmovups [rdi + 8192], zmm9",
              "62717c48118f00200000",
              c -> c.vmovups(at(Assembler.RDI, 8192), 9)),
          new Case("vpxord zmm8, zmm8, zmm8", "62513d48efc0", c -> c.vclear(8)),
          new Case("vpxord zmm31, zmm31, zmm31", "62010540efff", c -> c.vclear(31)),
          new Case("vbroadcastss zmm6, xmm0", "62f27d4818f0", c -> c.vbroadcastss(6, 0)),
          new Case("vbroadcastss zmm27, xmm17", "62227d4818d9", c -> c.vbroadcastss(27, 17)),
          new Case(
              "vpbroadcastd zmm4, [r11 + rsi * 2]",
              "62d27d48582473",
              c -> c.vpbroadcastd(4, at(Assembler.R11, Assembler.RSI, 2))),
          new Case(
              "vpbroadcastd zmm28, [rdi + 8]", "62627d48586702", c -> c.vpbroadcastd(28, at(7, 8))),
          new Case("vmulps zmm8, zmm17, zmm30", "6211744059c6", c -> c.vmulps(8, 17, 30)),
          new Case("vaddps zmm31, zmm2, zmm9", "62416c4858f9", c -> c.vaddps(31, 2, 9)),
          new Case(
              "vfmadd231ps zmm24, zmm7, [r8 + 128]",
              "62424548b84002",
              c -> c.vfmadd231ps(24, 7, at(Assembler.R8, 128))),
          new Case(
              "vpdpbusd zmm9, zmm3, dword ptr [rax + rdx * 2 + 28]{1to16}",
              "62726558504c5007",
              c -> c.vpdpbusd(9, 3, new Address(Assembler.RAX, Assembler.RDX, 2, 28))),
          new Case(
              "vpdpbusd zmm14, zmm7, dword ptr [r13 + 68]{1to16}",
              "62524558507511",
              c -> c.vpdpbusd(14, 7, at(R13, 68))),
          new Case(
              "vfmadd231ps zmm27, zmm10, dword ptr [r12 + 36]{1to16}",
              "62422d58b85c2409",
              c -> c.vfmadd231psOfOne(27, 10, at(R12, 36))),
          new Case("vpdpbusd zmm5, zmm24, zmm25", "62923d4050e9", c -> c.vpdpbusd(5, 24, 25)),
          new Case("vcvtdq2ps zmm14, zmm30", "62117c485bf6", c -> c.vcvtdq2ps(14, 30)),
          new Case(
              "vcvtph2ps zmm8, ymmword ptr [rcx + 1056]",
              "62727d48134121",
              c -> c.vcvtph2ps(8, at(Assembler.RCX, 1056))),
          new Case("vdpbf16ps zmm8, zmm0, zmm4", "62727e4852c4", c -> c.vdpbf16ps(8, 0, 4)),
          new Case("vdpbf16ps zmm31, zmm19, zmm12", "6242664052fc", c -> c.vdpbf16ps(31, 19, 12)),
          new Case("vdpbf16ps zmm16, zmm3, zmm28", "6282664852c4", c -> c.vdpbf16ps(16, 3, 28)));

  private static byte[] encoded(Consumer<Assembler> code) {
    Assembler assembler = new Assembler();
    code.accept(assembler);
    return assembler.toBytes();
  }

  @Test
  void bytesOfEveryInstruction() {
    for (Case c : CASES) {
      assertEquals(c.bytes, HexFormat.of().formatHex(encoded(c.code)), c.text);
    }
  }

  @Test
  void jumpsLeadWhereTheyShould() {
    byte[] code =
        encoded(
            c -> {
              int skip = c.jump(Condition.ZERO);
              int loop = c.size();
              c.decrement(Assembler.RCX);
              c.jump(Condition.NOT_ZERO, loop);
              c.land(skip);
              c.ret();
            });
    assertEquals("0f840900000048ffc90f85f7ffffffc3", HexFormat.of().formatHex(code));
    byte[] always =
        encoded(
            c -> {
              int skip = c.jump();
              c.ret();
              c.land(skip);
            });
    assertEquals("e901000000c3", HexFormat.of().formatHex(always));
  }

  @Test
  void theGnuAssemblerAgrees(@TempDir Path folder) throws IOException, InterruptedException {
    List<String> lines = new ArrayList<>(List.of(".intel_syntax noprefix", ".text"));
    Assembler all = new Assembler();
    for (Case c : CASES) {
      lines.add(c.text);
      c.code.accept(all);
    }
    Path source = folder.resolve("cases.s");
    Path object = folder.resolve("cases.o");
    Path binary = folder.resolve("cases.bin");
    Files.write(source, lines);
    assumeTrue(run("as", "--64", "-o", object.toString(), source.toString()), "no GNU assembler");
    assumeTrue(
        run("objcopy", "-O", "binary", "-j", ".text", object.toString(), binary.toString()),
        "no objcopy");
    assertEquals(
        HexFormat.of().formatHex(Files.readAllBytes(binary)),
        HexFormat.of().formatHex(all.toBytes()));
  }

  private static boolean run(String... command) throws InterruptedException {
    try {
      Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
      process.getInputStream().readAllBytes();
      return process.waitFor() == 0;
    } catch (IOException e) {
      return false;
    }
  }

  @Test
  void codeGrowsAndIsFilledWithTraps() {
    byte[] code =
        encoded(
            c -> {
              for (int i = 0; i < 5000; i++) {
                c.ret();
              }
              c.align(64);
            });
    assertEquals(5056, code.length);
    assertEquals((byte) 0xc3, code[4999]);
    for (int i = 5000; i < code.length; i++) {
      assertTrue(code[i] == (byte) 0xcc);
    }
  }
}
