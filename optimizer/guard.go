package optimizer

import (
	. "github.com/gomlx/gomlx/core/graph"
)

// guardLimit is the size, in units of eta, that the second-order term may have before the guard acts. A start with one
// zero factor reaches 1/2 by itself after its first step and is stable.
const guardLimit = 0.5

// guardFactor returns the factor [k, 1, 1] on ΔA that bounds the second-order term s·ΔA ΔBᵀ of a step of size eta (in
// units of A Bᵀ).
//
// That term has norm up to q·eta with q = eta·‖R_A‖·‖R_B‖/4, so it is large when σ_min(A)·σ_min(B) is small against
// eta/4: a factor that is tiny but not zero. The factor is min(1, limit/q)²: 1 up to the limit, so that other runs are
// not changed at all, and falling to 0 with the product, so that a tiny factor behaves as a zero one does: one side moves, and the
// other waits until it has something to act on. q does not change when A is multiplied by c and B divided by it, hence
// neither does the guarded path of W.
func guardFactor(rootA, rootB, eta *Node) *Node {
	q := Mul(MulScalar(eta, 0.25), Mul(spectralBound(rootA), spectralBound(rootB)))
	limit := Scalar(q.Graph(), q.DType(), guardLimit)
	return Square(Div(limit, Max(limit, q)))
}

// spectralBound returns an upper bound of ‖p‖₂ for symmetric positive semidefinite p [k, r, r] -> [k, 1, 1]: its Schatten
// 16-norm, at most r^{1/16} times the spectral norm (1.24 at r = 32), by three squarings. Zero for zero.
func spectralBound(p *Node) *Node {
	frobenius := func(x *Node) *Node { return Sqrt(ReduceAndKeep(Square(x), ReduceSum, 1, 2)) }
	norm := frobenius(p)
	zero := Equal(norm, ZerosLike(norm))
	x := Div(p, Where(zero, OnesLike(norm), norm))
	for range 3 {
		x = Einsum("krq,kqp->krp", x, x)
	}
	eighthRoot := Sqrt(Sqrt(Sqrt(frobenius(x))))
	return Mul(norm, eighthRoot)
}
