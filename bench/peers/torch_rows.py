"""The rows in PyTorch: eager or torch.compile, fused attention and optimizers, float32."""
import os

import numpy as np
import torch
import torch.nn.functional as F

import arrays
import loramuon
from rows import ADAM_RATE, DECODERS, LORA_RANK, LORA_SCALE, PROJECTIONS, SGD_RATE

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def tensor(x):
    return torch.from_numpy(np.ascontiguousarray(x))


class Product:
    def __init__(self, given):
        self.x, self.y = tensor(given["x"]), tensor(given["y"])
        self.out = torch.empty(self.x.shape[0], self.y.shape[1])

    @torch.no_grad()
    def step(self, mark):
        torch.mm(self.x, self.y, out=self.out)
        return {}


class Model:
    """The decoder of Decoder c; lab has norms without weights, q and k normed, and relu² in a plain MLP."""

    def __init__(self, c, weights, lab, adapters=None):
        self.c, self.w, self.lab, self.adapters = c, weights, lab, adapters or {}
        f = c.base ** (-torch.arange(0, c.head, 2, dtype=torch.float64) / c.head)
        angle = torch.arange(c.length, dtype=torch.float64)[:, None] * f
        angle = torch.cat([angle, angle], -1)
        self.cos, self.sin = angle.cos().float(), angle.sin().float()

    def norm(self, x, name):
        return F.rms_norm(x, x.shape[-1:], None if self.lab else self.w[name + ".weight"], self.c.eps)

    def linear(self, x, name):
        y = F.linear(x, self.w[name + ".weight"])
        if name in self.adapters:
            down, up = self.adapters[name]  # [r, n] and [m, r], as PEFT keeps them
            y = y + F.linear(F.linear(x, down), up) * LORA_SCALE
        return y

    def heads(self, x, count):
        return x.view(self.c.rows, self.c.length, count, self.c.head).transpose(1, 2)

    def rotate(self, x):
        a, b = x.chunk(2, -1)
        return x * self.cos + torch.cat([-b, a], -1) * self.sin

    def block(self, x, at):
        c, name = self.c, f"model.layers.{at}."
        h = self.norm(x, name + "input_layernorm")
        q = self.heads(self.linear(h, name + "self_attn.q_proj"), c.heads)
        k = self.heads(self.linear(h, name + "self_attn.k_proj"), c.kv_heads)
        v = self.heads(self.linear(h, name + "self_attn.v_proj"), c.kv_heads)
        if self.lab:
            q, k = self.norm(q, ""), self.norm(k, "")
        o = F.scaled_dot_product_attention(self.rotate(q), self.rotate(k), v, is_causal=True, enable_gqa=c.heads != c.kv_heads)
        x = x + self.linear(o.transpose(1, 2).reshape(c.rows, c.length, -1), name + "self_attn.o_proj")
        h = self.norm(x, name + "post_attention_layernorm")
        if self.lab:
            h = F.relu(self.linear(h, name + "mlp.up_proj")).square()
        else:
            h = F.silu(self.linear(h, name + "mlp.gate_proj")) * self.linear(h, name + "mlp.up_proj")
        return x + self.linear(h, name + "mlp.down_proj")

    def loss(self, tokens, targets):
        x = F.embedding(tokens, self.w["model.embed_tokens.weight"])
        if self.lab:
            x = self.norm(x, "")
        for i in range(self.c.layers):
            x = self.block(x, i)
        x = self.norm(x, "model.norm")
        head = self.w["model.embed_tokens.weight" if not self.lab else "lm_head.weight"]
        return F.cross_entropy(F.linear(x, head).view(-1, self.c.vocabulary), targets.view(-1))


def batch(given):
    return [tensor(given.pop(name).astype(np.int64)) for name in ("tokens", "targets")]


class Step:
    """Loss, gradients and an optimizer's step."""

    def __init__(self, loss, parameters, optimizer, args, compiled):
        self.loss, self.parameters, self.optimizer, self.args = loss, parameters, optimizer, args
        if compiled:
            self.loss = torch.compile(loss)
        self.first = True

    def step(self, mark):
        loss = self.loss(*self.args)
        loss.backward()
        mark("gradient")
        answer = {}
        if self.first:
            answer["norm"] = float(sum(p.grad.double().square().sum() for p in self.parameters) ** 0.5)
            self.first = False
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        mark("optimizer")
        return {"loss": loss.item(), **answer}


def open_lab(row, given, compiled):
    args = batch(given)
    weights = {name: tensor(x).requires_grad_() for name, x in given.items()}
    model = Model(DECODERS[row], weights, lab=True)
    parameters = list(weights.values())
    return Step(model.loss, parameters, torch.optim.SGD(parameters, SGD_RATE, fused=True), args, compiled)


