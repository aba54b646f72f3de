package hf

import "github.com/polargo/polar/model"

// labModelType is the model_type of Polar's own small transformers, which only Polar reads.
const labModelType = "polar_lab"

// parseLab reads model_type "polar_lab": every choice of the decoder is a field, and none has a default but those below.
func parseLab(f *fields) model.Config {
	c, _ := model.Base("lab")
	c.VocabSize, c.Hidden, c.Intermediate = f.size("vocab_size"), f.size("hidden_size"), f.size("intermediate_size")
	c.Layers, c.Heads, c.MaxPositions = f.size("num_hidden_layers"), f.size("num_attention_heads"), f.size("max_position_embeddings")
	c.KVHeads, c.HeadDim = f.sizeOr("num_key_value_heads", c.Heads), f.sizeOr("head_dim", c.Hidden/c.Heads)
	c.Norm, c.NormEps = model.NormKind(f.text("norm", string(c.Norm))), f.number("norm_eps", c.NormEps)
	c.QKNorm = model.NormKind(f.text("qk_norm", string(c.QKNorm)))
	c.EmbeddingNorm, c.Positions = f.flag("embedding_norm", c.EmbeddingNorm), model.PositionKind(f.text("positions", string(c.Positions)))
	c.Activation, c.Gated = model.Activation(f.text("activation", string(c.Activation))), f.flag("gated", c.Gated)
	c.QKVBias, c.AttentionBias, c.MLPBias = f.flag("qkv_bias", false), f.flag("attention_bias", false), f.flag("mlp_bias", false)
	c.TiedEmbeddings, c.SlidingWindow = f.flag("tie_word_embeddings", false), f.sizeOr("sliding_window", 0)
	if c.Positions == model.Rotary {
		c.Rope = f.rope()
	} else {
		c.Rope = model.Rope{}
	}
	return c
}

func writeLab(out map[string]any, c model.Config) {
	out["vocab_size"], out["hidden_size"], out["intermediate_size"] = c.VocabSize, c.Hidden, c.Intermediate
	out["num_hidden_layers"], out["num_attention_heads"], out["num_key_value_heads"] = c.Layers, c.Heads, c.KVHeads
	out["head_dim"], out["max_position_embeddings"] = c.HeadDim, c.MaxPositions
	out["norm"], out["norm_eps"], out["qk_norm"], out["embedding_norm"] = c.Norm, decimal(c.NormEps), c.QKNorm, c.EmbeddingNorm
	out["positions"], out["activation"], out["gated"] = c.Positions, c.Activation, c.Gated
	out["qkv_bias"], out["attention_bias"], out["mlp_bias"] = c.QKVBias, c.AttentionBias, c.MLPBias
	out["tie_word_embeddings"] = c.TiedEmbeddings
	if c.SlidingWindow > 0 {
		out["sliding_window"] = c.SlidingWindow
	}
	if c.Positions == model.Rotary {
		writeRope(out, c.Rope)
	}
}
