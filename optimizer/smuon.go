package optimizer

import (
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/matfn"
	"github.com/polargo/polar/param"
)

var sMuonEntry = entry{
	name:    "smuon",
	summary: "low-rank pairs: Muon's direction of the whole weight, least squares onto what the two factors can express",
	uses:    uses{nesterov: true},
	msign:   true,
	defaults: Config{LearningRate: 0.1, WeightDecay: 0.01, Momentum: 0.9, Scale: "rms", Guard: true, LoRAPlusRatio: 1,
		Fallback: defaultFallback},
	route: func(cfg Config, spec param.Spec) (assignment, bool) {
		return routePairs(cfg, spec, sMuonRule{newPairRule(cfg)})
	},
}

// sMuonRule is sMuon on stacked pairs. Muon would move W by -eta·D, D = msign(M) of a momentum M [m, n]. Of M the factors'
// gradients show M B and Mᵀ A, so that M stands for its projection H onto the tangent space of the pair, of rank 2r; and of D
// the factors can express, to first order, what lies in that space: the least-squares solution of ΔA Bᵀ + A ΔBᵀ = -eta·D.
// With P_A and P_B the projectors onto the columns of A and B, S_A = AᵀA and S_B = BᵀB,
//
//	H  = A S_A^{-1} m_Bᵀ + (I - P_A) m_A S_B^{-1} Bᵀ           D = msign(H)
//	ΔB = -eta/s Dᵀ A S_A^{-1}                                ΔA = -eta/s (I - P_A) D B S_B^{-1}
//	A  ← k A + ΔA/k                                          B ← k B + ΔB/k,   k = sqrt(1 - lambda·eta)
//	m_A ← H B                                                m_B ← Hᵀ A,       of the new factors
//
// so that B takes all that A reaches, and A the complement: nothing is counted twice. (The paper writes W = B A, and its B is
// this A.) The solution is unique in W, which moves by D less its block outside both P_A and P_B, at most 2/√3·eta in spectral
// norm (TestSMuonStep); other solutions differ by a change of gauge. The last line carries the momentum to the new factors'
// tangent space. Averages of factor gradients alone would weigh the two terms of H by their own histories: m_A is small while B
// is, and msign of the sum is not scale-free in each term, as lora-muon's halves are.
// The step on W, and with the carried moments its whole path, do not depend on the gauge to first order (TestSMuonGauge).
//
// No m x n matrix is formed: with orthonormal Q_A = A S_A^{-1/2}, Q_B and bases U, V of what H has beside them, D is [Q_A, U]
// msign(K) [Q_B, V]ᵀ for the 2r x 2r matrix K of H in these bases.
// A zero factor has a zero inverse root: the other one then does not move. The guard is lora-muon's, for steps twice as long: it
// acts on ΔA, and without ΔA the step is the least-squares solution of B alone.
// Cost a pair: 26 m r² + 30 n r² + (16·7 + 48) r³ operations beside Msign of m x r, n x r and 2r x 2r matrices.
// Ref: Anson, Houghton and Milsom 2026, Approximate Muon with low-rank adapters, arXiv 2608.14492. Scale takes the place of the
// paper's factor 0.2 sqrt(m n/r), and matfn's roots that of its jitter.
type sMuonRule struct{ pairRule }

func (sMuonRule) Name() string { return "smuon" }

func (sMuonRule) Flops(dims [][]int) int64 {
	m, n, r := dims[0][1], dims[1][1], dims[0][2]
	square := int64(r) * int64(r)
	products := (26*int64(m)+30*int64(n))*square + (16*matfn.RootSteps+48)*square*int64(r)
	return int64(dims[0][0]) * (matfn.MsignFlopsOf(m, r) + matfn.MsignFlopsOf(n, r) + matfn.MsignFlopsOf(2*r, 2*r) + products)
}

