#!/usr/bin/env python3
"""Checks that transformers loads the folders Polar saves and computes the golden logits from them.

    pip install torch==2.5.1 transformers==4.57.3 safetensors
    go test ./model/hf -run TestSaveLoad -args -keep /tmp/saved
    python bench/check_hf_roundtrip.py /tmp/saved

Each folder under the argument has the name of a folder under testdata/golden. transformers may report no missing and no
unexpected tensor, and its logits must equal the golden ones to 1e-5. Exits with 1 otherwise.
"""
import os, sys
import torch, transformers
from safetensors.torch import load_file

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "testdata", "golden")
failed = False
for case in sorted(os.listdir(sys.argv[1])):
    golden = load_file(os.path.join(ROOT, case, "golden.safetensors"))
    model, info = transformers.AutoModelForCausalLM.from_pretrained(os.path.join(sys.argv[1], case), output_loading_info=True, attn_implementation="eager")
    wrong = {k: v for k, v in info.items() if v}
    with torch.no_grad():
        logits = model.double().eval()(golden["tokens"]).logits.float()
    worst = (logits - golden["logits"]).abs().max().item()
    ok = worst <= 1e-5 and not wrong
    failed |= not ok
    print(f"{case:20} {type(model).__name__:20} largest logit difference {worst:.2g} {wrong or ''} {'ok' if ok else 'FAILED'}")
print(f"torch {torch.__version__}, transformers {transformers.__version__}")
sys.exit(failed)
