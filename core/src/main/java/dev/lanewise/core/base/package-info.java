/** The few types that every other package may use. */
package dev.lanewise.core.base;
