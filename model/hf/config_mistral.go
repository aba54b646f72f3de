package hf

import "github.com/polargo/polar/model"

// parseMistral reads model_type "mistral". Every layer has the sliding window; transformers' default is 4096, null is none.
func parseMistral(f *fields) model.Config {
	c := f.llamaLike("mistral")
	if c.KVHeads == 0 {
		c.KVHeads = 8 // transformers' default
		if _, present := f.raw["num_key_value_heads"]; present {
			c.KVHeads = c.Heads // null
		}
	}
	c.SlidingWindow = f.sizeOr("sliding_window", 0)
	if _, present := f.raw["sliding_window"]; !present {
		c.SlidingWindow = 4096
	}
	f.onlyFullLayers("sliding_attention", "full_attention")
	return c
}

// onlyFullLayers reads layer_types and refuses a mixture or a kind that is not among allowed.
func (f *fields) onlyFullLayers(allowed ...string) (kind string) {
	var types []string
	if !f.get("layer_types", &types) || len(types) == 0 {
		return ""
	}
	for _, t := range types {
		if t != types[0] {
			f.fail("layer_types mixes %s and %s: not supported", types[0], t)
			return ""
		}
	}
	for _, a := range allowed {
		if types[0] == a {
			return a
		}
	}
	f.fail("layer_types %q is not supported", types[0])
	return ""
}

func writeMistral(out map[string]any, c model.Config) {
	writeLlamaLike(out, c)
	out["sliding_window"] = nil
	if c.SlidingWindow > 0 {
		out["sliding_window"] = c.SlidingWindow
	}
}
