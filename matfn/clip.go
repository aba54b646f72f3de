package matfn

import (
	"math"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
)

// clipSchedule is the default of the clips and of the eigenvalue functions: signs of what is above 1e-6 of a bound of the
// norm are 1 to rounding, of what is below 1e-7 of it 0, so that float32's rounding of zero singular values is not lifted.
// A sign in between costs a continuous function at most half the distance from its bound.
var clipSchedule = append(Optimal(1e-6, 11), clean, clean)

// clipConfig resolves options for the functions that take signs.
func clipConfig(function string, forms []Form, opts []Option) config {
	return resolve(function, 0, forms, append([]Option{WithSchedule(clipSchedule)}, opts...))
}

// spectralConfig is clipConfig for the clips of singular values.
func spectralConfig(function string, opts []Option) config {
	c := clipConfig(function, []Form{Projected, Nested, Blockwise}, opts)
	if c.form == Auto {
		c.form = Projected
	}
	return c
}

// SpectralClip clips the singular values of w to [lo, hi]; zero singular values stay zero, also for lo > 0.
//
// w [..., m, n], float32, float64, float16 or bfloat16 -> same shape and dtype; leading axes are a batch.
// Accuracy in float32: 3e-6 of the result for a bound of the size of the norm, 6e-8·‖w‖/hi for smaller ones, and 6e-8·cond with a
// lower bound; singular values below 1e-7 of the norm count as zero and those from there to 1e-6 may be lifted in part. WithExact
// below 1e-9 in all of these. See docs/matrix-functions.md (TestAccuracyTable). Bounds beyond the norm return w.
// Cost: SpectralClipFlops.
// lo <= 0 is no lower bound. NaN or Inf in a matrix makes all of that matrix NaN. Panics while building the graph if w has rank
// < 2 or is not floating point, if lo > hi, hi < 0 or either is not finite, or for a form other than Auto, Projected, Nested and
// Blockwise.
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
	c := spectralConfig(function, opts)
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
	norm := spectralBound(w)
	switch {
	case hi == 0:
		return scaleBy(MulScalar(w, 0), Div(norm, norm)) // keeps NaN
	case lo == hi:
		return MulScalar(c.msign(w, norm), lo)
	}
	// A bound above the norm has no effect, but rounding grows with it.
	high := Min(Scalar(w.Graph(), w.DType(), hi), MulScalar(norm, 2))
	capped := !math.IsInf(hi, 1)
	if c.form == Blockwise && capped && lo == 0 {
		return c.hardcapBlockwise(w, norm, high)
	}
	s := signs{config: c, w: w, norm: norm, polar: c.msign(w, norm), eye: identity(w, w.Shape().Dim(-2))}
	s.root = symmetric(productNT(s.polar, w))
	low := MulScalar(OnesLike(norm), lo)
	if c.form == Nested {
		return s.nested(low, high, lo > 0, capped)
	}
	out := w
	switch {
	case c.form == Blockwise && capped:
		out = c.hardcapBlockwise(w, norm, high)
	case capped:
		out = s.hardcap(high)
	}
	if lo > 0 {
		below := s.below(low)
		out = Add(out, product(below, Sub(scaleBy(s.polar, low), out)))
	}
	return out
}

// signs are what the projected and the nested form need of a wide w. Bounds and norms are shaped as the batch axes.
type signs struct {
	config
	w     *Node
	norm  *Node // an upper bound of the spectral norm of w
	polar *Node // the polar factor of w
	root  *Node // (w wᵀ)^{1/2}: the singular values as eigenvalues
	eye   *Node
}

// sign returns the sign of bound·I - root.
func (s signs) sign(bound *Node) *Node {
	return s.msign(Sub(scaleBy(s.eye, bound), s.root), Max(bound, s.norm))
}

// below returns the projector onto left singular vectors below the bound, above that onto those above it, both half there at
// the bound.
func (s signs) below(bound *Node) *Node { return purified(MulScalar(Add(s.eye, s.sign(bound)), 0.5)) }
func (s signs) above(bound *Node) *Node { return purified(MulScalar(Sub(s.eye, s.sign(bound)), 0.5)) }

// purified returns 3 p² - 2 p³, which leaves 0, 1/2 and 1 where they are and squares the errors of values near 0 and 1.
func purified(p *Node) *Node {
	square := product(p, p)
	return Sub(MulScalar(square, 3), MulScalar(product(square, p), 2))
}

// hardcap caps the singular values at beta: with P the projector onto the left singular vectors above beta, it replaces P w by
// beta·P·polar. What rounding leaves of large singular values is projected away once more from the left and from the right,
// where the projector is polarᵀ P polar, so that the error is of the size of beta and not of w. Where P is only partly there,
// p on a singular value near beta, w gets (1-p)³ and beta the rest.
func (s signs) hardcap(beta *Node) *Node {
	above := s.above(beta)
	below := Sub(s.eye, above)
	rest := Sub(s.w, product(above, s.w))
	rest = Sub(rest, product(above, rest))
	onto := Sub(s.eye, product(product(below, below), below))
	leaked := product(productNT(rest, s.polar), above)
	return Add(rest, product(Sub(scaleBy(onto, beta), leaked), s.polar))
}

// nested clips by polar factors of small matrices around the polar factor of w: |b - s| on singular values is
// msign(b I - O wᵀ)(b O - w) on w, for the polar factor O.
func (s signs) nested(low, high *Node, fromBelow, fromAbove bool) *Node {
	distance := func(bound *Node) *Node {
		return product(s.sign(bound), Sub(scaleBy(s.polar, bound), s.w))
	}
	var out *Node
	switch {
	case fromBelow && fromAbove: // (a + b + |a - s| - |b - s|)/2
		out = Add(scaleBy(s.polar, Add(low, high)), Sub(distance(low), distance(high)))
	case fromAbove: // (b + s - |b - s|)/2
		out = Sub(Add(scaleBy(s.polar, high), s.w), distance(high))
	default: // (a + s + |a - s|)/2
		out = Add(Add(scaleBy(s.polar, low), s.w), distance(low))
	}
	return MulScalar(out, 0.5)
}
