package dev.lanewise.core.data;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.base.InputException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;
import org.junit.jupiter.api.Test;

class SplitPatternTest {
  private static List<String> matches(String regex, String text) {
    SplitPattern pattern = SplitPattern.of(regex, "t");
    byte[] utf8 = text.getBytes(StandardCharsets.UTF_8);
    List<String> found = new ArrayList<>();
    for (int i = 0; i < utf8.length; ) {
      int end = pattern.end(utf8, 0, i, utf8.length);
      if (end > i) {
        found.add(new String(utf8, i, end - i, StandardCharsets.UTF_8));
        i = end;
      } else {
        i += Utf8.sequenceLength(utf8, i, utf8.length);
      }
    }
    return found;
  }

  private static List<String> peerMatches(Pattern pattern, String text) {
    Matcher matcher = pattern.matcher(text);
    List<String> found = new ArrayList<>();
    for (int i = 0; i < text.length(); ) {
      // The whole text stays visible to what looks back; a match must begin here.
      matcher.region(i, text.length()).useTransparentBounds(true).useAnchoringBounds(false);
      if (matcher.lookingAt() && matcher.end() > i) {
        found.add(matcher.group());
        i = matcher.end();
      } else {
        i += Character.charCount(text.codePointAt(i));
      }
    }
    return found;
  }

  private static String message(String regex) {
    return assertThrows(InputException.class, () -> SplitPattern.of(regex, "t.json")).getMessage();
  }

  /** A random expression that means the same to Oniguruma and to java.util.regex. */
  private static String expression(Random random, int depth) {
    String[] ones = {
      "a",
      "b",
      "é",
      "😀",
      "\\p{L}",
      "\\p{N}",
      "\\s",
      "\\S",
      "[ab]",
      "[^a]",
      "[a-c1]",
      "[^\\s\\p{L}]",
      "\\p{Lu}",
      "\\r",
      "[\\r\\n]",
      "\\d",
      ".",
      "[\\p{Ll}\\p{N}]",
      "\\P{L}",
      "[a-z&&[^b]]",
      "\\x41"
    };
    return switch (random.nextInt(depth > 0 ? 9 : 4)) {
      case 0, 1 -> ones[random.nextInt(ones.length)];
      case 2, 3 -> {
        String[] times = {
          "?", "*", "+", "??", "*?", "+?", "?+", "*+", "++", "{1,3}", "{2}", "{2,}"
        };
        yield ones[random.nextInt(ones.length)] + times[random.nextInt(times.length)];
      }
      case 4 -> expression(random, depth - 1) + expression(random, depth - 1);
      case 5 -> expression(random, depth - 1) + "|" + expression(random, depth - 1);
      case 6 -> {
        String[] times = {"", "?", "??", "?+", "{1,2}", "{2}"};
        yield "(?:" + expression(random, depth - 1) + ")" + times[random.nextInt(times.length)];
      }
      case 7 ->
          (random.nextBoolean() ? "(?=" : "(?!")
              + expression(random, depth - 1)
              + ")"
              + expression(random, depth - 1);
      default ->
          switch (random.nextInt(3)) {
            case 0 -> "(?>" + expression(random, depth - 1) + ")";
            case 1 -> "(?<!" + ones[random.nextInt(ones.length)] + ")" + expression(random, 0);
            default -> "(?<=" + ones[random.nextInt(ones.length)] + ")" + expression(random, 0);
          };
    };
  }

