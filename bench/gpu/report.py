"""Makes report.md and report.html of what bench/gpu/run has left so far:  report.py RESULTS OUT"""

import html
import json
import os
import re
import sys

results, out = sys.argv[1], sys.argv[2]
TOKENS_WANTED = 450_000


def read(name):
    path = os.path.join(results, name)
    if not os.path.exists(path):
        return None
    with open(path) as file:
        try:
            return json.load(file) if name.endswith(".json") else file.read()
        except ValueError:
            return None


class Report:
    """Headings, paragraphs, tables and drawings, as Markdown and as HTML."""

    def __init__(self):
        self.markdown, self.page = [], []

    def heading(self, level, text):
        self.markdown.append("#" * level + " " + text + "\n")
        self.page.append(f"<h{level}>{html.escape(text)}</h{level}>")

    def paragraph(self, text):
        self.markdown.append(text + "\n")
        self.page.append(f"<p>{html.escape(text)}</p>")

    def code(self, text):
        self.markdown.append("```\n" + text.strip() + "\n```\n")
        self.page.append(f"<pre>{html.escape(text.strip())}</pre>")

    def table(self, head, rows):
        lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
        lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
        self.markdown.append("\n".join(lines) + "\n")
        cells = lambda tag, row: "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in row)
        body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
        self.page.append(f"<table><tr>{cells('th', head)}</tr>{body}</table>")

    def curves(self, series):
        """Lines over steps: series of (name, colour, dashed, values)."""
        values = [v for s in series for v in s[3]]
        low, high, steps = min(values), max(values), max(len(s[3]) for s in series)
        span = max(high - low, 1e-9)
        parts = []
        for i, (name, colour, dash, points) in enumerate(series):
            path = " ".join(
                f"{60 + 820 * k / max(1, steps - 1):.1f},{300 - 260 * (v - low) / span:.1f}"
                for k, v in enumerate(points))
            style = ' stroke-dasharray="6 4"' if dash else ""
            parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2"{style} '
                         f'points="{path}"/>')
            parts.append(f'<text x="{80 + 260 * i}" y="20" fill="{colour}">{name}</text>')
        for k in range(5):
            y, v = 300 - 65 * k, low + span * k / 4
            parts.append(f'<text x="4" y="{y + 4}">{v:.3g}</text><line x1="60" x2="880" y1="{y}" '
                         f'y2="{y}" stroke="currentColor" opacity="0.15"/>')
        parts.append(f'<text x="760" y="320">step 1 to {steps}</text>')
        self.page.append(f'<svg viewBox="0 0 900 330" role="img">{"".join(parts)}</svg>')

    def write(self):
        with open(os.path.join(out, "report.md"), "w") as file:
            file.write("\n".join(self.markdown))
        with open(os.path.join(out, "report.html"), "w") as file:
            file.write(STYLE + "\n".join(self.page))


STYLE = """<!doctype html><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>GPU report</title><style>
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;
margin:2rem auto;padding:0 1rem}table{border-collapse:collapse;margin:1rem 0}
td,th{padding:.2rem .8rem .2rem 0;text-align:left;border-bottom:1px solid #8884}
pre{overflow:auto;padding:.6rem;background:#8881;font-size:12px}svg{width:100%}
svg text{font-size:12px;fill:currentColor}</style>
"""

report = Report()
report.heading(1, "GPU report")
report.code(read("machine.txt") or "")

steps = [line.split() for line in (read("steps.txt") or "").splitlines()]
codes = {name: code for name, code, _ in steps}


def verdict(name):
    found = [code for step, code in codes.items() if step == name or step.startswith(name + "-")]
    return "not run" if not found else "NO" if any(code != "0" for code in found) else "yes"


ours, peer = read("curve.json"), read("curve-peer.json")
speed, speed_peer = read("speed.json"), read("speed-peer.json")
best = max((run["tokensPerSecond"] for run in speed["runs"]), default=0) if speed else 0
rows = [
    ["a GPU and its libraries are found", verdict("probe"), ""],
    ["ten steps of training as on the CPU, in fp32, tf32 and bf16", verdict("parity"), ""],
    ["every operation as on the CPU, in fp32, tf32 and bf16", verdict("check"), ""],
    ["every golden value in fp32", verdict("golden-fp32"), ""],
    ["every golden value in tf32", verdict("golden-tf32"), ""],
]
if ours and peer:
    pairs = list(zip(ours["losses"], peer["losses"]))
    apart = [abs(a - b) for a, b in pairs]
    tail = sum(apart[-20:]) / len(apart[-20:])
    rows.append([f"{len(pairs)} steps along PyTorch's losses", "yes" if tail < 0.05 else "NO",
                 f"mean distance of the last {len(apart[-20:])}: {tail:.4f}"])
else:
    rows.append(["steps along PyTorch's losses", "not run", ""])
if speed:
    rows.append([f"at least {TOKENS_WANTED} tokens/s", "yes" if best >= TOKENS_WANTED else "NO",
                 f"{best:.0f}"])
if speed and speed_peer:
    ratio = best / speed_peer["tokensPerSecond"]
    rows.append(["at least as fast as PyTorch, compiled", "yes" if ratio >= 1 else "NO",
                 f"{ratio:.3f}"])
report.table(["", "holds", ""], rows)
report.table(["step", "exit code", "seconds"], steps)

if speed:
    report.heading(2, "Speed")
    rate = speed_peer["tokensPerSecond"] if speed_peer else float("nan")
    rows = [[f"Lanewise, epilogues {run['epilogue']}", run["batch"],
             f"{run['tokensPerSecond']:.0f}", f"{run['tokensPerSecond'] / rate:.3f}"]
            for run in speed["runs"]]
    if speed_peer:
        memory = f", {speed_peer['memory'] / 2**30:.1f} GiB" if "memory" in speed_peer else ""
        rows.append([f"PyTorch, compiled{memory}", speed_peer["batch"], f"{rate:.0f}", "1"])
    report.table(["trainer", "batch", "tokens/s", "to PyTorch"], rows)
    total = sum(k["milliseconds"] for k in speed["kernels"])
    rows = [[k["name"], f"{k['count']:g}", f"{k['milliseconds']:.3f}",
             f"{100 * k['milliseconds'] / max(total, 1e-9):.1f} %"] for k in speed["kernels"]]
    report.table(["kernel", "launches a step", "ms a step", "share"], rows)
    report.paragraph(f"Sum of kernels: {total:.2f} ms a step.")
kernels = read("kernels-peer.json")
if kernels:
    report.table(["PyTorch alone", "ms"], [[n, f"{v:.3f}"] for n, v in kernels.items()])

if ours and peer:
    report.heading(2, "Loss on the same tokens, batches and initial weights")
    report.curves([("PyTorch", "#2a78d6", False, peer["losses"]),
                   ("Lanewise", "#d1621b", True, ours["losses"])])
    count = len(pairs)
    chosen = sorted(set(list(range(0, count, max(1, count // 10))) + [count - 1]))
    report.table(["step", "Lanewise", "PyTorch", "apart"],
                 [[i + 1, f"{pairs[i][0]:.4f}", f"{pairs[i][1]:.4f}", f"{apart[i]:.4f}"]
                  for i in chosen])

for name, _, _ in steps:
    log = read(name + ".log")
    if log:
        report.heading(2, name)
        report.code(re.sub(r"\x1b\[[0-9;]*m", "", log)[-3000:])
report.write()
