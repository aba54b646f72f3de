package oracle

import (
	"errors"
	"math"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// tol is for identities in float64 at condition numbers up to 1e3: 2e-16 times that, with room for sums.
const tol = 1e-11

// near fails unless ‖got-want‖_F <= limit·(1+‖want‖_F).
func near(t *testing.T, name string, got, want mat.Matrix, limit float64) {
	t.Helper()
	var d mat.Dense
	d.Sub(got, want)
	if e := mat.Norm(&d, 2); !(e <= limit*(1+mat.Norm(want, 2))) {
		t.Errorf("%s: differs by %.3g", name, e)
	}
}

func eye(n int) *mat.Dense {
	x := mat.NewDense(n, n, nil)
	for i := range n {
		x.Set(i, i, 1)
	}
	return x
}

func product(x ...mat.Matrix) *mat.Dense {
	out := new(mat.Dense)
	out.Product(x...)
	return out
}

// TestIdentities checks each reference by what defines it: U Uᵀ = I and x = U·(psd), R P R = I, the singular values asked.
func TestIdentities(t *testing.T) {
	for _, shape := range [][2]int{{1, 1}, {6, 6}, {5, 12}, {12, 5}} {
		m, n := shape[0], shape[1]
		x, err := RandomMatrix(7, m, n, 1e3)
		if err != nil {
			t.Fatal(err)
		}
		u, err := Msign(x)
		if err != nil {
			t.Fatal(err)
		}
		small, factor := product(u, u.T()), product(u.T(), x)
		if m > n {
			small = product(u.T(), u)
		}
		near(t, "orthonormal", small, eye(min(m, n)), tol)
		near(t, "symmetric factor", factor, factor.T(), tol)
		sigma, err := SingularValues(x)
		if err != nil || math.Abs(sigma[0]-1) > tol || (len(sigma) > 1 && math.Abs(sigma[len(sigma)-1]-1e-3) > tol) {
			t.Errorf("%v: singular values %v, %v", shape, sigma, err)
		}
		if _, withVectors, _, err := SVD(x); err != nil || math.Abs(withVectors[len(sigma)-1]-sigma[len(sigma)-1]) > tol {
			t.Errorf("%v: the smallest singular value is %v, with vectors %v, %v", shape, sigma[len(sigma)-1], withVectors, err)
		}
		if norm, err := SpectralNorm(x); err != nil || norm != sigma[0] {
			t.Errorf("%v: spectral norm %v, %v", shape, norm, err)
		}
		if m >= n {
			r, err := GramInvSqrt(x)
			if err != nil {
				t.Fatal(err)
			}
			near(t, "R (xᵀx) R", product(r, x.T(), x, r), eye(n), 1e-8)
			byEigen, err := InvSqrt(product(x.T(), x), 0)
			if err != nil {
				t.Fatal(err)
			}
			near(t, "two ways to one root", byEigen, r, 1e-8)
		}
	}
}

// TestInvSqrtRidge: the ridge is relative to the Frobenius norm; zero gives zero.
func TestInvSqrtRidge(t *testing.T) {
	p := mat.NewDense(2, 2, []float64{3, 0, 0, 4})
	got, err := InvSqrt(p, 0.2) // norm 5: eigenvalues 4 and 5
	if err != nil {
		t.Fatal(err)
	}
	near(t, "ridge", got, mat.NewDense(2, 2, []float64{0.5, 0, 0, 1 / math.Sqrt(5)}), tol)
	for _, ridge := range []float64{0, 1e-5} {
		zero, err := InvSqrt(mat.NewDense(2, 2, nil), ridge)
		if err != nil || mat.Norm(zero, 2) != 0 {
			t.Errorf("ridge %g: the root of zero is %v, %v", ridge, zero, err)
		}
	}
	singular, err := InvSqrt(mat.NewDense(2, 2, []float64{4, 0, 0, 0}), 0)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "pseudo-inverse root", singular, mat.NewDense(2, 2, []float64{0.5, 0, 0, 0}), tol)
	if _, err := InvSqrt(mat.NewDense(1, 2, nil), 0); err == nil {
		t.Error("a matrix that is not square passes")
	}
}

