package dev.lanewise.core.data;

/**
 * A token that is found in a text as it stands, before the text is cut into words, as Hugging
 * Face's {@code added_tokens} are.
 *
 * @param id its id
 * @param content its text
 * @param special whether it stands for something that is not text, as the end of a document
 * @param normalized whether it is looked for after the text was normalised, not before
 * @param singleWord whether letters, digits and the like may stand neither before nor after it
 * @param lstrip whether it takes white space before it
 * @param rstrip whether it takes white space behind it
 */
public record AddedToken(
    int id,
    String content,
    boolean special,
    boolean normalized,
    boolean singleWord,
    boolean lstrip,
    boolean rstrip) {
  /**
   * A special token that is found wherever its text is.
   *
   * @param id its id
   * @param content its text
   * @return the token
   */
  public static AddedToken special(int id, String content) {
    return new AddedToken(id, content, true, false, false, false, false);
  }

  /** The same token with another text. */
  AddedToken withContent(String other) {
    return new AddedToken(id, other, special, normalized, singleWord, lstrip, rstrip);
  }
}
