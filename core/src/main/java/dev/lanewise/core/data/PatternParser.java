package dev.lanewise.core.data;

import dev.lanewise.core.base.InputException;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.function.IntPredicate;

/**
 * Reads regular expressions as Oniguruma writes them, as far as tokenizers use them: alternatives,
 * groups, sets of characters with Unicode's categories and scripts, repetitions, looking ahead, and
 * looking back by one character. What else there is, is refused by name.
 */
final class PatternParser {
  private static final int MOST_COPIES = 1000;
  private static final int DEEPEST = 100;

  private final String regex;
  private final String source;
  private int at;
  private int copies;
  private int depth;
  private int built;

  PatternParser(String regex, String source) {
    this.regex = regex;
    this.source = source;
  }

  /** A part of the expression, made into nodes once what follows it is known. */
  private interface Part {
    SplitPattern.Node before(SplitPattern.Node next);
  }

  /** A single character of a set, which repeats without a stack. */
  private record One(IntPredicate rule) implements Part {
    @Override
    public SplitPattern.Node before(SplitPattern.Node next) {
      return new SplitPattern.Run(new CharSet(rule), 1, 1, false, next);
    }
  }

  SplitPattern.Node parse() {
    Part all = alternatives(false);
    if (at < regex.length()) {
      throw unsound("a closing parenthesis without an opening one");
    }
    return all.before(SplitPattern.END);
  }

  private Part alternatives(boolean outerIgnoreCase) {
    List<Part> options = new ArrayList<>();
    boolean[] ignoreCase = {outerIgnoreCase};
    options.add(sequence(ignoreCase));
    while (at < regex.length() && regex.charAt(at) == '|') {
      at++;
      options.add(sequence(ignoreCase));
    }
    if (options.size() == 1) {
      return options.getFirst();
    }
    return next -> new SplitPattern.Choice(options.stream().map(o -> o.before(next)).toList());
  }

  private Part sequence(boolean[] ignoreCase) {
    List<Part> parts = new ArrayList<>();
    while (at < regex.length() && regex.charAt(at) != '|' && regex.charAt(at) != ')') {
      parts.add(quantified(atom(ignoreCase)));
    }
    if (parts.size() == 1) {
      return parts.getFirst();
    }
    return next -> {
      SplitPattern.Node node = next;
      built += parts.size();
      if (built > SplitPattern.LONGEST) {
        throw unsupported("a length of more than " + SplitPattern.LONGEST + " parts");
      }
      for (int i = parts.size() - 1; i >= 0; i--) {
        node = parts.get(i).before(node);
      }
      return node;
    };
  }

  private Part atom(boolean[] ignoreCase) {
    int c = regex.codePointAt(at);
    return switch (c) {
      case '(' -> group(ignoreCase);
      case '[' -> new One(brackets(ignoreCase[0]));
      case '\\' -> new One(escape(ignoreCase[0], false));
      case '.' -> {
        at++;
        yield new One(x -> x != '\n');
      }
      case '^' -> {
        at++;
        CharSet notLineFeed = new CharSet(x -> x != '\n');
        yield next -> new SplitPattern.Behind(notLineFeed, false, next);
      }
      case '$' -> {
        at++;
        CharSet notLineFeed = new CharSet(x -> x != '\n');
        yield next ->
            new SplitPattern.Ahead(
                new SplitPattern.Run(notLineFeed, 1, 1, false, SplitPattern.END), false, next);
      }
      case '*', '+', '?' -> throw unsound("a repetition of nothing");
      default -> {
        at += Character.charCount(c);
        yield new One(literal(c, ignoreCase[0]));
      }
    };
  }

  private Part group(boolean[] ignoreCase) {
    enter();
    Part part = groupInside(ignoreCase);
    depth--;
    return part;
  }

  private void enter() {
    if (++depth > DEEPEST) {
      throw unsupported("more than " + DEEPEST + " groups or sets inside each other");
    }
  }

  private Part groupInside(boolean[] ignoreCase) {
    at++;
    boolean inner = ignoreCase[0];
    if (!taken("?")) {
      return closed(alternatives(inner));
    }
    if (taken(":")) {
      return closed(alternatives(inner));
    }
    if (taken(">")) {
      return atomic(closed(alternatives(inner)));
    }
    if (regex.startsWith("=", at) || regex.startsWith("!", at)) {
      boolean wanted = regex.charAt(at++) == '=';
      Part part = closed(alternatives(inner));
      return next -> new SplitPattern.Ahead(part.before(SplitPattern.END), wanted, next);
    }
    if (regex.startsWith("<=", at) || regex.startsWith("<!", at)) {
      boolean wanted = regex.charAt(at + 1) == '=';
      at += 2;
      if (!(closed(alternatives(inner)) instanceof One one)) {
        throw unsupported("looking back by anything but one character");
      }
      CharSet set = new CharSet(one.rule);
      return next -> new SplitPattern.Behind(set, wanted, next);
    }
    if (taken("i:")) {
      return closed(alternatives(true));
    }
    if (taken("-i:")) {
      return closed(alternatives(false));
    }
    // Elsewhere it would take all alternatives that follow into a group of their own.
    if (at == 2 && taken("i)")) {
      ignoreCase[0] = true;
      return next -> next;
    }
    int end = regex.indexOf('>', at);
    if (regex.startsWith("<", at) && end > 0) {
      at = end + 1;
      return closed(alternatives(inner));
    }
    throw unsupported("a group that begins with (?" + rest());
  }

