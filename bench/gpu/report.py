"""Makes one report of what bench/gpu/run left in a folder:  report.py FOLDER"""

import json
import os
import sys

folder = sys.argv[1]


def read(name):
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return None
    with open(path) as file:
        return json.load(file) if name.endswith(".json") else file.read()


print("# GPU report\n")
print("```\n" + (read("machine.txt") or "").strip() + "\n```\n")
print("| step | exit | seconds |\n| --- | --- | --- |")
for line in (read("steps.txt") or "").splitlines():
    print("| " + " | ".join(line.split()) + " |")

for name in ("probe", "check", "parity"):
    text = read(name + ".log")
    if text:
        print(f"\n## {name}\n\n```\n{text.strip()[-3000:]}\n```")

ours, peer = read("curve.json"), read("curve-peer.json")
if ours and peer:
    a, b = ours["losses"], peer["losses"]
    apart = [abs(x - y) for x, y in zip(a, b)]
    print("\n## Loss on the same tokens, batches and initial weights\n")
    print("| step | Lanewise | PyTorch | apart |\n| --- | --- | --- | --- |")
    for i in sorted(set(list(range(0, len(a), max(1, len(a) // 10))) + [len(a) - 1])):
        print(f"| {i + 1} | {a[i]:.4f} | {b[i]:.4f} | {apart[i]:.4f} |")
    tail = apart[-20:]
    print(f"\nLargest difference {max(apart):.4f}; mean of the last {len(tail)}: "
          f"{sum(tail) / len(tail):.4f}.")

speed, peer = read("speed.json"), read("speed-peer.json")
if speed:
    print("\n## Speed\n")
    print("| trainer | tokens/s | ratio to PyTorch |\n| --- | --- | --- |")
    rate = peer["tokensPerSecond"] if peer else float("nan")
    for run in speed["runs"]:
        print(f"| Lanewise, epilogues {run['epilogue']}, batch {run['batch']} | "
              f"{run['tokensPerSecond']:.0f} | {run['tokensPerSecond'] / rate:.3f} |")
    if peer:
        print(f"| PyTorch, compiled, batch {peer['batch']} | {rate:.0f} | 1 |")
    print("\n| kernel | launches a step | ms a step | share |\n| --- | --- | --- | --- |")
    total = sum(k["milliseconds"] for k in speed["kernels"])
    for k in speed["kernels"]:
        print(f"| {k['name']} | {k['count']:g} | {k['milliseconds']:.3f} | "
              f"{100 * k['milliseconds'] / max(total, 1e-9):.1f} % |")
    print(f"\nSum of kernels: {total:.2f} ms a step.")
kernels = read("kernels-peer.json")
if kernels:
    print("\n| PyTorch alone | ms |\n| --- | --- |")
    for name, value in kernels.items():
        print(f"| {name} | {value:.3f} |")
