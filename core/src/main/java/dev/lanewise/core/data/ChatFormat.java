package dev.lanewise.core.data;

import dev.lanewise.core.base.InputException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * How a conversation is written as text: by the tokenizer's chat template if it has one, else as
 * lines {@code User: …} and {@code Assistant: …}, each answer ended by the end-of-text token, or by
 * an empty line where the vocabulary has none.
 */
public final class ChatFormat {
  private final ChatTemplate template;
  private final String end;

  private ChatFormat(ChatTemplate template, String end) {
    this.template = template;
    this.end = end;
  }

  /**
   * Somebody's words.
   *
   * @param role {@code system}, {@code user} or {@code assistant}
   * @param content what was said
   */
  public record Message(String role, String content) {}

  /**
   * The format of a tokenizer.
   *
   * @param tokenizer the tokenizer
   * @return its format
   * @throws InputException if it has a template that uses what is not supported
   */
  public static ChatFormat of(Tokenizer tokenizer) {
    Optional<String> text =
        tokenizer instanceof BpeTokenizer bpe ? bpe.chatTemplate() : Optional.empty();
    String end =
        tokenizer.endOfText().isPresent()
            ? tokenizer.decode(tokenizer.endOfText().getAsInt())
            : "\n\n";
    return new ChatFormat(
        text.map(jinja -> ChatTemplate.of(jinja, variables(tokenizer, end))).orElse(null), end);
  }

  private static Map<String, Object> variables(Tokenizer tokenizer, String end) {
    Map<String, Object> variables = new LinkedHashMap<>();
    variables.put("eos_token", end);
    variables.put(
        "bos_token", tokenizer instanceof BpeTokenizer bpe ? bpe.beginOfText().orElse("") : "");
    return variables;
  }

  /**
   * Writes a conversation.
   *
   * @param messages what was said
   * @param answer whether the assistant is to speak next
   * @return the text; with {@code answer}, up to where the answer begins
   * @throws InputException if the template refuses the conversation
   */
  public String write(List<Message> messages, boolean answer) {
    if (template != null) {
      return template.render(messages, answer);
    }
    StringBuilder text = new StringBuilder();
    for (Message message : messages) {
      boolean assistant = message.role().equals("assistant");
      text.append(name(message.role())).append(": ").append(message.content());
      text.append(assistant ? end : "\n");
    }
    return (answer ? text.append("Assistant:") : text).toString();
  }

  private static String name(String role) {
    return Character.toUpperCase(role.charAt(0)) + role.substring(1);
  }

  /** A conversation in parts: what the assistant says is learnt, with what ends it. */
  List<Examples.Part> parts(List<Message> messages, String place) {
    List<Examples.Part> parts = new ArrayList<>();
    String done = "";
    for (int i = 0; i < messages.size(); i++) {
      if (!messages.get(i).role().equals("assistant")) {
        continue;
      }
      String question = write(messages.subList(0, i), true);
      String answered = write(messages.subList(0, i + 1), false);
      if (!question.startsWith(done) || !answered.startsWith(question)) {
        throw new InputException(
            place
                + ": the chat template writes a conversation anew when more is said, so answers"
                + " cannot be told apart.");
      }
      parts.add(new Examples.Part(question.substring(done.length()), false, false));
      parts.add(new Examples.Part(answered.substring(question.length()), true, false));
      done = answered;
    }
    if (parts.isEmpty()) {
      throw new InputException(place + ": the assistant says nothing in this conversation.");
    }
    return parts;
  }

  /** The messages of a JSON list. */
  static List<Message> messages(List<?> list, String place) {
    List<Message> messages = new ArrayList<>();
    for (Object item : list) {
      if (!(item instanceof Map<?, ?> message
          && message.get("role") instanceof String role
          && !role.isEmpty()
          && message.get("content") instanceof String content)) {
        throw new InputException(
            place + ": a message must have the texts 'role' and 'content', not " + item + ".");
      }
      messages.add(new Message(role, content));
    }
    return messages;
  }
}
