package oracle

import (
	"errors"
	"math"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// TestPoLoRA: both factors' steps have the norm eta·scale/(s(‖A‖+‖B‖)) before decay; without diagonals and damping they are
// lora-muon's directions; with diagonals the step is that of a pair of rescaled rows; a zero factor holds the other one.
func TestPoLoRA(t *testing.T) {
	o := PoLoRA{LearningRate: 0.3, Momentum: 0.5, Beta2: 0.9, S: 2, Scale: 1.5}
	a, b, gA, gB := Gaussian(1, 9, 3), Gaussian(2, 7, 3), Gaussian(3, 9, 3), Gaussian(4, 7, 3)
	norms := 0.0
	for _, x := range []*mat.Dense{a, b} {
		length, err := SpectralNorm(x)
		if err != nil {
			t.Fatal(err)
		}
		norms += length
	}
	rho := 0.3 * 1.5 / (2 * norms)
	next, diagonals, err := o.Step(Pair{A: a, B: b}, Diagonals{}, gA, gB)
	if err != nil {
		t.Fatal(err)
	}
	_, muonA, muonB, err := LoRAMuon{LearningRate: 1, S: 1}.Step(Pair{A: a, B: b}, gA, gB)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range [][3]*mat.Dense{{next.A, a, muonA}, {next.B, b, muonB}} {
		step := combine(1, d[0], -1, d[1])
		length, err := SpectralNorm(step)
		if err != nil || math.Abs(length-rho) > tol {
			t.Errorf("factor %d moves by %v, want %v", i, length, rho)
		}
		other, err := SpectralNorm(d[2])
		if err != nil {
			t.Fatal(err)
		}
		near(t, "direction", step, combine(rho/other, d[2], 0, d[2]), tol)
	}
	gram := product(b.T(), b)
	var solved mat.Dense
	if err := solved.Solve(gram, gA.T()); err != nil {
		t.Fatal(err)
	}
	for i, v := range diagonals.A { // (1-beta2) diag(∇_A (BᵀB)⁻¹ ∇_Aᵀ)/r
		want := 0.1 * mat.Dot(gA.RowView(i), solved.ColView(i)) / 3
		if math.Abs(v-want) > tol {
			t.Errorf("diagonal of A at %d: %v, want %v", i, v, want)
		}
	}
	// In the metric P, Q the direction is that of the pair P^{1/2}A, Q^{1/2}B without one, mapped back by P^{-1/2}.
	given := Diagonals{A: []float64{1, 2, 3, 4, 5, 6, 7, 8, 9}, B: []float64{7, 6, 5, 4, 3, 2, 1}}
	if next, _, err = o.Step(Pair{A: a, B: b}, given, gA, gB); err != nil {
		t.Fatal(err)
	}
	p, q := make([]float64, 9), make([]float64, 7)
	for i := range p {
		p[i] = given.A[i] / 9
	}
	for i := range q {
		q[i] = given.B[i] / 7
	}
	_, muonA, _, err = LoRAMuon{LearningRate: 1, S: 1}.Step(
		Pair{A: scaleRows(a, p, 0.5), B: scaleRows(b, q, 0.5)}, scaleRows(gA, p, -0.5), scaleRows(gB, q, -0.5))
	if err != nil {
		t.Fatal(err)
	}
	back := scaleRows(muonA, p, -0.5)
	length, err := SpectralNorm(back)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "direction in the metric", combine(1, next.A, -1, a), combine(rho/length, back, 0, back), tol)
	zero := mat.NewDense(7, 3, nil)
	if next, _, err = o.Step(Pair{A: a, B: zero, MomentA: gA}, Diagonals{}, gA, gB); err != nil {
		t.Fatal(err)
	}
	near(t, "A beside a zero factor", next.A, a, tol)
	bad := Gaussian(3, 9, 3)
	bad.Set(0, 0, math.NaN())
	if _, _, err := o.Step(Pair{A: a, B: b}, Diagonals{}, bad, gB); !errors.Is(err, ErrNonFinite) {
		t.Errorf("a gradient with NaN: error %v", err)
	}
	o.WeightDecay = 4
	if _, _, err := o.Step(Pair{A: a, B: b}, Diagonals{}, gA, gB); err == nil {
		t.Error("lambda·eta above 1 passes")
	}
}
