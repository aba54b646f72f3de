package manifold

import (
	"math"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
	"github.com/polargo/polar/matfn"
)

// The functions here project x onto the tangent cone at w of a set that w lies in: the directions in which one can leave w
// without leaving the set. For a set of symmetric matrices the cone is one of symmetric matrices, so that the projection
// begins with the symmetric part of x.
//
// w and x [..., m, n] -> same shape and dtype. tol is the width of what counts as at the bound, absolute in the quantity that
// each function names. Accuracy: float32 results are within 1e-5 of the norm of x from the oracle where no eigenvalue is within
// 1e-4 of the edge of that width, float64 with matfn.WithExact within 1e-12 (TestTangentOracle). Cost: TangentFlops. Options go to matfn.
// They panic while building the graph on shapes or dtypes that differ or do not fit, and on bounds that enclose nothing.
// Ref: Cesista 2025, "Steepest Descent on Finsler-Structured (Matrix) Geometries via Dual Ascent".

// TangentPSD is the projection onto the tangent cone of the positive semidefinite cone at w: with X̂ = (x + xᵀ)/2 and P the
// projector onto the eigenvectors of w with eigenvalues <= tol, X̂ - proj_nsd(P X̂ P).
func TangentPSD(w, x *Node, tol float64, opts ...matfn.Option) *Node {
	return tangent("TangentPSD", Set{Name: PSD}, w, x, tol, opts)
}

// TangentSpectrahedron is the projection onto the tangent cone at w of the symmetric matrices with eigenvalues in [lo, hi]:
// X̂ - proj_nsd(P X̂ P) - proj_psd(Q X̂ Q), P the projector onto eigenvalues <= lo + tol, Q onto those > hi - tol.
func TangentSpectrahedron(w, x *Node, lo, hi, tol float64, opts ...matfn.Option) *Node {
	if !(lo <= hi) || math.IsInf(lo, 0) || math.IsInf(hi, 0) {
		exceptions.Panicf("manifold.TangentSpectrahedron: got lo %g and hi %g, want finite bounds lo <= hi", lo, hi)
	}
	return tangent("TangentSpectrahedron", Set{Name: Spectrahedron, Lo: lo, Hi: hi}, w, x, tol, opts)
}

// TangentBall is the projection onto the tangent cone at w of the matrices of spectral norm at most radius:
// x - J proj_psd(sym(Jᵀ x P)), P the projector onto eigenvalues > 1 - tol of wᵀw/radius² and J = w P/radius. Strictly inside
// it is the identity. A wide w is transposed.
func TangentBall(w, x *Node, radius, tol float64, opts ...matfn.Option) *Node {
	s := Set{Name: Ball, Radius: radius}
	if err := s.Validate(); err != nil {
		exceptions.Panicf("manifold.TangentBall: %v", err)
	}
	return tangent("TangentBall", s, w, x, tol, opts)
}

// TangentBand is the projection onto the tangent cone at w of the matrices with singular values in [lo, hi]: TangentBall's
// for radius hi, less K proj_nsd(sym(Kᵀ x Q)), Q the projector onto eigenvalues <= 1 + tol of wᵀw/lo² and K = w Q/lo. With
// lo = hi = 1 it is TangentStiefel. A wide w is transposed.
func TangentBand(w, x *Node, lo, hi, tol float64, opts ...matfn.Option) *Node {
	s := Set{Name: Band, Lo: lo, Hi: hi}
	if err := s.Validate(); err != nil {
		exceptions.Panicf("manifold.TangentBand: %v", err)
	}
	return tangent("TangentBand", s, w, x, tol, opts)
}

// TangentStiefel is the projection onto the tangent space at w of the matrices with orthonormal columns (rows, if wide):
// x - w sym(wᵀ x). The options are not needed and taken for the likeness with the others.
func TangentStiefel(w, x *Node, opts ...matfn.Option) *Node {
	return tangent("TangentStiefel", Set{Name: Stiefel}, w, x, 0, opts)
}

// Tangent is the projection onto the tangent cone of the set at w, with a tolerance relative to the set's size, such as
// DefaultTol: of the spectral norm of w for PSD, of Hi - Lo for Spectrahedron, and of the squared bound for the others.
// Panics as the functions above, and for a set that does not validate.
func (s Set) Tangent(w, x *Node, tol float64, opts ...matfn.Option) *Node {
	s.check("Set.Tangent", w)
	checkPair("Set.Tangent", s.Symmetric(), w, x)
	dtype := w.DType()
	in, out := orient(s, working(w))
	return ConvertDType(out(s.coneRelative(in(working(w)), tol, opts).project(in(working(x)))), dtype)
}

// DefaultTol is the relative width of what counts as at a bound: far above the rounding of float32 retractions (1e-6), far
// below a step.
const DefaultTol = 1e-3

func tangent(function string, s Set, w, x *Node, tol float64, opts []matfn.Option) *Node {
	checkPair(function, s.Symmetric(), w, x)
	if !(tol >= 0) || math.IsInf(tol, 0) {
		exceptions.Panicf("manifold.%s: got the tolerance %g, want a finite number that is not negative", function, tol)
	}
	dtype := w.DType()
	w, x = working(w), working(x)
	if w.Shape().Size() == 0 {
		return ConvertDType(x, dtype)
	}
	in, out := orient(s, w)
	return ConvertDType(out(s.cone(in(w), tol, opts).project(in(x))), dtype)
}

// orient returns how matrices of the shape of w are turned for a cone, and back. Cones are built for singular values on the
// left, for m <= n; a square w is turned too, because the formulas above have the singular vectors on the right.
func orient(s Set, w *Node) (in, out func(*Node) *Node) {
	same := func(x *Node) *Node { return x }
	if s.Symmetric() || w.Shape().Dim(-2) < w.Shape().Dim(-1) {
		return same, same
	}
	return transposed, transposed
}