// TestRefusesNonFinite: every function, for NaN and both infinities.
func TestRefusesNonFinite(t *testing.T) {
	small := LoRAMuon{LearningRate: 0.1, S: 1, Scale: 1}
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		x := eye(3)
		x.Set(1, 2, bad)
		good := eye(3)
		for name, fn := range map[string]func() error{
			"Msign":          func() error { _, err := Msign(x); return err },
			"InvSqrt":        func() error { _, err := InvSqrt(x, 0); return err },
			"GramInvSqrt":    func() error { _, err := GramInvSqrt(x); return err },
			"SingularValues": func() error { _, err := SingularValues(x); return err },
			"SpectralNorm":   func() error { _, err := SpectralNorm(x); return err },
			"LoRAMuon a":     func() error { _, _, _, err := small.Step(Pair{A: x, B: good}, good, good); return err },
			"LoRAMuon g":     func() error { _, _, _, err := small.Step(Pair{A: good, B: good}, good, x); return err },
		} {
			if err := fn(); !errors.Is(err, ErrNonFinite) {
				t.Errorf("%s with %v: error %v", name, bad, err)
			}
		}
	}
}

// TestLoRAMuonStep holds the step to what lora-muon's derivation says: each half moves s·A Bᵀ by exactly eta·scale/2, against
// the gradient; decay shrinks the product once; the path of s·A Bᵀ does not depend on s; moments are averages.
func TestLoRAMuonStep(t *testing.T) {
	const eta, beta, lambda, scale = 0.2, 0.75, 0.5, 1.5
	a, b := Gaussian(1, 9, 3), Gaussian(2, 7, 3)
	grad := Gaussian(3, 9, 7)
	for _, s := range []float64{1, 4} {
		scaledA := new(mat.Dense)
		scaledA.Scale(1/s, a)
		gA, gB := product(grad, b), product(grad.T(), scaledA)
		gA.Scale(s, gA)
		gB.Scale(s, gB)
		step := LoRAMuon{LearningRate: eta, Momentum: beta, WeightDecay: lambda, S: s, Scale: scale}
		next, dA, dB, err := step.Step(Pair{A: scaledA, B: b}, gA, gB)
		if err != nil {
			t.Fatal(err)
		}
		for name, half := range map[string]*mat.Dense{"A": product(dA, b.T()), "B": product(scaledA, dB.T())} {
			norm, err := SpectralNorm(half)
			if err != nil || math.Abs(s*norm-eta*scale/2) > tol {
				t.Errorf("s %g: the half of %s moves W by %v, want %v", s, name, s*norm, eta*scale/2)
			}
			if along := mat.Sum(product(half.T(), grad).DiagView()); along >= 0 {
				t.Errorf("s %g: the half of %s climbs: %v", s, name, along)
			}
		}
		var want, first, second, third mat.Dense
		want.Scale(1-lambda*eta, product(scaledA, b.T()))
		first.Add(product(dA, b.T()), product(scaledA, dB.T()))
		second.Scale(1/(1-lambda*eta), product(dA, dB.T()))
		third.Add(&first, &second)
		want.Add(&want, &third)
		near(t, "product after the step", product(next.A, next.B.T()), &want, tol)
		var moment mat.Dense
		moment.Scale(1-beta, gA)
		near(t, "moment", next.MomentA, &moment, tol)
	}
	tooFar := LoRAMuon{LearningRate: 2, WeightDecay: 0.5, S: 1, Scale: 1}
	if _, _, _, err := tooFar.Step(Pair{A: a, B: b}, a, b); err == nil {
		t.Error("lambda·eta = 1 passes")
	}
}

// TestGenerators: seeded, of the shape and spectrum asked, and converted without change.
func TestGenerators(t *testing.T) {
	if !mat.Equal(Gaussian(5, 3, 4), Gaussian(5, 3, 4)) || mat.Equal(Gaussian(5, 3, 4), Gaussian(6, 3, 4)) {
		t.Error("the seed does not decide")
	}
	if _, err := WithSingularValues(1, 3, 4, []float64{1}); err == nil {
		t.Error("too few singular values pass")
	}
	x, err := FromFloat32([]float32{1, 2, 3, 4, 5, 6}, 2, 3)
	if err != nil || x.At(1, 0) != 4 {
		t.Errorf("row 1 begins with %v, %v", x.At(1, 0), err)
	}
	if back := Float32(x.T()); back[1] != 4 || len(back) != 6 {
		t.Errorf("the transpose is %v", back)
	}
	if _, err := FromFloat32([]float32{1}, 2, 3); err == nil {
		t.Error("too few elements pass")
	}
}
