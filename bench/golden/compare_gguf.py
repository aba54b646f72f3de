"""Compares the ids that polar gives for a GGUF's vocabulary with transformers' for the tokenizer.json it saved.

  POLAR_TEST_GGUF=model.gguf POLAR_TEST_OUT=/tmp/tok go test ./tokenizer -run TestGGUFFile
  python bench/golden/compare_gguf.py /tmp/tok
"""

import json
import os
import sys

import transformers

folder = sys.argv[1]
auto = transformers.AutoTokenizer.from_pretrained(folder)
with open(os.path.join(folder, "encoded.json"), encoding="utf-8") as f:
    cases = json.load(f)
bad = 0
for case in cases:
    want = auto(case["text"]).input_ids
    if case["ids"] != want:
        bad += 1
        print(repr(case["text"]), "got", case["ids"], "want", want)
chat = auto.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True) if auto.chat_template else None
print(f"{len(cases)} texts, {bad} differ; vocabulary {len(auto)}; bos {auto.bos_token!r} eos {auto.eos_token!r} pad {auto.pad_token!r}; chat {chat!r}")
sys.exit(bad > 0)
