package dev.lanewise.core.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.StringReader;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Random;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.xml.parsers.DocumentBuilderFactory;
import org.junit.jupiter.api.Test;
import org.w3c.dom.Document;
import org.w3c.dom.Element;
import org.w3c.dom.NodeList;
import org.xml.sax.InputSource;

class ChartTest {
  static {
    // Only the tests need the XML parser, so that the module does not require it.
    ChartTest.class.getModule().addReads(ModuleLayer.boot().findModule("java.xml").orElseThrow());
  }

  private static Document parse(String xml) {
    try {
      return DocumentBuilderFactory.newInstance()
          .newDocumentBuilder()
          .parse(new InputSource(new StringReader(xml)));
    } catch (Exception e) {
      throw new AssertionError("not well-formed: " + e.getMessage() + "\n" + xml, e);
    }
  }

  private static List<String> texts(Document svg) {
    List<String> texts = new ArrayList<>();
    NodeList nodes = svg.getElementsByTagName("text");
    for (int i = 0; i < nodes.getLength(); i++) {
      texts.add(nodes.item(i).getTextContent());
    }
    return texts;
  }

  private static Axis axis(double low, double high, boolean log) {
    return Axis.of(low, high, low, high, log, false);
  }

  private static List<String> labels(Axis axis, int wanted) {
    List<Double> ticks = axis.ticks(wanted);
    return ticks.stream().map(tick -> axis.label(tick, ticks)).toList();
  }

  @Test
  void ticksAreRoundNumbers() {
    assertEquals(List.of("0", "1", "2", "3", "4"), labels(axis(0, 4.2, false), 5));
    assertEquals(List.of("0", "2.5", "5.0", "7.5", "10.0"), labels(axis(0, 10, false), 4));
    assertEquals(List.of("0", "500", "1,000", "1,500", "2,000"), labels(axis(0, 2000, false), 5));
    assertEquals(List.of("0", "50k", "100k", "150k"), labels(axis(0, 160_000, false), 4));
    assertEquals(List.of("0", "5e-4", "1e-3"), labels(axis(0, 1e-3, false), 2));
    assertEquals(List.of("-0.4", "-0.2", "0", "0.2", "0.4"), labels(axis(-0.4, 0.5, false), 5));
    assertEquals(
        List.of("1e-5", "1e-4", "0.001", "0.01", "0.1", "1"), labels(axis(1e-5, 1, true), 8));
    assertEquals(List.of("1", "2", "5", "10", "20", "50", "100"), labels(axis(1, 100, true), 8));
    assertEquals(List.of("2.0", "2.5", "3.0"), labels(axis(2, 3, true), 3));
    assertEquals(List.of("0", "1", "2", "3"), labels(Axis.of(0, 3, 0, 3, false, true), 10));
  }

  @Test
  void tickCountsStayNearWhatIsAskedFor() {
    Random random = new Random(1);
    for (int trial = 0; trial < 5000; trial++) {
      boolean log = random.nextBoolean();
      double low = Math.pow(10, random.nextDouble(-9, 9));
      double high = low * (1 + Math.pow(10, random.nextDouble(-3, 6)));
      int wanted = random.nextInt(2, 12);
      Axis axis = axis(low, high, log);
      List<Double> ticks = axis.ticks(wanted);
      assertTrue(ticks.size() <= 2 * wanted + 1, () -> low + " " + high + " " + ticks);
      for (double tick : ticks) {
        assertTrue(axis.place(tick) > -1e-6 && axis.place(tick) < 1 + 1e-6);
      }
      assertEquals(ticks.size(), labels(axis, wanted).stream().distinct().count(), ticks::toString);
    }
  }

  @Test
  void anAxisOfNothingOrOneValueStillShows() {
    for (boolean log : new boolean[] {false, true}) {
      for (double[] range :
          new double[][] {
            {Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY}, {0, 0}, {5, 5}, {-3, -3}
          }) {
        Axis axis = Axis.of(range[0], range[1], Double.NaN, Double.NaN, log, false);
        assertTrue(axis.from() < axis.to());
        assertTrue(axis.ticks(5).size() < 30);
      }
    }
  }

  @Test
  void numbersAreShort() {
    assertEquals("0", Numbers.compact(0));
    assertEquals("1.235", Numbers.compact(1.23456));
    assertEquals("1234", Numbers.compact(1234));
    assertEquals("12.3k", Numbers.compact(12_345));
    assertEquals("1M", Numbers.compact(999_600));
    assertEquals("3.1M", Numbers.compact(3_100_000));
    assertEquals("6e-4", Numbers.compact(0.0006));
    assertEquals("-1.23e-5", Numbers.compact(-0.0000123));
    assertEquals("NaN", Numbers.compact(Double.NaN));
    assertEquals("0.1 s", Numbers.duration(0.1));
    assertEquals("10 s", Numbers.duration(9.96));
    assertEquals("1 min 58 s", Numbers.duration(118));
    assertEquals("3 h 20 min", Numbers.duration(12_000));
    assertEquals("?", Numbers.duration(Double.NaN));
    assertEquals("12,345", Numbers.grouped(12345));
  }

