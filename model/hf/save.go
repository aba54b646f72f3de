package hf

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/internal/atomicfile"
	"github.com/polargo/polar/internal/graphx"
	"github.com/polargo/polar/internal/safetensors"
	"github.com/polargo/polar/model"
	"github.com/polargo/polar/tokenizer"
)

// SaveOptions is what Save writes beside the weights; every field may be left out.
type SaveOptions struct {
	Tokenizer        tokenizer.Tokenizer
	ChatTemplate     string
	GenerationConfig json.RawMessage
	// Config is the config.json the model came from: its fields that Polar does not decide (token ids and the like) are kept.
	Config json.RawMessage
}

// Extra returns what belongs beside the model when it is saved again.
func (l *Loaded) Extra() SaveOptions {
	return SaveOptions{Tokenizer: l.Tokenizer, ChatTemplate: l.ChatTemplate, GenerationConfig: l.GenerationConfig, Config: l.Config}
}

// Save writes the model as a folder that transformers loads (the lab architecture only Polar reads): config.json,
// model.safetensors in float32, and what opts holds. The folder appears whole or not at all. An existing folder is replaced
// if all it holds is a model's files; otherwise it is refused. One tensor at a time is copied.
func Save(dir string, dec *model.Decoder, store *mlmodel.Store, opts SaveOptions) error {
	err := graphx.Try(func() error { return save(dir, dec, store, opts) })
	debug.FreeOSMemory() // the buffer of the largest tensor
	if err != nil {
		return fmt.Errorf("save model to %s: %w", dir, err)
	}
	return nil
}

func save(dir string, dec *model.Decoder, store *mlmodel.Store, opts SaveOptions) error {
	config, err := buildConfig(dec.Config(), opts)
	if err != nil {
		return err
	}
	files, err := opts.files()
	if err != nil {
		return err
	}
	files["config.json"] = config
	scratch := &scratch{}
	sources := make([]safetensors.Source, 0, len(dec.Parameters()))
	for _, p := range dec.Parameters() {
		value, err := parameter(store, p)
		if err != nil {
			return err
		}
		if got := value.Shape(); got.DType != dtypes.Float32 || !slices.Equal(got.Dimensions, p.Shape) {
			return fmt.Errorf("parameter %s is %s, want float32 %v", p.Name, got, p.Shape)
		}
		sources = append(sources, scratch.source(p, value))
	}
	if err := replaceable(dir); err != nil {
		return err
	}
	return atomicfile.WriteFolder(dir, func(temp string) error {
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if err := os.WriteFile(filepath.Join(temp, name), files[name], 0o644); err != nil {
				return err
			}
		}
		return safetensors.WriteSources(filepath.Join(temp, weightsFile), sources, map[string]string{"format": "pt"})
	})
}

// scratch is the buffer of the tensor being written; tensors are written one after another.
type scratch struct{ bytes []byte }

// source gives a parameter to the writer in the checkpoint's layout.
func (s *scratch) source(p model.Tensor, value *tensors.Tensor) safetensors.Source {
	shape := slices.Clone(p.Shape)
	if p.Conv1D {
		slices.Reverse(shape)
	}
	return safetensors.Source{Name: p.Name, DType: "F32", Shape: shape, Load: func() ([]byte, error) {
		if err := checkFinite(p.Name, value); err != nil {
			return nil, err
		}
		err := tensors.ConstFlatData(value, func(flat []float32) {
			if p.Conv1D {
				flat = slices.Clone(flat)
				transpose(flat, p.Shape[0], p.Shape[1])
			}
			s.bytes = slices.Grow(s.bytes[:0], 4*len(flat))
			for _, x := range flat {
				s.bytes = binary.LittleEndian.AppendUint32(s.bytes, math.Float32bits(x))
			}
		})
		return s.bytes, err
	}}
}

