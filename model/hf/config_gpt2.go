package hf

import "github.com/polargo/polar/model"

// parseGPT2 reads model_type "gpt2".
func parseGPT2(f *fields) model.Config {
	c, _ := model.Base("gpt2")
	c.VocabSize, c.Hidden, c.MaxPositions = f.size("vocab_size"), f.size("n_embd"), f.size("n_positions")
	c.Layers, c.Heads = f.size("n_layer"), f.size("n_head")
	c.KVHeads, c.HeadDim = c.Heads, c.Hidden/c.Heads
	c.Intermediate = f.sizeOr("n_inner", 4*c.Hidden)
	c.NormEps = f.number("layer_norm_epsilon", 1e-5)
	c.Activation = f.activation("activation_function", "gelu_new")
	c.TiedEmbeddings = f.flag("tie_word_embeddings", true)
	return c
}

func writeGPT2(out map[string]any, c model.Config) {
	out["vocab_size"], out["n_embd"], out["n_positions"], out["n_ctx"] = c.VocabSize, c.Hidden, c.MaxPositions, c.MaxPositions
	out["n_layer"], out["n_head"], out["n_inner"] = c.Layers, c.Heads, c.Intermediate
	out["layer_norm_epsilon"], out["activation_function"] = decimal(c.NormEps), activationName(c.Activation)
	out["tie_word_embeddings"] = c.TiedEmbeddings
}
