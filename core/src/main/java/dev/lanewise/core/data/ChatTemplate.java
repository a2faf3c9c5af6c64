package dev.lanewise.core.data;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Pattern;

/**
 * A chat template in the part of Jinja's language that templates of ChatML, Llama 3, Qwen and
 * SmolLM use: {@code for}, {@code if}, {@code set}, expressions with attributes, indices and
 * slices, a few filters, tests and methods of strings. What else there is, is refused by name.
 * White space is trimmed as transformers has it: blocks take the line feed behind them and the
 * blanks before them.
 */
final class ChatTemplate {
  /** What has no value: renders as nothing, and is false. */
  private static final Object UNDEFINED =
      new Object() {
        @Override
        public String toString() {
          return "";
        }
      };

  private final Node root;
  private final Map<String, Object> variables;

  private ChatTemplate(Node root, Map<String, Object> variables) {
    this.root = root;
    this.variables = variables;
  }

  /**
   * Reads a template.
   *
   * @param jinja the template
   * @param variables values for all conversations, as {@code eos_token}
   * @throws InputException if it uses what is not supported
   */
  static ChatTemplate of(String jinja, Map<String, Object> variables) {
    return new ChatTemplate(new Parser(jinja).parse(), variables);
  }

  /** Writes a conversation. */
  String render(List<ChatFormat.Message> messages, boolean answer) {
    Scope scope = new Scope();
    variables.forEach(scope.values::put);
    List<Object> list = new ArrayList<>();
    for (ChatFormat.Message message : messages) {
      Map<String, Object> map = new LinkedHashMap<>();
      map.put("role", message.role());
      map.put("content", message.content());
      list.add(map);
    }
    scope.values.put("messages", list);
    scope.values.put("add_generation_prompt", answer);
    StringBuilder out = new StringBuilder();
    root.render(scope, out);
    return out.toString();
  }

  private static final class Scope {
    private final Map<String, Object> values = new HashMap<>();

    Object get(String name) {
      return values.containsKey(name) ? values.get(name) : UNDEFINED;
    }
  }

  private interface Node {
    void render(Scope scope, StringBuilder out);
  }

  private interface Expression {
    Object value(Scope scope);
  }

  private static InputException unsupported(String what) {
    return new InputException(
        "The chat template uses "
            + what
            + ", which is not supported; fine-tune on 'prompt' and 'completion' instead.");
  }

  private static InputException fails(String why) {
    return new InputException("The chat template cannot write this conversation: " + why + ".");
  }

  private static boolean isTrue(Object value) {
    return switch (value) {
      case null -> false;
      case Boolean flag -> flag;
      case Long number -> number != 0;
      case String text -> !text.isEmpty();
      case List<?> list -> !list.isEmpty();
      case Map<?, ?> map -> !map.isEmpty();
      default -> value != UNDEFINED;
    };
  }

  private static String text(Object value) {
    return switch (value) {
      case null -> "None";
      case Boolean flag -> flag ? "True" : "False";
      case List<?> _ -> throw unsupported("a list as text");
      case Map<?, ?> _ -> throw unsupported("an object as text");
      default -> value.toString();
    };
  }

  private static long number(Object value) {
    if (value instanceof Long number) {
      return number;
    }
    throw fails("a number is missing");
  }

  // Parts of the template

  private enum Kind {
    TEXT,
    OUTPUT,
    BLOCK
  }

  private record Piece(Kind kind, String text) {}

