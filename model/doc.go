// Package model builds decoder-only transformers as GoMLX graphs: one decoder whose Config covers Llama, SmolLM2, Mistral,
// Qwen2, Qwen3, GPT-2 and the small lab transformer of the published experiments.
//
// A Decoder is a plain description. Its weights are variables of a GoMLX store, named after the checkpoint's tensors
// (param.Path) and always float32; linear weights are stored fan-out x fan-in. Linear layers can be supplied by the
// caller (Options.Linear), which is how adapters join in; biases stay the decoder's own.
//
// The graph is written for engines whose elementwise operations are slow and whose products are fast: activations are
// kept as [batch·length, width] matrices, row and column scalings are outer products, and the norms, the attention core,
// the gated MLP and the loss have gradients of their own (package internal/vjp) that keep few intermediates.
//
// A Decoder is immutable and may be shared. A store may not be used by two executions at once. Graph-building functions
// panic, like all of GoMLX's; everything else returns errors.
package model
