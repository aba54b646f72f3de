package model

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// NormKind is the kind of a normalisation.
type NormKind string

// The normalisations. NormNone is only for Config.QKNorm.
const (
	NormNone  NormKind = ""      // no normalisation
	NormRMS   NormKind = "rms"   // x / rms(x) · weight
	NormPlain NormKind = "plain" // x / rms(x), no parameters
	NormLayer NormKind = "layer" // (x - mean) / std · weight + bias
)

// Activation is the nonlinearity of the MLP.
type Activation string

// The activations.
const (
	SiLU     Activation = "silu"      // x·sigmoid(x)
	GELU     Activation = "gelu"      // with erf
	GELUTanh Activation = "gelu_tanh" // the tanh approximation ("gelu_new", "gelu_pytorch_tanh")
	ReLU2    Activation = "relu2"     // max(x, 0)²
)

// PositionKind says how positions enter the model.
type PositionKind string

// The position encodings.
const (
	Rotary  PositionKind = "rotary"  // on queries and keys, the two halves of each head rotated
	Learned PositionKind = "learned" // a table added to the embedding
)

// Rope is the rotary embedding's setting.
type Rope struct {
	Base    float64 // theta; frequency i of a head of dimension h is Base^(-2i/h)
	Scaling RopeScaling
}

// RopeScaling stretches the rotary frequencies for contexts longer than the trained one.
type RopeScaling struct {
	// Type is "" (none), "linear" (all frequencies divided by Factor) or "llama3".
	Type string
	// Factor divides the frequencies.
	Factor float64
	// LowFreqFactor, HighFreqFactor and OriginalMaxPositions are llama3's: wavelengths longer than
	// Original/Low are divided by Factor, those shorter than Original/High are kept, and in between it is blended.
	LowFreqFactor, HighFreqFactor float64
	OriginalMaxPositions          int
}

// Architectures are the values of Config.Architecture.
var Architectures = []string{"llama", "mistral", "qwen2", "qwen3", "gpt2", "lab"}

// Config describes a decoder. Start from Base, which sets what the architecture implies, and set the sizes.
type Config struct {
	Architecture string // one of Architectures; decides the names of the tensors

	VocabSize    int
	Hidden       int // width of the residual stream
	Intermediate int // width of the MLP
	Layers       int
	Heads        int
	KVHeads      int // divides Heads; 0 means Heads
	HeadDim      int // 0 means Hidden/Heads
	MaxPositions int // longest context; rows of the learned position table

	Norm          NormKind // before attention, before the MLP and before the head
	NormEps       float64
	EmbeddingNorm bool     // also on the embedding (parameter-free norms only)
	QKNorm        NormKind // per head on queries and keys, before the rotation

	Positions     PositionKind
	Rope          Rope
	SlidingWindow int // a token sees itself and SlidingWindow-1 tokens before it; 0 means all

	Activation Activation
	Gated      bool // down(act(gate(x))·up(x)); otherwise down(act(up(x)))

	QKVBias        bool
	AttentionBias  bool // bias of the attention's output projection
	MLPBias        bool
	TiedEmbeddings bool // the head is the embedding
}

// Base returns what an architecture implies; sizes, epsilon and rotary base are still to be set where zero.
// It returns an error for an unknown architecture, listing those known.
func Base(architecture string) (Config, error) {
	c := Config{Architecture: architecture, Norm: NormRMS, NormEps: 1e-5, Positions: Rotary, Rope: Rope{Base: 10000}, Activation: SiLU, Gated: true}
	switch architecture {
	case "llama", "mistral":
	case "qwen2":
		c.QKVBias, c.NormEps = true, 1e-6
	case "qwen3":
		c.QKNorm, c.NormEps = NormRMS, 1e-6
	case "gpt2":
		c.Norm, c.Positions, c.Rope, c.Activation, c.Gated = NormLayer, Learned, Rope{}, GELUTanh, false
		c.QKVBias, c.AttentionBias, c.MLPBias, c.TiedEmbeddings = true, true, true, true
	case "lab":
		c.Norm, c.NormEps, c.EmbeddingNorm, c.QKNorm = NormPlain, 1e-6, true, NormPlain
		c.Activation, c.Gated = ReLU2, false
	default:
		return Config{}, fmt.Errorf("unknown architecture %q: known are %s", architecture, strings.Join(Architectures, ", "))
	}
	return c, nil
}

// Lab returns setting M of the published LoRA-Muon experiments: width d, MLP 4d, parameter-free norms, rotary positions.
func Lab(vocabulary, width, layers, heads, maxPositions int) Config {
	c, _ := Base("lab")
	c.VocabSize, c.Hidden, c.Intermediate, c.Layers, c.Heads, c.KVHeads, c.MaxPositions = vocabulary, width, 4*width, layers, heads, heads, maxPositions
	if heads > 0 {
		c.HeadDim = width / heads
	}
	return c
}

