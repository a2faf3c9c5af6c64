"""Speaks for PyTorch: performs cases on request, one line a question, one line an answer."""

import gc
import math
import os
import socket
import sys
import threading
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def mixed(count, operand):
    h = np.arange(count, dtype=np.uint32) + np.uint32(operand * 0x9E3779B1 % 2**32)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x7FEB352D)
    h ^= h >> np.uint32(15)
    h *= np.uint32(0x846CA68B)
    h ^= h >> np.uint32(16)
    return h


def floats(operand, *shape):
    h = mixed(math.prod(shape), operand)
    values = (h >> np.uint32(8)).astype(np.float32) * np.float32(2**-23) - np.float32(1)
    return torch.from_numpy(values.reshape(shape))


def below(operand, bound, *shape):
    h = (mixed(math.prod(shape), operand) >> np.uint32(1)).astype(np.int64) % bound
    return torch.from_numpy(h.reshape(shape))


MODES = set(os.environ.get("LANEWISE_PEER_MODE", "").split())


def is_bf16(c):
    """Whether matrices are multiplied at 16 bits: asked for by the case, or by how this peer runs."""
    return c.get("precision") == "bf16" or "bf16" in MODES


def compiled(function):
    """What torch.compile makes of a function, if this peer runs with it."""
    return torch.compile(function) if "compile" in MODES else function


class Gpt2(nn.Module):
    """GPT-2 as one would write it in PyTorch today."""

    def __init__(self, layers, heads, width, vocabulary, context):
        super().__init__()
        self.heads = heads
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm1": nn.LayerNorm(width),
                    "qkv": nn.Linear(width, 3 * width),
                    "out": nn.Linear(width, width),
                    "norm2": nn.LayerNorm(width),
                    "up": nn.Linear(width, 4 * width),
                    "down": nn.Linear(4 * width, width),
                }
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, 0, 0.02)

    def forward(self, ids, cache=None):
        batch, length = ids.shape
        past = 0 if cache is None else cache["past"]
        x = self.tokens(ids) + self.positions(torch.arange(past, past + length, device=ids.device))
        for i, block in enumerate(self.blocks):
            qkv = block["qkv"](block["norm1"](x)).view(batch, length, 3, self.heads, -1)
            q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
            if cache is not None:
                keys, values = cache["layers"][i]
                keys[:, :, past : past + length] = k
                values[:, :, past : past + length] = v
                k, v = keys[:, :, : past + length], values[:, :, : past + length]
            y = F.scaled_dot_product_attention(q, k, v, is_causal=length > 1)
            x = x + block["out"](y.transpose(1, 2).reshape(batch, length, -1))
            x = x + block["down"](F.gelu(block["up"](block["norm2"](x)), approximate="tanh"))
        return F.linear(self.norm(x) if cache is None else self.norm(x[:, -1:]), self.tokens.weight)


def model(c):
    torch.manual_seed(1)
    return Gpt2(
        c["layers"], c["heads"], c["width"], c["vocabulary"], c["tokens"] + c.get("new", 0)
    )


def train(c):
    device = c.get("device", "cpu")
    net = model(c).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-4, weight_decay=0.1, fused=True)
    ids = below(1, c["vocabulary"], c["batch"], c["tokens"]).to(device)
    targets = below(2, c["vocabulary"], c["batch"], c["tokens"]).to(device)
    mixed_precision = device == "cuda" or is_bf16(c)

    def forward():
        with torch.autocast(device, dtype=torch.bfloat16, enabled=mixed_precision):
            logits = net(ids)
            return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))

    forward = compiled(forward)
    if "compile" in MODES:
        forward().backward()  # compiles both passes; the model learns nothing from it
        optimizer.zero_grad(set_to_none=True)

    def step():
        loss = forward()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        return loss.detach().reshape(1)

    return step


