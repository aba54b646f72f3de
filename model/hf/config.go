package hf

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/polargo/polar/model"
)

// maxSize bounds every size in a configuration, so that no product of two overflows and a description stays small.
const maxSize = 1 << 24

// maxLayers bounds the number of blocks; each costs memory before any tensor is compared with the file.
const maxLayers = 4096

// parsers has one entry for each model_type.
var parsers = map[string]func(*fields) model.Config{
	"llama":      parseLlama,
	"mistral":    parseMistral,
	"qwen2":      parseQwen2,
	"qwen3":      parseQwen3,
	"gpt2":       parseGPT2,
	labModelType: parseLab,
}

// ParseConfig returns the decoder that a config.json describes. Absent fields take transformers' defaults. A value that would
// change the result and that Polar does not implement, and a field it does not know, is refused by name; all in one error.
func ParseConfig(text []byte) (model.Config, error) {
	f := &fields{}
	if err := json.Unmarshal(text, &f.raw); err != nil {
		return model.Config{}, fmt.Errorf("not valid JSON: %w", err)
	}
	modelType := f.text("model_type", "")
	parse, known := parsers[modelType]
	if !known {
		names := slices.Sorted(maps.Keys(parsers))
		if modelType == "" {
			return model.Config{}, fmt.Errorf("unknown architecture: it has no model_type (supported: %s)", strings.Join(names, ", "))
		}
		return model.Config{}, fmt.Errorf("unknown architecture: model_type %q is not supported (supported: %s)", modelType, strings.Join(names, ", "))
	}
	cfg := parse(f)
	f.refuseUnknown()
	if len(f.wrong) > 0 {
		return model.Config{}, fmt.Errorf("%s", strings.Join(f.wrong, "; "))
	}
	return cfg, cfg.Validate()
}

// ignored are the fields of a config.json that do not change what the network computes at inference or in training without
// dropout: token ids, generation defaults, initialisation, dropout rates, bookkeeping.
var ignored = set(`architectures model_type torch_dtype dtype transformers_version use_cache bos_token_id eos_token_id pad_token_id
	sep_token_id unk_token_id decoder_start_token_id initializer_range attention_dropout hidden_dropout attn_pdrop embd_pdrop resid_pdrop
	pretraining_tp auto_map name_or_path task_specific_params return_dict return_dict_in_generate output_attentions
	output_hidden_states output_scores torchscript tf_legacy_loss use_bfloat16 id2label label2id num_labels problem_type finetuning_task
	prefix gradient_checkpointing keys_to_ignore_at_inference attn_implementation is_llama_config unsloth_version unsloth_fixed
	max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p typical_p
	repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids num_return_sequences
	forced_bos_token_id forced_eos_token_id remove_invalid_values exponential_decay_length_penalty suppress_tokens begin_suppress_tokens
	summary_activation summary_first_dropout summary_proj_to_labels summary_type summary_use_proj n_ctx reorder_and_upcast_attn
	max_window_layers is_decoder license language tokenizer_class model_name vocab_size_unpadded`)

// onlyValue are fields that change the result, with the one value that Polar implements (as JSON); null and absence count too.
var onlyValue = map[string]string{
	"rope_interleaved": "false", "is_encoder_decoder": "false", "add_cross_attention": "false", "partial_rotary_factor": "1",
	"use_mrope": "false", "attention_bias": "false", "mlp_bias": "false", "use_sliding_window": "false",
	"chunk_size_feed_forward": "0", "tie_encoder_decoder": "false", "pruned_heads": "{}", "scale_attn_weights": "true",
	"scale_attn_by_inverse_layer_idx": "false", "cross_attention_hidden_size": "null", "quantization_config": "null", "use_qk_norm": "false",
}

func set(names string) map[string]bool {
	out := map[string]bool{}
	for _, name := range strings.Fields(names) {
		out[name] = true
	}
	return out
}

// fields reads a JSON object, remembering what was read and everything that was wrong.
type fields struct {
	raw   map[string]json.RawMessage
	used  map[string]bool
	wrong []string
}

