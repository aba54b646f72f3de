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
		return routePairs(cfg, spec, newLoRAMuonRule(cfg))
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
	pairRule
	rebalanceEvery    int
	rebalanceExponent float64
}

func newLoRAMuonRule(cfg Config) loraMuonRule {
	rule := loraMuonRule{pairRule: newPairRule(cfg)}
	if cfg.RebalanceEvery > 0 {
		rule.rebalanceEvery, rule.rebalanceExponent = cfg.RebalanceEvery, cfg.RebalanceExponent
	}
	return rule
}

func (loraMuonRule) Name() string { return "lora-muon" }

// Flops counts an upper bound, LoRAMuonFlops a pair.
func (loraMuonRule) Flops(dims [][]int) int64 {
	return int64(dims[0][0]) * LoRAMuonFlops(dims[0][1], dims[1][1], dims[0][2])
}

func (r loraMuonRule) Update(s *Step, values, grads []*Node) []*Node {
	a, b := values[0], values[1]
	mA, mB := r.moments(s, grads)
	rootA, rootB := s.inverseRoots(a, b)
	dA, dB := s.msignBoth(timesTransposed(rootB, mA), timesTransposed(rootA, mB))

	eta, k := r.lengths(s)
	half := Div(MulScalar(eta, 0.5), k)
	lengthA := r.guarded(half, func() *Node { return halfSteps(eta, productBound(rootA, rootB)) })
	// The lengths go on the small roots: a product with them costs less than a pass over the step.
	a = advance(a, k, times(Mul(rootB, lengthA), dA))
	b = advance(b, k, times(Mul(rootA, half), dB))
	if r.rebalanceEvery > 0 {
		a, b = r.rebalance(s, a, b)
	}
	return []*Node{a, b}
}

// inverseRoots returns (AᵀA)^{-1/2} and (BᵀB)^{-1/2}, all of the group in one batch: [k, m, r], [k, n, r] -> [k, r, r].
func (s *Step) inverseRoots(a, b *Node) (rootA, rootB *Node) {
	return together(gramOf(a), gramOf(b), s.InvSqrt)
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
	return together(x, y, s.Msign)
}

// splitDecay returns k = sqrt(1 - lambda·rate): both factors times k decay their product once.
func splitDecay(rate *Node, lambda float64) *Node {
	return Sqrt(OneMinus(MulScalar(rate, lambda)))
}
