package manifold

import (
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/matfn"
)

// cone is the tangent cone of a set at a matrix w, which is square or wide: the x for which block(x) of every face is of the
// face's side. The faces are orthogonal to each other, so that projecting onto the cone is subtracting what each face has on
// the wrong side (Moreau).
type cone struct {
	symmetric bool
	faces     []face
	opts      []matfn.Option
}

// side says what may leave a bound.
type side int

const (
	inward  side = -1 // at an upper bound: block negative semidefinite
	tight   side = 0  // at two bounds that are equal: block zero
	outward side = 1  // at a lower bound: block positive semidefinite
)

// face is where w is at a bound: p [..., m, m] the projector onto the left singular vectors (eigenvectors) at the bound, j
// [..., m, n] the isometry that takes the right ones to them; nil for symmetric matrices, where it is p.
//
// In bases U and V of these vectors, block is U sym(Uᵀ x V) Uᵀ. It is kept as m x m, because how many vectors there are is
// not known when the graph is built; this is the choice of bases U = msign(p Ω) for Ω = I, which are p itself.
type face struct {
	p, j *Node
	side side
}

// block returns what a direction x does to the singular values (eigenvalues) at the bound.
func (f face) block(x *Node) *Node {
	if f.j == nil {
		return flushed(times(times(f.p, x), f.p))
	}
	b := timesTransposed(x, f.j)
	if f.p != nil {
		b = times(f.p, b)
	}
	return symmetric(flushed(b))
}

// flushed replaces what a projector onto nothing leaves of entries of one by zero: numbers so small that matfn, which divides
// by the largest, could not.
func flushed(b *Node) *Node {
	return Where(LessThan(Abs(b), Scalar(b.Graph(), b.DType(), 1e-30)), ZerosLike(b), b)
}

// lift returns the direction whose block is b.
func (f face) lift(b *Node) *Node {
	if f.j == nil {
		return b
	}
	return times(b, f.j)
}

// wrong returns the part of a block that is on the wrong side.
func (f face) wrong(b *Node, opts []matfn.Option) *Node {
	switch f.side {
	case inward:
		return matfn.ProjPSD(b, opts...)
	case outward:
		return matfn.ProjNSD(b, opts...)
	}
	return b
}

// project returns the nearest direction to x in the cone.
func (c cone) project(x *Node) *Node {
	_, scale := largest(x)
	return scaleBy(c.projectUnit(scaleBy(x, Reciprocal(scale))), scale)
}

// projectUnit is project for x whose entries are of the size of one, or zero.
func (c cone) projectUnit(x *Node) *Node {
	if c.symmetric {
		x = symmetric(x)
	}
	out := x
	for _, f := range c.faces {
		out = Sub(out, f.lift(f.wrong(f.block(x), c.opts)))
	}
	return out
}

// normal returns the nearest direction to x in the normal cone: what project removes.
func (c cone) normal(x *Node) *Node {
	if c.symmetric {
		x = symmetric(x)
	}
	return Sub(x, c.project(x))
}

// cone returns the tangent cone at w with absolute tolerances, as the exported functions define them.
func (s Set) cone(w *Node, tol float64, opts []matfn.Option) cone {
	above := func(x *Node, alpha float64) *Node { return matfn.EigStep(x, alpha, opts...) }
	upTo := func(x *Node, alpha float64) *Node {
		p := above(x, alpha)
		return Sub(identityLike(p), p)
	}
	c := cone{symmetric: s.Symmetric(), opts: opts}
	switch s.Name {
	case PSD:
		c.faces = []face{{p: upTo(w, tol), side: outward}}
		return c
	case Spectrahedron:
		c.faces = []face{{p: upTo(w, s.Lo+tol), side: outward}, {p: above(w, s.Hi-tol), side: inward}}
		return c
	case Stiefel:
		c.faces = []face{{j: w, side: tight}}
		return c
	}
	lo, hi := s.band()
	scaled := MulScalar(w, 1/hi)
	p := above(timesTransposed(scaled, scaled), 1-tol)
	c.faces = []face{{p: p, j: times(p, scaled), side: inward}}
	if lo > 0 {
		scaled := MulScalar(w, 1/lo)
		p := upTo(timesTransposed(scaled, scaled), 1+tol)
		c.faces = append(c.faces, face{p: p, j: times(p, scaled), side: outward})
	}
	return c
}

// coneRelative returns the tangent cone at w with a tolerance relative to the set's size. A w beyond the largest singular value
// of the set is taken for its multiple that is not, so that what is built on the cone stays bounded.
func (s Set) coneRelative(w *Node, tol float64, opts []matfn.Option) cone {
	_, hi := s.band()
	switch s.Name {
	case PSD: // the cone is that of any positive multiple of w
		w = withNorm(w, 1)
		_, size, _ := matfn.SpectralNorm(w)
		return s.cone(scaleBy(w, Reciprocal(oneForZero(size))), tol, opts)
	case Spectrahedron:
		return s.cone(w, tol*(s.Hi-s.Lo), opts)
	case Band:
		if s.Lo == s.Hi { // the Stiefel manifold, scaled: the two faces are one
			s, w, hi = Set{Name: Stiefel}, MulScalar(w, 1/s.Lo), 1
		}
	}
	_, size, _ := matfn.SpectralNorm(w)
	size = MulScalar(size, 1/hi)
	return s.cone(scaleBy(w, Reciprocal(Max(size, OnesLike(size)))), tol, opts)
}
