package manifold

import (
	. "github.com/gomlx/gomlx/core/graph"
)

// Constants of the primal-dual hybrid gradient. tau·sigma·2 < 1 is what convergence needs, since A = B is an operator of norm
// sqrt(2); both are for a gradient and a direction of one scale, as problem has them.
//
// As published, tau shrinks by theta = 1/sqrt(1 + 2·gamma·tau) and sigma grows by it in each step, and A is extrapolated by theta.
// That is for an objective of strong convexity gamma, which a linear one has not: here gamma is 0 and theta 1. With 0.03 the
// stored problems needed 12.8 iterations to a gap of 2e-3 instead of 14.6, but one stayed 1.1 % short however small the gap.
const (
	pdhgTau, pdhgSigma = 1.0, 0.49
	// pdhgGap stops when ‖A - B‖ is this part of ‖A‖. Of the stored problems the worst is then 0.7 % short of its optimum; with 2e-3
	// it was 1.0 %.
	pdhgGap = 1e-3
)

// pdhg finds the direction by the primal-dual hybrid gradient on
//
//	min <G, B> + i(‖A‖ <= 1) + i(B in the cone),  A = B, with the multiplier Y
//
// and returns A, whose norm is at most one, what to start the next step from, which is A and Y - G in the normal cone, and how
// many iterations it took.
// It starts from one alternating step, for which Y = -proj(-G), or from what came before where that has the better dual value
// -‖Y‖ (dual norm). It stops when all matrices of the batch have a gap below pdhgGap.
func (p problem) pdhg(steps int, start []*Node) (direction *Node, next []*Node, iterations *Node) {
	projected := p.projected(Neg(p.g))
	y := Neg(projected)
	a := p.best(projected)
	if start != nil {
		before := Add(p.g, p.cone.normal(start[1]))
		better := LessThan(p.dualNorm(before), inner(projected, a))
		a, y = choose(better, start[0], a), choose(better, before, y)
	}
	iterations, state := loop(steps, []*Node{a, a, a, a, y}, p.apart, p.pdhgStep)
	return state[0], []*Node{state[0], Sub(state[4], p.g)}, iterations
}

// pdhgStep is one iteration on [A, B, Ã, B̃, Y].
func (p problem) pdhgStep(_ *Node, state []*Node) []*Node {
	a, b, aBar, bBar, y := state[0], state[1], state[2], state[3], state[4]
	y = Add(y, MulScalar(Sub(aBar, bBar), pdhgSigma))
	nextA := p.bounded(Sub(a, MulScalar(y, pdhgTau)))
	nextB := p.cone.projectUnit(Add(b, MulScalar(Sub(y, p.g), pdhgTau)))
	beyond := func(now, before *Node) *Node { return Sub(MulScalar(now, 2), before) }
	return []*Node{nextA, nextB, beyond(nextA, a), beyond(nextB, b), y}
}

// apart reports whether A and B of any matrix are further apart than pdhgGap.
func (p problem) apart(state []*Node) *Node {
	a, b := state[0], state[1]
	return LogicalAny(GreaterThan(sumSquares(Sub(a, b)), MulScalar(sumSquares(a), pdhgGap*pdhgGap)))
}
