package matfn

import (
	"math"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
)

// The functions here act on the eigenvalues of symmetric matrices w [..., m, m] -> same shape and dtype; leading axes are a
// batch, float16 and bfloat16 are computed in float32. Input and output are symmetrised. Each takes one or two polar factors
// of a symmetric matrix, which are signs of eigenvalues: MsignFlopsOf(m, m) each and two products. Accuracy: see
// docs/matrix-functions.md (TestAccuracyTable). NaN or Inf in a matrix makes all of that matrix NaN. They panic while
// building the graph if w is not square or not floating point, and for a bound that is not finite.

// eigForms are the forms of Msign: the signs here are polar factors.
var eigForms = []Form{Direct, Gram}

// EigClip clips the eigenvalues of w to [lo, hi].
func EigClip(w *Node, lo, hi float64, opts ...Option) *Node {
	if !(lo <= hi) {
		exceptions.Panicf("matfn.EigClip: got lo %g and hi %g, want lo <= hi", lo, hi)
	}
	return eig("EigClip", w, opts, func(c config, w, eye *Node) *Node {
		below, above := c.eigenvaluesBelow(w, eye, lo), c.eigenvaluesAbove(w, eye, hi)
		inside := Sub(Sub(eye, below), above)
		return Add(Add(MulScalar(below, lo), MulScalar(above, hi)), product(inside, w))
	}, lo, hi)
}

// EigReLU replaces eigenvalues below alpha by alpha.
func EigReLU(w *Node, alpha float64, opts ...Option) *Node {
	return eig("EigReLU", w, opts, func(c config, w, eye *Node) *Node {
		below := c.eigenvaluesBelow(w, eye, alpha)
		return Add(MulScalar(below, alpha), product(Sub(eye, below), w))
	}, alpha)
}

// EigHardcap replaces eigenvalues above beta by beta.
func EigHardcap(w *Node, beta float64, opts ...Option) *Node {
	return eig("EigHardcap", w, opts, func(c config, w, eye *Node) *Node {
		above := c.eigenvaluesAbove(w, eye, beta)
		return Add(MulScalar(above, beta), product(Sub(eye, above), w))
	}, beta)
}

// ProjPSD is the projection onto the positive semidefinite cone: negative eigenvalues become zero.
func ProjPSD(w *Node, opts ...Option) *Node {
	return eig("ProjPSD", w, opts, func(c config, w, _ *Node) *Node {
		return MulScalar(Add(w, product(w, c.msign(w))), 0.5)
	})
}

// ProjNSD is the projection onto the negative semidefinite cone: positive eigenvalues become zero.
func ProjNSD(w *Node, opts ...Option) *Node {
	return eig("ProjNSD", w, opts, func(c config, w, _ *Node) *Node {
		return MulScalar(Sub(w, product(w, c.msign(w))), 0.5)
	})
}

// EigStep returns the orthogonal projector onto the eigenvectors of w whose eigenvalue is above alpha, strictly. It jumps at
// alpha: eigenvalues within rounding of it may fall on either side, and without WithExact those within 1e-6·‖w - alpha·I‖_F
// may be partly there.
func EigStep(w *Node, alpha float64, opts ...Option) *Node {
	return eig("EigStep", w, opts, func(c config, w, eye *Node) *Node {
		sign := c.msign(Sub(w, MulScalar(eye, alpha)))
		// (s² + s)/2 is 1, 0, 0 for signs s of 1, 0, -1.
		return MulScalar(Add(product(sign, sign), sign), 0.5)
	}, alpha)
}

// eig checks and prepares w, builds fn in the working dtype and symmetrises what it returns.
func eig(function string, w *Node, opts []Option, fn func(c config, w, eye *Node) *Node, bounds ...float64) *Node {
	c := clipConfig(function, eigForms, opts)
	dtype := w.DType()
	w = c.working(function, w)
	m := w.Shape().Dim(-1)
	if w.Shape().Dim(-2) != m {
		exceptions.Panicf("matfn.%s: got %s, want square matrices [..., m, m]", function, w.Shape())
	}
	for _, bound := range bounds {
		if math.IsNaN(bound) || math.IsInf(bound, 0) {
			exceptions.Panicf("matfn.%s: got the bound %g, want a finite number", function, bound)
		}
	}
	if w.Shape().Size() == 0 {
		return ConvertDType(w, dtype)
	}
	return ConvertDType(symmetric(fn(c, symmetric(w), identity(w, m))), dtype)
}

// eigenvaluesBelow returns the projector onto eigenvalues below the bound, half there at the bound.
func (c config) eigenvaluesBelow(w, eye *Node, bound float64) *Node {
	return MulScalar(Add(eye, c.msign(Sub(MulScalar(eye, bound), w))), 0.5)
}

// eigenvaluesAbove returns the projector onto eigenvalues above the bound, half there at the bound.
func (c config) eigenvaluesAbove(w, eye *Node, bound float64) *Node {
	return MulScalar(Add(eye, c.msign(Sub(w, MulScalar(eye, bound)))), 0.5)
}
