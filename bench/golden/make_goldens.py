#!/usr/bin/env python3
"""Makes testdata/golden/<case>/: tiny random models as Hugging Face folders, with tokens and reference logits.

Run from the repository root with torch 2.5.1, transformers 4.57.3 and safetensors 0.8.0 (the files were made with these):
    python bench/golden/make_goldens.py
Each folder holds config.json, model.safetensors (as transformers writes them) and golden.safetensors with
    tokens int64 [2, 24], logits float32 [2, 24, 64] (from float64 arithmetic), and cases that bend a rule on purpose:
    the weights are drawn with std 0.1 or more, so that every norm, bias and rotation shows in the logits.
The lab case's model.safetensors has the names of Polar's lab architecture; its logits come from the formulas below.
"""
import math
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import (GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM,
                          Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "testdata", "golden")
COMMON = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=128, bos_token_id=1, eos_token_id=2)
LLAMA3 = dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)
LINEAR = dict(rope_type="linear", factor=2.5)


def randomise(model, seed):
    gen = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=gen)
            if p.dim() == 1 and "bias" not in name:
                p.copy_(1 + 0.2 * noise)      # norm gains
            elif p.dim() == 1:
                p.copy_(0.2 * noise)
            else:
                p.copy_(0.15 * noise)


def make(case, config, cls, seed):
    torch.manual_seed(seed)
    config._attn_implementation = "eager"
    model = cls(config).eval()
    randomise(model, seed)
    folder = os.path.join(ROOT, case)
    os.makedirs(folder, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    tokens = torch.randint(0, 64, (2, 24), generator=torch.Generator().manual_seed(seed + 1))
    with torch.no_grad():
        logits = model.double()(tokens).logits.float().contiguous()
    save_file({"tokens": tokens, "logits": logits}, os.path.join(folder, "golden.safetensors"))
    for extra in ("generation_config.json",):
        path = os.path.join(folder, extra)
        if os.path.exists(path):
            os.remove(path)
    print(case, tuple(logits.shape), float(logits.std()))


def rms(x):
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def lab(case, seed, rotary=True, qk_norm=True, gelu=False):
    """Setting M: 2 layers, d = 32, 4 heads, vocabulary 64."""
    d, layers, heads, vocab, length = 32, 2, 4, 64, 24
    gen = torch.Generator().manual_seed(seed)
    rand = lambda m, n, s: torch.randn(m, n, generator=gen) * s
    w = {"model.embed_tokens.weight": rand(vocab, d, 1.0), "lm_head.weight": rand(vocab, d, 0.3)}
    if not rotary:
        w["model.embed_positions.weight"] = rand(128, d, 0.5)
    for l in range(layers):
        p = f"model.layers.{l}."
        for name in "qkvo":
            w[p + f"self_attn.{name}_proj.weight"] = rand(d, d, 0.2)
        w[p + "mlp.up_proj.weight"] = rand(4 * d, d, 0.2)
        w[p + "mlp.down_proj.weight"] = rand(d, 4 * d, 0.1)
    tokens = torch.randint(0, vocab, (2, length), generator=gen)
    W = {k: v.double() for k, v in w.items()}
    hd = d // heads
    angle = torch.arange(length).double()[:, None] * 10000.0 ** (-torch.arange(0, hd, 2).double() / hd)[None]

    def rot(x):
        a, b, c, s = x[..., : hd // 2], x[..., hd // 2 :], angle.cos(), angle.sin()
        return torch.cat([a * c - b * s, a * s + b * c], -1)

    x = F.embedding(tokens, W["model.embed_tokens.weight"])
    if not rotary:
        x = x + W["model.embed_positions.weight"][:length]
    x = rms(x)
    mask = torch.full((length, length), float("-inf"), dtype=torch.float64).triu(1)
    for l in range(layers):
        p = f"model.layers.{l}."
        h = rms(x)
        split = lambda name: (h @ W[p + f"self_attn.{name}_proj.weight"].T).view(2, length, heads, hd).transpose(1, 2)
        q, k, v = split("q"), split("k"), split("v")
        if qk_norm:
            q, k = rms(q), rms(k)
        if rotary:
            q, k = rot(q), rot(k)
        a = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(hd) + mask, -1)
        x = x + (a @ v).transpose(1, 2).reshape(2, length, d) @ W[p + "self_attn.o_proj.weight"].T
        u = rms(x) @ W[p + "mlp.up_proj.weight"].T
        u = F.gelu(u) if gelu else u.clamp_min(0).square()
        x = x + u @ W[p + "mlp.down_proj.weight"].T
    logits = (rms(x) @ W["lm_head.weight"].T).float().contiguous()
    folder = os.path.join(ROOT, case)
    os.makedirs(folder, exist_ok=True)
    save_file(w, os.path.join(folder, "model.safetensors"))
    save_file({"tokens": tokens, "logits": logits}, os.path.join(folder, "golden.safetensors"))
    print(case, tuple(logits.shape), float(logits.std()))


if __name__ == "__main__":
    make("llama", LlamaConfig(**COMMON, rope_theta=10000.0, rope_scaling=LLAMA3, rms_norm_eps=1e-5), LlamaForCausalLM, 10)
    make("llama-tied-linear", LlamaConfig(**COMMON, rope_theta=10000.0, rope_scaling=LINEAR, tie_word_embeddings=True, attention_bias=True,
                                          mlp_bias=True), LlamaForCausalLM, 20)
    make("mistral", MistralConfig(**COMMON, rope_theta=10000.0, sliding_window=7, head_dim=16), MistralForCausalLM, 30)
    make("qwen2", Qwen2Config(**COMMON, rope_theta=10000.0, tie_word_embeddings=True), Qwen2ForCausalLM, 40)
    make("qwen3", Qwen3Config(**COMMON, rope_theta=10000.0, head_dim=16), Qwen3ForCausalLM, 50)
    make("gpt2", GPT2Config(vocab_size=64, n_positions=128, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2),
         GPT2LMHeadModel, 60)
    lab("lab", 70)
    lab("lab-gelu-learned", 80, rotary=False, qk_norm=False, gelu=True)