def open_lora(given, variant):
    c, args = DECODERS["lora"], batch(given)
    factors = {name[len("adapter."):]: given.pop(name) for name in list(given) if name.startswith("adapter.")}
    if variant == "peft":
        return open_peft(c, given, factors, args)
    weights = {name: tensor(given.pop(name)) for name in list(given)}
    adapters, parameters = {}, []
    for i in range(c.layers):
        for p in PROJECTIONS:
            name = f"model.layers.{i}.{p}"
            adapters[name] = (tensor(factors[name + ".B"].T).requires_grad_(), tensor(factors[name + ".A"]).requires_grad_())
            parameters += adapters[name]
    model = Model(c, weights, lab=False, adapters=adapters)
    return Step(model.loss, parameters, torch.optim.AdamW(parameters, ADAM_RATE, fused=True), args, variant == "compile")


def open_peft(c, given, factors, args):
    """transformers' Llama with PEFT's LoRA."""
    import peft
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=c.vocabulary, hidden_size=c.width, intermediate_size=1536, num_hidden_layers=c.layers, num_attention_heads=c.heads,
        num_key_value_heads=c.kv_heads, max_position_embeddings=8192, rms_norm_eps=c.eps, tie_word_embeddings=True, use_cache=False,
        rope_theta=c.base, attn_implementation="sdpa")
    if hasattr(config, "rope_parameters"):
        config.rope_parameters = {"rope_type": "default", "rope_theta": c.base}
    model = transformers.LlamaForCausalLM(config)
    missing = model.load_state_dict({name: tensor(given.pop(name)) for name in list(given)}, strict=False)
    if set(missing.missing_keys) - {"lm_head.weight"} or missing.unexpected_keys:
        raise ValueError(f"weights do not fit transformers' Llama: {missing}")
    model = peft.get_peft_model(model, peft.LoraConfig(
        r=LORA_RANK, lora_alpha=LORA_RANK * LORA_SCALE, lora_dropout=0.0, target_modules=[p.split(".")[-1] for p in PROJECTIONS]))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if ".lora_A." in name or ".lora_B." in name:
                layer = name.removeprefix("base_model.model.").split(".lora_")[0]
                p.copy_(tensor(factors[layer + ".B"].T if ".lora_A." in name else factors[layer + ".A"]))
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]

    def loss(tokens, targets):
        return F.cross_entropy(model(input_ids=tokens).logits.view(-1, c.vocabulary), targets.view(-1))

    return Step(loss, parameters, torch.optim.AdamW(parameters, ADAM_RATE, fused=True), args, False)


class LoRAMuon:
    """The optimizer's step on separate parameters, stacked by shape as they come; the moments stay stacked."""

    def __init__(self, given, variant):
        gradients = {name[len("gradient.adapter."):]: tensor(given.pop(name)) for name in list(given) if name.startswith("gradient.")}
        self.p = {name[len("adapter."):]: tensor(given[name]) for name in given}
        self.g = gradients
        layers = {name[:-2]: (self.p[name].shape[0], self.p[name[:-1] + "B"].shape[0]) for name in self.p if name.endswith(".A")}
        self.groups = loramuon.grouped(layers)
        self.moments = [[torch.zeros(len(g), *self.p[g[0] + side].shape) for side in (".A", ".B")] for g in self.groups]
        polar = loramuon.polar_gram if variant.endswith("gram") else loramuon.polar_direct
        self.run = lambda groups: loramuon.step(torch, polar, groups)
        if variant.startswith("compile"):
            self.run = torch.compile(self.run)

    def stacked(self, tensors, group, side):
        return torch.stack([tensors[layer + side] for layer in group])

    @torch.no_grad()
    def step(self, mark):
        groups = []
        for group, (ma, mb) in zip(self.groups, self.moments):
            a, b, ga, gb = (self.stacked(t, group, side) for t in (self.p, self.g) for side in (".A", ".B"))
            groups.append((a, b, ma, mb, ga, gb))
        for group, moments, (a, b, ma, mb) in zip(self.groups, self.moments, self.run(groups)):
            moments[:] = ma, mb
            torch._foreach_copy_([self.p[layer + ".A"] for layer in group], list(a.unbind()))
            torch._foreach_copy_([self.p[layer + ".B"] for layer in group], list(b.unbind()))
        return {}

    def updates(self, path):
        before = {name: x.clone() for name, x in self.p.items()}
        self.step(None)
        arrays.write(path, {"adapter." + name: (x - before[name]).numpy() for name, x in self.p.items()})


def open_row(row, variant, data):
    given = arrays.read(data)
    if row.startswith("product:"):
        return Product(given)
    if row == "optimizer":
        return LoRAMuon(given, variant)
    if row == "lora":
        return open_lora(given, variant)
    return open_lab(row, given, variant == "compile")


def versions():
    out = {"torch": torch.__version__}
    for part in torch.__config__.show().splitlines():
        if "Math Kernel Library Version" in part:
            out["MKL"] = part.split("Version")[1].split()[0]
    try:
        import peft
        import transformers

        out.update(peft=peft.__version__, transformers=transformers.__version__)
    except ImportError:
        pass
    return out
