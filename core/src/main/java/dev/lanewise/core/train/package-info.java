/** Training: the loop, schedules, checkpoints and run folders. */
package dev.lanewise.core.train;