func (f *fields) fail(format string, args ...any) {
	f.wrong = append(f.wrong, fmt.Sprintf(format, args...))
}

// get decodes a field into value; false where it is absent or null.
func (f *fields) get(name string, value any) bool {
	if f.used == nil {
		f.used = map[string]bool{}
	}
	f.used[name] = true
	text, ok := f.raw[name]
	if !ok || string(text) == "null" {
		return false
	}
	if err := json.Unmarshal(text, value); err != nil {
		f.fail("%s = %s is not of the right type (want %s)", name, short(text), typeName(value))
		return false
	}
	return true
}

func typeName(value any) string {
	switch value.(type) {
	case *int:
		return "a whole number"
	case *float64:
		return "a number"
	case *bool:
		return "true or false"
	case *string:
		return "a string"
	case *[]string:
		return "a list of strings"
	}
	return "an object"
}

func short(text []byte) string {
	line := strings.Join(strings.Fields(string(text)), " ")
	if len(line) > 60 {
		line = strings.ToValidUTF8(line[:60], "") + "…"
	}
	return line
}

// size reads a whole number in [1, maxSize]; an absent one is an error.
func (f *fields) size(name string) int {
	n := 0
	if !f.get(name, &n) {
		if _, present := f.raw[name]; !present || string(f.raw[name]) == "null" {
			f.fail("%s is missing", name)
		}
		return 1
	}
	return f.bounded(name, n)
}

// sizeOr reads a whole number in [1, maxSize] with a default.
func (f *fields) sizeOr(name string, fallback int) int {
	n := fallback
	if !f.get(name, &n) {
		return fallback
	}
	return f.bounded(name, n)
}

func (f *fields) bounded(name string, n int) int {
	limit := maxSize
	if name == "num_hidden_layers" || name == "n_layer" {
		limit = maxLayers
	}
	if n < 1 || n > limit {
		f.fail("%s is %d, want 1 to %d", name, n, limit)
		return 1
	}
	return n
}

func (f *fields) number(name string, fallback float64) float64 {
	x := fallback
	if f.get(name, &x) && (x <= 0 || math.IsInf(x, 0)) {
		f.fail("%s is %g, want a number above 0", name, x)
		return fallback
	}
	return x
}

func (f *fields) flag(name string, fallback bool) bool {
	b := fallback
	if !f.get(name, &b) {
		return fallback
	}
	return b
}

func (f *fields) text(name, fallback string) string {
	s := fallback
	if !f.get(name, &s) {
		return fallback
	}
	return s
}

// refuseUnknown reports the fields nobody read that are not known to be without effect.
func (f *fields) refuseUnknown() {
	for _, name := range slices.Sorted(maps.Keys(f.raw)) {
		text := string(f.raw[name])
		if f.used[name] || ignored[name] || text == "null" || strings.HasPrefix(name, "_") || strings.HasPrefix(name, "transformers") {
			continue
		}
		only, known := onlyValue[name]
		switch {
		case known && (text == only || only == "1" && text == "1.0"):
		case known && only == "null":
			f.fail("%s is not supported", name)
		case known:
			f.fail("%s = %s is not supported (only %s)", name, short(f.raw[name]), only)
		default:
			f.fail("unknown setting %s = %s: it may change the result (remove it from config.json if it does not)", name, short(f.raw[name]))
		}
	}
}

// activations maps hidden_act to the decoder's.
var activations = map[string]model.Activation{
	"silu": model.SiLU, "swish": model.SiLU, "gelu": model.GELU, "gelu_new": model.GELUTanh, "gelu_pytorch_tanh": model.GELUTanh, "relu2": model.ReLU2,
}

func (f *fields) activation(name, fallback string) model.Activation {
	value := f.text(name, fallback)
	act, ok := activations[value]
	if !ok {
		f.fail("%s %q is not supported (supported: %s)", name, value, strings.Join(slices.Sorted(maps.Keys(activations)), ", "))
	}
	return act
}
