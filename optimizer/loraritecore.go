package optimizer

import (
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/matfn"
	"github.com/polargo/polar/param"
)

var loraRITECoreEntry = entry{
	name:    "lora-rite-core",
	summary: "low-rank pairs: LoRA-RITE's simplified core in QR coordinates; LoRA-Muon's step by Cholesky factors",
	uses:    uses{nesterov: true},
	msign:   true,
	defaults: Config{LearningRate: 0.1, WeightDecay: 0.01, Momentum: 0.9, Scale: "rms", Guard: true, LoRAPlusRatio: 1,
		Fallback: defaultFallback},
	route: func(cfg Config, spec param.Spec) (assignment, bool) {
		return routePairs(cfg, spec, loraRITECoreRule{newPairRule(cfg)})
	},
}

// loraRITECoreRule is the simplified core of LoRA-RITE on stacked pairs: the polar factor of the gradient in the orthonormal
// coordinates of a QR decomposition, A = U_A R_A and B = U_B R_B with R upper triangular:
//
//	ΔA = -eta/(2s) msign(m_A R_B^{-1}) R_B^{-T}     ΔB = -eta/(2s) msign(m_B R_A^{-1}) R_A^{-T}
//	A  ← k A + ΔA/k                                 B  ← k B + ΔB/k,   k = sqrt(1 - lambda·eta)
//
// R is determined by the Gram matrix, BᵀB = R_Bᵀ R_B, up to the signs of its rows, and any other root differs from it by a
// rotation, which msign passes on: that of lora-muon, (BᵀB)^{1/2}, gives the same ΔA. So this rule is a second way to lora-muon's step:
// a Cholesky factor by elimination, with one square root a column, where lora-muon iterates on polynomials of the whole matrix
// (TestLoRARITECoreIsLoRAMuon: within 1e-3 over 1,000 states).
//
// A pivot below 4e-6 of the Gram matrix's largest diagonal entry (1e-13 for exact steps) counts as zero, and its column of
// R^{-1} is zero: U_B then spans the columns before it, which span the same space. A zero factor has R^{-1} = 0. A rank-deficient
// one moves W as lora-muon does to first order; the factors themselves move otherwise.
// Cost a pair: Msign of both moments, 6(m+n) r² operations for the Gram matrices and coordinates, about 3 r³ for the factors.
// Ref: Yen et al. 2024, LoRA-RITE, arXiv 2410.20625, without second moments: arXiv 2606.12921, section on LoRA-RITE.
type loraRITECoreRule struct{ pairRule }

func (loraRITECoreRule) Name() string { return "lora-rite-core" }

func (loraRITECoreRule) Flops(dims [][]int) int64 {
	m, n, r := dims[0][1], dims[1][1], dims[0][2]
	products := 6*int64(m+n)*int64(r)*int64(r) + 2*choleskyFlops(r)
	return int64(dims[0][0]) * (matfn.MsignFlopsOf(m, r) + matfn.MsignFlopsOf(n, r) + products)
}

func (r loraRITECoreRule) Update(s *Step, values, grads []*Node) []*Node {
	a, b := values[0], values[1]
	mA, mB := r.moments(s, grads)
	inverseA, inverseB := together(gramOf(a), gramOf(b), s.inverseCholesky)
	dA, dB := s.msignBoth(timesTransposed(Transpose(inverseB, 1, 2), mA), timesTransposed(Transpose(inverseA, 1, 2), mB))

	eta, k := r.lengths(s)
	half := Div(MulScalar(eta, 0.5), k)
	lengthA := r.guarded(half, func() *Node { return halfSteps(eta, productBound(Transpose(inverseB, 1, 2), inverseA)) })
	return []*Node{
		advance(a, k, times(Mul(inverseB, lengthA), dA)),
		advance(b, k, times(Mul(inverseA, half), dB)),
	}
}

// choleskyPivot is the ratio of a pivot to the largest diagonal entry of the Gram matrix below which it is rounding: float32
// leaves about 1e-7·r of that entry.
const choleskyPivot, choleskyExactPivot = 4e-6, 1e-13

// inverseCholesky returns upper triangular T [k, r, r] with T = R^{-1} for the Cholesky factors p = RᵀR of symmetric positive
// semidefinite p [k, r, r]; a column whose pivot counts as zero is zero.
func (s *Step) inverseCholesky(p *Node) *Node {
	pivot := choleskyPivot
	if s.exact {
		pivot = choleskyExactPivot
	}
	return inverseCholesky(p, MulScalar(largestEntry(p), pivot)) // of a semidefinite matrix it is on the diagonal
}

// inverseCholesky halves the matrix, so that most of the work is in products: with p = [[P, Q], [Qᵀ, S]] and T the inverse of
// P's factor, the factor's upper right block is X = Tᵀ Q, and what is left for the lower right one S - XᵀX.
func inverseCholesky(p, pivot *Node) *Node {
	k, r := p.Shape().Dim(0), p.Shape().Dim(1)
	if r == 1 {
		small := LessOrEqual(p, pivot)
		return Where(small, ZerosLike(p), Reciprocal(Sqrt(Where(small, OnesLike(p), p))))
	}
	h := r / 2
	block := func(rows, cols SliceAxisSpec) *Node { return Slice(p, AxisRange(), rows, cols) }
	upper, lower := AxisRange(0, h), AxisRange(h, r)
	first := inverseCholesky(block(upper, upper), pivot)
	right := times(Transpose(first, 1, 2), block(upper, lower))
	rightT := Transpose(right, 1, 2)
	second := inverseCholesky(Sub(block(lower, lower), timesTransposed(rightT, rightT)), pivot)
	corner := Neg(times(first, times(right, second)))
	zero := Zeros(p.Graph(), shapes.Make(p.DType(), k, r-h, h))
	return Concatenate([]*Node{Concatenate([]*Node{first, corner}, 2), Concatenate([]*Node{zero, second}, 2)}, 1)
}

// choleskyFlops returns the operations of the products of inverseCholesky for one r x r matrix, about 4/3 r³.
func choleskyFlops(r int) int64 {
	if r == 1 {
		return 0
	}
	h, l := int64(r/2), int64(r-r/2)
	return choleskyFlops(r/2) + choleskyFlops(r-r/2) + 2*(h*h*l+l*l*h+h*l*l+h*h*l)
}
