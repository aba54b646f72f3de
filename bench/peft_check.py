#!/usr/bin/env python3
"""Checks that PEFT computes from adapters' folders the logits that Polar computes.

    pip install torch==2.5.1 transformers==4.57.3 peft==0.21.2 safetensors
    go run ./bench/logits --model BASE --adapter ADAPTER -o LOGITS.json
    python bench/peft_check.py --base BASE --adapter ADAPTER... --expected LOGITS.json... [--tolerance 1e-3]
    python bench/peft_check.py --base BASE --adapter ADAPTER... --merged MODEL... [--tolerance 1e-3]

BASE is the Hugging Face folder (or hub name) of the base model and each ADAPTER a folder that Polar wrote, with its
LOGITS.json or MODEL in the same order. LOGITS.json holds {"tokens": [[...]], "logits": [[[...]]]}: token ids [B, T] and
Polar's logits [B, T, V]. With --merged the logits are those of transformers on a folder that Polar merged, on fixed token
ids. Prints the largest absolute differences and exits with 1 when one is above the tolerance, when an adapter changes
nothing, or when PEFT did not load every tensor.
"""

import argparse
import json
import os
import sys
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import peft
import torch
import transformers
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


def load_base(name):
    return AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32).eval()


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
        if not torch.equal(tensor.float(), loaded[name].float()):
            sys.exit(f"PEFT loaded other values for {name}")
    return model


def expected_logits(file, merged, vocabulary):
    """Returns token ids [B, T] and the logits to compare with [B, T, V]."""
    if file:
        with open(file) as opened:
            data = json.load(opened)
        tokens, want = torch.tensor(data["tokens"]), torch.tensor(data["logits"], dtype=torch.float32)
        return (tokens[None], want[None]) if tokens.dim() == 1 else (tokens, want)
    tokens = torch.randint(vocabulary, (2, 16), generator=torch.Generator().manual_seed(0))
    return tokens, logits_of(load_base(merged), tokens)


def check(base_name, adapter, file, merged, tolerance):
    """Compares one adapter and returns what is wrong with it, or None."""
    base = load_base(base_name)
    tokens, want = expected_logits(file, merged, base.config.vocab_size)
    before = logits_of(base, tokens)
    got = logits_of(load_adapted(base, adapter), tokens)
    if got.shape != want.shape:
        return f"PEFT's logits have shape {list(got.shape)}, the expected ones {list(want.shape)}"
    difference, change = (got - want).abs().max().item(), (got - before).abs().max().item()
    print(f"{adapter}: largest difference {difference:.3g} (tolerance {tolerance:g}) on {tokens.numel()} tokens; "
          f"the adapter changes the logits by up to {change:.3g}")
    if not difference <= tolerance:
        return "the logits differ"
    return None if change > 10 * tolerance else "the adapter changes too little for the comparison to mean anything"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--adapter", required=True, nargs="+")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--expected", nargs="+", default=[])
    source.add_argument("--merged", nargs="+", default=[])
    parser.add_argument("--tolerance", type=float, default=1e-3)
    args = parser.parse_args()
    others = args.expected or args.merged
    if len(others) != len(args.adapter):
        parser.error(f"{len(args.adapter)} adapters, but {len(others)} to compare them with")

    print(f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}")
    failed = False
    for adapter, other in zip(args.adapter, others):
        problem = check(args.base, adapter, *((other, None) if args.expected else (None, other)), args.tolerance)
        if problem:
            print(f"{adapter}: FAILED: {problem}")
            failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
