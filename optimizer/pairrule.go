package optimizer

import (
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/param"
)

// pairRule is what the rules have in common that move pairs by lengths of W: their settings, the moments mA and mB, and how a
// step that was found in the wide form is taken. Nesterov and guard are for the rules that know them.
type pairRule struct {
	beta, weightDecay float64
	nesterov, guard   bool
	scale             string
}

func newPairRule(cfg Config) pairRule {
	return pairRule{beta: cfg.Momentum, weightDecay: cfg.WeightDecay, nesterov: cfg.Nesterov, guard: cfg.Guard, scale: cfg.Scale}
}

func (pairRule) Layout() Layout    { return Paired }
func (pairRule) Directional() bool { return true }

func (pairRule) State(dims [][]int) []Slot { return pairMoments(dims) }

// pairMoments are the states mA and mB of factors with the given dimensions.
func pairMoments(dims [][]int) []Slot { return []Slot{{"mA", 0, dims[0]}, {"mB", 1, dims[1]}} }

// moments updates mA and mB and returns the directions to follow.
func (r pairRule) moments(s *Step, grads []*Node) (mA, mB *Node) {
	return s.Momentum("mA", grads[0], r.beta, r.nesterov), s.Momentum("mB", grads[1], r.beta, r.nesterov)
}

// lengths returns the length of a step in units of A Bᵀ, and k of the split decay.
func (r pairRule) lengths(s *Step) (eta, k *Node) {
	return MulScalar(s.Rate, widthScale(r.scale, s.Group.FanOut, s.Group.FanIn)/s.Group.Scale), splitDecay(s.Rate, r.weightDecay)
}

// guarded returns the length of A's part of a step with the guard's factor on it, for a second-order term of norm q·eta.
func (r pairRule) guarded(length *Node, q func() *Node) *Node {
	if !r.guard {
		return length
	}
	return Mul(length, guardFactor(q()))
}

// advance returns k·x - stepᵀ of a factor x [k, m, r] and its step in the wide form [k, r, m].
func advance(x, k, step *Node) *Node { return Sub(Mul(x, k), Transpose(step, 1, 2)) }

// routePairs routes pairs to the given rule, hidden matrices to muon at the same rate, and the rest to the fallback.
func routePairs(cfg Config, spec param.Spec, pair Rule) (assignment, bool) {
	return routeMatrices(cfg, spec, pair, newMuonRule(cfg))
}

// routeMatrices routes pairs and hidden matrices to the given rules, and the rest to the fallback.
func routeMatrices(cfg Config, spec param.Spec, pair, hidden Rule) (assignment, bool) {
	switch {
	case isFallbackRole(spec.Role):
		return fallbackAssignment(cfg), true
	case spec.Role == param.Pair:
		return onMain(pair), true
	}
	return onMain(hidden), spec.Role == param.Hidden
}
