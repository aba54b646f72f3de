package hf

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"
	"github.com/gomlx/compute/dtypes/float16"
	"github.com/gomlx/go-huggingface/models/gguf"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/polargo/polar/model"
	"github.com/polargo/polar/tokenizer"
)

// loadGGUF reads a single GGUF file.
func loadGGUF(ctx context.Context, path string, opts LoadOptions) (*Loaded, error) {
	if err := checkGGUFFile(path); err != nil {
		return nil, err
	}
	file, err := gguf.Open(path)
	if err != nil {
		return nil, oneLine(err)
	}
	reader, err := gguf.NewReader(file)
	if err != nil {
		return nil, oneLine(err)
	}
	src := &ggufSource{file: file, reader: reader}
	defer src.close()
	loaded := &Loaded{Dir: filepath.Dir(path)}
	if loaded.Config, err = ggufConfig(file); err != nil {
		return nil, err
	}
	cfg, err := ParseConfig(loaded.Config)
	if err != nil {
		return nil, err
	}
	src.cfg = cfg
	if err := loaded.place(ctx, cfg, src, opts); err != nil {
		return nil, err
	}
	return loaded, loaded.readGGUFTokenizer(file, opts.NeedTokenizer)
}

func (l *Loaded) readGGUFTokenizer(file *gguf.File, need bool) error {
	if _, ok := file.GetKeyValue("tokenizer.ggml.tokens"); !ok {
		if need {
			return errors.New("tokenizer missing: the GGUF file has no tokenizer.ggml.tokens")
		}
		return nil
	}
	t, err := tokenizer.FromGGUF(func(key string) (any, bool) {
		kv, ok := file.GetKeyValue(key)
		return kv.Raw(), ok
	})
	if err != nil {
		return err
	}
	if kv, ok := file.GetKeyValue("tokenizer.chat_template"); ok {
		l.ChatTemplate = kv.String()
	}
	l.GenerationConfig = generationConfig(t)
	return l.setTokenizer(t)
}

// generationConfig is the generation_config.json of a tokenizer's special tokens; nil where there are none.
func generationConfig(t tokenizer.Tokenizer) json.RawMessage {
	out := map[string]any{}
	for key, get := range map[string]func() (int, bool){"bos_token_id": t.BOS, "eos_token_id": t.EOS, "pad_token_id": t.Pad} {
		if id, ok := get(); ok {
			out[key] = id
		}
	}
	if len(out) == 0 {
		return nil
	}
	text, _ := json.Marshal(out) // a map of numbers cannot fail
	return text
}

// ggufSource is the source of a GGUF file.
type ggufSource struct {
	file   *gguf.File
	reader *gguf.Reader
	cfg    model.Config
}

// ggufNames maps the parts of a checkpoint's names to those of GGUF.
var ggufNames = map[string]string{
	"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm",
	"post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
	"self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
	"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
	"transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm", "ln_1": "attn_norm",
	"ln_2": "ffn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
}

// ggufName translates a parameter's name; "" where GGUF has no such tensor.
func ggufName(name string) string {
	cut := strings.LastIndexByte(name, '.')
	module, kind := name[:cut], name[cut:]
	if part, ok := ggufNames[module]; ok {
		return part + kind
	}
	for _, prefix := range []string{"model.layers.", "transformer.h."} {
		if rest, ok := strings.CutPrefix(module, prefix); ok {
			layer, part, _ := strings.Cut(rest, ".")
			if short, ok := ggufNames[part]; ok {
				return "blk." + layer + "." + short + kind
			}
		}
	}
	return ""
}

// find: GGUF stores every linear layer [fan-out, fan-in], GPT-2's too.
func (s *ggufSource) find(p model.Tensor) (located, bool) {
	info, ok := s.file.GetTensorInfo(ggufName(p.Name))
	if !ok {
		return located{}, false
	}
	_, dims := info.GoMLXShape()
	return located{name: info.Name, shape: dims, want: p.Shape}, true
}

func (s *ggufSource) names() []string {
	names := s.file.ListTensorNames()
	slices.Sort(names)
	return names
}

func (s *ggufSource) close() { _ = s.reader.Close() }

func (s *ggufSource) read(at located, p model.Tensor, backend compute.Backend) (*tensors.Tensor, error) {
	info, _ := s.file.GetTensorInfo(at.name)
	half, from := info.Type == gguf.TensorTypeF16 || info.Type == gguf.TensorTypeBF16, backend
	if half || backend != nil && !backend.HasSharedBuffers() {
		from = nil
	}
	value, err := s.reader.ReadTensor(from, at.name)
	if err != nil {
		return nil, oneLine(err)
	}
	if half {
		if value, err = widen(value, backend); err != nil {
			return nil, err
		}
	}
	if heads := s.permutedHeads(at.name); heads > 0 {
		err = tensors.MutableFlatData(value, func(flat []float32) { unpermute(flat, heads, s.cfg.HeadDim) })
	}
	return value, err
}

// widen converts a tensor of 16-bit numbers to float32 and frees it.
func widen(half *tensors.Tensor, backend compute.Backend) (*tensors.Tensor, error) {
	value, err := newTensor(backend, half.Shape().Dimensions)
	if err != nil {
		return nil, err
	}
	var inner error
	err = tensors.MutableFlatData(value, func(flat []float32) {
		if half.DType() == dtypes.Float16 {
			inner = tensors.ConstFlatData(half, func(from []float16.Float16) {
				for i, x := range from {
					flat[i] = x.Float32()
				}
			})
			return
		}
		inner = tensors.ConstFlatData(half, func(from []bfloat16.BFloat16) {
			for i, x := range from {
				flat[i] = x.Float32()
			}
		})
	})
	return value, errors.Join(err, inner, half.FinalizeAll())
}

// permutedHeads returns the heads of a tensor whose rows llama.cpp's converter permuted, 0 for the others. It does so for the
// queries and keys (weights and biases) of architecture "llama", whose rotation pairs neighbours; "qwen2" and "qwen3" keep
// Hugging Face's order.
func (s *ggufSource) permutedHeads(name string) int {
	if s.file.Architecture() != "llama" {
		return 0
	}
	switch {
	case strings.Contains(name, ".attn_q."):
		return s.cfg.Heads
	case strings.Contains(name, ".attn_k."):
		return s.cfg.KVHeads
	}
	return 0
}

// unpermute reorders the rows of each head from (0, h/2, 1, h/2+1, …), where neighbours rotate together, to (0, 1, 2, …),
// where row i rotates with row i + h/2. data has heads·headDim rows (of one element for a bias).
func unpermute(data []float32, heads, headDim int) {
	width := len(data) / (heads * headDim)
	head := make([]float32, headDim*width)
	for h := range heads {
		rows := data[h*headDim*width : (h+1)*headDim*width]
		copy(head, rows)
		for i := range headDim {
			// row i of Hugging Face's order is pair i mod headDim/2, member i / (headDim/2)
			from := 2*(i%(headDim/2)) + i/(headDim/2)
			copy(rows[i*width:(i+1)*width], head[from*width:(from+1)*width])
		}
	}
}

// oneLine is the first line of a library's error, which may carry a stack.
func oneLine(err error) error {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return errors.New(strings.TrimPrefix(line, "gguf: "))
}
