/** The command line: one small class for each command, flags and printing only. */
package dev.lanewise.core.cli;