  @Test
  void matchesAsJavaDoes() {
    Random random = new Random(41);
    String[] alphabet = {
      "a", "b", "c", "A", "B", " ", "\n", "\r", "1", "2", "é", "É", "😀", "'", "s"
    };
    int compared = 0;
    for (int trial = 0; trial < 3_000; trial++) {
      String regex = expression(random, 3);
      StringBuilder text = new StringBuilder();
      for (int i = random.nextInt(24); i >= 0; i--) {
        text.append(alphabet[random.nextInt(alphabet.length)]);
      }
      Pattern peer;
      try {
        // Oniguruma's dot leaves out the line feed alone, and its \s knows all white space.
        peer = Pattern.compile(regex, Pattern.UNIX_LINES | Pattern.UNICODE_CHARACTER_CLASS);
      } catch (PatternSyntaxException e) {
        continue;
      }
      if (peer.matcher("").lookingAt()) {
        continue;
      }
      assertEquals(
          peerMatches(peer, text.toString()),
          matches(regex, text.toString()),
          regex + " on " + text);
      compared++;
    }
    assertTrue(compared > 1_500, () -> "only few compared");
  }

  @Test
  void caseIsFoldedAsOnigurumaFoldsIt() {
    assertEquals(List.of("'s", "'S", "'ſ"), matches("(?i:'s|'t)", "'s'S'ſ'x"));
    assertEquals(List.of("k", "K", "\u212a"), matches("(?i)k", "kK\u212a"));
    assertEquals(List.of("i", "I"), matches("(?i:i)", "iIİı"));
    assertEquals(List.of("d", "M"), matches("(?i:[sdm])", "daMb"));
    // A category is not folded.
    assertEquals(List.of("A"), matches("(?i:\\p{Lu})", "aA"));
  }

  @Test
  void otherWritingsOfSets() {
    assertEquals(List.of("漢字"), matches("\\p{Han}+", "漢字かな"));
    assertEquals(List.of("abc"), matches("[[:alpha:]]+", "abc1"));
    assertEquals(List.of("1", "f"), matches("\\h", "1fg"));
    assertEquals(List.of("a", "é"), matches("\\p{^N}", "a1é"));
    assertEquals(List.of("a_1²"), matches("\\w+", "a_1² "));
    assertEquals(List.of("a", "]"), matches("[]a]", "a]b"));
    assertEquals(List.of("a", "-"), matches("[a-]", "a-b"));
    assertEquals(List.of("{1,", "x}"), matches("\\{1,|x}", "{1,x}"));
    assertEquals(List.of("a".repeat(3_900)), matches("a".repeat(3_900), "a".repeat(4_000)));
    assertEquals(List.of("a", "a"), matches("^a", "a\naa"));
    assertEquals(List.of("a", "a"), matches("a$", "aa\na"));
  }

  @Test
  void whatIsNotSupportedIsNamed() {
    assertEquals(
        "t.json cuts text by the regular expression (ab)+, and a group repeated without limit is"
            + " not supported here.",
        message("(ab)+"));
    assertTrue(message("(a)\\1").contains("\\1 is not supported"));
    assertTrue(message("a\\b").contains("\\b is not supported"));
    assertTrue(message("(?<=ab)c").contains("looking back by anything but one character"));
    assertTrue(message("\\p{Nothing}a").contains("the property Nothing"));
    assertTrue(message("a{1,2}+").contains("'+' after a repetition in braces"));
    assertTrue(message("a**").contains("a repetition of a repetition"));
    assertTrue(message("b(?i)a").contains("(?i)a"));
    assertTrue(message("(?:ab){3000}").contains("more than 1000 times"));
    assertTrue(message("(?:(?:(?:ab){100}){100}){100}").contains("more than 1000 times"));
    assertTrue(message("(".repeat(100_000)).contains("inside each other"));
    assertTrue(message("[".repeat(100_000)).contains("inside each other"));
    assertTrue(message("a".repeat(5_000)).contains("more than 4000 parts"));
    assertTrue(message("(?:" + "a".repeat(100) + "){100}").contains("more than 4000 parts"));
    assertTrue(message("a*").contains("matches where there is nothing"));
    for (String broken :
        List.of(
            "(", "(a", "a)", "[a", "*a", "a\\", "\\p{L", "[b-a]", "\\x{zz}", "a{3,2}", "[a&&",
            "(?")) assertThrows(InputException.class, () -> SplitPattern.of(broken, "t"), broken);
  }
}