// withDefaults fills the zero fields that have a default.
func (c Config) withDefaults() Config {
	if c.KVHeads == 0 {
		c.KVHeads = c.Heads
	}
	if c.HeadDim == 0 && c.Heads > 0 {
		c.HeadDim = c.Hidden / c.Heads
	}
	return c
}

// Validate returns one error naming everything that is wrong with the configuration.
func (c Config) Validate() error {
	c = c.withDefaults()
	var wrong []string
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if !slices.Contains(Architectures, c.Architecture) {
		add("unknown architecture %q (known: %s)", c.Architecture, strings.Join(Architectures, ", "))
	}
	for _, size := range []struct {
		name  string
		value int
	}{{"vocabulary size", c.VocabSize}, {"hidden size", c.Hidden}, {"intermediate size", c.Intermediate}, {"layers", c.Layers},
		{"heads", c.Heads}, {"key/value heads", c.KVHeads}, {"head dimension", c.HeadDim}, {"maximum positions", c.MaxPositions}} {
		if size.value <= 0 {
			add("%s is %d, want at least 1", size.name, size.value)
		}
	}
	if c.KVHeads > 0 && c.Heads%c.KVHeads != 0 {
		add("%d heads are not divisible by %d key/value heads", c.Heads, c.KVHeads)
	}
	if c.Architecture == "gpt2" && (c.KVHeads != c.Heads || c.HeadDim*c.Heads != c.Hidden) {
		add("gpt2 wants heads·head dimension = hidden size and no grouped heads, got %d·%d, %d and %d", c.Heads, c.HeadDim, c.Hidden, c.KVHeads)
	}
	if c.Architecture == "gpt2" && (c.Gated || c.QKNorm == NormRMS) {
		add("gpt2 has no tensors for a gated MLP or for norms of queries and keys")
	}
	if c.NormEps <= 0 || math.IsNaN(c.NormEps) {
		add("norm epsilon is %g, want above 0", c.NormEps)
	}
	wrong = append(wrong, c.wrongKinds()...)
	if len(wrong) > 0 {
		return fmt.Errorf("model configuration: %s", strings.Join(wrong, "; "))
	}
	return nil
}

// wrongKinds checks the enumerated fields and the rotary setting.
func (c Config) wrongKinds() (wrong []string) {
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if !slices.Contains([]NormKind{NormRMS, NormPlain, NormLayer}, c.Norm) {
		add("unknown norm %q (known: rms, plain, layer)", c.Norm)
	}
	if !slices.Contains([]NormKind{NormNone, NormRMS, NormPlain}, c.QKNorm) {
		add("unknown norm %q on queries and keys (known: none, rms, plain)", c.QKNorm)
	}
	if c.EmbeddingNorm && c.Norm != NormPlain {
		add("a norm on the embedding is only supported without parameters")
	}
	if !slices.Contains([]Activation{SiLU, GELU, GELUTanh, ReLU2}, c.Activation) {
		add("unknown activation %q (known: silu, gelu, gelu_tanh, relu2)", c.Activation)
	}
	if c.SlidingWindow < 0 {
		add("sliding window is %d, want 0 (none) or more", c.SlidingWindow)
	}
	switch c.Positions {
	case Learned:
	case Rotary:
		wrong = append(wrong, c.wrongRope()...)
	default:
		add("unknown positions %q (known: rotary, learned)", c.Positions)
	}
	return wrong
}

func (c Config) wrongRope() (wrong []string) {
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if c.HeadDim%2 != 0 {
		add("rotary positions want an even head dimension, got %d", c.HeadDim)
	}
	if c.Rope.Base <= 0 || math.IsNaN(c.Rope.Base) {
		add("rotary base is %g, want above 0", c.Rope.Base)
	}
	s := c.Rope.Scaling
	switch s.Type {
	case "":
		return wrong
	case "linear":
	case "llama3":
		if s.OriginalMaxPositions <= 0 || s.LowFreqFactor <= 0 || s.HighFreqFactor <= s.LowFreqFactor {
			add("rotary scaling llama3 wants original positions > 0 and 0 < low < high frequency factors, got %d, %g, %g", s.OriginalMaxPositions, s.LowFreqFactor, s.HighFreqFactor)
		}
	default:
		add("rotary scaling %q is not supported (supported: linear, llama3)", s.Type)
	}
	if !(s.Factor >= 1) {
		add("rotary scaling factor is %g, want at least 1", s.Factor)
	}
	return wrong
}
