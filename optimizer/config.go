package optimizer

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/gomlx/compute/dtypes"
	"github.com/polargo/polar/param"
)

// Config says which optimizer to build and with what settings. Start from Default; zero fields are taken literally.
type Config struct {
	// Name is the optimizer: one of Known.
	Name string
	// LearningRate is eta, before the schedule's factor. For the msign family with Scale "rms" it is the norm of one
	// update of W from RMS to RMS norm; for adamw and sgd the usual per-element rate.
	LearningRate float64
	// WeightDecay is lambda: W ← (1 - lambda·eta) W in each step. lambda·eta must stay below 1.
	WeightDecay float64
	// Momentum is beta of the first moment (beta1 of adamw), in [0, 1).
	Momentum float64
	// Beta2 is the second moment's beta, Epsilon the term added to its root, where the optimizer has one. Shampoo takes a Beta2
	// of 1 for a sum that forgets nothing.
	Beta2, Epsilon float64
	// MaxPreconditioned is the longest side of a matrix for which Shampoo and SOAP keep a preconditioner when the matrix has a
	// shorter side; 0 is no limit.
	MaxPreconditioned int
	// Nesterov looks one step ahead along the momentum, where the optimizer knows it.
	Nesterov bool
	// Scale multiplies the step of a hidden matrix or pair of fan-out m and fan-in n: "rms" sqrt(m/n), "none" 1, "jordan"
	// sqrt(max(1, m/n)), "moonlight" 0.2·sqrt(max(m, n)). Only for the msign family.
	Scale string
	// Guard bounds the second-order term of a step on a pair; see guard.go. For the rules that divide by a pair's factors: lora-muon,
	// lora-rite-core and lora-rite.
	Guard bool
	// RebalanceEvery moves scale between A and B every so many steps (0: never); RebalanceExponent, in (0, 1], says how
	// much of their imbalance. W does not move. Only for lora-muon.
	RebalanceEvery    int
	RebalanceExponent float64
	// LoRAPlusRatio multiplies the learning rate of the fan-out factor A of each pair (PEFT's lora_B), as in LoRA+. 1 is
	// off. Only for adamw.
	LoRAPlusRatio float64
	// Exact computes steps in float64 with converged polar factors and roots without a ridge, so that they can be compared
	// with another implementation's. Several times slower, and no better at training.
	Exact bool
	// Schedule multiplies all learning rates, also the fallback's.
	Schedule Schedule
	// ClipNorm bounds the global norm of the gradients before the step; 0 is off. See ClipNote.
	ClipNorm float64
	// SpectralBudget is beta: s·‖A Bᵀ‖, the spectral norm of a pair's product, is brought back to it after every step; 0 is off.
	// SpectralBudgetMode says how (BudgetModes), and SpectralBudgetDecay, in (0, 1], what share of the excess clipped-decay
	// takes away in a step. See budget.go.
	SpectralBudget      float64
	SpectralBudgetMode  string
	SpectralBudgetDecay float64
	// Manifold keeps hidden matrices in a set. Only for optimizers that move them as muon does.
	Manifold Manifold
	// Fallback is the AdamW of embeddings, heads and vectors.
	Fallback Fallback
}

// Fallback configures the AdamW that updates embeddings, heads and vectors. With LearningRate 0, which only adamw and
// sgd allow, those variables follow the main rule and rate instead.
type Fallback struct {
	LearningRate, Beta1, Beta2, Epsilon, WeightDecay float64
}

// defaultFallback is the prototype's AdamW for embeddings (reproduction settings M and C: betas 0.9 and 0.95, no decay).
var defaultFallback = Fallback{LearningRate: 3e-3, Beta1: 0.9, Beta2: 0.95, Epsilon: 1e-8}

// Default returns the settings an optimizer starts from. An unknown name is an error that lists the known ones.
func Default(name string) (Config, error) {
	e, err := find(name)
	if err != nil {
		return Config{}, err
	}
	cfg := e.defaults
	cfg.Name, cfg.SpectralBudgetMode, cfg.SpectralBudgetDecay = name, BudgetHardcap, DefaultBudgetDecay
	return cfg, nil
}

// Validate returns one error naming every setting that cannot work, nil when all can.
func (c Config) Validate() error {
	e, err := find(c.Name)
	if err != nil {
		return err
	}
	var bad []string
	add := func(format string, args ...any) { bad = append(bad, fmt.Sprintf(format, args...)) }
	c.checkNumbers(e, add)
	c.checkDecay(e, c.LearningRate, add)
	c.checkUses(e, add)
	c.checkManifold(e, add)
	c.checkBudget(e, add)
	if err := c.Schedule.Validate(); err != nil {
		add("%v", err)
	}
	if len(bad) > 0 {
		return fmt.Errorf("optimizer %s: %s", c.Name, strings.Join(bad, "; "))
	}
	return nil
}

