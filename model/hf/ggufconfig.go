package hf

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/go-huggingface/models/gguf"
	"github.com/gomlx/gomlx/core/tensors"
)

// ggufFields reads the metadata of one architecture, remembering what was read and everything that was wrong.
type ggufFields struct {
	file  *gguf.File
	arch  string
	used  map[string]bool
	wrong []string
}

// ggufIgnored are keys of an architecture that do not change the result or restate another.
var ggufIgnored = set("vocab_size tensor_data_layout rope.scaling.finetuned rope.scaling.original_context_length attention.causal")

// ggufConfig returns the config.json equivalent to a GGUF file's metadata, for ParseConfig. Keys of the architecture that are
// not known are refused by name.
func ggufConfig(file *gguf.File) ([]byte, error) {
	f := &ggufFields{file: file, arch: file.Architecture(), used: map[string]bool{}}
	var out map[string]any
	switch f.arch {
	case "llama", "qwen2", "qwen3":
		out = f.llamaLike()
	case "gpt2":
		out = f.gpt2()
	case "":
		return nil, fmt.Errorf("unknown architecture: the metadata has no %s", gguf.KeyGeneralArchitecture)
	default:
		return nil, fmt.Errorf("unknown architecture: GGUF %q is not supported (supported: gpt2, llama, qwen2, qwen3)", f.arch)
	}
	f.refuseUnknown()
	if len(f.wrong) > 0 {
		return nil, fmt.Errorf("metadata: %s", strings.Join(f.wrong, "; "))
	}
	for _, name := range []string{"bos", "eos"} {
		if kv, ok := file.GetKeyValue("tokenizer.ggml." + name + "_token_id"); ok {
			out[name+"_token_id"] = kv.Int64()
		}
	}
	out["architectures"] = []string{transformersClass[out["model_type"].(string)]}
	return json.Marshal(out)
}

func (f *ggufFields) fail(format string, args ...any) {
	f.wrong = append(f.wrong, fmt.Sprintf(format, args...))
}

func (f *ggufFields) value(name string) (any, bool) {
	f.used[name] = true
	kv, ok := f.file.GetKeyValue(f.arch + "." + name)
	return kv.Raw(), ok
}

// number reads an integer or float; false where it is absent.
func (f *ggufFields) number(name string) (float64, bool) {
	raw, ok := f.value(name)
	if !ok {
		return 0, false
	}
	switch x := raw.(type) {
	case uint8, int8, uint16, int16, uint32, int32, uint64, int64:
		var n float64
		_, err := fmt.Sscan(fmt.Sprint(x), &n)
		return n, err == nil
	case float32:
		return shortest(x), true
	case float64:
		return x, true
	}
	f.fail("%s.%s is a %T, want a number", f.arch, name, raw)
	return 0, false
}

// shortest is the decimal number that was meant by a float32: 1e-5, not 9.999999747378752e-06.
func shortest(x float32) float64 {
	var out float64
	if _, err := fmt.Sscan(fmt.Sprint(x), &out); err != nil {
		return float64(x)
	}
	return out
}

func (f *ggufFields) size(name string) int {
	n, ok := f.number(name)
	if !ok {
		f.fail("%s.%s is missing", f.arch, name)
		return 1
	}
	if n < 1 || n > maxSize || n != math.Trunc(n) {
		f.fail("%s.%s is %g, want 1 to %d", f.arch, name, n, maxSize)
		return 1
	}
	return int(n)
}

func (f *ggufFields) sizeOr(name string, fallback int) int {
	if _, ok := f.value(name); !ok {
		return fallback
	}
	return f.size(name)
}

func (f *ggufFields) has(tensor string) bool {
	_, ok := f.file.GetTensorInfo(tensor)
	return ok
}

// vocabulary is the number of rows of the embedding.
func (f *ggufFields) vocabulary() int {
	info, ok := f.file.GetTensorInfo("token_embd.weight")
	if !ok || len(info.Shape) != 2 || info.Shape[1] > maxSize {
		f.fail("tensor token_embd.weight is missing or not a matrix")
		return 1
	}
	return int(info.Shape[1])
}

func (f *ggufFields) llamaLike() map[string]any {
	heads, hidden := f.size("attention.head_count"), f.size("embedding_length")
	out := map[string]any{"model_type": f.arch, "vocab_size": f.vocabulary(), "hidden_size": hidden, "intermediate_size": f.size("feed_forward_length"),
		"num_hidden_layers": f.size("block_count"), "num_attention_heads": heads, "num_key_value_heads": f.sizeOr("attention.head_count_kv", heads),
		"max_position_embeddings": f.size("context_length"), "hidden_act": "silu", "tie_word_embeddings": !f.has("output.weight")}
	headDim := f.sizeOr("attention.key_length", hidden/heads)
	out["head_dim"] = headDim
	for _, name := range []string{"attention.value_length", "rope.dimension_count"} {
		if n := f.sizeOr(name, headDim); n != headDim {
			f.fail("%s.%s is %d but the head dimension is %d: not supported", f.arch, name, n, headDim)
		}
	}
	if eps, ok := f.number("attention.layer_norm_rms_epsilon"); ok {
		out["rms_norm_eps"] = eps
	} else {
		f.fail("%s.attention.layer_norm_rms_epsilon is missing", f.arch)
	}
	f.rope(out, headDim)
	f.variant(out)
	return out
}