  /** Cuts a template into text and what stands in braces. */
  private static List<Piece> pieces(String jinja) {
    List<Piece> pieces = new ArrayList<>();
    int at = 0;
    String text = jinja.endsWith("\n") ? jinja.substring(0, jinja.length() - 1) : jinja;
    boolean trimNext = false;
    while (at < text.length()) {
      int open = at;
      do {
        open = text.indexOf('{', open);
        if (open < 0 || open + 1 >= text.length()) {
          open = text.length();
          break;
        }
        if ("{%#".indexOf(text.charAt(open + 1)) >= 0) {
          break;
        }
        open++;
      } while (true);
      String before = text.substring(at, open);
      if (trimNext) {
        before = before.stripLeading();
      }
      trimNext = false;
      if (open == text.length()) {
        pieces.add(new Piece(Kind.TEXT, before));
        break;
      }
      char kind = text.charAt(open + 1);
      String closing = kind == '{' ? "}}" : kind == '%' ? "%}" : "#}";
      int close = closing(text, open + 2, closing, kind == '#');
      String inside = text.substring(open + 2, close);
      if (inside.startsWith("-")) {
        before = before.stripTrailing();
        inside = inside.substring(1);
      } else if (inside.startsWith("+")) {
        inside = inside.substring(1);
      } else if (kind != '{') {
        before = withoutBlanksBefore(before, pieces.isEmpty());
      }
      at = close + 2;
      if (inside.endsWith("-")) {
        trimNext = true;
        inside = inside.substring(0, inside.length() - 1);
      } else if (kind != '{' && at < text.length() && text.charAt(at) == '\n') {
        at++;
      }
      pieces.add(new Piece(Kind.TEXT, before));
      if (kind != '#') {
        pieces.add(new Piece(kind == '{' ? Kind.OUTPUT : Kind.BLOCK, inside.strip()));
      }
    }
    return pieces;
  }

  /** Where the closing braces are, outside of strings. */
  private static int closing(String text, int from, String closing, boolean comment) {
    char quote = 0;
    for (int i = from; i + 1 < text.length(); i++) {
      char c = text.charAt(i);
      if (quote != 0) {
        if (c == '\\') {
          i++;
        } else if (c == quote) {
          quote = 0;
        }
      } else if (!comment && (c == '\'' || c == '"')) {
        quote = c;
      } else if (text.startsWith(closing, i)) {
        return i;
      }
    }
    throw new InputException("The chat template has a '{' that is not closed.");
  }

  /** Blanks between the start of a line and a block are left out. */
  private static String withoutBlanksBefore(String text, boolean first) {
    int end = text.length();
    while (end > 0 && (text.charAt(end - 1) == ' ' || text.charAt(end - 1) == '\t')) {
      end--;
    }
    boolean atLineStart = end == 0 ? first : text.charAt(end - 1) == '\n';
    return atLineStart ? text.substring(0, end) : text;
  }

  private static final class Parser {
    private static final int DEEPEST = 100;

    private final List<Piece> pieces;
    private int at;
    private int depth;

    Parser(String jinja) {
      pieces = pieces(jinja);
    }

    Node parse() {
      Node all = until();
      if (at < pieces.size()) {
        throw unsupported("'" + pieces.get(at).text() + "' out of place");
      }
      return all;
    }

    /** All up to a block that begins with one of some words, which is not taken. */
    private Node until(String... words) {
      if (++depth > DEEPEST) {
        throw unsupported("more than " + DEEPEST + " blocks inside each other");
      }
      Node node = untilInside(words);
      depth--;
      return node;
    }

    private Node untilInside(String... words) {
      List<Node> nodes = new ArrayList<>();
      while (at < pieces.size()) {
        Piece piece = pieces.get(at);
        if (piece.kind == Kind.BLOCK && List.of(words).contains(word(piece.text))) {
          break;
        }
        at++;
        switch (piece.kind) {
          case TEXT -> nodes.add((scope, out) -> out.append(piece.text));
          case OUTPUT -> {
            Expression expression = new Expressions(piece.text).whole();
            nodes.add((scope, out) -> out.append(text(expression.value(scope))));
          }
          case BLOCK -> nodes.add(block(piece.text));
        }
      }
      return (scope, out) -> nodes.forEach(node -> node.render(scope, out));
    }

    private static String word(String text) {
      int end = 0;
      while (end < text.length() && Character.isLetter(text.charAt(end))) {
        end++;
      }
      return text.substring(0, end);
    }

