"""The peer that training is held against: GPT-2 in PyTorch with bf16 autocast, the fastest attention
that it has here, fused AdamW and torch.compile, on the same tokens, batches and initial weights.

peer.py curve|speed|kernels FOLDER BATCH STEPS LAYERS HEADS CHANNELS CONTEXT VOCABULARY DEVICE
"""

import contextlib
import json
import struct
import sys
import time

import numpy
import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        batch, time_, width = x.shape
        parts = self.qkv(self.norm1(x)).split(width, dim=2)
        q, k, v = (p.view(batch, time_, self.heads, -1).transpose(1, 2) for p in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.projection(y.transpose(1, 2).reshape(batch, time_, width))
        return x + self.contract(F.gelu(self.expand(self.norm2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, layers, heads, width, context, vocabulary):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids, targets):
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.tokens.weight)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))


NAMES = {
    "norm1": "ln_1", "norm2": "ln_2", "qkv": "attn.c_attn", "projection": "attn.c_proj",
    "expand": "mlp.c_fc", "contract": "mlp.c_proj",
}


def load(model, path):
    """Reads weights that `GpuMain prepare` wrote: names of GPT-2, shapes [outputs, inputs]."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        start = file.tell()
        for name, parameter in model.named_parameters():
            parts = name.split(".")
            if parts[0] == "blocks":
                stored = f"h.{parts[1]}.{NAMES[parts[2]]}.{parts[3]}"
            else:
                stored = {"tokens": "wte", "positions": "wpe", "norm": "ln_f"}[parts[0]] + "." + parts[1]
            low, high = header[stored]["data_offsets"]
            file.seek(start + low)
            values = numpy.frombuffer(file.read(high - low), dtype=numpy.float32)
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(values.copy()).view(parameter.shape))


def batches(tokens, batch, time_, device):
    """Row r of step s starts at ((s * batch + r) * time) modulo what leaves room for a row. Batches
    are cut on the device, so that the host never waits for it."""
    room = len(tokens) - time_ - 1
    data = torch.from_numpy(tokens.astype(numpy.int64)).to(device)
    rows = torch.arange(batch, device=device)
    columns = torch.arange(time_ + 1, device=device)
    step = 0
    while True:
        taken = data[((step * batch + rows) * time_ % room)[:, None] + columns]
        yield taken[:, :-1].contiguous(), taken[:, 1:].contiguous()
        step += 1


def attentions(device):
    """The flash attentions that PyTorch has here, by name, each to be used in a `with`."""
    if device != "cuda":
        return {"default": contextlib.nullcontext}
    from torch.nn.attention import SDPBackend, sdpa_kernel

    kinds = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
    return {name: (lambda kind=kind: sdpa_kernel(kind)) for name, kind in kinds.items()}


def milliseconds(device, body, repeats):
    """The median, and nothing under way before or after."""
    times = []
    for _ in range(repeats + 3):
        wait(device)
        start = time.perf_counter()
        body()
        wait(device)
        times.append(time.perf_counter() - start)
    return 1e3 * sorted(times[3:])[repeats // 2]


def attention_times(device, batch, heads, context, size, repeats):
    """Milliseconds of attention, forward and with backward, by name; what fails is left out."""
    q, k, v = (torch.randn(batch, heads, context, size, device=device, dtype=torch.bfloat16,
                           requires_grad=True) for _ in range(3))
    gradient = torch.randn_like(q)

    def both():
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        torch.autograd.grad(out, (q, k, v), gradient)

    times = {}
    for name, choose in attentions(device).items():
        try:
            with choose():
                forward = milliseconds(
                    device, lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True), repeats)
                times[name] = forward, milliseconds(device, both, repeats)
        except RuntimeError as e:
            print(f"PyTorch has no {name} attention here: {str(e).splitlines()[0]}")
    return times


def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


def main():
    mode, folder, batch, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    layers, heads, width, context, vocabulary = map(int, sys.argv[5:10])
    device = sys.argv[10]
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")
    size = width // heads
    if mode == "kernels":
        return kernels(folder, batch, steps, heads, width, context, device)
    times = attention_times(device, min(batch, 16), heads, context, size, 5)
    fastest = min(times, key=lambda name: times[name][1], default="default")
    print(f"PyTorch's attention: {fastest}")
    while True:
        try:
            with attentions(device).get(fastest, contextlib.nullcontext)():
                return train(mode, folder, batch, steps,
                             (layers, heads, width, context, vocabulary), device)
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
            print(f"PyTorch has no room for a batch of {batch}")
        torch.cuda.empty_cache()
        batch //= 2


def train(mode, folder, batch, steps, sizes, device):
    layers, heads, width, context, vocabulary = sizes
    tokens = numpy.fromfile(folder + "/tokens.bin", dtype=numpy.uint16)
    model = Gpt(layers, heads, width, context, vocabulary).to(device)
    if mode == "curve":
        load(model, folder + "/init.safetensors")
    decay = [p for p in model.parameters() if p.dim() == 2]
    plain = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=6e-4, betas=(0.9, 0.95), fused=device == "cuda")
    # The curve needs no speed, and compiling takes a minute.
    run = torch.compile(model) if device == "cuda" and mode == "speed" else model
    source = batches(tokens, batch, context, device)
    losses, started, warm = [], None, 10 if mode == "speed" and device == "cuda" else 0
    for step in range(steps + warm):
        if step == warm:
            wait(device)
            started = time.perf_counter()
        x, y = next(source)
        for group in optimizer.param_groups:
            group["lr"] = 6e-4 * min(1.0, (step + 1) / 20)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = run(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.detach() if mode == "speed" else loss.item())
    wait(device)
    seconds = time.perf_counter() - started
    result = {"batch": batch, "context": context, "steps": steps, "seconds": seconds,
              "tokensPerSecond": steps * batch * context / seconds,
              "losses": [float(value) for value in losses]}
    if device == "cuda":
        result["memory"] = torch.cuda.max_memory_allocated()
    with open(f"{folder}/{mode}-peer.json", "w") as file:
        json.dump(result, file)
    print(f"PyTorch {mode}: {result['tokensPerSecond']:.0f} tok/s, first loss {losses[0]:.4f}, "
          f"last {losses[-1]:.4f}")


def kernels(folder, batch, repeats, heads, width, context, device):
    """Milliseconds of single operations, the median."""
    results = {}

    def timed(name, body):
        results[name] = milliseconds(device, body, repeats)

    kind = torch.bfloat16
    times = attention_times(device, batch, heads, context, width // heads, repeats)
    for name, (forward, both) in times.items():
        results[f"attention {name}, forward"] = forward
        results[f"attention {name}, forward and backward"] = both
    rows = batch * context
    x = torch.randn(rows, width, device=device, dtype=kind)
    w = torch.randn(4 * width, width, device=device, dtype=kind)
    timed(f"matmul {rows}x{4 * width}x{width}", lambda: x @ w.T)
    big = torch.randn(rows, 4 * width, device=device, dtype=kind)
    other = torch.empty_like(big)
    timed("copy of %.0f MB" % (big.numel() * 2e-6), lambda: other.copy_(big))
    with open(folder + "/kernels-peer.json", "w") as file:
        json.dump(results, file)
    for name, value in results.items():
        print(f"PyTorch {name}: {value:.3f} ms")


if __name__ == "__main__":
    main()
