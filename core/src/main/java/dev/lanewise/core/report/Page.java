package dev.lanewise.core.report;

import dev.lanewise.core.base.AtomicFile;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;

/**
 * A page that needs nothing but a browser: no server, no other file, no network. It follows the
 * reader's light or dark setting, fits phones, and prints. All text given to it is escaped.
 */
public final class Page {
  private static final String STYLE =
      Numbers.format(
          """
              :root{color-scheme:light dark;%s}
              @media(prefers-color-scheme:dark){:root{%s}}
              @media print{:root{color-scheme:light;%s}}
              *{box-sizing:border-box}
              body{margin:0;background:var(--paper);color:var(--ink);\
              font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
              main{max-width:936px;margin:0 auto;padding:40px 28px 64px}
              h1{font-size:28px;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em}
              h2{font-size:18px;margin:44px 0 12px}
              p{margin:0 0 12px;max-width:68ch}
              .sub{color:var(--soft);margin:0}
              .tiles{display:flex;flex-wrap:wrap;gap:20px 36px;margin:28px 0 32px;padding:20px 0;\
              border:solid var(--line);border-width:1px 0}
              .tiles div{display:flex;flex-direction:column-reverse}
              .tiles dd{margin:0;font-size:22px;line-height:1.25;font-weight:600;\
              font-variant-numeric:tabular-nums}
              .tiles dt{color:var(--soft);font-size:13px}
              figure{margin:24px 0 8px}.grid figure{margin:0}
              .chart{display:block;width:100%%;height:auto}
              .chart:focus-visible{outline:2px solid var(--s1);outline-offset:6px;border-radius:2px}
              .narrow{display:none}
              .grid{display:grid;grid-template-columns:1fr 1fr;gap:32px 40px;margin:32px 0 0}
              table{border-collapse:collapse;width:100%%;font-size:14px;font-variant-numeric:tabular-nums}
              th,td{text-align:left;padding:6px 16px 6px 0;border-bottom:1px solid var(--line);\
              vertical-align:top}
          .columns td{overflow-wrap:anywhere}
              thead th{color:var(--soft);font-weight:500}
              tbody th{font-weight:500;width:14em;color:var(--soft)}
              td.n,th.n{text-align:right}td.n{white-space:nowrap}
              .wide-table{overflow-x:auto;max-width:620px;margin:0 0 12px}
              .many{max-width:none}.many table{width:auto;min-width:100%%}
              .many td,.many th{white-space:nowrap}.many thead th{vertical-align:bottom}
              .columns{display:grid;grid-template-columns:1fr 1fr;gap:0 40px;align-items:start}
              pre{font:13px/1.55 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;\
              background:var(--panel);border:1px solid var(--line);border-radius:6px;padding:14px 16px;\
              margin:0 0 12px;white-space:pre-wrap;overflow-wrap:anywhere;tab-size:4}
              pre b{color:var(--s1);font-weight:600}
              details{margin:0 0 12px}
              summary{cursor:pointer;color:var(--soft);font-size:14px;margin:0 0 8px}
              footer{margin-top:56px;color:var(--soft);font-size:13px}
              #tip{position:fixed;pointer-events:none;background:var(--paper);color:var(--ink);\
              border:1px solid var(--line);border-radius:6px;padding:6px 10px;font-size:13px;\
              line-height:1.45;box-shadow:0 2px 10px rgb(0 0 0/.14);font-variant-numeric:tabular-nums;\
              white-space:nowrap;z-index:1}
              #tip i{display:inline-block;width:9px;height:9px;border-radius:50%%;margin-right:7px}
              #tip span{color:var(--soft)}
              @media(max-width:680px){main{padding:24px 16px 48px}.wide{display:none}\
              .narrow{display:block}.grid,.columns{grid-template-columns:1fr}.tiles{gap:16px 32px}\
              .tiles dd{font-size:20px}tbody th{width:10em}}
              @media print{main{max-width:none;padding:0}.many table{font-size:9px}\
              .many td,.many th{padding:3px 8px 3px 0}.many td:first-child{white-space:normal}figure,pre,tr,.tiles{break-inside:avoid}\
              h2,p:has(+table),p:has(+.many),summary{break-after:avoid}}
          """,
          Svg.COLOURS, Svg.DARK_COLOURS, Svg.COLOURS);