  private Part closed(Part part) {
    if (!taken(")")) {
      throw unsound("a group that is not closed");
    }
    return part;
  }

  private static Part atomic(Part part) {
    return next -> new SplitPattern.Atomic(part.before(SplitPattern.END), next);
  }

  private Part quantified(Part part) {
    Part result = part;
    for (int count = 0; at < regex.length(); count++) {
      int least = 0;
      int most = Integer.MAX_VALUE;
      boolean interval = false;
      switch (regex.charAt(at)) {
        case '?' -> most = 1;
        case '*' -> {}
        case '+' -> least = 1;
        case '{' -> {
          int close = regex.indexOf('}', at);
          String inside = close < 0 ? "" : regex.substring(at + 1, close);
          if (!inside.matches("[0-9]{1,5}(,[0-9]{0,5})?|,[0-9]{1,5}")) {
            return result;
          }
          int comma = inside.indexOf(',');
          String first = comma < 0 ? inside : inside.substring(0, comma);
          String second = comma < 0 ? inside : inside.substring(comma + 1);
          least = first.isEmpty() ? 0 : Integer.parseInt(first);
          most = second.isEmpty() ? Integer.MAX_VALUE : Integer.parseInt(second);
          if (most < least) {
            throw unsound("the repetition {" + inside + "}");
          }
          at = close;
          interval = true;
        }
        default -> {
          return result;
        }
      }
      if (count > 0) {
        throw unsupported("a repetition of a repetition");
      }
      at++;
      boolean lazy = !interval && taken("?");
      boolean possessive = !interval && !lazy && taken("+");
      if (interval && at < regex.length() && "?+".indexOf(regex.charAt(at)) >= 0) {
        throw unsupported("'" + regex.charAt(at) + "' after a repetition in braces");
      }
      result = repeated(part, least, most, lazy);
      if (possessive) {
        result = atomic(result);
      }
    }
    return result;
  }

  private Part repeated(Part part, int least, int most, boolean lazy) {
    if (part instanceof One one) {
      CharSet set = new CharSet(one.rule);
      return next -> new SplitPattern.Run(set, least, most, lazy, next);
    }
    if (most == Integer.MAX_VALUE) {
      throw unsupported("a group repeated without limit");
    }
    if (most > MOST_COPIES) {
      throw tooMany();
    }
    return next -> {
      SplitPattern.Node node = next;
      for (int i = most; i > 0; i--) {
        // Counted here, where repetitions inside repetitions multiply.
        if (++copies > MOST_COPIES) {
          throw tooMany();
        }
        if (i > least) {
          SplitPattern.Node once = part.before(node);
          node = new SplitPattern.Choice(lazy ? List.of(next, once) : List.of(once, next));
        } else {
          node = part.before(node);
        }
      }
      return node;
    };
  }

  private InputException tooMany() {
    return unsupported("groups repeated more than " + MOST_COPIES + " times");
  }

  /** A set in brackets; inside there may be sets again, and && takes what is in both. */
  private IntPredicate brackets(boolean ignoreCase) {
    enter();
    IntPredicate set = bracketsInside(ignoreCase);
    depth--;
    return set;
  }

  private IntPredicate bracketsInside(boolean ignoreCase) {
    at++;
    boolean negated = taken("^");
    IntPredicate all = null;
    IntPredicate set = c -> false;
    boolean first = true;
    while (true) {
      if (at >= regex.length()) {
        throw unsound("a set that is not closed");
      }
      if (regex.charAt(at) == ']' && !first) {
        at++;
        break;
      }
      first = false;
      if (taken("&&")) {
        all = all == null ? set : all.and(set);
        set = c -> false;
        continue;
      }
      set = set.or(member(ignoreCase));
    }
    IntPredicate result = all == null ? set : all.and(set);
    return negated ? result.negate() : result;
  }

