// Package peft reads and writes LoRA adapters in the format of Hugging Face PEFT: a folder with adapter_config.json and
// adapter_model.safetensors. It is the one place of Polar that says lora_A and lora_B.
//
// PEFT stores lora_A [r, fan-in] and lora_B [fan-out, r] and adds lora_alpha/r · lora_B · lora_A to the weight. Polar
// writes the same product as Scale · A Bᵀ with A [fan-out, r] and B [fan-in, r]: A is lora_B, B is lora_A transposed.
// All arrays are float32 in row-major order and belong to the caller. Nothing here holds a lock or starts a goroutine.
package peft
