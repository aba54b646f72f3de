package manifold

import (
	. "github.com/gomlx/gomlx/core/graph"
)

// dualSigma is the first step on the multipliers, for a gradient and a direction of one scale, as problem has them. Of 0.25 to 5, 0.35
// to 0.5 needed the fewest steps to bring all stored problems within 1 % (192), 1 more than 256, 5 far more.
const dualSigma = 0.4

// dual finds the direction by ascent on the multipliers S of the cone's faces,
//
//	D_j = argmin <G + Σ U S Vᵀ, D>, ‖D‖ <= 1;   S ← the allowed part of S + σ_j sym(Uᵀ D_j V),   σ_j = σ/sqrt(j+1)
//
// and returns the average of the D_j with weights that grow as j, and Σ U S Vᵀ to start the next step from. D_j itself does not
// converge where G + Σ U S Vᵀ loses rank, which is where the minimum of its nuclear norm likes to be; the average does. S is kept
// as U S Uᵀ (see face). It starts from one alternating step, S = the allowed part of sym(-Uᵀ G V), or from what came before where
// that has the better dual value -‖G + Σ U S Vᵀ‖ (dual norm).
func (p problem) dual(steps int, start []*Node) (direction *Node, next []*Node) {
	multipliers := p.multipliers(Neg(p.g))
	if start != nil {
		before := p.multipliers(start[0])
		better := LessThan(p.dualNorm(p.shifted(before)), p.dualNorm(p.shifted(multipliers)))
		for i := range multipliers {
			multipliers[i] = choose(better, before[i], multipliers[i])
		}
	}
	state := append([]*Node{ZerosLike(p.g)}, multipliers...)
	_, state = loop(steps, state, nil, p.dualStep)
	return state[0], []*Node{Sub(p.shifted(state[1:]), p.g)}
}

// multipliers returns the multipliers of the faces that are nearest to those of x, a direction in the normal cone.
func (p problem) multipliers(x *Node) (s []*Node) {
	for _, f := range p.cone.faces {
		s = append(s, f.wrong(f.block(x), p.opts))
	}
	return s
}

// shifted returns G + Σ U S Vᵀ.
func (p problem) shifted(multipliers []*Node) *Node {
	out := p.g
	for i, f := range p.cone.faces {
		out = Add(out, f.lift(multipliers[i]))
	}
	return out
}

// dualStep is one iteration on the average of D and the multipliers.
func (p problem) dualStep(j *Node, state []*Node) []*Node {
	average, multipliers := state[0], state[1:]
	d := p.best(Neg(p.shifted(multipliers)))
	weight := Reciprocal(MulScalar(AddScalar(j, 2), 0.5))
	sigma := MulScalar(Reciprocal(Sqrt(AddScalar(j, 1))), dualSigma)
	next := []*Node{Add(average, Mul(weight, Sub(d, average)))}
	for i, f := range p.cone.faces {
		next = append(next, f.wrong(Add(multipliers[i], Mul(sigma, f.block(d))), p.opts))
	}
	return next
}
