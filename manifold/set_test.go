package manifold

import (
	"math"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/oracle"
)

// oracleRetract is the nearest member by decomposition.
func oracleRetract(t testing.TB, s Set, w *mat.Dense) *mat.Dense {
	t.Helper()
	switch lo, hi := s.band(); s.Name {
	case PSD:
		return must[*mat.Dense](t)(oracle.ProjPSD(w))
	case Spectrahedron:
		return must[*mat.Dense](t)(oracle.EigClip(w, s.Lo, s.Hi))
	default:
		return must[*mat.Dense](t)(oracle.SpectralClip(w, lo, hi))
	}
}

// outside returns matrices a step away from members, and Gaussians of three sizes.
func outside(t testing.TB, m, n int) (out []member) {
	for i, at := range members(t, m, n) {
		g := oracle.Gaussian(uint64(i+5), m, n)
		near, far := at, at
		near.name, near.w = at.name+" and a step", add(at.w, scaled(0.1, g))
		far.name, far.w = "gaussian", scaled(math.Pow(10, float64(i%3-1)), g)
		out = append(out, near, far)
	}
	return out
}

// TestRetract holds retractions against the decomposition, and their results against the sets.
func TestRetract(t *testing.T) {
	for _, test := range []struct {
		p   precision
		tol float64
	}{
		{single, 2e-5},  // of the norm of w: where a value is near a bound the sign is half decided; the worst here was 3.3e-6
		{double, 1e-12}, // the worst here was 8.6e-14
	} {
		worst, left := 0.0, 0.0
		for _, shape := range testShapes[:5] {
			for _, m := range outside(t, shape[0], shape[1]) {
				w := test.p.round(t, m.w)
				got := test.p.apply(t, func(in []*Node) *Node { return m.set.Retract(in[0], test.p.opts...) }, w)
				e := norm(sub(got, oracleRetract(t, m.set, w))) / norm(w)
				d := norm(sub(got, oracleRetract(t, m.set, got))) / norm(got)
				if !(e <= test.tol) {
					t.Errorf("%s %s: %.1e from the oracle", test.p.name, m, e)
				}
				if !(d <= test.tol) {
					t.Errorf("%s %s: the result is %.1e outside the set", test.p.name, m, d)
				}
				worst, left = max(worst, e), max(left, d)
			}
		}
		t.Logf("%s: worst %.1e from the oracle, %.1e outside", test.p.name, worst, left)
	}
}

// TestDistance: members are at distance zero, other matrices as far as their nearest member, matrices without full rank as
// far from a band as what they lack.
func TestDistance(t *testing.T) {
	for _, test := range []struct {
		p   precision
		tol float64
	}{
		{single, 2e-5}, // of the norm of w, as Retract's
		{double, 1e-12},
	} {
		worst := 0.0
		for _, shape := range testShapes[:3] {
			for _, m := range append(outside(t, shape[0], shape[1]), members(t, shape[0], shape[1])...) {
				w := test.p.round(t, m.w)
				measure := func(w *mat.Dense) float64 {
					return test.p.call(t, func(in []*Node) []*Node { return []*Node{m.set.Distance(in[0], test.p.opts...)} }, w)[0][0]
				}
				want := norm(sub(w, oracleRetract(t, m.set, w)))
				e := math.Abs(measure(w)-want) / max(norm(w), 1e-3)
				if !(e <= test.tol) {
					t.Errorf("%s %s: distance off by %.1e of the norm", test.p.name, m, e)
				}
				worst = max(worst, e)
			}
		}
		t.Logf("%s: worst %.1e", test.p.name, worst)
		band := Set{Name: Band, Lo: 0.5, Hi: 2}
		w := must[*mat.Dense](t)(oracle.WithSingularValues(1, 6, 8, []float64{1, 1, 0.3, 0.3, 0, 0}))
		want := math.Sqrt(2*0.2*0.2 + 2*0.5*0.5)
		got := test.p.call(t, func(in []*Node) []*Node { return []*Node{band.Distance(in[0], test.p.opts...)} }, test.p.round(t, w))[0][0]
		if !(math.Abs(got-want) <= 10*test.tol) { // rounding fills what w lacks with 1e-8, of which the polar factor makes 1e-2 to 1e-1
			t.Errorf("%s: a matrix of rank 4 of 6 is %.6f from the band, want %.6f", test.p.name, got, want)
		}
	}
}