// variant reads what distinguishes the models that share the architecture name "llama", and refuses mixtures of experts.
func (f *ggufFields) variant(out map[string]any) {
	if n, _ := f.number("expert_count"); n > 0 {
		f.fail("%s.expert_count is %g: mixtures of experts are not supported", f.arch, n)
	}
	if n, _ := f.number("expert_used_count"); n > 0 {
		f.fail("%s.expert_used_count is %g: mixtures of experts are not supported", f.arch, n)
	}
	window, _ := f.number("attention.sliding_window")
	switch {
	case window > 0 && f.arch == "llama":
		out["model_type"], out["sliding_window"] = "mistral", int(window)
	case window > 0:
		f.fail("%s.attention.sliding_window is %g: not supported", f.arch, window)
	case f.arch == "llama":
		out["attention_bias"], out["mlp_bias"] = f.has("blk.0.attn_q.bias"), f.has("blk.0.ffn_up.bias")
	case f.arch == "qwen3":
		out["attention_bias"] = f.has("blk.0.attn_q.bias")
	}
}

func (f *ggufFields) rope(out map[string]any, headDim int) {
	base, ok := f.number("rope.freq_base")
	if !ok {
		base = 10000
	}
	out["rope_theta"] = base
	kind, _ := f.value("rope.scaling.type")
	factor, _ := f.number("rope.scaling.factor")
	if old, ok := f.number("rope.scale_linear"); ok && factor == 0 {
		kind, factor = "linear", old
	}
	switch {
	case f.has("rope_freqs.weight"):
		out["rope_scaling"] = f.llama3(headDim, base)
	case kind == nil || kind == "none" || factor == 1 && kind == "linear":
	case kind == "linear":
		out["rope_scaling"] = map[string]any{"rope_type": "linear", "factor": factor}
	default:
		f.fail("%s.rope.scaling.type %q is not supported (supported: none, linear)", f.arch, kind)
	}
}

// llama3 recovers Llama 3's rotary scaling, which llama.cpp's converter keeps only as the divisor of each frequency: the
// largest is the factor, and the published low, high and original length must reproduce the rest.
func (f *ggufFields) llama3(headDim int, base float64) map[string]any {
	const low, high, original = 1.0, 4.0, 8192.0 // config.json of Llama 3.1, 3.2 and 3.3
	reader, err := gguf.NewReader(f.file)
	if err != nil {
		f.fail("rope_freqs.weight: %v", oneLine(err))
		return nil
	}
	defer func() { _ = reader.Close() }()
	value, err := reader.ReadTensor(nil, "rope_freqs.weight")
	if err != nil || value.DType() != dtypes.Float32 || value.Size() != headDim/2 {
		f.fail("rope_freqs.weight is not a float32 vector of %d", headDim/2)
		return nil
	}
	divisors := tensors.MustCopyFlatData[float32](value)
	factor := float64(slices.Max(divisors))
	for i, got := range divisors {
		wavelength := 2 * math.Pi * math.Pow(base, 2*float64(i)/float64(headDim))
		want := 1.0
		switch {
		case wavelength > original/low:
			want = factor
		case wavelength > original/high:
			smooth := (original/wavelength - low) / (high - low)
			want = 1 / ((1-smooth)/factor + smooth)
		}
		if math.Abs(float64(got)-want) > 1e-4*want { // the converter computes them in float32
			f.fail("rope_freqs.weight is not Llama 3's scaling by %g (value %d is %g, want %g): not supported", factor, i, got, want)
			return nil
		}
	}
	return map[string]any{"rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high, "original_max_position_embeddings": int(original)}
}

func (f *ggufFields) gpt2() map[string]any {
	hidden := f.size("embedding_length")
	out := map[string]any{"model_type": "gpt2", "vocab_size": f.vocabulary(), "n_embd": hidden, "n_positions": f.size("context_length"),
		"n_layer": f.size("block_count"), "n_head": f.size("attention.head_count"), "n_inner": f.sizeOr("feed_forward_length", 4*hidden),
		"activation_function": "gelu_new", "tie_word_embeddings": !f.has("output.weight")}
	if eps, ok := f.number("attention.layer_norm_epsilon"); ok {
		out["layer_norm_epsilon"] = eps
	}
	return out
}

// refuseUnknown reports keys of the architecture that nobody read.
func (f *ggufFields) refuseUnknown() {
	for _, kv := range f.file.KeyValues {
		name, ours := strings.CutPrefix(kv.Key, f.arch+".")
		if ours && !f.used[name] && !ggufIgnored[name] {
			f.fail("unknown setting %s = %s: it may change the result", kv.Key, short([]byte(fmt.Sprint(kv.Raw()))))
		}
	}
}
