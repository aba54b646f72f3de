"""The rows in JAX: everything in jax.jit, parameters and state donated, float32."""
import functools
import os

import numpy as np
import jax
import jax.numpy as jnp
import jaxlib
import optax

import arrays
import loramuon
from rows import ADAM_RATE, DECODERS, LORA_SCALE, PROJECTIONS, SGD_RATE

jax.config.update("jax_default_matmul_precision", "float32")


class Product:
    def __init__(self, given):
        self.x, self.y = jnp.asarray(given["x"]), jnp.asarray(given["y"])
        self.run = jax.jit(lambda x, y: x @ y)

    def step(self, mark):
        self.run(self.x, self.y).block_until_ready()
        return {}


def rms(x, gain, eps):
    y = x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + eps)
    return y if gain is None else y * gain


def attention(q, k, v, variant):
    """q [B, T, heads, h], k and v [B, T, kv, h]; causal."""
    if variant == "dpa":
        return jax.nn.dot_product_attention(q, k, v, is_causal=True)
    b, t, heads, h = q.shape
    q = q.reshape(b, t, k.shape[2], -1, h)
    scores = jnp.einsum("btkgh,bskh->bkgts", q, k) / h**0.5
    scores = jnp.where(jnp.tril(jnp.ones((t, t), bool)), scores, -1e9)
    return jnp.einsum("bkgts,bskh->btkgh", jax.nn.softmax(scores, -1), v).reshape(b, t, heads, h)


class Model:
    def __init__(self, c, lab, variant):
        self.c, self.lab, self.variant = c, lab, variant
        f = c.base ** (-np.arange(0, c.head, 2) / c.head)
        angle = np.arange(c.length)[:, None] * f
        angle = np.concatenate([angle, angle], -1)[:, None, :]
        self.cos, self.sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)

    def rotate(self, x):
        a, b = jnp.split(x, 2, -1)
        return x * self.cos + jnp.concatenate([-b, a], -1) * self.sin

    def loss(self, adapters, w, tokens, targets):
        c = self.c

        def norm(x, name):
            return rms(x, None if self.lab else w[name + ".weight"], c.eps)

        def linear(x, name):
            y = x @ w[name + ".weight"].T
            if name + ".A" in adapters:
                y = y + (x @ adapters[name + ".B"]) @ adapters[name + ".A"].T * LORA_SCALE
            return y

        def heads(x, count):
            return x.reshape(c.rows, c.length, count, c.head)

        x = w["model.embed_tokens.weight"][tokens]
        if self.lab:
            x = norm(x, "")
        for i in range(c.layers):
            name = f"model.layers.{i}."
            h = norm(x, name + "input_layernorm")
            q = heads(linear(h, name + "self_attn.q_proj"), c.heads)
            k = heads(linear(h, name + "self_attn.k_proj"), c.kv_heads)
            v = heads(linear(h, name + "self_attn.v_proj"), c.kv_heads)
            if self.lab:
                q, k = norm(q, ""), norm(k, "")
            o = attention(self.rotate(q), self.rotate(k), v, self.variant)
            x = x + linear(o.reshape(c.rows, c.length, -1), name + "self_attn.o_proj")
            h = norm(x, name + "post_attention_layernorm")
            if self.lab:
                h = jnp.square(jax.nn.relu(linear(h, name + "mlp.up_proj")))
            else:
                h = jax.nn.silu(linear(h, name + "mlp.gate_proj")) * linear(h, name + "mlp.up_proj")
            x = x + linear(h, name + "mlp.down_proj")
        x = norm(x, "model.norm")
        logits = x @ w["model.embed_tokens.weight" if not self.lab else "lm_head.weight"].T
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()


def batch(given):
    return [jnp.asarray(given.pop(name).astype(np.int32)) for name in ("tokens", "targets")]


