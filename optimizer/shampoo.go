package optimizer

import (
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/matfn"
	"github.com/polargo/polar/param"
)

var shampooEntry = entry{
	name:    "shampoo",
	summary: "Shampoo: W ← (1-λη) W - η·scale·L^{-1/4} m R^{-1/4}, L and R averages of m mᵀ and mᵀ m; pairs factor by factor",
	uses:    uses{beta2: true, beta2Sum: true, nesterov: true, maxPreconditioned: true},
	msign:   true,
	// Muon's rates: a step has about the norm of Muon's, which it is while the momentum keeps its direction. On rank-8 adapters
	// of a two-layer character model 0.03 was the best of 0.01, 0.03 and 0.1 (loss 1.741, 1.675, 1.691 after 150 steps).
	defaults: Config{LearningRate: 0.03, WeightDecay: 0.01, Momentum: 0.9, Beta2: 0.99, Scale: "rms", MaxPreconditioned: 512,
		LoRAPlusRatio: 1, Fallback: defaultFallback},
	rates: rates{full: 0.02},
	route: func(cfg Config, spec param.Spec) (assignment, bool) {
		return routeMatrices(cfg, spec, pairedShampooRule{newShampooRule(cfg)}, newShampooRule(cfg))
	},
}

// shampooRule is Shampoo on stacked dense matrices, with moving averages instead of sums and Adam's corrections for their start
// at zero:
//
//	m ← beta m + (1-beta) ∇_W,   d = m/(1 - betaᵗ)   (with nesterov the look-ahead, divided likewise)
//	L ← beta2 L + (1-beta2) d dᵀ,   R ← beta2 R + (1-beta2) dᵀ d,   L̂ = L/(1 - beta2ᵗ),   R̂ = R/(1 - beta2ᵗ)
//	W ← (1 - lambda·eta) W - eta·scale·L̂^{-1/4} d R̂^{-1/4}
//
// The g of the paper is d, in L and R too: so d lies in their ranges, the direction has norm 1/√(1-beta2) at most, and with
// beta2 0 it is the polar factor of d: the step is then Muon's (TestShampooIsMuon). With beta2 1 L and R are the sums of the
// original, without a correction, and steps shrink as 1/√t.
//
// Of a side longer than maxPreconditioned no average is kept, unless it is the shorter one; the other side's root is then the
// inverse square root, so that the step keeps its scale and without memory is still Muon's.
//
// Roots: L^{-1/4} is the inverse root of L^{1/2} = L·L^{-1/2}, all by matrix products, of L with shampooRidge added.
// Accuracy: within 1.3e-3 of the float64 reference, exact steps within 5e-6 (TestShampooOracle).
// Cost: 106 n³ operations for the roots of a side of n, 56 r³ for an only one of r.
// Ref: Gupta, Koren and Singer 2018, arXiv 1802.09568, algorithm 1; averages as in Shi et al. 2023, arXiv 2309.06497.
type shampooRule struct {
	beta, beta2, weightDecay float64
	nesterov                 bool
	scale                    string
	maxPreconditioned        int
}

func newShampooRule(cfg Config) shampooRule {
	return shampooRule{beta: cfg.Momentum, beta2: cfg.Beta2, weightDecay: cfg.WeightDecay, nesterov: cfg.Nesterov, scale: cfg.Scale,
		maxPreconditioned: cfg.MaxPreconditioned}
}

// shampooRidge is added to L and R, relative to their Frobenius norms, where Shampoo begins from a multiple of I. An exact step
// needs only what covers the rounding of the state to float32, at most 6e-8, and nothing when it has no memory.
const (
	shampooRidge      = 1e-6
	shampooRidgeExact = 1e-7
)

func (shampooRule) Name() string      { return "shampoo" }
func (shampooRule) Layout() Layout    { return Dense }
func (shampooRule) Directional() bool { return false }

func (r shampooRule) State(dims [][]int) []Slot {
	return append(preconditionerSlots("", 0, dims[0], r.maxPreconditioned), Slot{"m", 0, dims[0]})
}

func (r shampooRule) Flops(dims [][]int) int64 { return r.flops(dims[0]) }

// flops counts the averages' Gram matrices, two inverse roots of each (one if there is no other), L·L^{-1/2}, and the direction.
func (r shampooRule) flops(dims []int) int64 {
	k, m, n := int64(dims[0]), int64(dims[1]), int64(dims[2])
	left, right := preconditioned(dims[1], dims[2], r.maxPreconditioned)
	side := func(a, b int64) int64 {
		root := rootFlops(int(a))
		if left && right { // two roots, the half power and its Newton-Schulz step
			root = 2*matfn.InvSqrtFlops(int(a), matfn.RootSteps) + 6*a*a*a
		}
		return 4*a*a*b + root // the Gram matrix and the product with the gradient
	}
	var total int64
	if left {
		total += side(m, n)
	}
	if right {
		total += side(n, m)
	}
	return k * total
}

