package manifold

import (
	"fmt"
	"math"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
	"github.com/polargo/polar/internal/nearest"
	"github.com/polargo/polar/matfn"
)

// The names of the sets.
const (
	PSD           = "psd"           // symmetric, eigenvalues >= 0
	Spectrahedron = "spectrahedron" // symmetric, eigenvalues in [Lo, Hi]
	Ball          = "ball"          // singular values <= Radius
	Band          = "band"          // singular values in [Lo, Hi]
	Stiefel       = "stiefel"       // singular values = 1: the band with Lo = Hi = 1
)

// Names lists the sets.
func Names() []string { return []string{PSD, Spectrahedron, Ball, Band, Stiefel} }

// Set is a set of matrices. Radius is for Ball, Lo and Hi are for Spectrahedron and Band.
type Set struct {
	Name           string
	Radius, Lo, Hi float64
}

// Validate returns an error for an unknown name, which lists the known ones and the nearest, or for bounds that enclose
// nothing.
func (s Set) Validate() error {
	finite := func(values ...float64) bool {
		for _, v := range values {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return false
			}
		}
		return true
	}
	switch s.Name {
	case PSD, Stiefel:
		return nil
	case Spectrahedron:
		if !finite(s.Lo, s.Hi) || s.Lo >= s.Hi {
			return fmt.Errorf("set %s wants finite bounds lo < hi, got lo %g and hi %g", s.Name, s.Lo, s.Hi)
		}
		return nil
	case Band:
		if !finite(s.Lo, s.Hi) || s.Lo <= 0 || s.Lo > s.Hi {
			return fmt.Errorf("set %s wants finite bounds 0 < lo <= hi, got lo %g and hi %g", s.Name, s.Lo, s.Hi)
		}
		return nil
	case Ball:
		if !finite(s.Radius) || s.Radius <= 0 {
			return fmt.Errorf("set %s wants a positive radius, got %g", s.Name, s.Radius)
		}
		return nil
	}
	return nearest.Unknown("set", s.Name, Names())
}

// Symmetric reports whether the set is one of symmetric matrices.
func (s Set) Symmetric() bool { return s.Name == PSD || s.Name == Spectrahedron }

// band returns the bounds of the singular values of a set that is not of symmetric matrices; lo is 0 for no lower bound.
func (s Set) band() (lo, hi float64) {
	switch s.Name {
	case Ball:
		return 0, s.Radius
	case Stiefel:
		return 1, 1
	}
	return s.Lo, s.Hi
}

// check panics for a set that does not validate and for a w that cannot lie in it.
func (s Set) check(function string, w *Node) {
	if err := s.Validate(); err != nil {
		exceptions.Panicf("manifold.%s: %v", function, err)
	}
	checkMatrix(function, s.Symmetric(), w)
}

// Retract returns the matrix of the set that is nearest to w in the Frobenius norm. Singular values that are zero stay zero,
// so that a w without full rank does not reach a band or the Stiefel manifold; the set then has no nearest matrix.
//
// w [..., m, n] -> same shape and dtype.
// Accuracy: float32 results are within 2e-5 of the norm of w from the oracle and from the set, float64 with matfn.WithExact
// within 1e-12 (TestRetract). Cost: RetractFlops. Panics for a set that does not validate or a w of another shape.
func (s Set) Retract(w *Node, opts ...matfn.Option) *Node {
	s.check("Set.Retract", w)
	switch s.Name {
	case PSD:
		return matfn.ProjPSD(w, opts...)
	case Spectrahedron:
		return matfn.EigClip(w, s.Lo, s.Hi, opts...)
	}
	lo, hi := s.band()
	return matfn.SpectralClip(w, lo, hi, opts...)
}

// Distance returns the distance of w from the set in the Frobenius norm: zero for members, up to rounding.
//
// w [..., m, n] -> the batch axes, in the dtype of w. Accuracy: as Retract's, relative to the norm of w (TestDistance). Cost:
// Retract's, and for sets with a lower bound on singular values a polar factor. Panics as Retract does.
func (s Set) Distance(w *Node, opts ...matfn.Option) *Node {
	s.check("Set.Distance", w)
	dtype := w.DType()
	w = working(w)
	_, safe := largest(w)
	apart := func(x, y *Node) *Node {
		return Mul(safe, Sqrt(sumSquares(scaleBy(Sub(x, y), Reciprocal(safe)))))
	}
	distance := apart(w, s.Retract(w, opts...))
	if lo, _ := s.band(); lo > 0 && !s.Symmetric() {
		// A direction without a singular value is as far away as the bound. Of one that rounding has left s of in the polar factor,
		// the retraction accounts for s² of that; the rest is e = 1 - s², written as 2e² - e³, which is the same near one and does
		// not turn rounding into distance near zero.
		polar := polarFactor(w, opts)
		if w.Shape().Dim(-2) > w.Shape().Dim(-1) {
			polar = transposed(polar)
		}
		gram := timesTransposed(polar, polar)
		e := Sub(identityLike(gram), gram)
		missing := Sub(MulScalar(sumSquares(e), 2), inner(times(e, e), e))
		distance = Sqrt(Add(Square(distance), MulScalar(Max(missing, ZerosLike(missing)), lo*lo)))
	}
	return ConvertDType(distance, dtype)
}

// polarFactor is the polar factor with matfn's schedule for clips, which resolves smaller singular values than that of Msign.
func polarFactor(x *Node, opts []matfn.Option) *Node { return matfn.SpectralClip(x, 1, 1, opts...) }
