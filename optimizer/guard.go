package optimizer

import (
	. "github.com/gomlx/gomlx/core/graph"
)

// guardLimit is the size, in units of eta, that the second-order term may have before the guard acts. A start with one
// zero factor reaches 1/2 by itself after its first step and is stable.
const guardLimit = 0.5

// guardFactor returns the factor [k, 1, 1] on ΔA that bounds the second-order term s·ΔA ΔBᵀ of a step, which has norm up to
// q·eta (q [k, 1, 1]; halfSteps gives LoRA-Muon's).
//
// The term is large when the smallest singular value of A Bᵀ is small against eta: a factor that is tiny but not zero. The
// factor is min(1, limit/q)²: 1 up to the limit, so that other runs are not changed at all, and falling to 0 with the product,
// so that a tiny factor behaves as a zero one does: one side moves, and the other waits until it has something to act on. q does
// not depend on the gauge, hence neither does the guarded step of W.
func guardFactor(q *Node) *Node {
	limit := Scalar(q.Graph(), q.DType(), guardLimit)
	return Square(Div(limit, Max(limit, q)))
}

// halfSteps returns q = eta·‖R_A R_B‖/4 of steps ΔA and ΔB that move W by eta/2 each (eta in units of A Bᵀ), from productBound
// of the inverse roots.
func halfSteps(eta, bound *Node) *Node { return Mul(MulScalar(eta, 0.25), bound) }

// productBound returns an upper bound of ‖x y‖₂ for square x, y [k, r, r] -> [k, 1, 1], as spectralBound does. For the inverse
// roots R_A and R_B of AᵀA and BᵀB it is the same in every gauge, because the squares of its singular values are the eigenvalues
// of (AᵀA BᵀB)^{-1}.
func productBound(x, y *Node) *Node {
	p := Transpose(times(x, y), 1, 2)
	return Sqrt(schattenNorm(timesTransposed(p, p), 2))
}

// spectralBound returns an upper bound of ‖p‖₂ for symmetric positive semidefinite p [k, r, r] -> [k, 1, 1]: its Schatten
// 16-norm, at most r^{1/16} times the spectral norm (1.24 at r = 32). Zero for zero.
func spectralBound(p *Node) *Node { return schattenNorm(p, 3) }

// schattenNorm returns the Schatten norm of order 2·2^squarings of symmetric p [k, r, r] -> [k, 1, 1].
func schattenNorm(p *Node, squarings int) *Node {
	x, norm := byLength(p)
	for range squarings {
		x = times(x, x)
	}
	root := frobeniusNorm(x)
	for range squarings {
		root = Sqrt(root)
	}
	return Mul(norm, root)
}
