package optimizer

import (
	"math"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/param"
)

var adamwEntry = entry{
	name:    "adamw",
	summary: "Adam, bias-corrected, with decoupled weight decay; LoRA+ ratio for the fan-out factors",
	uses:    uses{beta2: true, epsilon: true, loraPlus: true, noFallback: true},
	// Settings of PyTorch's AdamW; 2e-4 is the usual rate of LoRA fine-tuning.
	defaults: Config{LearningRate: 2e-4, WeightDecay: 0.01, Momentum: 0.9, Beta2: 0.999, Epsilon: 1e-8, Scale: "none",
		LoRAPlusRatio: 1, Fallback: Fallback{Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-8}},
	rates: rates{full: 1e-3},
	route: func(cfg Config, spec param.Spec) (assignment, bool) {
		if isFallbackRole(spec.Role) && cfg.Fallback.LearningRate > 0 {
			return fallbackAssignment(cfg), true
		}
		to := onMain(newAdamRule(cfg))
		if spec.Role == param.Vector {
			to = onMain(newAdamRule(cfg).withoutDecay())
		}
		if spec.Role == param.Pair && spec.Side == param.SideA {
			to.multiple = cfg.LoRAPlusRatio
		}
		return to, true
	},
	untagged: func(cfg Config) assignment { return onMain(newAdamRule(cfg)) },
}

// adamRule is AdamW on elements: m and v are moving averages of the gradient and its square,
// x ← (1 - eta·lambda) x - eta·m̂/(√v̂ + epsilon) with m̂ = m/(1 - beta1ᵗ), v̂ = v/(1 - beta2ᵗ).
// Ref: Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2.
type adamRule struct{ beta1, beta2, epsilon, weightDecay float64 }

func newAdamRule(cfg Config) adamRule {
	return adamRule{beta1: cfg.Momentum, beta2: cfg.Beta2, epsilon: cfg.Epsilon, weightDecay: cfg.WeightDecay}
}

func (r adamRule) withoutDecay() adamRule {
	r.weightDecay = 0
	return r
}

func (adamRule) Name() string      { return "adamw" }
func (adamRule) Layout() Layout    { return Flat }
func (adamRule) Directional() bool { return false }

func (adamRule) State(dims [][]int) []Slot {
	return []Slot{{"m", 0, dims[0]}, {"v", 0, dims[0]}}
}

// Flops counts 14 operations an element.
func (adamRule) Flops(dims [][]int) int64 { return 14 * elements(dims[0]) }

func (r adamRule) Update(s *Step, values, grads []*Node) []*Node {
	return []*Node{Sub(decay(values[0], s.Rate, r.weightDecay), r.step(s, "m", "v", grads[0]))}
}

// step updates the moments kept in the states m and v with grad and returns eta·m̂/(√v̂ + epsilon).
func (r adamRule) step(s *Step, mName, vName string, grad *Node) *Node {
	return r.quotient(s, s.Momentum(mName, grad, r.beta1, false), s.Momentum(vName, Square(grad), r.beta2, false))
}

// quotient returns eta·m̂/(√v̂ + epsilon).
func (r adamRule) quotient(s *Step, m, v *Node) *Node {
	// m̂/(√v̂ + ε) = m·c/(√v + ε·√(1-beta2ᵗ)) with c = √(1-beta2ᵗ)/(1-beta1ᵗ): the corrections stay scalars.
	root := Sqrt(oneMinusPower(r.beta2, s.Count))
	denominator := Add(Sqrt(v), MulScalar(root, r.epsilon))
	return Div(Mul(m, Mul(s.Rate, Div(root, oneMinusPower(r.beta1, s.Count)))), denominator)
}

// oneMinusPower returns 1 - betaᵗ without the cancellation that 1 - Pow would suffer for beta near 1.
func oneMinusPower(beta float64, t *Node) *Node {
	if beta == 0 {
		return OnesLike(t)
	}
	return Neg(Expm1(MulScalar(t, math.Log(beta))))
}

// decay returns (1 - rate·lambda) x.
func decay(x, rate *Node, lambda float64) *Node {
	if lambda == 0 {
		return x
	}
	return Mul(x, OneMinus(MulScalar(rate, lambda)))
}
