package oracle

import (
	"math"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// TestTangentCones holds the projections against what defines the cone: with W and x diagonal in the same bases, a value at a
// bound may only move inward, and one inside moves freely.
func TestTangentCones(t *testing.T) {
	diagonal := func(values ...float64) *mat.Dense {
		x := mat.NewDense(len(values), len(values), nil)
		for i, v := range values {
			x.Set(i, i, v)
		}
		return x
	}
	x := diagonal(-1, 2, -3, 4, -5, 6)
	w := diagonal(0.5, 0.5, 1, 1, 2, 2)
	for name, c := range map[string]struct {
		got  func() (*mat.Dense, error)
		want *mat.Dense
	}{
		"psd":           {func() (*mat.Dense, error) { return TangentPSD(w, x, 0.5) }, diagonal(0, 2, -3, 4, -5, 6)},
		"spectrahedron": {func() (*mat.Dense, error) { return TangentSpectrahedron(w, x, 0.5, 2, 1e-9) }, diagonal(0, 2, -3, 4, -5, 0)},
		"ball":          {func() (*mat.Dense, error) { return TangentBall(w, x, 2, 1e-9) }, diagonal(-1, 2, -3, 4, -5, 0)},
		"band":          {func() (*mat.Dense, error) { return TangentBand(w, x, 0.5, 2, 1e-9) }, diagonal(0, 2, -3, 4, -5, 0)},
		"stiefel":       {func() (*mat.Dense, error) { return TangentStiefel(diagonal(1, 1, 1, 1, 1, 1), x) }, diagonal(0, 0, 0, 0, 0, 0)},
	} {
		got, err := c.got()
		if err != nil {
			t.Fatal(err)
		}
		near(t, name, got, c.want, 1e-13)
	}
	skew := mat.NewDense(6, 6, nil)
	skew.Sub(Gaussian(1, 6, 6), Gaussian(1, 6, 6).T())
	got, err := TangentStiefel(eye(6), skew)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "skew directions are tangent to the rotations", got, skew, 1e-13)
	got, err = TangentPSD(eye(6), skew, 0)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "no symmetric matrix is skew", got, mat.NewDense(6, 6, nil), 1e-13)
}

func TestTangentRefusals(t *testing.T) {
	bad := mat.NewDense(2, 2, []float64{1, math.NaN(), 0, 1})
	for name, err := range map[string]error{
		"band":          second(TangentBand(eye(2), eye(2), 1, 1, 0)),
		"weight":        second(TangentBall(bad, eye(2), 1, 0)),
		"direction":     second(TangentBall(eye(2), bad, 1, 0)),
		"eigen":         second(TangentPSD(bad, eye(2), 0)),
		"eigen, square": second(TangentPSD(mat.NewDense(2, 3, nil), eye(2), 0)),
		"symmetric":     second(TangentPSD(eye(2), bad, 0)),
	} {
		if err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}

func second(_ *mat.Dense, err error) error { return err }
