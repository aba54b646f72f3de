package hf

import (
	"bytes"
	"encoding/json"

	"github.com/polargo/polar/model"
)

// rope reads rope_theta with rope_scaling (transformers 4) or rope_parameters, which holds both (transformers 5).
func (f *fields) rope() model.Rope {
	out := model.Rope{Base: f.number("rope_theta", 10000)}
	inner := &fields{}
	parameters := f.get("rope_parameters", &inner.raw)
	if !parameters && !f.get("rope_scaling", &inner.raw) {
		return out
	}
	f.used["rope_scaling"] = true // transformers 5 may write the same object under both names
	out.Base = inner.number("rope_theta", out.Base)
	out.Scaling = inner.ropeScaling()
	inner.refuseUnknown()
	for _, w := range inner.wrong {
		f.fail("rope scaling: %s", w)
	}
	return out
}

func (f *fields) ropeScaling() (s model.RopeScaling) {
	kind := f.text("rope_type", f.text("type", "default"))
	f.text("type", "")
	switch kind {
	case "default":
	case "linear":
		s = model.RopeScaling{Type: "linear", Factor: f.number("factor", 1)}
	case "llama3":
		s = model.RopeScaling{Type: "llama3", Factor: f.number("factor", 1), LowFreqFactor: f.number("low_freq_factor", 1),
			HighFreqFactor: f.number("high_freq_factor", 4), OriginalMaxPositions: f.size("original_max_position_embeddings")}
	default:
		clear(f.raw) // the other fields belong to the refused type
		f.fail("rope type %q is not supported (supported: default, linear, llama3)", kind)
	}
	return s
}

// writeRope puts a rotary setting into a config.json in the form that transformers 4 and 5 both read.
func writeRope(out map[string]any, r model.Rope) {
	out["rope_theta"] = decimal(r.Base)
	s := r.Scaling
	switch s.Type {
	case "linear":
		out["rope_scaling"] = map[string]any{"rope_type": "linear", "type": "linear", "factor": decimal(s.Factor)}
	case "llama3":
		out["rope_scaling"] = map[string]any{"rope_type": "llama3", "factor": decimal(s.Factor), "low_freq_factor": decimal(s.LowFreqFactor),
			"high_freq_factor": decimal(s.HighFreqFactor), "original_max_position_embeddings": s.OriginalMaxPositions}
	default:
		out["rope_scaling"] = json.RawMessage("null")
	}
}

// decimal is a float that JSON shows as one: transformers wants 4.0, not 4, where a float belongs.
type decimal float64

// MarshalJSON writes the shortest number that reads back the same, with a point or an exponent.
func (d decimal) MarshalJSON() ([]byte, error) {
	text, err := json.Marshal(float64(d))
	if err == nil && !bytes.ContainsAny(text, ".e") {
		text = append(text, ".0"...)
	}
	return text, err
}