    private void take(String word) {
      if (at >= pieces.size() || !word(pieces.get(at).text).equals(word)) {
        throw new InputException("The chat template lacks an '" + word + "'.");
      }
      at++;
    }

    private Node block(String text) {
      String word = word(text);
      String rest = text.substring(word.length()).strip();
      return switch (word) {
        case "if" -> condition(rest);
        case "for" -> loop(rest);
        case "set" -> assignment(rest);
        case "generation" -> {
          Node inside = until("endgeneration");
          take("endgeneration");
          yield inside;
        }
        default -> throw unsupported("'" + text + "'");
      };
    }

    private Node condition(String test) {
      Expression condition = new Expressions(test).whole();
      Node then = until("elif", "else", "endif");
      Node otherwise = (scope, out) -> {};
      if (at < pieces.size() && word(pieces.get(at).text).equals("elif")) {
        if (++depth > DEEPEST) {
          throw unsupported("more than " + DEEPEST + " times 'elif'");
        }
        otherwise = condition(pieces.get(at++).text.substring(4).strip());
        depth--;
      } else if (at < pieces.size() && word(pieces.get(at).text).equals("else")) {
        at++;
        otherwise = until("endif");
        take("endif");
      } else {
        take("endif");
      }
      Node other = otherwise;
      return (scope, out) -> (isTrue(condition.value(scope)) ? then : other).render(scope, out);
    }

    private Node loop(String head) {
      int in = head.indexOf(" in ");
      String name = in < 0 ? "" : head.substring(0, in).strip();
      if (!name.matches("[A-Za-z_]\\w*")) {
        throw unsupported("'for " + head + "'");
      }
      Expression items = new Expressions(head.substring(in + 4)).whole();
      Node body = until("endfor", "else");
      take("endfor");
      return (scope, out) -> {
        if (!(items.value(scope) instanceof List<?> list)) {
          throw fails("'" + head + "' goes over no list");
        }
        Scope inner = new Scope();
        for (int i = 0; i < list.size(); i++) {
          // What is set inside a turn is gone in the next, as Jinja has it; namespaces are not.
          inner.values.clear();
          inner.values.putAll(scope.values);
          inner.values.put(name, list.get(i));
          Map<String, Object> state = new HashMap<>();
          state.put("index", i + 1L);
          state.put("index0", (long) i);
          state.put("first", i == 0);
          state.put("last", i == list.size() - 1);
          state.put("length", (long) list.size());
          state.put("previtem", i == 0 ? UNDEFINED : list.get(i - 1));
          state.put("nextitem", i == list.size() - 1 ? UNDEFINED : list.get(i + 1));
          inner.values.put("loop", state);
          body.render(inner, out);
        }
      };
    }

    private static Node assignment(String text) {
      int equals = text.indexOf('=');
      String target = equals < 0 ? "" : text.substring(0, equals).strip();
      if (!target.matches("[A-Za-z_]\\w*(\\.[A-Za-z_]\\w*)?")) {
        throw unsupported("'set " + text + "'");
      }
      Expression value = new Expressions(text.substring(equals + 1)).whole();
      int dot = target.indexOf('.');
      if (dot < 0) {
        return (scope, out) -> scope.values.put(target, value.value(scope));
      }
      return (scope, out) -> {
        if (!(scope.get(target.substring(0, dot)) instanceof Namespace space)) {
          throw fails("'" + target + "' is in no namespace");
        }
        space.values.put(target.substring(dot + 1), value.value(scope));
      };
    }
  }

  private record Namespace(Map<String, Object> values) {}

  /** Reads one expression. */
  private static final class Expressions {
    private static final int DEEPEST = 100;
    private static final int MOST_PARTS = 1500;

    private final String text;
    private int at;
    private int depth;
    private int parts;

    Expressions(String text) {
      this.text = text;
    }

    Expression whole() {
      Expression value = choice();
      blanks();
      if (at < text.length()) {
        throw unsupported("'" + text.substring(at) + "' in '" + text + "'");
      }
      return value;
    }

    private void blanks() {
      while (at < text.length() && Character.isWhitespace(text.charAt(at))) {
        at++;
      }
    }