func (r shampooRule) Update(s *Step, values, grads []*Node) []*Node {
	eta := MulScalar(s.Rate, widthScale(r.scale, s.Group.FanOut, s.Group.FanIn))
	step := Mul(r.direction(s, "", grads[0]), eta)
	return []*Node{Sub(decay(values[0], s.Rate, r.weightDecay), step)}
}

// direction takes in the gradient of one value, whose states' names end in suffix, and returns L̂^{-1/4} d R̂^{-1/4}.
func (r shampooRule) direction(s *Step, suffix string, grad *Node) *Node {
	m, count := s.Momentum("m"+suffix, grad, r.beta, r.nesterov), s.Count
	if r.nesterov {
		count = AddScalar(count, 1) // the look-ahead's weights add up to 1 - betaᵗ⁺¹
	}
	d := Div(m, oneMinusPower(r.beta, count))
	left, right := preconditioned(d.Shape().Dim(1), d.Shape().Dim(2), r.maxPreconditioned)
	direction := d
	if r.beta2 < 1 {
		direction = Mul(d, Sqrt(oneMinusPower(r.beta2, s.Count))) // the corrections of both roots
	}
	if left {
		root := r.root(s, s.average("L"+suffix, timesTransposed(d, d), r.beta2), right)
		direction = times(root, direction)
	}
	if right {
		root := r.root(s, s.average("R"+suffix, gramOf(d), r.beta2), left)
		direction = times(direction, root)
	}
	return direction
}

// root returns p^{-1/4}, or p^{-1/2} for the only preconditioner.
func (r shampooRule) root(s *Step, p *Node, fourth bool) *Node {
	ridge := shampooRidge
	switch {
	case s.exact && r.beta2 == 0:
		ridge = 0
	case s.exact:
		ridge = shampooRidgeExact
	}
	p, largest := byLargest(p) // so that its squares neither overflow nor vanish
	scale := orOne(largest)
	p = Add(p, Mul(identities(p), MulScalar(frobeniusNorm(p), ridge)))
	if !fourth {
		return Div(s.InvSqrt(p), Sqrt(scale))
	}
	root := matfn.InvSqrt(p, s.options()...)
	half := symmetrised(times(p, root))
	if !s.exact {
		// A Newton-Schulz step takes out the bias of InvSqrt's ridge, as sharpen does to the root. A sharpened root times p would
		// not do: where p is nearly singular the root is large, and its rounding makes the product indefinite.
		half = symmetrised(Sub(MulScalar(half, 1.5), MulScalar(times(times(half, root), half), 0.5)))
	}
	return Div(matfn.InvSqrt(half, s.options()...), Sqrt(Sqrt(scale)))
}

// pairedShampooRule treats each factor of a pair as a dense matrix, with the width scale of the layer's weight and lora-muon's
// split decay: factor-muon with a memory.
type pairedShampooRule struct{ shampooRule }

func (pairedShampooRule) Layout() Layout { return Paired }

func (r pairedShampooRule) State(dims [][]int) []Slot {
	slots := append(preconditionerSlots("A", 0, dims[0], r.maxPreconditioned), Slot{"mA", 0, dims[0]})
	slots = append(slots, preconditionerSlots("B", 1, dims[1], r.maxPreconditioned)...)
	return append(slots, Slot{"mB", 1, dims[1]})
}

func (r pairedShampooRule) Flops(dims [][]int) int64 { return r.flops(dims[0]) + r.flops(dims[1]) }

func (r pairedShampooRule) Update(s *Step, values, grads []*Node) []*Node {
	eta := MulScalar(s.Rate, widthScale(r.scale, s.Group.FanOut, s.Group.FanIn))
	k := splitDecay(s.Rate, r.weightDecay)
	return []*Node{
		Sub(Mul(values[0], k), Mul(r.direction(s, "A", grads[0]), eta)),
		Sub(Mul(values[1], k), Mul(r.direction(s, "B", grads[1]), eta)),
	}
}

// preconditioned says on which sides of an m x n matrix a preconditioner acts: always on the shorter one (the left one of a
// square matrix), and on the other one up to the limit; 0 is no limit.
func preconditioned(m, n, limit int) (left, right bool) {
	return limit == 0 || m <= max(limit, n), limit == 0 || n <= limit || n < m
}

// preconditionerSlots returns the states L and R of the value with index of and dimensions [k, m, n].
func preconditionerSlots(suffix string, of int, dims []int, limit int) []Slot {
	var slots []Slot
	left, right := preconditioned(dims[1], dims[2], limit)
	if left {
		slots = append(slots, Slot{"L" + suffix, of, []int{dims[0], dims[1], dims[1]}})
	}
	if right {
		slots = append(slots, Slot{"R" + suffix, of, []int{dims[0], dims[2], dims[2]}})
	}
	return slots
}

// average updates the moving average kept in the state called name with x, or the sum for beta 1, and returns it.
func (s *Step) average(name string, x *Node, beta float64) *Node {
	if beta < 1 {
		return s.Momentum(name, x, beta, false)
	}
	sum := Add(s.State(name), x)
	s.SetState(name, sum)
	return sum
}
