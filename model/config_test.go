package model

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/graphx"
)

// TestBase: every architecture that is listed is known and, with sizes, valid; another is refused with the list.
func TestBase(t *testing.T) {
	for _, architecture := range Architectures {
		c, err := Base(architecture)
		if err != nil || c.Architecture != architecture {
			t.Errorf("%s: %+v, %v", architecture, c, err)
		}
		if err := c.Validate(); err == nil {
			t.Errorf("%s is valid without sizes", architecture)
		}
		if err := small(architecture, nil).Validate(); err != nil {
			t.Errorf("%s: %v", architecture, err)
		}
	}
	_, err := Base("bert")
	if want := `unknown architecture "bert": known are llama, mistral, qwen2, qwen3, gpt2, lab`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestLab: setting M by its numbers, and no panic for sizes that New refuses.
func TestLab(t *testing.T) {
	d, err := New(Lab(64, 32, 2, 4, 128))
	if err != nil {
		t.Fatal(err)
	}
	c := d.Config()
	if c.Intermediate != 128 || c.HeadDim != 8 || c.KVHeads != 4 || c.Norm != NormPlain || c.QKNorm != NormPlain || !c.EmbeddingNorm ||
		c.Activation != ReLU2 || c.Gated || c.TiedEmbeddings || c.Positions != Rotary {
		t.Errorf("%+v", c)
	}
	// 12 d² a layer, embedding and head of 64, and no other parameter
	if want := int64(2*12*32*32 + 2*64*32); d.Size() != want {
		t.Errorf("%d parameters, want %d", d.Size(), want)
	}
	if _, err := New(Lab(64, 32, 2, 0, 128)); err == nil || !strings.Contains(err.Error(), "heads is 0") {
		t.Errorf("no heads: %v", err)
	}
}

// TestValidate: what is wrong is named with its value and what is wanted.
func TestValidate(t *testing.T) {
	scaling := func(change func(s *RopeScaling)) func(c *Config) { // llama3's with a change
		return func(c *Config) {
			c.Rope.Scaling = RopeScaling{Type: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositions: 32}
			change(&c.Rope.Scaling)
		}
	}
	for _, c := range []struct {
		architecture, want string
		change             func(c *Config)
	}{
		{"llama", `unknown architecture "opt" (known: llama, mistral`, func(c *Config) { c.Architecture = "opt" }},
		{"llama", "vocabulary size is 0, want at least 1", func(c *Config) { c.VocabSize = 0 }},
		{"llama", "hidden size is -1", func(c *Config) { c.Hidden = -1 }},
		{"llama", "intermediate size is 0", func(c *Config) { c.Intermediate = 0 }},
		{"llama", "layers is 0", func(c *Config) { c.Layers = 0 }},
		{"llama", "heads is 0", func(c *Config) { c.Heads = 0 }},
		{"llama", "key/value heads is -2", func(c *Config) { c.KVHeads = -2 }},
		{"llama", "head dimension is -4", func(c *Config) { c.HeadDim = -4 }},
		{"llama", "head dimension is 0", func(c *Config) { c.Hidden = 3 }},
		{"llama", "maximum positions is 0", func(c *Config) { c.MaxPositions = 0 }},
		{"llama", "4 heads are not divisible by 3 key/value heads", func(c *Config) { c.KVHeads = 3 }},
		{"gpt2", "no grouped heads, got 4·4, 16 and 2", func(c *Config) { c.KVHeads = 2 }},
		{"gpt2", "heads·head dimension = hidden size", func(c *Config) { c.HeadDim = 8 }},
		{"gpt2", "gpt2 has no tensors for a gated MLP", func(c *Config) { c.Gated = true }},
		{"gpt2", "gpt2 has no tensors", func(c *Config) { c.QKNorm = NormRMS }},
		{"llama", "norm epsilon is 0, want above 0", func(c *Config) { c.NormEps = 0 }},
		{"llama", "norm epsilon is NaN", func(c *Config) { c.NormEps = math.NaN() }},
		{"llama", `unknown norm "" (known: rms, plain, layer)`, func(c *Config) { c.Norm = NormNone }},
		{"llama", `unknown norm "layer" on queries and keys`, func(c *Config) { c.QKNorm = NormLayer }},
		{"llama", "a norm on the embedding is only supported without parameters", func(c *Config) { c.EmbeddingNorm = true }},
		{"llama", `unknown activation "relu" (known: silu, gelu, gelu_tanh, relu2)`, func(c *Config) { c.Activation = "relu" }},
		{"llama", "sliding window is -1", func(c *Config) { c.SlidingWindow = -1 }},
		{"llama", `unknown positions "alibi" (known: rotary, learned)`, func(c *Config) { c.Positions = "alibi" }},
		{"llama", "even head dimension, got 3", func(c *Config) { c.HeadDim = 3 }},
		{"llama", "rotary base is 0", func(c *Config) { c.Rope.Base = 0 }},
		{"llama", "rotary base is NaN", func(c *Config) { c.Rope.Base = math.NaN() }},
		{"llama", `rotary scaling "yarn" is not supported (supported: linear, llama3)`, scaling(func(s *RopeScaling) { s.Type = "yarn" })},
		{"llama", "rotary scaling factor is 0.5, want at least 1", scaling(func(s *RopeScaling) { s.Type, s.Factor = "linear", 0.5 })},
		{"llama", "rotary scaling factor is NaN", scaling(func(s *RopeScaling) { s.Factor = math.NaN() })},
		{"llama", "0 < low < high frequency factors, got 32, 4, 4", scaling(func(s *RopeScaling) { s.LowFreqFactor = 4 })},
		{"llama", "original positions > 0", scaling(func(s *RopeScaling) { s.OriginalMaxPositions = 0 })},
	} {
		_, err := New(small(c.architecture, c.change))
		if err == nil || !strings.HasPrefix(err.Error(), "model configuration: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

// TestValidateNamesAll: one error lists everything.
func TestValidateNamesAll(t *testing.T) {
	err := Config{}.Validate()
	if err == nil {
		t.Fatal("an empty configuration is valid")
	}
	for _, want := range []string{
		"unknown architecture", "vocabulary size", "hidden", "intermediate", "layers", "heads", "positions", "epsilon", "norm", "activation",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %q", err, want)
		}
	}
}

// TestValidBuilds: what Validate accepts can be built, over all combinations of the enumerated fields.
func TestValidBuilds(t *testing.T) {
	built := 0
	for _, architecture := range Architectures {
		for choice := range 3 * 3 * 2 * 2 * 2 * 2 {
			pick := func(n int) int { i := choice % n; choice /= n; return i }
			c := small(architecture, func(c *Config) {
				c.Layers = 1
				c.Norm = []NormKind{NormRMS, NormPlain, NormLayer}[pick(3)]
				c.QKNorm = []NormKind{NormNone, NormRMS, NormPlain}[pick(3)]
				c.Gated, c.EmbeddingNorm, c.TiedEmbeddings = pick(2) == 1, pick(2) == 1, pick(2) == 1
				if c.Positions = Learned; pick(2) == 1 {
					c.Positions, c.Rope = Rotary, Rope{Base: 10000}
				}
			})
			d, err := New(c)
			if err != nil {
				continue
			}
			if err := build(t, d); err != nil {
				t.Errorf("%+v is valid, but: %v", c, err)
			}
			built++
		}
	}
	if built < 500 {
		t.Errorf("only %d combinations are valid", built)
	}
}

// build builds the graph of the logits.
func build(t *testing.T, d *Decoder) error {
	return graphx.Try(func() error {
		g := NewGraph(check.Backend(t), fmt.Sprintf("%+v", d.cfg))
		defer g.Finalize()
		d.Logits(zeros(d), Inputs{Tokens: Parameter(g, "tokens", shapes.Make(dtypes.Int32, 1, 3))}, Options{})
		return nil
	})
}