    private boolean sign(String sign) {
      blanks();
      if (text.startsWith(sign, at)) {
        at += sign.length();
        return true;
      }
      return false;
    }

    private boolean word(String word) {
      blanks();
      int end = at + word.length();
      if (text.startsWith(word, at)
          && (end == text.length() || !Character.isJavaIdentifierPart(text.charAt(end)))) {
        at = end;
        return true;
      }
      return false;
    }

    private void require(String sign) {
      if (!sign(sign)) {
        throw unsupported("'" + text + "'");
      }
    }

    private Expression choice() {
      if (++depth > DEEPEST) {
        throw unsupported("an expression of more than " + DEEPEST + " parts inside each other");
      }
      Expression value = choiceInside();
      depth--;
      return value;
    }

    private Expression choiceInside() {
      Expression value = or();
      if (!word("if")) {
        return value;
      }
      Expression condition = or();
      Expression other = word("else") ? choice() : scope -> UNDEFINED;
      return scope -> (isTrue(condition.value(scope)) ? value : other).value(scope);
    }

    private Expression or() {
      Expression left = and();
      while (word("or")) {
        Expression first = left;
        Expression second = and();
        left =
            scope -> {
              Object value = first.value(scope);
              return isTrue(value) ? value : second.value(scope);
            };
      }
      return left;
    }

    private Expression and() {
      Expression left = not();
      while (word("and")) {
        Expression first = left;
        Expression second = not();
        left =
            scope -> {
              Object value = first.value(scope);
              return isTrue(value) ? second.value(scope) : value;
            };
      }
      return left;
    }

    private Expression not() {
      boolean wanted = true;
      boolean negated = false;
      while (word("not")) {
        negated = true;
        wanted = !wanted;
      }
      Expression value = comparison();
      boolean as = wanted;
      return negated ? scope -> isTrue(value.value(scope)) == as : value;
    }

    private Expression comparison() {
      Expression left = sum();
      while (true) {
        Expression first = left;
        if (sign("==")) {
          Expression second = sum();
          left = scope -> equal(first.value(scope), second.value(scope));
        } else if (sign("!=")) {
          Expression second = sum();
          left = scope -> !equal(first.value(scope), second.value(scope));
        } else if (sign("<=")) {
          Expression second = sum();
          left = scope -> number(first.value(scope)) <= number(second.value(scope));
        } else if (sign(">=")) {
          Expression second = sum();
          left = scope -> number(first.value(scope)) >= number(second.value(scope));
        } else if (sign("<")) {
          Expression second = sum();
          left = scope -> number(first.value(scope)) < number(second.value(scope));
        } else if (sign(">")) {
          Expression second = sum();
          left = scope -> number(first.value(scope)) > number(second.value(scope));
        } else if (word("in")) {
          Expression second = sum();
          left = scope -> contains(second.value(scope), first.value(scope));
        } else {
          int before = at;
          if (!word("not")) {
            return left;
          }
          if (!word("in")) {
            at = before;
            return left;
          }
          Expression second = sum();
          left = scope -> !contains(second.value(scope), first.value(scope));
        }
      }
    }

    private static boolean equal(Object left, Object right) {
      return left == null ? right == null : left.equals(right);
    }

    private static boolean contains(Object all, Object one) {
      return switch (all) {
        case String text -> text.contains(text(one));
        case List<?> list -> list.contains(one);
        case Map<?, ?> map -> map.containsKey(one);
        case null, default -> throw fails("'in' looks into nothing");
      };
    }

