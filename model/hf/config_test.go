package hf

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"testing"

	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/model"
)

func parse(t *testing.T, name string, change map[string]any) (model.Config, error) {
	t.Helper()
	config, _ := checkpoint(t, name)
	for key, value := range change {
		if value == "absent" {
			delete(config, key)
		} else {
			config[key] = value
		}
	}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return ParseConfig(text)
}

// TestConfigRefuses: every setting that would change the result and is not implemented is refused by its name.
func TestConfigRefuses(t *testing.T) {
	for _, c := range []struct {
		base, want string
		change     map[string]any
	}{
		{"llama", `hidden_act "relu" is not supported (supported: gelu`, map[string]any{"hidden_act": "relu"}},
		{"llama", `rope type "yarn" is not supported`, map[string]any{"rope_scaling": map[string]any{"type": "yarn", "factor": 2, "beta_fast": 32}}},
		{"llama", `rope type "dynamic" is not supported`, map[string]any{"rope_parameters": map[string]any{"rope_type": "dynamic"}}},
		{"llama", "rope scaling: unknown setting beta_fast", map[string]any{"rope_scaling": map[string]any{"type": "linear", "factor": 2, "beta_fast": 32}}},
		{"llama", "rope scaling: original_max_position_embeddings is missing", map[string]any{"rope_scaling": map[string]any{"type": "llama3", "factor": 2}}},
		{"llama", "unknown setting sliding_window = 16", map[string]any{"sliding_window": 16}},
		{"llama", "unknown setting logits_scaling = 8", map[string]any{"logits_scaling": 8}},
		{"llama", "quantization_config is not supported", map[string]any{"quantization_config": map[string]any{"bits": 4}}},
		{"llama", "rope_interleaved = true is not supported (only false)", map[string]any{"rope_interleaved": true}},
		{"llama", "partial_rotary_factor = 0.5 is not supported", map[string]any{"partial_rotary_factor": 0.5}},
		{"llama", "vocab_size is missing", map[string]any{"vocab_size": "absent"}},
		{"llama", "hidden_size = \"32\" is not of the right type (want a whole number)", map[string]any{"hidden_size": "32"}},
		{"llama", "num_hidden_layers is 1000000, want 1 to 4096", map[string]any{"num_hidden_layers": 1000000}},
		{"llama", "num_hidden_layers is -1", map[string]any{"num_hidden_layers": -1}},
		{"llama", "rms_norm_eps is 0, want a number above 0", map[string]any{"rms_norm_eps": 0}},
		{"llama", "4 heads are not divisible by 3", map[string]any{"num_key_value_heads": 3}},
		{"llama", "it has no model_type", map[string]any{"model_type": "absent"}},
		{"qwen2", "a sliding window from layer 1 of 2", map[string]any{"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 1, "layer_types": nil}},
		{"qwen2", "layer_types mixes full_attention and sliding_attention", map[string]any{"layer_types": []string{"full_attention", "sliding_attention"}}},
		{"qwen3", "layer_types asks for sliding_attention without", map[string]any{"layer_types": []string{"sliding_attention", "sliding_attention"}}},
		{"mistral", `layer_types "chunked_attention" is not supported`, map[string]any{"layer_types": []string{"chunked_attention"}}},
		{"gpt2", "scale_attn_by_inverse_layer_idx = true is not supported", map[string]any{"scale_attn_by_inverse_layer_idx": true}},
		{"gpt2", "scale_attn_weights = false is not supported", map[string]any{"scale_attn_weights": false}},
		{"gpt2", `activation_function "relu" is not supported`, map[string]any{"activation_function": "relu"}},
	} {
		_, err := parse(t, c.base, c.change)
		oneLineError(t, err, c.want, "")
	}
}

// TestConfigDefaults: absent fields take transformers' defaults, and both spellings of the rotary setting are read.
func TestConfigDefaults(t *testing.T) {
	for name, c := range map[string]struct {
		base   string
		change map[string]any
		holds  func(model.Config) bool
	}{
		"mistral's window":    {"mistral", map[string]any{"sliding_window": "absent"}, func(c model.Config) bool { return c.SlidingWindow == 4096 }},
		"mistral without":     {"mistral", map[string]any{"sliding_window": nil}, func(c model.Config) bool { return c.SlidingWindow == 0 }},
		"mistral's kv heads":  {"mistral", map[string]any{"num_key_value_heads": "absent", "num_attention_heads": 8}, func(c model.Config) bool { return c.KVHeads == 8 }},
		"llama's kv heads":    {"llama", map[string]any{"num_key_value_heads": "absent"}, func(c model.Config) bool { return c.KVHeads == 4 }},
		"head_dim null":       {"llama", map[string]any{"head_dim": nil}, func(c model.Config) bool { return c.HeadDim == 8 }},
		"qwen3's head_dim":    {"qwen3", map[string]any{"head_dim": "absent"}, func(c model.Config) bool { return c.HeadDim == 128 }},
		"qwen2 all sliding":   {"qwen2", map[string]any{"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 0, "layer_types": nil}, func(c model.Config) bool { return c.SlidingWindow == 8 }},
		"qwen2 window unused": {"qwen2", map[string]any{"use_sliding_window": false, "sliding_window": 8, "max_window_layers": 0, "layer_types": nil}, func(c model.Config) bool { return c.SlidingWindow == 0 }},
		"rope_parameters": {"llama", map[string]any{"rope_theta": "absent", "rope_scaling": "absent", "rope_parameters": map[string]any{"rope_type": "linear", "rope_theta": 7, "factor": 3}},
			func(c model.Config) bool {
				return c.Rope.Base == 7 && c.Rope.Scaling.Type == "linear" && c.Rope.Scaling.Factor == 3
			}},
		"rope_theta's default": {"llama", map[string]any{"rope_theta": "absent"}, func(c model.Config) bool { return c.Rope.Base == 10000 }},
		"harmless fields":      {"llama", map[string]any{"transformers.js_config": map[string]any{}, "_name_or_path": "x", "partial_rotary_factor": 1.0}, func(c model.Config) bool { return true }},
		"n_inner":              {"gpt2", map[string]any{"n_inner": 99}, func(c model.Config) bool { return c.Intermediate == 99 }},
	} {
		got, err := parse(t, c.base, c.change)
		if err != nil || !c.holds(got) {
			t.Errorf("%s: %v, %+v", name, err, got)
		}
	}
}

// TestConfigWrittenBack holds that each model_type's writer is the inverse of its parser, over what Config can say.
func TestConfigWrittenBack(t *testing.T) {
	lab := model.Lab(64, 32, 2, 4, 128)
	other := lab
	other.Positions, other.Rope, other.QKNorm, other.Activation, other.EmbeddingNorm = model.Learned, model.Rope{}, model.NormNone, model.GELU, false
	configs := map[string]model.Config{"lab": lab, "lab with other choices": other}
	for _, name := range goldens {
		config, err := parse(t, name, nil)
		if err != nil {
			t.Fatal(err)
		}
		configs[name] = config
	}
	windowed := configs["qwen2"]
	windowed.SlidingWindow = 5
	configs["qwen2 with a window"] = windowed
	for name, config := range maps.All(configs) {
		if _, err := buildConfig(config, SaveOptions{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	odd := configs["llama"]
	odd.QKNorm = model.NormRMS
	if _, err := buildConfig(odd, SaveOptions{}); err == nil {
		t.Error("a llama with query norms was written as if it had none")
	}
}

// TestLabRoundTrip saves and loads a lab model.
func TestLabRoundTrip(t *testing.T) {
	dec, err := model.New(model.Lab(64, 32, 2, 4, 128))
	if err != nil {
		t.Fatal(err)
	}
	config, err := buildConfig(dec.Config(), SaveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	from := t.TempDir()
	write(t, filepath.Join(from, "config.json"), config)
	write(t, filepath.Join(from, weightsFile), read(t, filepath.Join(golden("lab"), weightsFile)))
	first := mustLoad(t, from, LoadOptions{})
	dir := filepath.Join(t.TempDir(), "lab")
	if err := Save(dir, first.Decoder, first.Store, SaveOptions{}); err != nil {
		t.Fatal(err)
	}
	equalWeights(t, mustLoad(t, dir, LoadOptions{}), first)
	if err := Save(dir, dec, mlmodel.NewStore(), SaveOptions{}); err == nil {
		t.Error("an empty store was saved")
	}
}

// FuzzParseConfig holds that no text makes the parser panic and that what it accepts is a valid, small description.
func FuzzParseConfig(f *testing.F) {
	for _, name := range goldens {
		text, err := os.ReadFile(filepath.Join(golden(name), "config.json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	lab, err := buildConfig(model.Lab(64, 32, 2, 4, 128), SaveOptions{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(lab)
	f.Fuzz(func(t *testing.T, text []byte) {
		config, err := ParseConfig(text)
		if err != nil {
			return
		}
		if err := config.Validate(); err != nil || config.Layers > maxLayers || config.Hidden > maxSize {
			t.Fatalf("accepted %+v (%v)", config, err)
		}
	})
}
