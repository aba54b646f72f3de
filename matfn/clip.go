package matfn

import (
	"math"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
)

// clipSchedule is the default of the clips and of the eigenvalue functions. What they return is continuous in the singular
// values, so that a sign that is not yet decided costs at most half the distance from the bound: 5e-7 of the norm here.
var clipSchedule = append(Optimal(1e-6, 11), newtonSchulz)

// clipConfig resolves options for the functions that take signs.
func clipConfig(function string, forms []Form, opts []Option) config {
	return resolve(function, 0, forms, append([]Option{WithSchedule(clipSchedule)}, opts...))
}

var clipForms = []Form{Projected, Nested, Blockwise}

// SpectralClip clips the singular values of w to [lo, hi]; zero singular values stay zero, also for lo > 0.
//
// w [..., m, n], float32, float64, float16 or bfloat16 -> same shape and dtype; leading axes are a batch.
// Accuracy: see docs/matrix-functions.md (TestAccuracyTable). Cost: SpectralClipFlops.
// NaN or Inf in a matrix makes all of that matrix NaN. Panics while building the graph if w has rank < 2 or is not floating
// point, if lo > hi, hi < 0 or either is not finite, or for a form other than Auto, Projected, Nested and Blockwise. lo <= 0 is no lower bound.
// Ref: Cesista 2025, "Fast, Numerically Stable, and Auto-Differentiable Spectral Clipping via Newton-Schulz Iteration".
func SpectralClip(w *Node, lo, hi float64, opts ...Option) *Node {
	if !(lo <= hi) || !(hi >= 0) || math.IsInf(lo, 0) || math.IsInf(hi, 0) {
		exceptions.Panicf("matfn.SpectralClip: got lo %g and hi %g, want finite lo <= hi and hi >= 0", lo, hi)
	}
	return clip("SpectralClip", w, max(lo, 0), hi, opts)
}

// SpectralHardcap replaces singular values above beta by beta: the projection onto the spectral ball of radius beta.
//
// Arguments, cost and failures as SpectralClip's with lo 0 and hi beta; beta >= 0.
func SpectralHardcap(w *Node, beta float64, opts ...Option) *Node {
	checkBound("SpectralHardcap", "beta", beta)
	return clip("SpectralHardcap", w, 0, beta, opts)
}

// SpectralReLU replaces singular values below alpha by alpha; zero singular values stay zero.
//
// Arguments, cost and failures as SpectralClip's with lo alpha and no upper bound; alpha >= 0.
func SpectralReLU(w *Node, alpha float64, opts ...Option) *Node {
	checkBound("SpectralReLU", "alpha", alpha)
	return clip("SpectralReLU", w, alpha, math.Inf(1), opts)
}

// SpectralClippedWeightDecay decays only what is above beta: a singular value s > beta becomes (1-lambda) s + lambda·beta.
//
// Arguments, cost and failures as SpectralHardcap's; lambda in [0, 1].
func SpectralClippedWeightDecay(w *Node, beta, lambda float64, opts ...Option) *Node {
	checkBound("SpectralClippedWeightDecay", "beta", beta)
	if !(lambda >= 0 && lambda <= 1) {
		exceptions.Panicf("matfn.SpectralClippedWeightDecay: got lambda %g, want a number in [0, 1]", lambda)
	}
	capped := clip("SpectralClippedWeightDecay", w, 0, beta, opts)
	return Add(MulScalar(w, 1-lambda), MulScalar(capped, lambda))
}

func checkBound(function, name string, bound float64) {
	if !(bound >= 0) || math.IsInf(bound, 0) {
		exceptions.Panicf("matfn.%s: got %s %g, want a finite number that is not negative", function, name, bound)
	}
}

// clip clips singular values to [lo, hi] with 0 <= lo <= hi; hi may be infinite.
func clip(function string, w *Node, lo, hi float64, opts []Option) *Node {
	c := clipConfig(function, clipForms, opts)
	if c.form == Auto {
		c.form = Projected
	}
	dtype := w.DType()
	w = c.working(function, w)
	if w.Shape().Size() == 0 {
		return ConvertDType(w, dtype)
	}
	if w.Shape().Dim(-2) > w.Shape().Dim(-1) {
		return ConvertDType(transposed(c.clip(transposed(w), lo, hi)), dtype)
	}
	return ConvertDType(c.clip(w, lo, hi), dtype)
}

// clip is the function clip for a wide w.
func (c config) clip(w *Node, lo, hi float64) *Node {
	switch {
	case hi == 0:
		return MulScalar(w, 0) // keeps NaN
	case lo == hi:
		return MulScalar(c.msign(w), lo)
	case c.form == Nested:
		return c.clipNested(w, lo, hi)
	}
	capped := w
	if c.form == Blockwise && !math.IsInf(hi, 1) {
		capped = c.hardcapBlockwise(w, hi)
		if lo == 0 {
			return capped
		}
	}
	polar := c.msign(w)
	root := symmetric(productNT(polar, w)) // (w wᵀ)^{1/2}: the singular values as eigenvalues
	eye := identity(w, w.Shape().Dim(-2))
	if c.form != Blockwise && !math.IsInf(hi, 1) {
		capped = c.hardcapProjected(w, polar, root, eye, hi)
	}
	if lo == 0 {
		return capped
	}
	below := c.eigenvaluesBelow(root, eye, lo)
	return Add(capped, product(below, Sub(MulScalar(polar, lo), capped)))
}

// hardcapProjected caps the singular values of a wide w at beta: with P the projector onto the left singular vectors above
// beta, it replaces P w by beta·P·polar. What rounding of P leaves of large singular values lies in their right singular
// vectors, polarᵀ P polar, and is projected away, so that the error is of the size of beta and not of w. Where P is only
// partly there, p on a singular value near beta, w gets (1-p)² and beta the rest.
func (c config) hardcapProjected(w, polar, root, eye *Node, beta float64) *Node {
	above := c.eigenvaluesAbove(root, eye, beta)
	rest := Sub(w, product(above, w))
	onto := product(Sub(MulScalar(above, 2), product(above, above)), polar)
	leaked := product(productNT(rest, polar), above)
	return Add(MulScalar(onto, beta), Sub(rest, product(leaked, polar)))
}

// clipNested clips a wide w by polar factors of small matrices around the polar factor O of w: |a - s| on singular values is
// msign(a I - O wᵀ)(a O - w) on w.
func (c config) clipNested(w *Node, lo, hi float64) *Node {
	polar := c.msign(w)
	symmetricPart := symmetric(productNT(polar, w))
	eye := identity(w, w.Shape().Dim(-2))
	distance := func(bound float64) *Node {
		sign := c.msign(Sub(MulScalar(eye, bound), symmetricPart))
		return product(sign, Sub(MulScalar(polar, bound), w))
	}
	switch {
	case lo == 0: // (s + b - |b - s|)/2
		return MulScalar(Sub(Add(MulScalar(polar, hi), w), distance(hi)), 0.5)
	case math.IsInf(hi, 1): // (s + a + |a - s|)/2
		return MulScalar(Add(Add(MulScalar(polar, lo), w), distance(lo)), 0.5)
	}
	return MulScalar(Add(MulScalar(polar, lo+hi), Sub(distance(lo), distance(hi))), 0.5)
}
