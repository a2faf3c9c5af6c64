/**
 * Processes that work on one job: MPI, reached through the Foreign Function &amp; Memory API,
 * behind an interface of a few collective operations over native memory.
 */
package dev.lanewise.core.distributed;