func (r sMuonRule) Update(s *Step, values, grads []*Node) []*Node {
	a, b := values[0], values[1]
	t := s.tangentAt(a, b)
	inside, outside := t.coordinates(r.moments(s, grads))
	stepA, stepB := t.project(s, inside, outside)

	eta, k := r.lengths(s)
	whole := Div(eta, k)
	// Twice the halves: a start with one zero factor reaches the limit after its first step here as well.
	lengthA := r.guarded(whole, func() *Node { return MulScalar(halfSteps(eta, productBound(t.rootA, t.rootB)), 2) })
	a, b = advance(a, k, Mul(stepA, lengthA)), advance(b, k, Mul(stepB, whole))
	if r.nesterov { // the step looked ahead, the average did not
		inside, outside = t.coordinates(s.State("mA"), s.State("mB"))
	}
	t.carry(s, inside, outside, a, b)
	return []*Node{a, b}
}

// tangent is the tangent space of pairs at A Bᵀ in orthonormal coordinates: a member is Q_A·inside + outsideᵀ·Q_Bᵀ with inside
// [k, r, n] and outside [k, r, m], the rows of outside orthogonal to those of qA.
type tangent struct {
	rootA, rootB *Node // (AᵀA)^{-1/2} and (BᵀB)^{-1/2} [k, r, r]
	qA, qB       *Node // Q_Aᵀ [k, r, m] and Q_Bᵀ [k, r, n], of orthonormal rows; a zero factor's are zero
}

func (s *Step) tangentAt(a, b *Node) tangent {
	rootA, rootB := s.inverseRoots(a, b)
	return tangent{rootA, rootB, timesTransposed(rootA, a), timesTransposed(rootB, b)}
}

// coordinates returns the projection H of a momentum M from mA = M B and mB = Mᵀ A. Where these belong to no common M,
// inside takes all that mB says.
func (t tangent) coordinates(mA, mB *Node) (inside, outside *Node) {
	return timesTransposed(t.rootA, mB), without(t.qA, timesTransposed(t.rootB, mA))
}

// without returns the rows of x [k, r, m] less their parts along the orthonormal rows of q. Twice, because once leaves
// what q lacks in orthonormality, for badly conditioned factors more than rounding.
func without(q, x *Node) *Node {
	for range 2 {
		x = Sub(x, times(timesTransposed(x, q), q))
	}
	return x
}

// project returns, in the wide form, the least-squares solution of ΔA Bᵀ + A ΔBᵀ = D for the polar factor D of the matrix with
// the given coordinates.
func (t tangent) project(s *Step, inside, outside *Node) (stepA, stepB *Node) {
	r := inside.Shape().Dim(1)
	beyond := without(t.qB, inside)
	u, v := s.msignBoth(outside, beyond)
	upper := Concatenate([]*Node{timesTransposed(inside, t.qB), timesTransposed(beyond, v)}, 2)
	corner := timesTransposed(u, outside)
	lower := Concatenate([]*Node{corner, ZerosLike(corner)}, 2)
	polar := s.Msign(Concatenate([]*Node{upper, lower}, 1))
	block := func(rows, cols SliceAxisSpec) *Node { return Slice(polar, AxisRange(), rows, cols) }
	first, second := AxisRange(0, r), AxisRange(r, 2*r)
	stepA = times(timesTransposed(t.rootB, block(second, first)), u)
	stepB = Add(times(times(t.rootA, block(first, first)), t.qB), times(times(t.rootA, block(first, second)), v))
	return stepA, stepB
}

// carry stores the momentum with the given coordinates as H B and Hᵀ A of the factors a and b.
func (t tangent) carry(s *Step, inside, outside, a, b *Node) {
	a, b = Transpose(a, 1, 2), Transpose(b, 1, 2)
	mA := Add(times(timesTransposed(b, inside), t.qA), times(timesTransposed(b, t.qB), outside))
	mB := Add(times(timesTransposed(a, t.qA), inside), times(timesTransposed(a, outside), t.qB))
	s.SetState("mA", Transpose(mA, 1, 2))
	s.SetState("mB", Transpose(mB, 1, 2))
}
