package optimizer

import (
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/param"
)

var sgdEntry = entry{
	name:     "sgd",
	summary:  "gradient descent with momentum m ← beta·m + g and decoupled weight decay",
	uses:     uses{nesterov: true, noFallback: true},
	defaults: Config{LearningRate: 0.1, Momentum: 0.9, Scale: "none", LoRAPlusRatio: 1},
	route: func(cfg Config, spec param.Spec) (assignment, bool) {
		if isFallbackRole(spec.Role) && cfg.Fallback.LearningRate > 0 {
			return fallbackAssignment(cfg), true
		}
		return onMain(newSGDRule(cfg)), true
	},
	untagged: func(cfg Config) assignment { return onMain(newSGDRule(cfg)) },
}

// sgdRule is gradient descent on elements with heavy-ball or Nesterov momentum:
// m ← beta·m + g;  x ← (1 - eta·lambda) x - eta·m  (Nesterov: eta·(g + beta·m)).
type sgdRule struct {
	beta, weightDecay float64
	nesterov          bool
}

func newSGDRule(cfg Config) sgdRule {
	return sgdRule{beta: cfg.Momentum, weightDecay: cfg.WeightDecay, nesterov: cfg.Nesterov}
}

func (sgdRule) Name() string      { return "sgd" }
func (sgdRule) Layout() Layout    { return Flat }
func (sgdRule) Directional() bool { return false }

func (r sgdRule) State(dims [][]int) []Slot {
	if r.beta == 0 {
		return nil
	}
	return []Slot{{"m", 0, dims[0]}}
}

// Flops counts 6 operations an element.
func (sgdRule) Flops(dims [][]int) int64 { return 6 * elements(dims[0]) }

func (r sgdRule) Update(s *Step, values, grads []*Node) []*Node {
	x, direction := values[0], grads[0]
	if r.beta != 0 {
		m := Add(MulScalar(s.State("m"), r.beta), grads[0])
		s.SetState("m", m)
		direction = m
		if r.nesterov {
			direction = Add(grads[0], MulScalar(m, r.beta))
		}
	}
	return []*Node{Sub(decay(x, s.Rate, r.weightDecay), Mul(direction, s.Rate))}
}