def generate(c):
    # Every new token has a longer past: torch.compile would begin anew, again and again.
    # Nor has PyTorch weights of 8 bits for a processor without another package.
    if c.get("device", "cpu") != "cpu" or "compile" in MODES or c.get("weights") == "q8_0":
        return None
    net = model(c).eval()
    heads, width = c["heads"], c["width"]
    new, prompt = c["new"], c["tokens"]
    ids = below(1, c["vocabulary"], 1, prompt)
    shape = (1, heads, prompt + new, width // heads)
    dtype = torch.bfloat16 if is_bf16(c) else torch.float32
    if dtype == torch.bfloat16:
        net = net.to(dtype)
    layers = [(torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=dtype)) for _ in net.blocks]

    def run():
        with torch.no_grad():
            cache = {"past": 0, "layers": layers}
            net(ids[:, :-1], cache)
            cache["past"] = prompt - 1
            token = ids[:, -1:]
            for _ in range(new):
                logits = net(token, cache)
                cache["past"] += 1
                token = logits[:, -1].argmax(-1, keepdim=True)
            return token.reshape(-1).float()

    return run


def backward(output, inputs, gradient):
    return lambda: torch.autograd.grad(output(), inputs, gradient)


def job(operation, c):
    """Returns a function that performs the case and returns its result, or None."""
    if MODES and operation not in ("train", "generate"):
        return None
    if "bf16" in MODES and "compile" not in MODES and c.get("precision") == "bf16":
        return None  # what PyTorch without this mode does for such a case
    if operation == "gemm":
        m, n, k, batch = c["m"], c["n"], c["k"], c.get("batch", 1)
        ta, tb = c.get("layout", "NN")
        if not is_bf16(c):
            return None  # products of floats have the BLAS libraries themselves beside them
        dtype = torch.bfloat16
        a = floats(1, batch, k, m).to(dtype).mT if ta == "T" else floats(1, batch, m, k).to(dtype)
        b = floats(2, batch, n, k).to(dtype).mT if tb == "T" else floats(2, batch, k, n).to(dtype)
        out = torch.empty(batch, m, n, dtype=dtype)
        if batch == 1:
            return lambda: torch.mm(a[0], b[0], out=out[0])
        return lambda: torch.bmm(a, b, out=out)
    if operation == "linear":
        m, n, k = c["m"], c["n"], c["k"]
        x, w, bias, add = floats(1, m, k), floats(2, n, k), floats(3, n), floats(4, m, n)
        return {
            "none": lambda: F.linear(x, w),
            "bias": lambda: F.linear(x, w, bias),
            "gelu": lambda: F.gelu(F.linear(x, w, bias), approximate="tanh"),
            "residual": lambda: F.linear(x, w, bias) + add,
        }[c["epilogue"]]
    if operation in ("gelu", "geluBackward"):
        x, g = floats(1, c["rows"], c["cols"]), floats(2, c["rows"], c["cols"])
        if operation == "gelu":
            return lambda: F.gelu(x, approximate="tanh")
        return lambda: torch.ops.aten.gelu_backward(g, x, approximate="tanh")
    if operation in ("exp", "tanh", "log", "erf"):
        x = floats(1, c["count"])
        x = x.abs() + 1e-3 if operation == "log" else x * 4
        return lambda: getattr(torch, operation)(x)
    if operation == "sumOfSquares":
        x = floats(1, c["count"])
        return lambda: torch.linalg.vector_norm(x).square().reshape(1)
    if operation == "softmax":
        x = floats(1, c["rows"], c["cols"])
        return lambda: torch.softmax(x, 1)
    if operation in ("layerNorm", "layerNormBackward"):
        rows, cols = c["rows"], c["cols"]
        x, w, b = floats(1, rows, cols), floats(2, cols), floats(3, cols)
        if operation == "layerNorm":
            return lambda: F.layer_norm(x, (cols,), w, b, 1e-5)
        g = floats(4, rows, cols)
        _, mean, rstd = torch.ops.aten.native_layer_norm(x, (cols,), w, b, 1e-5)
        mask = [True, True, True]
        return lambda: torch.ops.aten.native_layer_norm_backward(
            g, x, (cols,), mean, rstd, w, b, mask
        )[0]
    if operation == "crossEntropy":
        logits = floats(1, c["rows"], c["cols"]).requires_grad_(True)
        targets = below(2, c["cols"], c["rows"])

        def both():
            logits.grad = None
            F.cross_entropy(logits, targets).backward()
            return logits.grad

        return both
    if operation == "linearCrossEntropy":
        x = floats(1, c["tokens"], c["width"]).requires_grad_(True)
        w = (floats(2, c["vocabulary"], c["width"]) * 0.02).requires_grad_(True)
        targets = below(3, c["vocabulary"], c["tokens"])

        def head():
            x.grad = w.grad = None
            F.cross_entropy(F.linear(x, w), targets).backward()
            return x.grad

        return head
    if operation in ("attention", "attentionBackward"):
        b, t, h, d = c["batch"], c["tokens"], c["heads"], c["head"]
        qkv = floats(1, b, t, 3, h, d).permute(2, 0, 3, 1, 4)
        q, k, v = (z.contiguous() for z in qkv.unbind(0))
        if operation == "attention":
            return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
        for z in (q, k, v):
            z.requires_grad_(True)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        g = floats(2, b, t, h, d).transpose(1, 2).contiguous()

        def gradient():
            grads = torch.autograd.grad(y, (q, k, v), g, retain_graph=True)
            return grads

        gradient.collect = lambda r: r[0].transpose(1, 2)
        return gradient
    if operation == "embedding":
        table, ids = floats(1, c["vocabulary"], c["width"]), below(2, c["vocabulary"], c["tokens"])
        return lambda: F.embedding(ids, table)
    if operation == "adamW":
        p = nn.Parameter(floats(1, c["count"]))
        p.grad = floats(2, c["count"])
        optimizer = torch.optim.AdamW([p], lr=3e-4, weight_decay=0.1, fused=True)

        def update():
            optimizer.step()
            return p.detach()

        return update
    if operation == "train":
        return train(c)
    if operation == "generate":
        return generate(c)
    return None