  private IntPredicate member(boolean ignoreCase) {
    if (regex.startsWith("[:", at)) {
      int close = regex.indexOf(":]", at);
      if (close > 0) {
        String name = regex.substring(at + 2, close);
        at = close + 2;
        return name.startsWith("^") ? posix(name.substring(1)).negate() : posix(name);
      }
    }
    if (regex.charAt(at) == '[') {
      return brackets(ignoreCase);
    }
    int before = at;
    int low = -1;
    if (regex.charAt(at) == '\\') {
      low = escapedCharacter();
      if (low < 0) {
        at = before;
        return escape(ignoreCase, true);
      }
    } else {
      low = regex.codePointAt(at);
      at += Character.charCount(low);
    }
    if (at + 1 >= regex.length() || regex.charAt(at) != '-' || regex.charAt(at + 1) == ']') {
      return literal(low, ignoreCase);
    }
    at++;
    int high;
    if (regex.charAt(at) == '\\') {
      high = escapedCharacter();
      if (high < 0) {
        throw unsound("a range that ends in a set");
      }
    } else {
      high = regex.codePointAt(at);
      at += Character.charCount(high);
    }
    if (high < low) {
      throw unsound("a range whose end lies before its start");
    }
    int from = low;
    int to = high;
    if (!ignoreCase) {
      return c -> c >= from && c <= to;
    }
    CharSet folded = new CharSet(c -> c >= from && c <= to);
    return c -> folded.has(c) || inFolded(c, from, to);
  }

  private static boolean inFolded(int c, int from, int to) {
    int folded = fold(c);
    for (int x = from; x <= to; x++) {
      if (fold(x) == folded) {
        return true;
      }
    }
    return false;
  }

  private static IntPredicate literal(int c, boolean ignoreCase) {
    if (!ignoreCase) {
      return x -> x == c;
    }
    int folded = fold(c);
    return x -> fold(x) == folded;
  }

  /** Simple case folding; the two i of Turkish fold to themselves alone. */
  private static int fold(int c) {
    return c == 0x130 || c == 0x131 ? c : Character.toLowerCase(Character.toUpperCase(c));
  }

  /** The character that a backslash and what follows stand for, or -1 if that is a set. */
  private int escapedCharacter() {
    if (at + 1 >= regex.length()) {
      throw unsound("a backslash at the end");
    }
    int c = regex.codePointAt(at + 1);
    at += 1 + Character.charCount(c);
    return switch (c) {
      case 'n' -> '\n';
      case 'r' -> '\r';
      case 't' -> '\t';
      case 'f' -> '\f';
      case 'v' -> 0x0B;
      case 'a' -> 0x07;
      case 'e' -> 0x1B;
      case 'x' -> {
        int close = regex.indexOf('}', at);
        if (regex.startsWith("{", at) && close > 0) {
          yield hex(at + 1, close, close + 1);
        }
        yield hex(at, at + 2, at + 2);
      }
      case 'u' -> hex(at, at + 4, at + 4);
      case 'p', 'P', 's', 'S', 'd', 'D', 'w', 'W', 'h', 'H' -> -1;
      default -> {
        if (c < 0x80 && Character.isLetterOrDigit(c)) {
          throw unsupported("\\" + Character.toString(c));
        }
        yield c;
      }
    };
  }

  private int hex(int from, int to, int end) {
    if (to <= regex.length() && to > from && to - from <= 6) {
      String digits = regex.substring(from, to);
      if (digits.matches("[0-9A-Fa-f]+") && Integer.parseInt(digits, 16) <= 0x10FFFF) {
        at = end;
        return Integer.parseInt(digits, 16);
      }
    }
    throw unsound("a character's number that is none");
  }

  private IntPredicate escape(boolean ignoreCase, boolean inBrackets) {
    int before = at;
    if (!inBrackets) {
      int character = escapedCharacter();
      if (character >= 0) {
        return literal(character, ignoreCase);
      }
      at = before;
    }
    char kind = regex.charAt(at + 1);
    at += 2;
    return switch (kind) {
      case 's' -> CharSet::isSpace;
      case 'S' -> c -> !CharSet.isSpace(c);
      case 'd' -> c -> Character.getType(c) == Character.DECIMAL_DIGIT_NUMBER;
      case 'D' -> c -> Character.getType(c) != Character.DECIMAL_DIGIT_NUMBER;
      case 'w' -> CharSet::isWord;
      case 'W' -> c -> !CharSet.isWord(c);
      case 'h' -> PatternParser::isHexDigit;
      case 'H' -> c -> !isHexDigit(c);
      default -> property(kind == 'P');
    };
  }

  private static boolean isHexDigit(int c) {
    return c >= '0' && c <= '9' || c >= 'A' && c <= 'F' || c >= 'a' && c <= 'f';
  }