  @Test
  void everyKindOfSeriesIsWellFormedAndEscaped() {
    double[] x = {1, 10, 100, 1000};
    double[] y = {3, Double.NaN, 2, 1};
    XyChart chart =
        new XyChart("a <b> & \"c\"")
            .x("rate '<'")
            .y("loss")
            .logX()
            .logY()
            .description("]]> --> é")
            .faint(x, y)
            .line("line <1>", x, y)
            .dashed("dash", x, y)
            .points("points\u0000", x, y, new String[] {"<p>", "q", "r", "s"})
            .markX(30, "here & now")
            .markY(2.5, "limit");
    for (String svg : List.of(chart.inline(600, 300, "wide"), chart.standalone(600, 300))) {
      List<String> texts = texts(parse(svg));
      assertTrue(
          texts.containsAll(
              List.of("a <b> & \"c\"", "line <1>", "points\u2400", "<p>", "here & now", "limit")));
      assertFalse(svg.contains("NaN"));
      assertFalse(svg.contains("Infinity"));
      assertTrue(svg.contains("<title>") && svg.contains("<desc>"));
    }
    assertFalse(chart.standalone(600, 300).contains("http://www.w3.org/1999"));
  }

  @Test
  void linesBreakAtGapsAndLoneValuesShow() {
    String svg =
        new XyChart("t")
            .line("l", new double[] {1, 2, 3, 4, 5}, new double[] {1, 2, Double.NaN, 4, Double.NaN})
            .inline(400, 200, "");
    Matcher path = Pattern.compile("<path class=\"l c1\"[^>]* d=\"([^\"]*)\"").matcher(svg);
    assertTrue(path.find());
    assertTrue(path.group(1).matches("M[\\d.,]+L[\\d.,]+M[\\d.,]+h0"), path.group(1));
  }

  @Test
  void longSeriesAreThinnedButKeepTheirPeaks() {
    int n = 200_000;
    double[] x = new double[n];
    double[] y = new double[n];
    for (int i = 0; i < n; i++) {
      x[i] = i;
      y[i] = Math.sin(i * 0.01);
    }
    y[123_457] = 50;
    String svg = new XyChart("t").line("l", x, y).inline(880, 360, "");
    assertTrue(svg.length() < 150_000, () -> "length " + svg.length());
    Matcher top = Pattern.compile("[ML]([\\d.]+),([\\d.-]+)").matcher(svg);
    double highest = 1e9;
    double place = 0;
    while (top.find()) {
      if (Double.parseDouble(top.group(2)) < highest) {
        highest = Double.parseDouble(top.group(2));
        place = Double.parseDouble(top.group(1));
      }
    }
    assertTrue(highest < 50, "the peak is drawn near the top");
    assertEquals(123_457.0 / n, (place - 24) / 842, 0.05);
  }

  @Test
  void rareSpikesOfAFaintLineDoNotFlattenTheRest() {
    double[] x = new double[1000];
    double[] y = new double[1000];
    for (int i = 0; i < 1000; i++) {
      x[i] = i;
      y[i] = i % 500 == 7 ? 1e6 : 1 + i % 3;
    }
    List<String> texts =
        texts(
            parse(new XyChart("t").faint(x, y).line("l", x, x).yRange(0, 4).inline(400, 200, "")));
    assertTrue(texts.contains("4"));
    texts = texts(parse(new XyChart("t").faint(x, y).inline(400, 200, "")));
    assertTrue(texts.stream().noneMatch(t -> t.contains("M") || t.contains("k")), texts::toString);
  }

  @Test
  void picturesAreTheSameInEveryCountry() {
    Locale before = Locale.getDefault();
    try {
      Locale.setDefault(Locale.ROOT);
      String expected = sampleBars().standalone(500, 300) + sampleReport();
      for (String tag : List.of("de-DE", "ar-EG", "hi-IN-u-nu-deva", "tr-TR")) {
        Locale.setDefault(Locale.forLanguageTag(tag));
        assertEquals(expected, sampleBars().standalone(500, 300) + sampleReport(), tag);
      }
    } finally {
      Locale.setDefault(before);
    }
  }

  private static String sampleReport() {
    return new RunReport(
            "t",
            new Metrics(
                List.of(new Metrics.Step(1, 5.25, 1e-3, 1.5, 1234, 0.5, false)),
                List.of(new Metrics.Validation(1, 5.125))))
        .vocabSize(65)
        .page()
        .html();
  }

  private static BarChart sampleBars() {
    return new BarChart("Speed <x>", "GFLOP/s")
        .categories(
            "one & only", "a category with a very long name that cannot fit beside its bars")
        .series("ours", new double[] {1234, Double.NaN}, new double[] {10, 0})
        .series("peer", new double[] {1000, 900}, null)
        .mark(1300, "peak");
  }

  @Test
  void barsShowValuesErrorsAndLimits() {
    Document svg = parse(sampleBars().standalone(500, 300));
    List<String> texts = texts(svg);
    assertTrue(
        texts.containsAll(List.of("1234", "1000", "900", "peak", "GFLOP/s", "ours", "peer")),
        texts::toString);
    int bars = 0;
    NodeList rects = svg.getElementsByTagName("rect");
    for (int i = 0; i < rects.getLength(); i++) {
      bars += ((Element) rects.item(i)).getElementsByTagName("title").getLength();
    }
    assertEquals(3, bars);
    assertTrue(
        sampleBars().inline(500, 300, "").contains("one &amp; only, ours: 1234 ± 10 GFLOP/s"));
  }

  @Test
  void wrongSeriesAreRefused() {
    XyChart chart = new XyChart("t");
    assertThrows(
        IllegalArgumentException.class, () -> chart.line("l", new double[2], new double[3]));
    assertThrows(
        IllegalArgumentException.class,
        () -> chart.points("p", new double[2], new double[2], new String[1]));
    assertThrows(
        IllegalArgumentException.class,
        () -> new BarChart("t", "u").categories("a").series("s", new double[2], null));
  }
}