// dtype is what steps are computed in.
func (c Config) dtype() dtypes.DType {
	if c.Exact {
		return dtypes.Float64
	}
	return dtypes.Float32
}

// checkNumbers reports settings outside their range.
func (c Config) checkNumbers(e *entry, add func(string, ...any)) {
	positive := func(name string, v float64) {
		if !(v > 0) || math.IsInf(v, 0) {
			add("%s must be positive and finite, got %g", name, v)
		}
	}
	atLeast0 := func(name string, v float64) {
		if !(v >= 0) || math.IsInf(v, 0) {
			add("%s must be 0 or more and finite, got %g", name, v)
		}
	}
	beta := func(name string, v float64) {
		if !(v >= 0 && v < 1) {
			add("%s must be in [0, 1), got %g", name, v)
		}
	}
	positive("learning rate", c.LearningRate)
	atLeast0("weight decay", c.WeightDecay)
	beta("momentum", c.Momentum)
	atLeast0("clip norm", c.ClipNorm)
	if e.uses.beta2 && !(e.uses.beta2Sum && c.Beta2 == 1) {
		beta("beta2", c.Beta2)
	}
	if e.uses.epsilon {
		positive("epsilon", c.Epsilon)
	}
	if e.uses.loraPlus {
		positive("LoRA+ ratio", c.LoRAPlusRatio)
	}
	f := c.Fallback
	if f.LearningRate == 0 && e.uses.noFallback {
		return // the fallback is off
	}
	positive("fallback learning rate", f.LearningRate)
	beta("fallback beta1", f.Beta1)
	beta("fallback beta2", f.Beta2)
	positive("fallback epsilon", f.Epsilon)
	atLeast0("fallback weight decay", f.WeightDecay)
	if f.WeightDecay*f.LearningRate >= 1 {
		add("fallback weight decay %g times learning rate %g must stay below 1", f.WeightDecay, f.LearningRate)
	}
}

// checkDecay reports a learning rate at which one step would decay a weight to zero or past it.
func (c Config) checkDecay(e *entry, learningRate float64, add func(string, ...any)) {
	largest := learningRate
	if e.uses.loraPlus {
		largest *= max(1, c.LoRAPlusRatio)
	}
	if product := c.WeightDecay * largest; product >= 1 {
		add("weight decay %g times learning rate %g is %.3g and must stay below 1: lower one of them",
			c.WeightDecay, largest, product)
	}
}

// checkUses reports settings that the optimizer would ignore: none is dropped silently.
func (c Config) checkUses(e *entry, add func(string, ...any)) {
	if e.msign {
		if !slices.Contains(Scales(), c.Scale) {
			add("unknown scale %q; known: %s", c.Scale, strings.Join(Scales(), ", "))
		}
	} else if c.Scale == "jordan" || c.Scale == "moonlight" { // "rms" is the default everywhere and means nothing here
		add("scale %q is only for the msign family", c.Scale)
	}
	if c.Nesterov && !e.uses.nesterov {
		add("nesterov is not available")
	}
	if c.LoRAPlusRatio != 1 && c.LoRAPlusRatio != 0 && !e.uses.loraPlus {
		add("the LoRA+ ratio is only for adamw")
	}
	switch {
	case c.MaxPreconditioned < 0:
		add("max preconditioned must be 0 or more, got %d", c.MaxPreconditioned)
	case c.MaxPreconditioned > 0 && !e.uses.maxPreconditioned:
		add("max preconditioned is only for %s", strings.Join(Names(func(i Info) bool { return i.MaxPreconditioned }), ", "))
	}
	switch {
	case c.RebalanceEvery < 0:
		add("rebalance every must be 0 or more, got %d", c.RebalanceEvery)
	case c.RebalanceEvery > 0 && !e.uses.rebalance:
		add("rebalancing is only for lora-muon")
	case c.RebalanceEvery > 0 && !(c.RebalanceExponent > 0 && c.RebalanceExponent <= 1):
		add("rebalance exponent must be in (0, 1], got %g", c.RebalanceExponent)
	}
}

// ClipNote says in one line what gradient clipping does under this configuration where that may surprise, "" otherwise:
// rules that use only the direction of their momentum take no part in it.
func ClipNote(c Config) string {
	e, err := find(c.Name)
	if err != nil || c.ClipNorm == 0 {
		return ""
	}
	hidden, pairs := e.directional(c, param.Hidden), e.directional(c, param.Pair)
	switch {
	case !hidden && !pairs:
		return ""
	case hidden && !pairs && e.info().Pairs:
		return fmt.Sprintf("gradient clipping has no effect on the hidden matrices of %s, which follow only a gradient's direction; "+
			"it applies to all other weights", c.Name)
	}
	return fmt.Sprintf("gradient clipping has no effect on %s, which uses only a gradient's direction; "+
		"it applies to the AdamW of embeddings, heads and vectors", c.Name)
}
