package matfn

import (
	"math"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
)

// eigForms are the forms of Msign: the signs here are polar factors.
var eigForms = []Form{Direct, Gram}

// EigClip clips the eigenvalues of the symmetric part of w to [lo, hi].
//
// w [..., m, m], float32, float64, float16 or bfloat16 -> same shape and dtype, symmetric; leading axes are a batch; half precision is
// computed in float32. Forms are those of Msign: projectors are signs of lo·I - w and hi·I - w.
// Accuracy: 3e-6 of the result in float32, 1e-12 WithExact; with the Gram form, which is not the default, up to 1e-3 and 1e-11 where
// eigenvalues are close to a bound (TestAccuracyTable, docs/matrix-functions.md). Cost: EigClipFlops(m, opts...).
// NaN or Inf in a matrix makes all of that matrix NaN. Panics while building the graph if w is not square or not floating
// point, if lo > hi, or for a bound that is not finite. Bounds beyond the norm return w.
func EigClip(w *Node, lo, hi float64, opts ...Option) *Node {
	if !(lo <= hi) {
		exceptions.Panicf("matfn.EigClip: got lo %g and hi %g, want lo <= hi", lo, hi)
	}
	return eig("EigClip", w, opts, func(s eigenSigns) *Node {
		low, high := s.lower(lo), s.upper(hi)
		below, above := s.below(low), s.above(high)
		return s.replace(Add(below, above), Add(scaleBy(below, low), scaleBy(above, high)))
	}, lo, hi)
}

// EigReLU replaces eigenvalues below alpha by alpha. Arguments, accuracy and failures as EigClip's. Cost: EigReLUFlops.
func EigReLU(w *Node, alpha float64, opts ...Option) *Node {
	return eig("EigReLU", w, opts, func(s eigenSigns) *Node {
		low := s.lower(alpha)
		below := s.below(low)
		return s.replace(below, scaleBy(below, low))
	}, alpha)
}

// EigHardcap replaces eigenvalues above beta by beta. Arguments, accuracy and failures as EigClip's. Cost: EigReLUFlops.
func EigHardcap(w *Node, beta float64, opts ...Option) *Node {
	return eig("EigHardcap", w, opts, func(s eigenSigns) *Node {
		high := s.upper(beta)
		above := s.above(high)
		return s.replace(above, scaleBy(above, high))
	}, beta)
}

// ProjPSD is the projection onto the positive semidefinite cone: negative eigenvalues become zero. Arguments, accuracy and
// failures as EigClip's. Cost: ProjPSDFlops.
func ProjPSD(w *Node, opts ...Option) *Node {
	return eig("ProjPSD", w, opts, func(s eigenSigns) *Node { return s.replace(s.below(ZerosLike(s.norm)), nil) })
}

// ProjNSD is the projection onto the negative semidefinite cone: positive eigenvalues become zero. Arguments, accuracy and
// failures as EigClip's. Cost: ProjPSDFlops.
func ProjNSD(w *Node, opts ...Option) *Node {
	return eig("ProjNSD", w, opts, func(s eigenSigns) *Node { return s.replace(s.above(ZerosLike(s.norm)), nil) })
}

// EigStep returns the orthogonal projector onto the eigenvectors of w whose eigenvalue is above alpha, strictly. It jumps at
// alpha: eigenvalues within 1e-6·(‖w‖ + |alpha|) of it, or ZeroTol instead of 1e-6 WithExact, may be partly there, and rounding
// of 6e-8·‖w‖ turns eigenvectors at a distance d from it by that over d. Arguments and failures as EigClip's. Cost: EigStepFlops.
func EigStep(w *Node, alpha float64, opts ...Option) *Node {
	return eig("EigStep", w, opts, func(s eigenSigns) *Node {
		sign := s.sign(s.bound(alpha))
		// (s² - s)/2 is 1, 0, 0 for signs s of -1, 0, 1.
		return purified(MulScalar(Sub(product(sign, sign), sign), 0.5))
	}, alpha)
}

// eig checks and prepares w, builds fn in the working dtype and symmetrises what it returns.
func eig(function string, w *Node, opts []Option, fn func(s eigenSigns) *Node, bounds ...float64) *Node {
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
	w = symmetric(w)
	norm := spectralBound(w)
	_, zero := nonzero(StopGradient(ReduceMax(Abs(w), -2, -1)))
	largest := 0.0
	for _, bound := range bounds {
		largest = max(largest, math.Abs(bound))
	}
	// Against a zero matrix any bound is large.
	reach := Where(zero, MulScalar(OnesLike(norm), largest), MulScalar(norm, 2))
	norm = Where(zero, ZerosLike(norm), norm)
	return ConvertDType(symmetric(fn(eigenSigns{c, w, norm, reach, identity(w, m)})), dtype)
}

// eigenSigns makes projectors onto eigenvectors of a symmetric w. Bounds and norms are shaped as the batch axes.
type eigenSigns struct {
	config
	w     *Node
	norm  *Node // an upper bound of the spectral norm of w, zero for zero
	reach *Node // the largest bound that is of use
	eye   *Node
}

// bound returns a bound for each matrix.
func (s eigenSigns) bound(value float64) *Node { return MulScalar(OnesLike(s.norm), value) }

// upper returns an upper bound of eigenvalues, and lower a lower one. Beyond the norm they have no effect, but rounding grows
// with them.
func (s eigenSigns) upper(value float64) *Node { return Min(s.bound(value), s.reach) }
func (s eigenSigns) lower(value float64) *Node { return Max(s.bound(value), Neg(s.reach)) }

// sign returns the sign of bound·I - w.
func (s eigenSigns) sign(bound *Node) *Node {
	norm, _ := nonzero(Add(s.norm, Abs(bound)))
	return s.msign(Sub(scaleBy(s.eye, bound), s.w), norm)
}

// below returns the projector onto eigenvectors below the bound, above that onto those above it, both half there at the bound.
func (s eigenSigns) below(bound *Node) *Node {
	return purified(MulScalar(Add(s.eye, s.sign(bound)), 0.5))
}
func (s eigenSigns) above(bound *Node) *Node {
	return purified(MulScalar(Sub(s.eye, s.sign(bound)), 0.5))
}

// replace puts onto, by, in place of the part of w in the subspace of the projector out; nil is zero. What rounding leaves of
// that part is projected away from both sides and once more, so that the error is of the size of the result and not of w.
// Where out is only partly there, w gets k³ for k = I - out and the bound, of which by has I - k, the rest: k² + k + I times by.
func (s eigenSigns) replace(out, by *Node) *Node {
	rest := Sub(s.w, product(out, s.w))
	rest = Sub(rest, product(rest, out))
	rest = Sub(rest, product(out, rest))
	if by == nil {
		return rest
	}
	k := Sub(s.eye, out)
	return Add(rest, product(Add(Add(product(k, k), k), s.eye), by))
}
