package dev.lanewise.core.data;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.JsonFields;
import java.nio.charset.StandardCharsets;
import java.text.Normalizer;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * Brings text into Unicode's normal forms before it is cut into words, as Hugging Face's tokenizers
 * do: by the forms of Unicode 9, which leave what is newer as it is.
 */
final class TextNormalizer {
  /** Leaves text as it is. */
  static final TextNormalizer NONE = new TextNormalizer(List.of());

  // No character below U+00C0 is changed by any form but the compatible ones, which change some
  // from U+00A0 on; in UTF-8 both begin with 0xC2 at least, and the composed forms change none
  // below U+0300, whose first byte is 0xCC.
  private static final int FIRST_COMPOSED = 0xCC;

  // First and last of the characters that decompose, compose or change places in the JDK's Unicode
  // but not in the older one; found by comparing all characters, alone and among marks.
  private static final int[] NEWER = {
    0x7FD, 0x7FD, 0x897, 0x89F, 0x8CA, 0x8D3, 0x9FE, 0x9FE, 0xC3C, 0xC3C, 0xD3B, 0xD3C, 0xEBA,
    0xEBA, 0x1715, 0x1715, 0x1ABF, 0x1ACE, 0x1DF6, 0x1DFA, 0x32FF, 0x32FF, 0xA7F2, 0xA7F4, 0xA82C,
    0xA82C, 0xAB69, 0xAB69, 0x105C9, 0x105C9, 0x105E4, 0x105E4, 0x10781, 0x10785, 0x10787, 0x107B0,
    0x107B2, 0x107BA, 0x10D24, 0x10D27, 0x10D69, 0x10D6D, 0x10EAB, 0x10EAC, 0x10EFD, 0x10EFF,
    0x10F46, 0x10F50, 0x10F82, 0x10F85, 0x11070, 0x11070, 0x1133B, 0x1133B, 0x11383, 0x11383,
    0x11385, 0x11385, 0x1138E, 0x1138E, 0x11391, 0x11391, 0x113C5, 0x113C5, 0x113C7, 0x113C8,
    0x113CE, 0x113D0, 0x1145E, 0x1145E, 0x11839, 0x1183A, 0x11938, 0x11938, 0x1193D, 0x1193E,
    0x11943, 0x11943, 0x119E0, 0x119E0, 0x11A34, 0x11A34, 0x11A47, 0x11A47, 0x11A99, 0x11A99,
    0x11D42, 0x11D42, 0x11D44, 0x11D45, 0x11D97, 0x11D97, 0x11F41, 0x11F42, 0x16121, 0x16128,
    0x1612F, 0x1612F, 0x16D68, 0x16D6A, 0x16FF0, 0x16FF1, 0x1CCD6, 0x1CCF9, 0x1E030, 0x1E06D,
    0x1E08F, 0x1E08F, 0x1E130, 0x1E136, 0x1E2AE, 0x1E2AE, 0x1E2EC, 0x1E2EF, 0x1E4EC, 0x1E4EF,
    0x1E5EE, 0x1E5EF, 0x1F16C, 0x1F16C, 0x1FBF0, 0x1FBF9
  };

  private static final CharSet INERT =
      new CharSet(
          c -> {
            for (int i = 0; i < NEWER.length; i += 2) {
              if (c >= NEWER[i] && c <= NEWER[i + 1]) {
                return true;
              }
            }
            return false;
          });

  private final List<Normalizer.Form> forms;
  private final int firstChanged;

  private TextNormalizer(List<Normalizer.Form> forms) {
    this.forms = List.copyOf(forms);
    boolean composed = forms.stream().allMatch(form -> form == Normalizer.Form.NFC);
    this.firstChanged = composed ? FIRST_COMPOSED : 0xC2;
  }

  /**
   * Reads the description in a {@code tokenizer.json}.
   *
   * @param description its {@code normalizer}, or null
   * @param source the file, for error messages
   * @throws InputException if it does anything but bring text into normal forms
   */
  static TextNormalizer of(Object description, String source) {
    List<Normalizer.Form> forms = new ArrayList<>();
    add(description, source, forms);
    return forms.isEmpty() ? NONE : new TextNormalizer(forms);
  }

  @SuppressWarnings("unchecked")
  private static void add(Object description, String source, List<Normalizer.Form> forms) {
    if (description == null) {
      return;
    }
    if (!(description instanceof Map<?, ?> map)) {
      throw new InputException(source + " has a normalizer that is not an object.");
    }
    JsonFields fields = new JsonFields((Map<String, Object>) map, source + ", normalizer");
    String type = fields.text("type");
    switch (type) {
      case "NFC" -> forms.add(Normalizer.Form.NFC);
      case "NFD" -> forms.add(Normalizer.Form.NFD);
      case "NFKC" -> forms.add(Normalizer.Form.NFKC);
      case "NFKD" -> forms.add(Normalizer.Form.NFKD);
      case "Sequence" -> {
        if (!(map.get("normalizers") instanceof List<?> parts)) {
          throw new InputException(source + ": 'normalizers' must be a list.");
        }
        parts.forEach(part -> add(part, source, forms));
      }
      default ->
          throw new InputException(
              source
                  + " has the normalizer "
                  + type
                  + ", which is not supported; known are NFC, NFD, NFKC, NFKD and a Sequence of"
                  + " them.");
    }
  }

  /** The text in normal form. */
  String apply(String text) {
    String result = text;
    for (Normalizer.Form form : forms) {
      if (!Normalizer.isNormalized(result, form)) {
        result = normalize(result, form);
      }
    }
    return result;
  }

  /** Newer characters stay, and nothing changes places or joins across them. */
  private static String normalize(String text, Normalizer.Form form) {
    StringBuilder result = new StringBuilder(text.length());
    int done = 0;
    for (int i = 0; i < text.length(); ) {
      int c = text.codePointAt(i);
      int end = i + Character.charCount(c);
      if (INERT.has(c)) {
        result.append(Normalizer.normalize(text.substring(done, i), form)).append(text, i, end);
        done = end;
      }
      i = end;
    }
    return result.append(Normalizer.normalize(text.substring(done), form)).toString();
  }

  /** Hands a text on in normal form. */
  void apply(byte[] b, int from, int to, AddedTokens.Gap next) {
    if (!mayChange(b, from, to)) {
      next.text(b, from, to);
      return;
    }
    String text = new String(b, from, to - from, StandardCharsets.UTF_8);
    String changed = apply(text);
    if (changed.equals(text)) {
      next.text(b, from, to);
      return;
    }
    byte[] utf8 = changed.getBytes(StandardCharsets.UTF_8);
    next.text(utf8, 0, utf8.length);
  }

  private boolean mayChange(byte[] b, int from, int to) {
    if (forms.isEmpty()) {
      return false;
    }
    for (int i = from; i < to; i++) {
      if ((b[i] & 0xFF) >= firstChanged) {
        return true;
      }
    }
    return false;
  }
}