// files returns the tokenizer's files, the chat template and generation_config.json by name.
func (o SaveOptions) files() (map[string][]byte, error) {
	files := map[string][]byte{}
	if o.Tokenizer != nil {
		for name, content := range o.Tokenizer.Files() {
			if filepath.Base(name) != name {
				return nil, fmt.Errorf("tokenizer file %q leaves the folder", name)
			}
			files[name] = content
		}
	}
	inside, err := tokenizer.TemplateFromFiles(files)
	if err != nil {
		return nil, err
	}
	if o.ChatTemplate != "" && o.ChatTemplate != inside {
		files["chat_template.jinja"] = []byte(o.ChatTemplate) // it comes before the one in tokenizer_config.json
	}
	if o.GenerationConfig != nil {
		files["generation_config.json"] = o.GenerationConfig
	}
	return files, nil
}

// transformersClass is the value of "architectures" by model_type.
var transformersClass = map[string]string{"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM",
	"qwen3": "Qwen3ForCausalLM", "gpt2": "GPT2LMHeadModel", labModelType: "PolarLabForCausalLM"}

// writers are the inverses of parsers.
var writers = map[string]func(map[string]any, model.Config){"llama": writeLlama, "mistral": writeMistral, "qwen2": writeQwen2, "qwen3": writeQwen3,
	"gpt2": writeGPT2, labModelType: writeLab}

// buildConfig returns the config.json of cfg, and an error where no config.json of its model_type says the same.
func buildConfig(cfg model.Config, opts SaveOptions) ([]byte, error) {
	modelType := cfg.Architecture
	if modelType == "lab" {
		modelType = labModelType
	}
	write, ok := writers[modelType]
	if !ok {
		return nil, fmt.Errorf("architecture %q has no config.json", cfg.Architecture)
	}
	out := kept(opts.Config, modelType)
	out["model_type"], out["architectures"], out["torch_dtype"] = modelType, []string{transformersClass[modelType]}, "float32"
	if t := opts.Tokenizer; t != nil {
		for key, get := range map[string]func() (int, bool){"bos_token_id": t.BOS, "eos_token_id": t.EOS, "pad_token_id": t.Pad} {
			if id, found := get(); found && out[key] == nil {
				out[key] = id
			}
		}
	}
	write(out, cfg)
	text, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return nil, err
	}
	back, err := ParseConfig(text)
	if err != nil {
		return nil, err
	}
	if back != cfg {
		return nil, fmt.Errorf("a %s config.json cannot express this configuration: it would read back as %+v instead of %+v", modelType, back, cfg)
	}
	return append(text, '\n'), nil
}

// keptFields are the fields of a source's config.json that go into the saved one.
var keptFields = strings.Fields("bos_token_id eos_token_id pad_token_id initializer_range attention_dropout attn_pdrop embd_pdrop resid_pdrop use_cache")

func kept(source json.RawMessage, modelType string) map[string]any {
	out, fields := map[string]any{}, map[string]json.RawMessage{}
	if json.Unmarshal(source, &fields) != nil || string(fields["model_type"]) != `"`+modelType+`"` {
		return out
	}
	for _, name := range keptFields {
		if value, ok := fields[name]; ok && string(value) != "null" {
			out[name] = value
		}
	}
	return out
}

// modelFiles are the patterns of names that a model's folder may hold and a replacement may drop.
var modelFiles = []string{"config.json", "generation_config.json", "model*.safetensors", indexFile, "tokenizer*", "special_tokens_map.json", "added_tokens.json",
	"vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja", "README.md", "LICENSE*", ".gitattributes", tokenizer.CharFile}

// replaceable refuses to replace a folder that holds anything but a model.
func replaceable(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for _, entry := range entries {
		known := slices.ContainsFunc(modelFiles, func(pattern string) bool {
			ok, _ := filepath.Match(pattern, entry.Name())
			return ok
		})
		if !known || entry.IsDir() {
			return fmt.Errorf("the folder exists and holds %s, which is not part of a model: choose another folder", entry.Name())
		}
	}
	return nil
}
