package hf

import "github.com/polargo/polar/model"

// parseLlama reads model_type "llama" (Llama 1 to 3, SmolLM, SmolLM2 and others of the same shape).
func parseLlama(f *fields) model.Config {
	c := f.llamaLike("llama")
	bias := f.flag("attention_bias", false)
	c.QKVBias, c.AttentionBias, c.MLPBias = bias, bias, f.flag("mlp_bias", false)
	if c.KVHeads == 0 {
		c.KVHeads = c.Heads
	}
	return c
}

// llamaLike reads the fields that llama, mistral, qwen2 and qwen3 share. KVHeads is 0 where the field is absent.
func (f *fields) llamaLike(architecture string) model.Config {
	c, _ := model.Base(architecture)
	c.VocabSize, c.Hidden, c.Intermediate = f.size("vocab_size"), f.size("hidden_size"), f.size("intermediate_size")
	c.Layers, c.Heads, c.MaxPositions = f.size("num_hidden_layers"), f.size("num_attention_heads"), f.size("max_position_embeddings")
	c.KVHeads = f.sizeOr("num_key_value_heads", 0)
	c.HeadDim = f.sizeOr("head_dim", c.Hidden/c.Heads)
	c.NormEps = f.number("rms_norm_eps", 1e-6)
	c.Activation = f.activation("hidden_act", "silu")
	c.TiedEmbeddings = f.flag("tie_word_embeddings", false)
	c.Rope = f.rope()
	return c
}

// writeLlamaLike is the inverse of llamaLike.
func writeLlamaLike(out map[string]any, c model.Config) {
	out["vocab_size"], out["hidden_size"], out["intermediate_size"] = c.VocabSize, c.Hidden, c.Intermediate
	out["num_hidden_layers"], out["num_attention_heads"], out["num_key_value_heads"] = c.Layers, c.Heads, c.KVHeads
	out["head_dim"], out["max_position_embeddings"], out["rms_norm_eps"] = c.HeadDim, c.MaxPositions, decimal(c.NormEps)
	out["hidden_act"], out["tie_word_embeddings"] = activationName(c.Activation), c.TiedEmbeddings
	writeRope(out, c.Rope)
}

func writeLlama(out map[string]any, c model.Config) {
	writeLlamaLike(out, c)
	out["attention_bias"], out["mlp_bias"] = c.AttentionBias, c.MLPBias
}

// activationName is the hidden_act of an activation.
func activationName(a model.Activation) string {
	if a == model.GELUTanh {
		return "gelu_new"
	}
	return string(a)
}