def number(text):
    try:
        return int(text)
    except ValueError:
        return text


def converse(conversation):
    run = result = None

    def say(line):
        conversation.write(line + "\n")
        conversation.flush()

    for line in conversation:
        words = line.split()
        try:
            if words[0] == "case":
                c = {k: number(v) for k, v in (w.split("=") for w in words[2:])}
                torch.set_num_threads(c["threads"])
                try:
                    run = job(words[1], c)
                except Exception as e:  # no compiler here, or one that it cannot use
                    if "compile" not in MODES:
                        raise
                    run = None
                    say("skip cannot compile: " + str(e).strip().split("\n")[0])
                    continue
                say("ok" if run else "skip does not know " + words[1])
            elif words[0] == "run":
                for _ in range(int(words[1])):
                    result = run()
                start = time.perf_counter_ns()
                for _ in range(int(words[2])):
                    result = run()
                say("nanos %d" % (time.perf_counter_ns() - start))
            elif words[0] == "result":
                whole = getattr(run, "collect", lambda r: r)(result)
                flat = whole.detach().reshape(-1)
                say("values " + " ".join(repr(float(flat[int(w)])) for w in words[1:]))
            else:
                say("error no such request: " + words[0])
        except Exception as e:  # every failure is an answer
            say("error " + type(e).__name__ + " " + str(e).replace("\n", " "))


def end_with_input():
    sys.stdin.read()
    os._exit(0)


def main():
    answers = sys.stdout
    sys.stdout = sys.stderr
    threading.Thread(target=end_with_input, daemon=True).start()
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.environ["LANEWISE_PEER_SOCKET"])
    server.listen(1)
    memory = os.environ.get("LANEWISE_PEER_MEMORY", "")
    names = {"bf16": "products at 16 bits (bf16)", "compile": "torch.compile"}
    mode = "".join(", " + names[m] for m in sorted(MODES))
    answers.write("ready PyTorch " + torch.__version__ + mode + memory + "\n")
    answers.flush()
    while True:
        connection, _ = server.accept()
        try:
            with connection, connection.makefile("rw") as conversation:
                converse(conversation)
        except OSError:
            pass  # whoever asked is gone; the next one may come
        gc.collect()


main()
