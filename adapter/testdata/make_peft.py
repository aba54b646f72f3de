"""Makes the adapters of adapter/testdata with PEFT itself, and the weights that PEFT's own merging gives for them.

    python adapter/testdata/make_peft.py        (from the repository's root; peft 0.21.2, transformers 4.57.3, torch 2.5.1)

Each folder has adapter_config.json and adapter_model.safetensors as PEFT saved them, and merged.safetensors with the
adapted weights after merge_and_unload, in the checkpoint's layout. The bases are those of testdata/golden.
"""

import os

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

CASES = {
    "llama-rslora": ("llama", dict(r=4, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"],
                                   rank_pattern={"down_proj": 2}, alpha_pattern={"layers.1.self_attn.q_proj": 3})),
    "llama-regex": ("llama", dict(r=3, lora_alpha=7, target_modules=r".*\.1\.(self_attn|mlp)\..*_proj")),
    "llama-all": ("llama", dict(r=2, lora_alpha=4, target_modules="all-linear")),
    "gpt2": ("gpt2", dict(r=4, lora_alpha=8, target_modules=["c_attn", "mlp.c_proj"], fan_in_fan_out=True)),
}


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    for name, (base, options) in CASES.items():
        torch.manual_seed(0)
        path = os.path.join(here, "../../testdata/golden", base)
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(path), LoraConfig(task_type="CAUSAL_LM", **options))
        for key, value in model.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(value, std=0.2)
        model.peft_config["default"].base_model_name_or_path = "testdata/golden/" + base
        out = os.path.join(here, name)
        model.save_pretrained(out)
        os.remove(os.path.join(out, "README.md"))
        layers = [key.removeprefix("base_model.model.").removesuffix(".lora_A.default.weight")
                  for key, _ in model.named_parameters() if "lora_A" in key]
        merged = dict(model.merge_and_unload().named_parameters())
        save_file({layer + ".weight": merged[layer + ".weight"].detach().contiguous().clone() for layer in layers},
                  os.path.join(out, "merged.safetensors"))
        print(name, len(layers), "layers")


if __name__ == "__main__":
    main()
