package oracle

import (
	"errors"
	"math"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// TestSOAP: without bases the direction is Adam's; for a gradient that is diagonal in known bases it is Adam's between them;
// and without memory of what was before it is the polar factor, as Shampoo's.
func TestSOAP(t *testing.T) {
	adam := Adam{Beta1: 0.9, Beta2: 0.95, Epsilon: 1e-3}
	g, h := Gaussian(1, 5, 3), Gaussian(2, 5, 3)
	var state SOAPState
	var moments Moments
	for i, grad := range []*mat.Dense{g, h} {
		var got, want *mat.Dense
		var err error
		if got, state, err = (SOAP{Adam: adam}).Direction(state, grad, i+1); err != nil {
			t.Fatal(err)
		}
		if want, moments, err = adam.Direction(moments, grad, i+1); err != nil {
			t.Fatal(err)
		}
		near(t, "without bases", got, want, tol)
	}
	u, _, v, err := SVD(g)
	if err != nil {
		t.Fatal(err)
	}
	state, moments = SOAPState{}, Moments{}
	for i, sigma := range [][]float64{{5, 2, 1}, {3, 2.5, -0.5}, {4, -1, 0.1}} {
		inner := mat.NewDense(3, 3, []float64{sigma[0], 0, 0, 0, sigma[1], 0, 0, 0, sigma[2]})
		got, next, err := SOAP{Adam: adam, Left: true, Right: true}.Direction(state, product(u, inner, v.T()), i+1)
		if err != nil {
			t.Fatal(err)
		}
		want, following, err := adam.Direction(moments, inner, i+1)
		if err != nil {
			t.Fatal(err)
		}
		state, moments = next, following
		near(t, "diagonal gradient", got, product(u, want, v.T()), tol)
	}
	got, _, err := SOAP{Adam: Adam{Epsilon: 1e-6}, Left: true, Right: true}.Direction(SOAPState{}, g, 1)
	if err != nil {
		t.Fatal(err)
	}
	polar, err := Msign(g)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "without memory", got, polar, 1e-5) // epsilon over the singular values
	bad := mat.DenseCopyOf(g)
	bad.Set(1, 1, math.NaN())
	if _, _, err := (SOAP{Left: true}).Direction(SOAPState{}, bad, 1); !errors.Is(err, ErrNonFinite) {
		t.Errorf("a gradient with NaN: error %v", err)
	}
}