class LabStep:
    """All in one executable."""

    def __init__(self, row, given, variant):
        self.args = batch(given)
        self.w = {name: jnp.asarray(x) for name, x in given.items()}
        model = Model(DECODERS[row], True, variant)

        @functools.partial(jax.jit, donate_argnums=0)
        def run(w, tokens, targets):
            loss, gradient = jax.value_and_grad(lambda w: model.loss({}, w, tokens, targets))(w)
            return jax.tree.map(lambda p, g: p - SGD_RATE * g, w, gradient), loss

        self.run = run

    def step(self, mark):
        self.w, loss = self.run(self.w, *self.args)
        jax.block_until_ready(self.w)
        return {"loss": float(loss)}


class LoRAStep:
    """Gradient and optimizer in an executable each, so that they can be told apart."""

    def __init__(self, given, variant):
        c = DECODERS["lora"]
        self.args = batch(given)
        names = [f"model.layers.{i}.{p}.{side}" for i in range(c.layers) for p in PROJECTIONS for side in "AB"]
        self.a = {name: jnp.asarray(given.pop("adapter." + name)) for name in names}
        self.w = {name: jnp.asarray(given.pop(name)) for name in list(given)}
        model, optimizer = Model(c, False, variant), optax.adamw(ADAM_RATE)
        self.state = optimizer.init(self.a)
        self.gradient = jax.jit(jax.value_and_grad(model.loss))

        @functools.partial(jax.jit, donate_argnums=(0, 1))
        def update(a, state, gradient):
            change, state = optimizer.update(gradient, state, a)
            return optax.apply_updates(a, change), state

        self.update, self.first = update, True

    def step(self, mark):
        loss, gradient = jax.block_until_ready(self.gradient(self.a, self.w, *self.args))
        mark("gradient")
        answer = {"loss": float(loss)}
        if self.first:
            answer["norm"] = float(sum(np.square(np.asarray(g, np.float64)).sum() for g in gradient.values()) ** 0.5)
            self.first = False
        self.a, self.state = jax.block_until_ready(self.update(self.a, self.state, gradient))
        mark("optimizer")
        return answer


class LoRAMuon:
    def __init__(self, given, variant):
        self.g = {name[len("gradient.adapter."):]: jnp.asarray(given.pop(name)) for name in list(given) if name.startswith("gradient.")}
        self.p = {name[len("adapter."):]: jnp.asarray(x) for name, x in given.items()}
        layers = {name[:-2]: (self.p[name].shape[0], self.p[name[:-1] + "B"].shape[0]) for name in self.p if name.endswith(".A")}
        groups = loramuon.grouped(layers)
        self.moments = [[jnp.zeros((len(g), *self.p[g[0] + side].shape)) for side in (".A", ".B")] for g in groups]
        polar = loramuon.polar_gram if variant.endswith("gram") else loramuon.polar_direct

        @functools.partial(jax.jit, donate_argnums=(0, 1))
        def run(p, moments, g):
            def stacked(x, group, side):
                return jnp.stack([x[layer + side] for layer in group])

            given = [(stacked(p, group, ".A"), stacked(p, group, ".B"), ma, mb, stacked(g, group, ".A"), stacked(g, group, ".B"))
                     for group, (ma, mb) in zip(groups, moments)]
            out, new = {}, []
            for group, (a, b, ma, mb) in zip(groups, loramuon.step(jnp, polar, given)):
                new.append([ma, mb])
                for i, layer in enumerate(group):
                    out[layer + ".A"], out[layer + ".B"] = a[i], b[i]
            return out, new

        self.run = run

    def step(self, mark):
        self.p, self.moments = jax.block_until_ready(self.run(self.p, self.moments, self.g))
        return {}

    def updates(self, path):
        before = {name: np.array(x) for name, x in self.p.items()}
        self.step(None)
        arrays.write(path, {"adapter." + name: np.asarray(x) - before[name] for name, x in self.p.items()})


def open_row(row, variant, data):
    given = arrays.read(data)
    if row.startswith("product:"):
        return Product(given)
    if row == "optimizer":
        return LoRAMuon(given, variant)
    if row == "lora":
        return LoRAStep(given, variant)
    return LabStep(row, given, variant)


def versions():
    return {"jax": jax.__version__, "jaxlib": jaxlib.__version__, "optax": optax.__version__}
