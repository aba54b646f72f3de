package peft

import (
	"fmt"
	"math"
)

// Pair is the low-rank update of one linear layer: W_pre + Scale·A Bᵀ, W_pre fan-out x fan-in.
type Pair struct {
	// Layer is the module's name in the base model, for example "model.layers.0.self_attn.q_proj".
	Layer               string
	FanOut, FanIn, Rank int
	// Scale is s; Save folds it into the factors.
	Scale float64
	// A is fan-out x rank and B fan-in x rank, row-major.
	A, B []float32
}

// Adapter is a set of low-rank updates of one base model.
type Adapter struct {
	// Rank and Alpha are the configuration's r and lora_alpha as read. Save writes its own, from the pairs.
	Rank  int
	Alpha float64
	Pairs []Pair
	// Base is the name or path of the base model, for people and for PEFT's AutoPeftModel.
	Base string
	// FanInFanOut is set where the base model stores these weights fan-in x fan-out (GPT-2's Conv1D).
	FanInFanOut bool
	// Targets are the module names or suffixes that match exactly the adapted layers, for target_modules; empty means
	// the pairs' full names.
	Targets []string

	config *config // as loaded; nil for an adapter made here
}

// Check returns an error naming the pair and the defect when a shape, scale or value is not usable: array lengths,
// rank < 1, a scale that is not positive and finite, NaN or infinite values, a layer listed twice.
func (a *Adapter) Check() error {
	if len(a.Pairs) == 0 {
		return fmt.Errorf("the adapter has no layers")
	}
	seen := make(map[string]bool, len(a.Pairs))
	for _, p := range a.Pairs {
		if seen[p.Layer] {
			return fmt.Errorf("layer %q is in the adapter twice", p.Layer)
		}
		seen[p.Layer] = true
		if err := p.check(); err != nil {
			return fmt.Errorf("layer %q: %w", p.Layer, err)
		}
	}
	return nil
}

func (p Pair) check() error {
	switch {
	case p.Layer == "":
		return fmt.Errorf("the layer has no name")
	case p.Rank < 1 || p.FanOut < 1 || p.FanIn < 1:
		return fmt.Errorf("rank %d of a %d x %d layer, want all at least 1", p.Rank, p.FanOut, p.FanIn)
	case len(p.A) != p.FanOut*p.Rank:
		return fmt.Errorf("factor A has %d values, want %d x %d", len(p.A), p.FanOut, p.Rank)
	case len(p.B) != p.FanIn*p.Rank:
		return fmt.Errorf("factor B has %d values, want %d x %d", len(p.B), p.FanIn, p.Rank)
	case !(p.Scale > 0) || math.IsInf(p.Scale, 0):
		return fmt.Errorf("scale %g, want a positive number", p.Scale)
	}
	for name, values := range map[string][]float32{"A (lora_B)": p.A, "B (lora_A)": p.B} {
		for i, value := range values {
			if v := float64(value); math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("factor %s holds %g at [%d, %d]", name, v, i/p.Rank, i%p.Rank)
			}
		}
	}
	return nil
}
