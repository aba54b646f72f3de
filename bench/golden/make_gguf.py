#!/usr/bin/env python3
"""Makes model/hf/testdata/*.gguf and the folder model/hf/testdata/types that says what types.gguf holds.

Run from the repository root with gguf 0.19.0, numpy and safetensors 0.8.0, after make_goldens.py:
    python bench/golden/make_gguf.py
types.gguf is a tiny llama with one tensor of every type that Polar reads; types/model.safetensors holds the gguf package's
own dequantised values under Hugging Face's names and in its row order. The gguf package cannot quantise to Q4_K and Q6_K:
their blocks are random bits with finite scales. The other files are testdata/golden's models in F32, as llama.cpp's
converter would write them (queries and keys of architecture llama permuted, GPT-2's matrices transposed).
"""
import json, os, re
import gguf, numpy as np
from gguf import GGMLQuantizationType as Q
from safetensors.numpy import load_file, save_file

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
OUT = os.path.join(ROOT, "model", "hf", "testdata")
os.makedirs(os.path.join(OUT, "types"), exist_ok=True)
rng = np.random.default_rng(1)

LLAMA = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
         "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
GPT2 = {"ln_1": "attn_norm", "ln_2": "ffn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "transformer.wte": "token_embd",
       "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm"}


def name_of(name):
    module, kind = name.rsplit(".", 1)
    if module in TOP:
        return TOP[module] + "." + kind
    _, layer, part = re.match(r"(model\.layers|transformer\.h)\.(\d+)\.(.*)", module).groups()
    return f"blk.{layer}.{ {**LLAMA, **GPT2}[part] }.{kind}"


def permute(w, heads):
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def unpermute(w, heads):
    return w.reshape(heads, w.shape[0] // heads // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def llama_keys(w, c):
    w.add_vocab_size(c["vocab_size"]); w.add_context_length(c["max_position_embeddings"]); w.add_embedding_length(c["hidden_size"])
    w.add_block_count(c["num_hidden_layers"]); w.add_feed_forward_length(c["intermediate_size"]); w.add_head_count(c["num_attention_heads"])
    w.add_head_count_kv(c["num_key_value_heads"]); w.add_layer_norm_rms_eps(c["rms_norm_eps"]); w.add_rope_freq_base(c["rope_theta"])
    head = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    w.add_key_length(head); w.add_value_length(head); w.add_rope_dimension_count(head)
    scaling = c.get("rope_scaling") or {}
    if scaling.get("rope_type") == "linear":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR); w.add_rope_scaling_factor(scaling["factor"])


def finish(w):
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()


def convert(case, arch):
    folder = os.path.join(ROOT, "testdata", "golden", case)
    c = json.load(open(os.path.join(folder, "config.json")))
    w = gguf.GGUFWriter(os.path.join(OUT, case + ".gguf"), arch)
    if arch == "gpt2":
        w.add_block_count(c["n_layer"]); w.add_context_length(c["n_positions"]); w.add_embedding_length(c["n_embd"])
        w.add_feed_forward_length(4 * c["n_embd"]); w.add_head_count(c["n_head"]); w.add_layer_norm_eps(c["layer_norm_epsilon"])
    else:
        llama_keys(w, c)
    for name, t in sorted(load_file(os.path.join(folder, "model.safetensors")).items()):
        if arch == "llama" and "q_proj" in name:
            t = permute(t, c["num_attention_heads"])
        if arch == "llama" and "k_proj" in name:
            t = permute(t, c["num_key_value_heads"])
        if re.search(r"(c_attn|c_proj|c_fc)\.weight$", name):
            t = t.T
        w.add_tensor(name_of(name), np.ascontiguousarray(t.astype(np.float32)))
    finish(w)


def k_blocks(kind, rows, cols):
    """Random bits with finite, moderate scales: Q4_K begins with d and dmin, Q6_K ends with d."""
    _, size = gguf.GGML_QUANT_SIZES[kind]
    data = rng.integers(0, 256, (rows, cols // 256, size), dtype=np.uint8)
    scale = lambda: (rng.random((rows, cols // 256, 1)) * 0.01).astype(np.float16).view(np.uint8)
    if kind == Q.Q4_K:
        data[..., 0:2], data[..., 2:4] = scale(), scale()
    else:
        data[..., 208:210] = scale()
    return data.reshape(rows, -1)


def types():
    c = dict(model_type="llama", architectures=["LlamaForCausalLM"], vocab_size=16, hidden_size=256, intermediate_size=32, num_hidden_layers=2,
             num_attention_heads=2, num_key_value_heads=1, head_dim=8, max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=10000.0,
             hidden_act="silu", tie_word_embeddings=True)
    plan = [{"self_attn.q_proj": (16, 256, Q.Q4_K), "self_attn.k_proj": (8, 256, Q.Q6_K), "self_attn.v_proj": (8, 256, Q.Q4_K), "self_attn.o_proj": (256, 16, Q.F16),
             "mlp.gate_proj": (32, 256, Q.Q4_K), "mlp.up_proj": (32, 256, Q.Q6_K), "mlp.down_proj": (256, 32, Q.Q4_0)},
            {"self_attn.q_proj": (16, 256, Q.Q8_0), "self_attn.k_proj": (8, 256, Q.BF16), "self_attn.v_proj": (8, 256, Q.Q4_1), "self_attn.o_proj": (256, 16, Q.F32),
             "mlp.gate_proj": (32, 256, Q.Q4_0), "mlp.up_proj": (32, 256, Q.Q8_0), "mlp.down_proj": (256, 32, Q.Q4_1)}]
    w = gguf.GGUFWriter(os.path.join(OUT, "types.gguf"), "llama")
    llama_keys(w, c)
    want = {}

    def add(name, rows, cols, kind):
        if kind in (Q.Q4_K, Q.Q6_K):
            data = k_blocks(kind, rows, cols)
        else:
            data = gguf.quants.quantize(rng.standard_normal((rows, cols)).astype(np.float32), kind)
        if kind == Q.F32 or kind == Q.F16:
            w.add_tensor(name_of(name), data)
        else:
            w.add_tensor(name_of(name), data, raw_dtype=kind)
        value = gguf.quants.dequantize(data, kind).astype(np.float32).reshape(rows, cols)
        if "q_proj" in name or "k_proj" in name:
            value = unpermute(value, 2 if "q_proj" in name else 1)
        want[name] = np.ascontiguousarray(value)

    def norm(name):
        want[name] = (1 + 0.1 * rng.standard_normal(256)).astype(np.float32)
        w.add_tensor(name_of(name), want[name])

    add("model.embed_tokens.weight", 16, 256, Q.Q6_K)
    for i, layer in enumerate(plan):
        norm(f"model.layers.{i}.input_layernorm.weight")
        norm(f"model.layers.{i}.post_attention_layernorm.weight")
        for part, (rows, cols, kind) in layer.items():
            add(f"model.layers.{i}.{part}.weight", rows, cols, kind)
    norm("model.norm.weight")
    finish(w)
    save_file(want, os.path.join(OUT, "types", "model.safetensors"), metadata={"format": "pt"})
    json.dump(c, open(os.path.join(OUT, "types", "config.json"), "w"), indent=1)


types()
for case, arch in {"llama-tied-linear": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gpt2": "gpt2"}.items():
    convert(case, arch)