    private Expression test(Expression value) {
      boolean wanted = !word("not");
      String name = name();
      return switch (name) {
        case "defined" -> scope -> (value.value(scope) != UNDEFINED) == wanted;
        case "undefined" -> scope -> (value.value(scope) == UNDEFINED) == wanted;
        case "none", "None" -> scope -> (value.value(scope) == null) == wanted;
        case "string" -> scope -> value.value(scope) instanceof String == wanted;
        case "mapping" -> scope -> value.value(scope) instanceof Map == wanted;
        case "true" -> scope -> Boolean.TRUE.equals(value.value(scope)) == wanted;
        case "false" -> scope -> Boolean.FALSE.equals(value.value(scope)) == wanted;
        case "iterable", "sequence" ->
            scope -> {
              Object tested = value.value(scope);
              return (tested instanceof String || tested instanceof List || tested instanceof Map)
                  == wanted;
            };
        default -> throw unsupported("the test '" + name + "'");
      };
    }

    private String name() {
      blanks();
      int start = at;
      while (at < text.length() && Character.isJavaIdentifierPart(text.charAt(at))) {
        at++;
      }
      if (start == at) {
        throw unsupported("'" + text + "'");
      }
      return text.substring(start, at);
    }

    private Expression sum() {
      Expression left = product();
      while (true) {
        Expression first = left;
        if (sign("~")) {
          Expression second = product();
          left = scope -> text(first.value(scope)) + text(second.value(scope));
        } else if (sign("+")) {
          Expression second = product();
          left = scope -> add(first.value(scope), second.value(scope));
        } else if (sign("-")) {
          Expression second = product();
          left = scope -> number(first.value(scope)) - number(second.value(scope));
        } else {
          return left;
        }
      }
    }

    private static Object add(Object left, Object right) {
      if (left instanceof Long a && right instanceof Long b) {
        return a + b;
      }
      if (left instanceof String a && right instanceof String b) {
        return a + b;
      }
      if (left instanceof List<?> a && right instanceof List<?> b) {
        List<Object> both = new ArrayList<>(a);
        both.addAll(b);
        return both;
      }
      throw fails("'+' joins what does not go together");
    }

    private Expression product() {
      Expression left = filtered();
      while (true) {
        Expression first = left;
        if (sign("%")) {
          Expression second = filtered();
          left =
              scope -> {
                long divisor = number(second.value(scope));
                if (divisor == 0) {
                  throw fails("'%' divides by 0");
                }
                return Math.floorMod(number(first.value(scope)), divisor);
              };
        } else if (sign("*")) {
          Expression second = filtered();
          left = scope -> number(first.value(scope)) * number(second.value(scope));
        } else {
          return left;
        }
      }
    }

    private Expression filtered() {
      Expression value = reached();
      while (true) {
        count();
        if (sign("|")) {
          String name = name();
          List<Expression> arguments = sign("(") ? arguments(")") : List.of();
          value = filter(name, value, arguments);
        } else if (word("is")) {
          value = test(value);
        } else {
          return value;
        }
      }
    }

    private static Expression filter(String name, Expression value, List<Expression> arguments) {
      if (name.equals("default") && arguments.size() == 1) {
        return scope -> {
          Object given = value.value(scope);
          return given == UNDEFINED ? arguments.getFirst().value(scope) : given;
        };
      }
      if (!arguments.isEmpty()) {
        throw unsupported("arguments of the filter '" + name + "'");
      }
      return switch (name) {
        case "trim" -> scope -> text(value.value(scope)).strip();
        case "upper" -> scope -> text(value.value(scope)).toUpperCase(Locale.ROOT);
        case "lower" -> scope -> text(value.value(scope)).toLowerCase(Locale.ROOT);
        case "string" -> scope -> text(value.value(scope));
        case "tojson" -> scope -> Json.write(value.value(scope));
        case "length", "count" -> scope -> length(value.value(scope));
        case "first" -> scope -> item(value.value(scope), 0L);
        case "last" -> scope -> item(value.value(scope), -1L);
        default -> throw unsupported("the filter '" + name + "'");
      };
    }

    private static long length(Object value) {
      return switch (value) {
        case String text -> text.codePointCount(0, text.length());
        case List<?> list -> list.size();
        case Map<?, ?> map -> map.size();
        case null, default -> throw fails("'length' measures nothing");
      };
    }

