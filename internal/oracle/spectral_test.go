package oracle

import (
	"errors"
	"math"
	"testing"

	"gonum.org/v1/gonum/mat"
)

type function = func(x mat.Matrix) (*mat.Dense, error)

// TestSpectralFunctions: on a matrix made from known singular values each function gives the matrix made from the values that
// the formula asks for, and none of the others.
func TestSpectralFunctions(t *testing.T) {
	sigma := []float64{5, 2, 1, 0.5, 1e-3, 1e-12, 0}
	for _, c := range []struct {
		name string
		fn   function
		want []float64
	}{
		{"clip", func(x mat.Matrix) (*mat.Dense, error) { return SpectralClip(x, 0.75, 2.5) }, []float64{2.5, 2, 1, 0.75, 0.75, 0, 0}},
		{"clip without a lower bound", func(x mat.Matrix) (*mat.Dense, error) { return SpectralClip(x, -3, 1) }, []float64{1, 1, 1, 0.5, 1e-3, 0, 0}},
		{"hardcap", func(x mat.Matrix) (*mat.Dense, error) { return SpectralHardcap(x, 1.5) }, []float64{1.5, 1.5, 1, 0.5, 1e-3, 0, 0}},
		{"hardcap at zero", func(x mat.Matrix) (*mat.Dense, error) { return SpectralHardcap(x, 0) }, make([]float64, 7)},
		{"relu", func(x mat.Matrix) (*mat.Dense, error) { return SpectralReLU(x, 1.5) }, []float64{5, 2, 1.5, 1.5, 1.5, 0, 0}},
		{"decay", func(x mat.Matrix) (*mat.Dense, error) { return SpectralClippedWeightDecay(x, 1, 0.25) }, []float64{4, 1.75, 1, 0.5, 1e-3, 0, 0}},
		{"msign", func(x mat.Matrix) (*mat.Dense, error) { return SpectralClip(x, 1, 1) }, []float64{1, 1, 1, 1, 1, 0, 0}},
	} {
		for _, shape := range [][2]int{{7, 7}, {7, 11}, {11, 7}} {
			x, err := WithSingularValues(4, shape[0], shape[1], sigma)
			if err != nil {
				t.Fatal(err)
			}
			want, err := WithSingularValues(4, shape[0], shape[1], c.want)
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.fn(x)
			if err != nil {
				t.Fatal(err)
			}
			near(t, c.name, got, want, 1e-11)
		}
	}
}

// TestEigenFunctions: the same for eigenvalues, on V Λ Vᵀ plus a skew part that must not count.
func TestEigenFunctions(t *testing.T) {
	lambda := []float64{-4, -1, -0.25, 0, 0.5, 2, 3}
	v, _, _, err := SVD(Gaussian(9, 7, 7))
	if err != nil {
		t.Fatal(err)
	}
	skew := Gaussian(10, 7, 7)
	skew.Sub(skew, mat.DenseCopyOf(skew.T()))
	x := recompose(v, lambda)
	x.Add(x, skew)
	for _, c := range []struct {
		name string
		fn   function
		want []float64
	}{
		{"clip", func(x mat.Matrix) (*mat.Dense, error) { return EigClip(x, -1.5, 1) }, []float64{-1.5, -1, -0.25, 0, 0.5, 1, 1}},
		{"relu", func(x mat.Matrix) (*mat.Dense, error) { return EigReLU(x, -0.5) }, []float64{-0.5, -0.5, -0.25, 0, 0.5, 2, 3}},
		{"hardcap", func(x mat.Matrix) (*mat.Dense, error) { return EigHardcap(x, -0.5) }, []float64{-4, -1, -0.5, -0.5, -0.5, -0.5, -0.5}},
		{"step", func(x mat.Matrix) (*mat.Dense, error) { return EigStep(x, 0.25) }, []float64{0, 0, 0, 0, 1, 1, 1}},
		{"step is strict", func(x mat.Matrix) (*mat.Dense, error) { return EigStep(x, 2) }, []float64{0, 0, 0, 0, 0, 0, 1}},
		{"psd", ProjPSD, []float64{0, 0, 0, 0, 0.5, 2, 3}},
		{"nsd", ProjNSD, []float64{-4, -1, -0.25, 0, 0, 0, 0}},
	} {
		got, err := c.fn(x)
		if err != nil {
			t.Fatal(err)
		}
		near(t, c.name, got, recompose(v, c.want), 1e-13)
	}
	values, vectors, err := Eigen(x)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range values {
		if math.Abs(v-lambda[i]) > 1e-13*4*7 {
			t.Errorf("eigenvalue %d is %v, want %v", i, v, lambda[i])
		}
	}
	near(t, "orthonormal", product(vectors.T(), vectors), eye(7), 1e-13)
}

// TestSpectralRefusals: bounds without a meaning, shapes that are not square, and numbers that are none.
func TestSpectralRefusals(t *testing.T) {
	x, wide := eye(2), mat.NewDense(2, 3, nil)
	for name, fn := range map[string]func() (*mat.Dense, error){
		"clip to [2, 1]":            func() (*mat.Dense, error) { return SpectralClip(x, 2, 1) },
		"clip to [-2, -1]":          func() (*mat.Dense, error) { return SpectralClip(x, -2, -1) },
		"cap at -1":                 func() (*mat.Dense, error) { return SpectralHardcap(x, -1) },
		"decay above NaN":           func() (*mat.Dense, error) { return SpectralClippedWeightDecay(x, math.NaN(), 0.1) },
		"eigenvalue clip to [2, 1]": func() (*mat.Dense, error) { return EigClip(x, 2, 1) },
		"eigenvalues of 2 x 3":      func() (*mat.Dense, error) { return EigStep(wide, 0) },
		"cone of a matrix of 2 x 3": func() (*mat.Dense, error) { return ProjPSD(wide) },
	} {
		if got, err := fn(); err == nil {
			t.Errorf("%s passes: %v", name, got)
		}
	}
	x.Set(0, 1, math.NaN())
	for name, fn := range map[string]function{
		"clip":    func(x mat.Matrix) (*mat.Dense, error) { return SpectralClip(x, 0, 1) },
		"hardcap": func(x mat.Matrix) (*mat.Dense, error) { return SpectralHardcap(x, 1) },
		"decay":   func(x mat.Matrix) (*mat.Dense, error) { return SpectralClippedWeightDecay(x, 1, 0.1) },
		"step":    func(x mat.Matrix) (*mat.Dense, error) { return EigStep(x, 0) },
		"psd":     ProjPSD,
	} {
		if _, err := fn(x); !errors.Is(err, ErrNonFinite) {
			t.Errorf("%s with NaN: error %v", name, err)
		}
	}
}
