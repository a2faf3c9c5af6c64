/**
 * The machine: its facts, and the limits of arithmetic and memory that every speed is held against.
 */
package dev.lanewise.core.machine;