    private List<Expression> arguments(String end) {
      List<Expression> arguments = new ArrayList<>();
      while (!sign(end)) {
        if (!arguments.isEmpty()) {
          require(",");
          if (sign(end)) {
            break;
          }
        }
        arguments.add(choice());
      }
      return arguments;
    }

    /** A value, and what is reached from it by dots and brackets. */
    private Expression reached() {
      Expression value = single();
      while (true) {
        count();
        Expression from = value;
        if (sign(".")) {
          String name = name();
          value =
              sign("(")
                  ? method(from, name, arguments(")"))
                  : scope -> member(from.value(scope), name);
        } else if (sign("[")) {
          value = indexed(from);
        } else {
          return value;
        }
      }
    }

    private Expression indexed(Expression from) {
      Expression start = sign(":") ? null : choice();
      boolean slice = start == null || sign(":");
      if (!slice) {
        require("]");
        return scope -> item(from.value(scope), start.value(scope));
      }
      if (start == null && sign(":")) {
        require("-1");
        require("]");
        return scope -> list(from.value(scope)).reversed();
      }
      Expression end = sign("]") ? null : choice();
      if (end != null) {
        require("]");
      }
      return scope -> {
        List<?> list = list(from.value(scope));
        int first = start == null ? 0 : place(number(start.value(scope)), list.size());
        int last = end == null ? list.size() : place(number(end.value(scope)), list.size());
        return first >= last ? List.of() : list.subList(first, last);
      };
    }

    private static List<?> list(Object value) {
      if (value instanceof List<?> list) {
        return list;
      }
      throw unsupported("a slice of anything but a list");
    }

    private static int place(long index, int size) {
      return Math.clamp(index < 0 ? index + size : index, 0, size);
    }

    private static Object item(Object from, Object index) {
      if (from instanceof List<?> list && index instanceof Long number) {
        long place = number < 0 ? number + list.size() : number;
        return place >= 0 && place < list.size() ? list.get((int) place) : UNDEFINED;
      }
      if (from == UNDEFINED) {
        throw fails("something that is not there is looked into");
      }
      return member(from, text(index));
    }

    private static Object member(Object from, String name) {
      if (from == UNDEFINED) {
        throw fails("'" + name + "' of something that is not there");
      }
      Map<?, ?> map =
          from instanceof Namespace space
              ? space.values
              : from instanceof Map<?, ?> members ? members : Map.of();
      return map.containsKey(name) ? map.get(name) : UNDEFINED;
    }

    private static Expression method(Expression from, String name, List<Expression> arguments) {
      return switch (name + arguments.size()) {
        case "strip0" -> scope -> text(from.value(scope)).strip();
        case "lstrip0" -> scope -> text(from.value(scope)).stripLeading();
        case "rstrip0" -> scope -> text(from.value(scope)).stripTrailing();
        case "strip1" -> scope -> strip(from, arguments, scope, true, true);
        case "lstrip1" -> scope -> strip(from, arguments, scope, true, false);
        case "rstrip1" -> scope -> strip(from, arguments, scope, false, true);
        case "upper0" -> scope -> text(from.value(scope)).toUpperCase(Locale.ROOT);
        case "lower0" -> scope -> text(from.value(scope)).toLowerCase(Locale.ROOT);
        case "title0", "capitalize0" ->
            scope -> {
              String word = text(from.value(scope));
              if (!word.matches("[A-Za-z]*")) {
                throw unsupported("." + name + "() of anything but one word");
              }
              return word.isEmpty()
                  ? word
                  : word.substring(0, 1).toUpperCase(Locale.ROOT)
                      + word.substring(1).toLowerCase(Locale.ROOT);
            };
        case "startswith1" ->
            scope -> text(from.value(scope)).startsWith(text(arguments.getFirst().value(scope)));
        case "endswith1" ->
            scope -> text(from.value(scope)).endsWith(text(arguments.getFirst().value(scope)));
        case "split1" ->
            scope ->
                List.of(
                    (Object[])
                        text(from.value(scope))
                            .split(Pattern.quote(text(arguments.getFirst().value(scope))), -1));
        case "get1", "get2" ->
            scope -> {
              Object found = member(from.value(scope), text(arguments.getFirst().value(scope)));
              return found != UNDEFINED
                  ? found
                  : arguments.size() == 2 ? arguments.get(1).value(scope) : null;
            };
        default ->
            throw unsupported("the method '" + name + "' with " + arguments.size() + " arguments");
      };
    }

