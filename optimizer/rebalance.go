package optimizer

import (
	. "github.com/gomlx/gomlx/core/graph"
)

// rebalance moves scale between the factors after every rebalanceEvery-th step, c = (‖A‖/‖B‖)^{a/2}, A ← A/c, B ← cB,
// in Frobenius norms, and carries the moments as gradients transform, m_A ← c m_A, m_B ← m_B/c, so that the path of W
// does not move. It only improves conditioning. A pair with a zero factor stays as it is.
func (r loraMuonRule) rebalance(s *Step, a, b *Node) (*Node, *Node) {
	square := func(x *Node) *Node { return ReduceAndKeep(Square(x), ReduceSum, 1, 2) }
	squareA, squareB := square(a), square(b)
	zero := ScalarZero(a.Graph(), a.DType())
	due := Equal(ModScalar(s.Count, float32(r.rebalanceEvery)), zero)
	apply := LogicalAnd(due, LogicalAnd(GreaterThan(squareA, zero), GreaterThan(squareB, zero)))
	one := OnesLike(squareA)
	ratio := Div(Where(apply, squareA, one), Where(apply, squareB, one)) // (‖A‖/‖B‖)²
	c := PowScalar(ratio, float32(r.rebalanceExponent/4))
	s.SetState("mA", Mul(s.State("mA"), c))
	s.SetState("mB", Div(s.State("mB"), c))
	return Div(a, c), Mul(b, c)
}
