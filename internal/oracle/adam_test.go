package oracle

import (
	"errors"
	"math"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// TestAdam: the first direction is g/(|g| + epsilon) whatever the betas, and the second is what the two gradients give by hand.
func TestAdam(t *testing.T) {
	o := Adam{LearningRate: 0.5, Beta1: 0.9, Beta2: 0.99, Epsilon: 0.25, WeightDecay: 0.2}
	g := mat.NewDense(1, 3, []float64{3, -0.75, 0})
	first, moments, err := o.Direction(Moments{}, g, 1)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "first direction", first, mat.NewDense(1, 3, []float64{3 / 3.25, -0.75, 0}), tol)
	second, _, err := o.Direction(moments, mat.NewDense(1, 3, []float64{-3, -0.75, 1}), 2)
	if err != nil {
		t.Fatal(err)
	}
	want := []float64{
		(0.09*3 - 0.1*3) / 0.19 / (3 + 0.25), // equal squares: v̂ stays 9
		-0.75 / (0.75 + 0.25),
		0.1 / 0.19 / (math.Sqrt(0.01/(1-0.99*0.99)) + 0.25),
	}
	near(t, "second direction", second, mat.NewDense(1, 3, want), tol)
	near(t, "decay", o.Apply(g, first), combine(0.9, g, -0.5, first), tol)
	if _, _, err := o.Direction(Moments{}, g, 0); err == nil {
		t.Error("step 0 passes")
	}
}

// TestRPrecAdamW: with orthonormal factors the inverses are 1/(1+δ) and the step is Adam's; the factors' inverses act on the
// right side; a zero factor holds the other one; what is not finite is refused.
func TestRPrecAdamW(t *testing.T) {
	o := RPrecAdamW{Adam{LearningRate: 0.1, Beta1: 0.9, Beta2: 0.99, Epsilon: 1e-3, WeightDecay: 0.5}, 0.5}
	b, err := Msign(Gaussian(1, 5, 2))
	if err != nil {
		t.Fatal(err)
	}
	a, gA, gB := Gaussian(2, 4, 2), Gaussian(3, 4, 2), Gaussian(4, 5, 2)
	nextA, nextB, momentsA, _, err := o.Step(a, b, Moments{}, Moments{}, gA, gB, 1)
	if err != nil {
		t.Fatal(err)
	}
	scaled := new(mat.Dense)
	scaled.Scale(1/1.5, gA)
	direction, moments, err := o.Direction(Moments{}, scaled, 1)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "step of A", nextA, o.Apply(a, direction), tol)
	near(t, "second moment of A", momentsA.V, moments.V, tol)
	gram := product(a.T(), a)
	for i := range 2 {
		gram.Set(i, i, gram.At(i, i)+o.Ridge)
	}
	var solved mat.Dense
	if err := solved.Solve(gram, gB.T()); err != nil {
		t.Fatal(err)
	}
	if direction, _, err = o.Direction(Moments{}, solved.T(), 1); err != nil {
		t.Fatal(err)
	}
	near(t, "step of B", nextB, o.Apply(b, direction), tol)
	zero := mat.NewDense(5, 2, nil)
	if nextA, _, _, _, err = o.Step(a, zero, Moments{M: gA}, Moments{}, zero.Slice(0, 4, 0, 2), gB, 3); err != nil {
		t.Fatal(err)
	}
	near(t, "A beside a zero factor", nextA, combine(1-0.05, a, 0, a), tol)
	bad := Gaussian(3, 4, 2)
	bad.Set(0, 0, math.NaN())
	if _, _, _, _, err := o.Step(a, b, Moments{}, Moments{}, bad, gB, 1); !errors.Is(err, ErrNonFinite) {
		t.Errorf("a gradient with NaN: error %v", err)
	}
}
