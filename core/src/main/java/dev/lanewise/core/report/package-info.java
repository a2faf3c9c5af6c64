/**
 * What people look at: progress on a terminal, and pages with charts that need nothing but a
 * browser.
 *
 * <p>A {@link dev.lanewise.core.report.RunReport} is made from a run's {@link
 * dev.lanewise.core.report.Metrics}; other reports put {@link dev.lanewise.core.report.XyChart} and
 * {@link dev.lanewise.core.report.BarChart} on a {@link dev.lanewise.core.report.Page} of their
 * own.
 */
package dev.lanewise.core.report;
