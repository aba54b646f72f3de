package matfn

import (
	"math"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
)

// Ridge is what InvSqrt adds to the eigenvalues, relative to the Frobenius norm. It bounds the amplification of a nearly
// singular matrix by about 1/sqrt(Ridge) = 316.
const Ridge = 1e-5

// rootSafety is g of the iteration: it keeps the eigenvalues, with their rounding errors, inside the interval for which
// the coefficients were made.
const rootSafety = 1.001

// rootSchedule holds the 7 steps of InvSqrt; the last is the limit, the quintic Newton-Schulz step.
// Ref: LoRA-Muon; the construction is that of Polar Express (Amsel et al. 2025, arXiv 2505.16932) for eigenvalues in
// [1e-5, 1].
var rootSchedule = Schedule{
	{7.424865680309214, -18.39581635618996, 12.896720413604342},
	{3.4877256051546017, -2.3300436563986993, 0.4404692168431095},
	{2.7766085124882527, -2.070643152532662, 0.46302261050004967},
	{1.9913142104341506, -1.373936700681269, 0.3875934979568538},
	{1.8754637749479246, -1.2505152090010534, 0.37505152463617264},
	{1.874999066623701, -1.2499981332141676, 0.37499906659046633},
	{1.875, -1.25, 0.375},
}

// RootSteps is the number of steps of InvSqrt.
const RootSteps = 7

// InvSqrt returns (P + Ridge·‖P‖_F·I)^{-1/2} for symmetric positive semidefinite matrices P; zero gives zero.
//
// p [..., r, r], float32, float64, float16 or bfloat16 -> same shape and dtype; leading axes are a batch; half precision is
// computed in float32.
// Accuracy: within 2e-3 of the exact result in the Frobenius norm (TestInvSqrtAccuracy). The scale of p does not matter from
// 1e-12 to 1e12.
// Cost: InvSqrtFlops(r, RootSteps). NaN or Inf in a matrix makes all of that matrix NaN.
// Panics while building the graph if p has rank < 2, is not square or not floating point. An indefinite p, whose negative
// eigenvalues reach below -Ridge·‖P‖_F, gives numbers without meaning.
//
// WithExact, the only option it takes note of, computes in float64 and without the ridge: eigenvalues above 1e-13 of the
// largest are inverted, those below give zero (the pseudo-inverse root).
func InvSqrt(p *Node, opts ...Option) *Node {
	return invSqrt(p, rootSchedule, resolve("InvSqrt", 0, nil, opts))
}

// invSqrt is InvSqrt with other steps.
func invSqrt(p *Node, steps Schedule, c config) *Node {
	dtype := p.DType()
	p = c.working("InvSqrt", p)
	r := p.Shape().Dim(-1)
	if p.Shape().Dim(-2) != r {
		exceptions.Panicf("matfn.InvSqrt: got %s, want square matrices [..., r, r]", p.Shape())
	}
	if p.Shape().Size() == 0 {
		return ConvertDType(p, dtype)
	}
	eye := identity(p, r)
	largest := maxAbs(p)
	p = scaleBy(p, Reciprocal(largest))
	squares, zero := nonzero(sumSquares(p))
	if c.exact {
		factor := Reciprocal(Sqrt(largest))
		return ConvertDType(scaleBy(exactInvSqrt(p), Where(zero, ZerosLike(factor), factor)), dtype)
	}
	norm := Sqrt(squares)
	p = Add(scaleBy(p, Reciprocal(norm)), MulScalar(eye, Ridge))
	x := iterateRoot(p, eye, steps, rootSafety)
	// 1/sqrt(‖P‖_F), as two roots because the norm itself may not be a float32.
	factor := Reciprocal(Mul(Sqrt(largest), Sqrt(norm)))
	x = scaleBy(x, Where(zero, ZerosLike(factor), factor))
	return ConvertDType(x, dtype)
}

// iterateRoot returns p^{-1/2} for p with eigenvalues in the interval of the steps, squared, and of 1. safety is g.
func iterateRoot(p, eye *Node, steps Schedule, safety float64) (x *Node) {
	for i, s := range steps {
		b, c := s.B/math.Pow(safety, 3), s.C/math.Pow(safety, 5)
		q := Add(MulScalar(p, b), MulScalar(product(p, p), c))
		q = Add(q, MulScalar(eye, s.A/safety))
		if i == 0 {
			x = q
		} else {
			x = product(x, q)
		}
		if i+1 < len(steps) {
			p = product(p, product(q, q))
			p = symmetric(p)
		}
	}
	return x
}
