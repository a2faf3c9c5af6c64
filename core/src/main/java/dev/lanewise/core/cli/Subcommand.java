package dev.lanewise.core.cli;

import java.util.concurrent.Callable;

/**
 * A command of the command line, described by picocli's annotations.
 *
 * <p>Help, {@code --version} and {@code --debug} are added to every command. The value of {@link
 * #call} becomes the exit code; {@link dev.lanewise.core.base.InputException} and failures of the
 * file system reach the user as one sentence with exit code 1. Another module adds a command by
 * providing this service.
 */
public interface Subcommand extends Callable<Integer> {}
