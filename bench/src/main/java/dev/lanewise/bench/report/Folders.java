package dev.lanewise.bench.report;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/** Takes the folders of whoever measures out of texts that others will read. */
final class Folders {
  /** A folder and the word that stands for it. */
  private record Word(String folder, String word) {}

  private static final List<Word> WORDS = words();

  private Folders() {}

  private static List<Word> words() {
    List<Word> words = new ArrayList<>();
    for (String name :
        List.of("LANEWISE_PEERS", "LANEWISE_PYTHON", "LANEWISE_LLMC", "LANEWISE_LLAMACPP")) {
      add(words, System.getenv(name), "$" + name);
    }
    add(words, System.getProperty("lanewise.home"), "the checkout");
    add(words, System.getProperty("user.dir"), "the current folder");
    add(words, System.getProperty("java.home"), "the JDK");
    add(words, System.getProperty("user.home"), "~");
    add(words, System.getProperty("java.io.tmpdir"), "a temporary folder");
    // A folder inside another must go first
    words.sort(Comparator.comparingInt((Word w) -> w.folder.length()).reversed());
    return List.copyOf(words);
  }

  private static void add(List<Word> words, String folder, String word) {
    if (folder != null && folder.startsWith("/") && folder.length() > 1) {
      words.add(new Word(folder.replaceAll("/+$", ""), word));
    }
  }

  static String hide(String text) {
    String hidden = text;
    for (Word word : WORDS) {
      hidden = hidden.replace(word.folder, word.word);
    }
    return hidden;
  }

  static List<String> hide(List<String> texts) {
    return texts.stream().map(Folders::hide).toList();
  }
}
