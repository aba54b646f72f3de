package matfn

import (
	. "github.com/gomlx/gomlx/core/graph"
)

// blocks are P [..., m, m], Q [..., m, n] and R [..., n, n] of a symmetric matrix [[P, Q], [Qᵀ, R]] that is a polynomial of
// H = [[h I, X], [Xᵀ, h I]], so that products of two of them commute and are symmetric too.
//
// In exact arithmetic Q R = P Q, and R could be left out: 3 m³ + 7 n m² multiply-adds a step instead of n³ terms. It was
// tried and is unstable: rounding breaks that equality and the steps amplify it, to errors of 0.2 in float32.
type blocks struct{ p, q, r *Node }

// times returns the product with t.
func (b blocks) times(t blocks) blocks {
	return blocks{
		symmetric(Add(product(b.p, t.p), productNT(b.q, t.q))),
		Add(product(b.p, t.q), product(b.q, t.r)),
		symmetric(Add(product(transposed(b.q), t.q), product(b.r, t.r))),
	}
}

// square returns the product with itself, symmetric as it is computed: transposes are slow.
func (b blocks) square() blocks {
	return blocks{
		Add(productNT(b.p, b.p), productNT(b.q, b.q)),
		Add(product(b.p, b.q), product(b.q, b.r)),
		Add(product(transposed(b.q), b.q), productNT(b.r, b.r)),
	}
}

// polynomial returns s.A I + s.B b + s.C b².
func (b blocks) polynomial(s Step, eyeP, eyeR *Node) blocks {
	square := b.square()
	combine := func(eye, x, y *Node) *Node {
		z := Add(MulScalar(x, s.B), MulScalar(y, s.C))
		if eye == nil {
			return z
		}
		return Add(MulScalar(eye, s.A), z)
	}
	return blocks{combine(eyeP, b.p, square.p), combine(nil, b.q, square.q), combine(eyeR, b.r, square.r)}
}

// hardcapBlockwise caps the singular values of a wide w of norm at most norm at beta > 0, both shaped as the batch axes: with
// msign(H) = [[P, Q], [Qᵀ, R]] for H = [[beta I, w], [wᵀ, beta I]], P is one on left singular vectors below beta, R on right
// ones, and Q is the polar factor of what is above; all are halves at beta. The cap is beta·Q + P w, or beta·Q + w R, or,
// since P Q = Q R and the values p of P and q of Q add up to one, beta·(Q + P Q) + P w R, of which rounding hurts least: the
// one-sided forms leave 1e-6 of w where it is large.
func (c config) hardcapBlockwise(w, norm, beta *Node) *Node {
	eyeP, eyeR := identity(w, w.Shape().Dim(-2)), identity(w, w.Shape().Dim(-1))
	largest, _ := nonzero(Max(norm, beta))
	h := Div(beta, largest)
	half := Reciprocal(Add(Div(norm, largest), h)) // the norm of H is at most norm + beta, which may not be a float32
	h = Mul(h, half)
	b := blocks{scaleBy(eyeP, h), scaleBy(scaleBy(w, Reciprocal(largest)), half), scaleBy(eyeR, h)}
	for _, s := range c.steps() {
		b = b.times(b.square().polynomial(s, eyeP, eyeR))
	}
	onto := Add(b.q, product(b.p, b.q))
	return Add(scaleBy(onto, beta), product(product(b.p, w), b.r))
}
