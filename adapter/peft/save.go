package peft

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/polargo/polar/internal/atomicfile"
	"github.com/polargo/polar/internal/safetensors"
)

// The files of an adapter folder, and the prefix PEFT puts before a module's name.
const (
	configFile  = "adapter_config.json"
	weightsFile = "adapter_model.safetensors"
	keyPrefix   = "base_model.model."
)

// written is adapter_config.json as Save writes it: the fields of PEFT's own file that every version since 0.5 reads.
type written struct {
	AlphaPattern      map[string]int `json:"alpha_pattern"`
	AutoMapping       *string        `json:"auto_mapping"`
	Base              string         `json:"base_model_name_or_path"`
	Bias              string         `json:"bias"`
	FanInFanOut       bool           `json:"fan_in_fan_out"`
	InferenceMode     bool           `json:"inference_mode"`
	InitLoraWeights   bool           `json:"init_lora_weights"`
	LayersPattern     *string        `json:"layers_pattern"`
	LayersToTransform []int          `json:"layers_to_transform"`
	Alpha             int            `json:"lora_alpha"`
	Dropout           float64        `json:"lora_dropout"`
	ModulesToSave     []string       `json:"modules_to_save"`
	PeftType          string         `json:"peft_type"`
	Rank              int            `json:"r"`
	RankPattern       map[string]int `json:"rank_pattern"`
	Revision          *string        `json:"revision"`
	Targets           []string       `json:"target_modules"`
	TaskType          string         `json:"task_type"`
	UseDora           bool           `json:"use_dora"`
	UseRSLoRA         bool           `json:"use_rslora"`
}

// Save writes the adapter as a PEFT folder at dir, with the extra files beside (name -> content: tokenizer, chat
// template, model card). Everything is written under a temporary name, synced and renamed: dir is the old folder or the
// new one. An existing dir is replaced if it is empty or an adapter folder, and refused otherwise.
//
// Each pair's scale is folded evenly into its two factors, lora_A = sqrt(s)·Bᵀ and lora_B = sqrt(s)·A, and lora_alpha is
// r, so that alpha/r with use_rslora false is 1 everywhere. r is the most common rank; others are in rank_pattern and
// alpha_pattern. Tensors are float32; folding costs one rounding an entry.
func Save(dir string, a *Adapter, extra map[string][]byte) error {
	if err := a.Check(); err != nil {
		return fmt.Errorf("save adapter %s: %w", dir, err)
	}
	if err := checkExtra(extra); err != nil {
		return fmt.Errorf("save adapter %s: %w", dir, err)
	}
	if err := replaceable(dir); err != nil {
		return fmt.Errorf("save adapter %s: %w", dir, err)
	}
	text, err := json.MarshalIndent(a.written(), "", "  ")
	if err != nil {
		return fmt.Errorf("save adapter %s: %w", dir, err)
	}
	return atomicfile.WriteFolder(dir, func(temp string) error {
		if err := safetensors.Write(filepath.Join(temp, weightsFile), a.tensors(), map[string]string{"format": "pt"}); err != nil {
			return err
		}
		for name, content := range extra {
			if err := os.WriteFile(filepath.Join(temp, name), content, 0o644); err != nil {
				return err
			}
		}
		return os.WriteFile(filepath.Join(temp, configFile), append(text, '\n'), 0o644)
	})
}

func checkExtra(extra map[string][]byte) error {
	for name := range extra {
		if name == configFile || name == weightsFile || name != filepath.Base(name) || name == "." || name == ".." || !filepath.IsLocal(name) {
			return fmt.Errorf("extra file %q: want a plain name other than the adapter's own", name)
		}
	}
	return nil
}

// replaceable returns an error when dir holds something that is not an adapter.
func replaceable(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == configFile {
			return nil
		}
	}
	if len(entries) > 0 {
		return fmt.Errorf("the folder holds other files (%s); choose a new one", entries[0].Name())
	}
	return nil
}

func (a *Adapter) written() written {
	rank := a.commonRank()
	w := written{
		AlphaPattern: map[string]int{}, RankPattern: map[string]int{},
		Base: a.Base, Bias: "none", FanInFanOut: a.FanInFanOut, InferenceMode: true, InitLoraWeights: true,
		Alpha: rank, Rank: rank, PeftType: "LORA", Targets: slices.Clone(a.Targets), TaskType: "CAUSAL_LM",
	}
	for _, p := range a.Pairs {
		if p.Rank != rank {
			key := regexp.QuoteMeta(p.Layer) // PEFT reads the key as a regular expression
			w.RankPattern[key], w.AlphaPattern[key] = p.Rank, p.Rank
		}
		if len(a.Targets) == 0 {
			w.Targets = append(w.Targets, p.Layer)
		}
	}
	slices.Sort(w.Targets)
	return w
}

// commonRank returns the most common rank of the pairs, the larger of two as common.
func (a *Adapter) commonRank() int {
	counts := make(map[int]int)
	for _, p := range a.Pairs {
		counts[p.Rank]++
	}
	best := 0
	for rank, count := range counts {
		if count > counts[best] || (count == counts[best] && rank > best) {
			best = rank
		}
	}
	return best
}

// tensors is the one place that turns A and B into PEFT's lora_B and lora_A.
func (a *Adapter) tensors() []safetensors.Tensor {
	var out []safetensors.Tensor
	for _, p := range a.Pairs {
		fold := math.Sqrt(p.Scale)
		loraA := make([]float32, p.Rank*p.FanIn)
		for j := range p.FanIn {
			for k := range p.Rank {
				loraA[k*p.FanIn+j] = float32(fold * float64(p.B[j*p.Rank+k]))
			}
		}
		loraB := make([]float32, len(p.A))
		for i, value := range p.A {
			loraB[i] = float32(fold * float64(value))
		}
		out = append(out,
			safetensors.FromFloat32(keyPrefix+p.Layer+".lora_A.weight", []int{p.Rank, p.FanIn}, loraA),
			safetensors.FromFloat32(keyPrefix+p.Layer+".lora_B.weight", []int{p.FanOut, p.Rank}, loraB))
	}
	return out
}