  private IntPredicate property(boolean negated) {
    int close = regex.indexOf('}', at);
    if (!regex.startsWith("{", at) || close < 0) {
      throw unsound("\\p without a property in braces");
    }
    String name = regex.substring(at + 1, close);
    at = close + 1;
    boolean not = name.startsWith("^");
    IntPredicate rule = property(not ? name.substring(1) : name);
    return negated != not ? rule.negate() : rule;
  }

  private IntPredicate property(String name) {
    int categories = categories(name);
    if (categories != 0) {
      return c -> (categories >>> Character.getType(c) & 1) != 0;
    }
    try {
      Character.UnicodeScript script = Character.UnicodeScript.forName(name);
      return c -> Character.UnicodeScript.of(c) == script;
    } catch (IllegalArgumentException e) {
      return posix(name);
    }
  }

  /** Bits of the categories, numbered as {@link Character#getType} numbers them; 0 if unknown. */
  private static int categories(String name) {
    return switch (name) {
      case "Lu" -> bits(Character.UPPERCASE_LETTER);
      case "Ll" -> bits(Character.LOWERCASE_LETTER);
      case "Lt" -> bits(Character.TITLECASE_LETTER);
      case "Lm" -> bits(Character.MODIFIER_LETTER);
      case "Lo" -> bits(Character.OTHER_LETTER);
      case "Mn" -> bits(Character.NON_SPACING_MARK);
      case "Me" -> bits(Character.ENCLOSING_MARK);
      case "Mc" -> bits(Character.COMBINING_SPACING_MARK);
      case "Nd" -> bits(Character.DECIMAL_DIGIT_NUMBER);
      case "Nl" -> bits(Character.LETTER_NUMBER);
      case "No" -> bits(Character.OTHER_NUMBER);
      case "Zs" -> bits(Character.SPACE_SEPARATOR);
      case "Zl" -> bits(Character.LINE_SEPARATOR);
      case "Zp" -> bits(Character.PARAGRAPH_SEPARATOR);
      case "Cc" -> bits(Character.CONTROL);
      case "Cf" -> bits(Character.FORMAT);
      case "Co" -> bits(Character.PRIVATE_USE);
      case "Cn" -> bits(Character.UNASSIGNED);
      case "Pd" -> bits(Character.DASH_PUNCTUATION);
      case "Ps" -> bits(Character.START_PUNCTUATION);
      case "Pe" -> bits(Character.END_PUNCTUATION);
      case "Pc" -> bits(Character.CONNECTOR_PUNCTUATION);
      case "Po" -> bits(Character.OTHER_PUNCTUATION);
      case "Pi" -> bits(Character.INITIAL_QUOTE_PUNCTUATION);
      case "Pf" -> bits(Character.FINAL_QUOTE_PUNCTUATION);
      case "Sm" -> bits(Character.MATH_SYMBOL);
      case "Sc" -> bits(Character.CURRENCY_SYMBOL);
      case "Sk" -> bits(Character.MODIFIER_SYMBOL);
      case "So" -> bits(Character.OTHER_SYMBOL);
      case "L", "Letter" ->
          categories("Lu")
              | categories("Ll")
              | categories("Lt")
              | categories("Lm")
              | categories("Lo");
      case "M", "Mark" -> categories("Mn") | categories("Me") | categories("Mc");
      case "N", "Number" -> categories("Nd") | categories("Nl") | categories("No");
      case "Z", "Separator" -> categories("Zs") | categories("Zl") | categories("Zp");
      case "P", "Punctuation" ->
          categories("Pd")
              | categories("Ps")
              | categories("Pe")
              | categories("Pc")
              | categories("Po")
              | categories("Pi")
              | categories("Pf");
      case "S", "Symbol" ->
          categories("Sm") | categories("Sc") | categories("Sk") | categories("So");
      default -> 0;
    };
  }

  private static int bits(byte category) {
    return 1 << category;
  }

  private IntPredicate posix(String name) {
    return switch (name.toLowerCase(Locale.ROOT)) {
      case "alpha" -> Character::isAlphabetic;
      case "digit" -> c -> Character.getType(c) == Character.DECIMAL_DIGIT_NUMBER;
      case "space" -> CharSet::isSpace;
      case "word" -> CharSet::isWord;
      case "xdigit" -> PatternParser::isHexDigit;
      default -> throw unsupported("the property " + name);
    };
  }

  private boolean taken(String text) {
    if (regex.startsWith(text, at)) {
      at += text.length();
      return true;
    }
    return false;
  }

  private String rest() {
    return regex.substring(at, Math.min(regex.length(), at + 8));
  }

  private InputException unsupported(String what) {
    return new InputException(
        source
            + " cuts text by the regular expression "
            + regex
            + ", and "
            + what
            + " is not supported here.");
  }

  private InputException unsound(String what) {
    return new InputException(
        source + " holds the regular expression " + regex + ", which has " + what + ".");
  }
}