    private static String strip(
        Expression from, List<Expression> arguments, Scope scope, boolean left, boolean right) {
      String text = text(from.value(scope));
      String characters = text(arguments.getFirst().value(scope));
      int start = 0;
      int end = text.length();
      while (left && start < end && characters.indexOf(text.charAt(start)) >= 0) {
        start++;
      }
      while (right && end > start && characters.indexOf(text.charAt(end - 1)) >= 0) {
        end--;
      }
      return text.substring(start, end);
    }

    /** Each part takes some stack where the expression is computed. */
    private void count() {
      if (++parts > MOST_PARTS) {
        throw unsupported("an expression of more than " + MOST_PARTS + " parts");
      }
    }

    private Expression single() {
      count();
      blanks();
      if (at >= text.length()) {
        throw unsupported("'" + text + "'");
      }
      char c = text.charAt(at);
      if (c == '\'' || c == '"') {
        String literal = literal(c);
        return scope -> literal;
      }
      if (Character.isDigit(c)) {
        int start = at;
        while (at < text.length() && Character.isDigit(text.charAt(at))) {
          at++;
        }
        if (at - start > 18) {
          throw unsupported("the number " + text.substring(start, at));
        }
        long number = Long.parseLong(text.substring(start, at));
        return scope -> number;
      }
      if (sign("(")) {
        Expression inside = choice();
        require(")");
        return inside;
      }
      if (sign("[")) {
        List<Expression> items = arguments("]");
        return scope -> {
          List<Object> list = new ArrayList<>();
          items.forEach(item -> list.add(item.value(scope)));
          return list;
        };
      }
      if (sign("-")) {
        blanks();
        if (at >= text.length() || !Character.isDigit(text.charAt(at))) {
          throw unsupported("'-' before anything but a number");
        }
        Expression value = single();
        return scope -> -number(value.value(scope));
      }
      String name = name();
      return switch (name) {
        case "true", "True" -> scope -> true;
        case "false", "False" -> scope -> false;
        case "none", "None" -> scope -> null;
        case "raise_exception" -> {
          require("(");
          Expression why = arguments(")").getFirst();
          yield scope -> {
            throw fails(text(why.value(scope)));
          };
        }
        case "namespace" -> {
          require("(");
          yield namespace();
        }
        default -> {
          if (sign("(")) {
            throw unsupported("the function '" + name + "'");
          }
          yield scope -> scope.get(name);
        }
      };
    }

    private Expression namespace() {
      Map<String, Expression> members = new LinkedHashMap<>();
      while (!sign(")")) {
        if (!members.isEmpty()) {
          require(",");
        }
        String name = name();
        require("=");
        members.put(name, choice());
      }
      return scope -> {
        Map<String, Object> values = new HashMap<>();
        members.forEach((name, value) -> values.put(name, value.value(scope)));
        return new Namespace(values);
      };
    }

    private String literal(char quote) {
      StringBuilder literal = new StringBuilder();
      for (at++; at < text.length() && text.charAt(at) != quote; at++) {
        char c = text.charAt(at);
        if (c == '\\' && at + 1 < text.length()) {
          c = text.charAt(++at);
          switch (c) {
            case 'n' -> literal.append('\n');
            case 't' -> literal.append('\t');
            case 'r' -> literal.append('\r');
            case '\\', '\'', '"' -> literal.append(c);
            default -> throw unsupported("'\\" + c + "' in a text");
          }
        } else {
          literal.append(c);
        }
      }
      if (at >= text.length()) {
        throw unsupported("a text that is not closed");
      }
      at++;
      return literal.toString();
    }
  }
}