  /**
   * Shows the values under the pointer, or under a cursor that the arrow keys move. Everything is
   * readable without it.
   */
  private static final String SCRIPT =
      """
      (()=>{
      const tip=document.createElement('div');tip.id='tip';tip.hidden=true;document.body.append(tip);
      const at=(t,a,b,log)=>log?a*Math.pow(b/a,t):a+t*(b-a);
      const show=v=>{const s=Math.abs(v);return s!==0&&(s<1e-3||s>=1e9)?v.toExponential(2)
        :s>=1e4?Math.round(v).toLocaleString('en'):String(+v.toPrecision(4))};
      addEventListener('beforeprint',()=>{for(const d of document.querySelectorAll('details'))d.open=true});
      for(const svg of document.querySelectorAll('svg[data-f]')){
        const[l,t,r,b]=svg.dataset.f.split(',').map(Number);
        const x=svg.dataset.x.split(','),y=svg.dataset.y.split(',');
        const named=[...svg.querySelectorAll('[data-n]')].map(e=>({name:e.dataset.n,colour:e.dataset.c,
          places:e.dataset.p.split(' ').filter(Boolean).map(p=>p.split(',').map(Number))}))
          .filter(s=>s.places.length);
        if(!named.length)continue;
        const make=n=>document.createElementNS('http://www.w3.org/2000/svg',n);
        const hair=make('line');hair.setAttribute('class','a');hair.setAttribute('y1',t);
        hair.setAttribute('y2',b);hair.style.display='none';svg.append(hair);
        let cursor=r;
        const move=px=>{
          const lead=named.reduce((a,s)=>s.places.length>a.places.length?s:a);
          const near=s=>s.places.reduce((a,p)=>Math.abs(p[0]-px)<Math.abs(a[0]-px)?p:a);
          const place=near(lead);cursor=place[0];
          hair.setAttribute('x1',place[0]);hair.setAttribute('x2',place[0]);hair.style.display='';
          tip.replaceChildren();
          const v=at((place[0]-l)/(r-l),+x[0],+x[1],+x[2]);
          const head=document.createElement('span');
          const name=x.slice(4).join(',')||'x';
          const tell=v=>name+' '+(+x[3]?Math.round(v).toLocaleString('en'):show(v));
          head.textContent=tell(v);
          tip.append(head);
          for(const s of named){const p=near(s);
            if(Math.abs(p[0]-place[0])>(r-l)/12)continue;
            const row=document.createElement('div'),dot=document.createElement('i');
            dot.style.background='var(--s'+s.colour+')';
            row.append(dot,s.name+' '+show(at((b-p[1])/(b-t),+y[0],+y[1],+y[2])));
            if(Math.abs(p[0]-place[0])>1){const own=document.createElement('span');
              own.textContent=' ('+tell(at((p[0]-l)/(r-l),+x[0],+x[1],+x[2]))+')';row.append(own)}
            tip.append(row)}
          tip.hidden=false;
          const box=svg.getBoundingClientRect(),k=box.width/svg.viewBox.baseVal.width;
          let left=box.left+place[0]*k+14;
          if(left+tip.offsetWidth>innerWidth-8)left=box.left+place[0]*k-14-tip.offsetWidth;
          tip.style.left=Math.max(4,left)+'px';tip.style.top=box.top+(t+8)*k+'px'};
        const hide=()=>{tip.hidden=true;hair.style.display='none'};
        svg.addEventListener('pointermove',e=>{const box=svg.getBoundingClientRect();
          move((e.clientX-box.left)/box.width*svg.viewBox.baseVal.width)});
        svg.addEventListener('pointerleave',hide);svg.addEventListener('blur',hide);
        svg.addEventListener('keydown',e=>{const d={ArrowLeft:-1,ArrowRight:1}[e.key];
          if(e.key==='Escape')hide();
          if(d){e.preventDefault();move(Math.min(r,Math.max(l,cursor+d*(r-l)/60)))}});
      }})();
      """;

  /** A table with more columns may take the page's whole width, and be moved under its frame. */
  private static final int MOST_COLUMNS = 4;

  private final String title;
  private final StringBuilder body = new StringBuilder(1 << 14);

  /**
   * Starts a page.
   *
   * @param title its heading
   * @param subtitle one line beneath, or empty
   */
  public Page(String title, String subtitle) {
    this.title = title;
    element("h1", title);
    if (!subtitle.isEmpty()) {
      body.append("<p class=\"sub\">").append(Markup.escape(subtitle)).append("</p>\n");
    }
  }

  private void element(String name, String text) {
    body.append('<').append(name).append('>').append(Markup.escape(text));
    body.append("</").append(name).append(">\n");
  }

  /** Starts a section. */
  public Page heading(String text) {
    element("h2", text);
    return this;
  }

  /** Adds a paragraph. */
  public Page paragraph(String text) {
    element("p", text);
    return this;
  }

  /** Adds the few numbers that matter most, each with its name. */
  public Page figures(Map<String, String> figures) {
    if (!figures.isEmpty()) {
      body.append("<dl class=\"tiles\">\n");
      figures.forEach(
          (name, value) -> {
            body.append("<div>");
            body.append("<dt>").append(Markup.escape(name)).append("</dt>");
            body.append("<dd>").append(Markup.escape(value)).append("</dd></div>\n");
          });
      body.append("</dl>\n");
    }
    return this;
  }

  /** Adds a chart over the page's width. */
  public Page chart(XyChart chart) {
    return figure(chart, 880, 360, 360, 280);
  }

