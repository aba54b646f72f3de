package optimizer

import (
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/param"
)

var loraMuonEntry = entry{
	name:    "lora-muon",
	summary: "low-rank pairs: spectral-norm steepest descent on W = W_pre + s·A Bᵀ, whatever the factors' gauge",
	uses:    uses{nesterov: true, rebalance: true},
	msign:   true,
	// The settings of arXiv 2606.12921: eta 0.1, beta 0.9, lambda 0.01.
	defaults: Config{LearningRate: 0.1, WeightDecay: 0.01, Momentum: 0.9, Scale: "rms", Guard: true,
		RebalanceExponent: 1, LoRAPlusRatio: 1, Fallback: defaultFallback},
	route: func(cfg Config, spec param.Spec) (assignment, bool) {
		switch {
		case isFallbackRole(spec.Role):
			return fallbackAssignment(cfg), true
		case spec.Role == param.Pair:
			return onMain(newLoRAMuonRule(cfg)), true
		}
		return onMain(newMuonRule(cfg)), spec.Role == param.Hidden
	},
}

// loraMuonRule is LoRA-Muon on stacked pairs. The trust region of norm eta on W is split between the tangent components
// ΔA Bᵀ and A ΔBᵀ, each of which moves W by eta/2 in spectral norm; the gradient of W is never formed.
//
//	R_A = (AᵀA)^{-1/2}                            R_B = (BᵀB)^{-1/2}
//	ΔA  = -eta/(2s) msign(m_A R_B) R_B            ΔB  = -eta/(2s) msign(m_B R_A) R_A
//	A   ← k A + ΔA/k                              B   ← k B + ΔB/k,   k = sqrt(1 - lambda·eta)
//
// A zero factor has a zero inverse root: then the other factor's gradient is zero as well, and does not move.
// Cost a pair: at most (6 + 4·8)(m+n) r² + (16·7 + 12 + 4·8) r³ operations for 8 polar and 7 root steps and one to sharpen
// the roots; Msign may need fewer (LoRAMuonFlops).
// Ref: LoRA-Muon, arXiv 2606.12921.
type loraMuonRule struct {
	beta, weightDecay float64
	nesterov, guard   bool
	scale             string
	rebalanceEvery    int
	rebalanceExponent float64
}

func newLoRAMuonRule(cfg Config) loraMuonRule {
	rule := loraMuonRule{beta: cfg.Momentum, weightDecay: cfg.WeightDecay, nesterov: cfg.Nesterov, guard: cfg.Guard, scale: cfg.Scale}
	if cfg.RebalanceEvery > 0 {
		rule.rebalanceEvery, rule.rebalanceExponent = cfg.RebalanceEvery, cfg.RebalanceExponent
	}
	return rule
}

func (loraMuonRule) Name() string      { return "lora-muon" }
func (loraMuonRule) Layout() Layout    { return Paired }
func (loraMuonRule) Directional() bool { return true }

func (loraMuonRule) State(dims [][]int) []Slot {
	return []Slot{{"mA", 0, dims[0]}, {"mB", 1, dims[1]}}
}

// Flops counts an upper bound, LoRAMuonFlops a pair.
func (loraMuonRule) Flops(dims [][]int) int64 {
	return int64(dims[0][0]) * LoRAMuonFlops(dims[0][1], dims[1][1], dims[0][2])
}

func (r loraMuonRule) Update(s *Step, values, grads []*Node) []*Node {
	a, b := values[0], values[1]
	mA := s.Momentum("mA", grads[0], r.beta, r.nesterov)
	mB := s.Momentum("mB", grads[1], r.beta, r.nesterov)
	rootA, rootB := s.inverseRoots(a, b)
	dA, dB := s.msignBoth(timesTransposed(rootB, mA), timesTransposed(rootA, mB))

	eta := MulScalar(s.Rate, widthScale(r.scale, s.Group.FanOut, s.Group.FanIn)/s.Group.Scale) // in units of A Bᵀ
	k := splitDecay(s.Rate, r.weightDecay)
	half := Div(MulScalar(eta, 0.5), k)
	scaleA, scaleB := half, half
	if r.guard {
		scaleA = Mul(half, guardFactor(halfSteps(eta, productBound(rootA, rootB))))
	}
	// The factors go on the small roots: a product with them costs less than a pass over the step.
	stepA, stepB := times(Mul(rootB, scaleA), dA), times(Mul(rootA, scaleB), dB)
	a = Sub(Mul(a, k), Transpose(stepA, 1, 2))
	b = Sub(Mul(b, k), Transpose(stepB, 1, 2))
	if r.rebalanceEvery > 0 {
		a, b = r.rebalance(s, a, b)
	}
	return []*Node{a, b}
}

// inverseRoots returns (AᵀA)^{-1/2} and (BᵀB)^{-1/2}, all of the group in one batch: [k, m, r], [k, n, r] -> [k, r, r].
func (s *Step) inverseRoots(a, b *Node) (rootA, rootB *Node) {
	k := a.Shape().Dim(0)
	gram := func(x *Node) *Node {
		x = Transpose(x, 1, 2)
		return timesTransposed(x, x)
	}
	grams := Concatenate([]*Node{gram(a), gram(b)}, 0)
	roots := s.InvSqrt(grams)
	return SliceAxis(roots, 0, AxisRange(0, k)), SliceAxis(roots, 0, AxisRange(k, 2*k))
}

// sharpen takes one Newton-Schulz step R ← 1.5 R - 0.5 (R P R) R from an approximation R of P^{-1/2}. A relative error e
// becomes 1.5 e²: that removes the bias of InvSqrt's ridge, up to 2e-3 of a step of rank 32 on factors of condition number
// 20, and raises the amplification where P is singular from 316 to 474 only. Zero stays zero.
func sharpen(root, p *Node) *Node {
	return Sub(MulScalar(root, 1.5), MulScalar(times(times(times(root, p), root), root), 0.5))
}

// msignBoth returns the polar factors of x and y, in one batch when their shapes agree.
func (s *Step) msignBoth(x, y *Node) (*Node, *Node) {
	if !x.Shape().Equal(y.Shape()) {
		return s.Msign(x), s.Msign(y)
	}
	k := x.Shape().Dim(0)
	both := s.Msign(Concatenate([]*Node{x, y}, 0))
	return SliceAxis(both, 0, AxisRange(0, k)), SliceAxis(both, 0, AxisRange(k, 2*k))
}

// splitDecay returns k = sqrt(1 - lambda·rate): both factors times k decay their product once.
func splitDecay(rate *Node, lambda float64) *Node {
	return Sqrt(OneMinus(MulScalar(rate, lambda)))
}
