"""Checks that PEFT computes from an adapter's folder the logits that Polar computed in training.

    python bench/peft_check.py --base BASE --adapter ADAPTER --expected LOGITS.json [--tolerance 1e-3]
    python bench/peft_check.py --base BASE --adapter ADAPTER --merged MODEL [--tolerance 1e-3]

BASE is the Hugging Face folder (or hub name) of the base model and ADAPTER the folder that Polar wrote. LOGITS.json holds
{"tokens": [[...]], "logits": [[[...]]]}: token ids [B, T] and the trainer's logits [B, T, V]. With --merged the logits
are those of transformers on a folder that Polar merged, on fixed token ids. Prints the largest absolute difference and
exits with 1 when it is above the tolerance, when the adapter changes nothing, or when PEFT did not load every tensor.

Needs torch, transformers, peft and safetensors; run with peft 0.21.2, transformers 4.57.3, torch 2.5.1.
"""

import argparse
import json
import os
import sys
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


def load_base(name):
    return AutoModelForCausalLM.from_pretrained(name, torch_dtype=torch.float32).eval()


def logits_of(model, tokens):
    with torch.no_grad():
        return model(input_ids=tokens).logits.float()


def load_adapted(base, adapter):
    """Returns the base with the adapter on it, after checking that PEFT has the file's tensors, all and no others."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(base, adapter).eval()
    for warning in caught:
        print("warning from PEFT:", str(warning.message).splitlines()[0][:200])
    written = load_file(os.path.join(adapter, "adapter_model.safetensors"))
    loaded = get_peft_model_state_dict(model)
    if set(written) != set(loaded):
        sys.exit(f"PEFT has other tensors than the file: {sorted(set(written) ^ set(loaded))[:6]}")
    for name, tensor in written.items():
        if not torch.equal(tensor, loaded[name].float()):
            sys.exit(f"PEFT loaded other values for {name}")
    return model


def expected_logits(args, vocabulary):
    """Returns token ids [B, T] and the logits to compare with [B, T, V]."""
    if args.expected:
        with open(args.expected) as file:
            data = json.load(file)
        tokens, want = torch.tensor(data["tokens"]), torch.tensor(data["logits"], dtype=torch.float32)
        if tokens.dim() == 1:
            tokens, want = tokens[None], want[None]
        return tokens, want
    tokens = torch.randint(vocabulary, (2, 16), generator=torch.Generator().manual_seed(0))
    return tokens, logits_of(load_base(args.merged), tokens)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--adapter", required=True)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--expected")
    source.add_argument("--merged")
    parser.add_argument("--tolerance", type=float, default=1e-3)
    args = parser.parse_args()

    base = load_base(args.base)
    tokens, want = expected_logits(args, base.config.vocab_size)
    before = logits_of(base, tokens)
    got = logits_of(load_adapted(base, args.adapter), tokens)
    if got.shape != want.shape:
        sys.exit(f"PEFT's logits have shape {list(got.shape)}, the expected ones {list(want.shape)}")
    difference, change = (got - want).abs().max().item(), (got - before).abs().max().item()
    print(f"max abs difference {difference:.3g}; the adapter changes the logits by {change:.3g}; tolerance {args.tolerance:g}")
    if not difference <= args.tolerance or not change > 0:
        sys.exit(1)


if __name__ == "__main__":
    main()