  /** Adds bars over the page's width, as high as they need. */
  public Page chart(BarChart chart) {
    return figure(chart, 880, chart.naturalHeight(), 360, chart.narrowHeight());
  }

  private Page figure(Chart chart, int width, int height, int narrowWidth, int narrowHeight) {
    body.append("<figure>\n");
    body.append(chart.inline(width, height, "wide"));
    body.append(chart.inline(narrowWidth, narrowHeight, "narrow"));
    body.append("</figure>\n");
    return this;
  }

  /** Adds small charts, two beside each other where there is room. */
  public Page smallCharts(List<? extends Chart> charts) {
    body.append("<div class=\"grid\">\n");
    for (Chart chart : charts) {
      body.append("<figure>\n").append(chart.inline(420, 230, "small")).append("</figure>\n");
    }
    body.append("</div>\n");
    return this;
  }

  /** Adds names and values in two columns. */
  public Page facts(Map<String, ?> facts) {
    if (!facts.isEmpty()) {
      List<? extends Map.Entry<String, ?>> all = List.copyOf(facts.entrySet());
      int half = (all.size() + 1) / 2;
      body.append("<div class=\"columns\">\n");
      factTable(all.subList(0, half));
      factTable(all.subList(half, all.size()));
      body.append("</div>\n");
    }
    return this;
  }

  private void factTable(List<? extends Map.Entry<String, ?>> facts) {
    body.append("<table><tbody>\n");
    for (Map.Entry<String, ?> fact : facts) {
      body.append("<tr><th scope=\"row\">")
          .append(Markup.escape(fact.getKey()))
          .append("</th><td>");
      body.append(Markup.escape(String.valueOf(fact.getValue()))).append("</td></tr>\n");
    }
    body.append("</tbody></table>\n");
  }

  /**
   * Adds a table. Columns whose values are all numbers are set flush right.
   *
   * @param header names of the columns
   * @param rows values, as many in each row
   * @return this page
   */
  public Page table(List<String> header, List<List<String>> rows) {
    boolean[] numeric = new boolean[header.size()];
    for (int c = 0; c < numeric.length; c++) {
      int column = c;
      numeric[c] =
          !rows.isEmpty()
              && rows.stream().allMatch(row -> row.get(column).matches("[-−+±×%.,\\d\\skMGeE]*"));
    }
    boolean isWide = header.size() > MOST_COLUMNS;
    body.append(isWide ? "<div class=\"wide-table many\">" : "<div class=\"wide-table\">");
    body.append("<table><thead><tr>");
    for (int c = 0; c < numeric.length; c++) {
      body.append("<th scope=\"col\"").append(numeric[c] ? " class=\"n\">" : ">");
      body.append(Markup.escape(header.get(c))).append("</th>");
    }
    body.append("</tr></thead><tbody>\n");
    for (List<String> row : rows) {
      body.append("<tr>");
      for (int c = 0; c < numeric.length; c++) {
        body.append(numeric[c] ? "<td class=\"n\">" : "<td>");
        body.append(Markup.escape(row.get(c))).append("</td>");
      }
      body.append("</tr>\n");
    }
    body.append("</tbody></table></div>\n");
    return this;
  }

  /** Adds what only some readers want to see; it is folded until they ask for it. */
  public Page folded(String summary, Page content) {
    body.append("<details><summary>").append(Markup.escape(summary)).append("</summary>\n");
    body.append(content.body).append("</details>\n");
    return this;
  }

  /** Starts the content of a fold. */
  public static Page fragment() {
    Page page = new Page("", "");
    page.body.setLength(0);
    return page;
  }

  /**
   * Adds text as it is, its line breaks kept.
   *
   * @param emphasised a beginning to set apart, such as a prompt; may be empty
   * @param text the rest
   * @return this page
   */
  public Page text(String emphasised, String text) {
    // The line feed after <pre> is dropped by browsers, so that one in the text is kept.
    body.append("<pre>\n");
    if (!emphasised.isEmpty()) {
      body.append("<b>").append(Markup.escape(emphasised)).append("</b>");
    }
    body.append(Markup.escape(text)).append("</pre>\n");
    return this;
  }

  /** The whole page. */
  public String html() {
    return Numbers.format(
        """
        <!doctype html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width,initial-scale=1">
        <meta name="generator" content="Lanewise">
        <link rel="icon" href="data:,">
        <title>%s</title>
        <style>
        %s%s</style>
        </head>
        <body>
        <main>
        %s<footer>Made by Lanewise.</footer>
        </main>
        <script>
        %s</script>
        </body>
        </html>
        """,
        Markup.escape(title), STYLE, Svg.STYLE, body, SCRIPT);
  }

  /**
   * Writes the page, complete or not at all.
   *
   * @param file the file to make or replace
   * @throws dev.lanewise.core.base.InputException if it cannot be written
   */
  public void write(Path file) {
    AtomicFile.writeText(file, html());
  }
}
