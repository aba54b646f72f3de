package hf

import "github.com/polargo/polar/model"

// parseQwen2 reads model_type "qwen2": biases on queries, keys and values only.
func parseQwen2(f *fields) model.Config {
	c := f.llamaLike("qwen2")
	f.qwenCommon(&c)
	return c
}

// parseQwen3 reads model_type "qwen3": RMS norms on queries and keys; the head dimension is 128 where not given.
func parseQwen3(f *fields) model.Config {
	c := f.llamaLike("qwen3")
	if _, present := f.raw["head_dim"]; !present {
		c.HeadDim = 128
	}
	bias := f.flag("attention_bias", false)
	c.QKVBias, c.AttentionBias = bias, bias
	f.qwenCommon(&c)
	return c
}

// qwenCommon reads the number of key/value heads and the sliding window, which layers from max_window_layers on have.
func (f *fields) qwenCommon(c *model.Config) {
	if c.KVHeads == 0 {
		c.KVHeads = 32 // transformers' default
		if _, present := f.raw["num_key_value_heads"]; present {
			c.KVHeads = c.Heads // null
		}
	}
	window := f.sizeOr("sliding_window", 4096)
	if on := f.flag("use_sliding_window", false); !on || f.isNull("sliding_window") {
		window = 0
	}
	kind, from := f.onlyFullLayers("full_attention", "sliding_attention"), 0
	if !f.get("max_window_layers", &from) {
		from = 28 // transformers' default
	}
	switch {
	case kind == "sliding_attention" && window == 0:
		f.fail("layer_types asks for sliding_attention without use_sliding_window and sliding_window")
	case window == 0 || kind == "full_attention" || kind == "" && from >= c.Layers:
	case kind == "" && from > 0:
		f.fail("a sliding window from layer %d of %d on (max_window_layers) is not supported: all layers or none", from, c.Layers)
	default:
		c.SlidingWindow = window
	}
}

func (f *fields) isNull(name string) bool { return string(f.raw[name]) == "null" }

func writeQwen2(out map[string]any, c model.Config) {
	writeLlamaLike(out, c)
	out["use_sliding_window"], out["max_window_layers"] = c.SlidingWindow > 0, 0
	out["sliding_window"] = nil
	if c.SlidingWindow > 0 {
		out["sliding_window"] = c.SlidingWindow
	}
}

func writeQwen3(out map[string]any, c model.Config) {
	writeQwen2(out, c)
	out["attention_bias"] = c.AttentionBias
}
