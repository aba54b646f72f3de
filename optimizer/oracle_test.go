package optimizer

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/oracle"
)

// Matrices of the tests: float64. References come from package oracle, by SVD, which the code under test never uses.

// must returns v, or fails the test.
func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// random returns a source of random numbers that depends on the given numbers only.
func random(seed, stream int) *rand.Rand { return rand.New(rand.NewPCG(uint64(seed), uint64(stream))) }

// gaussian returns an m x n matrix of independent standard normal numbers that float32 can hold.
func gaussian(rng *rand.Rand, m, n int) *mat.Dense {
	x := mat.NewDense(m, n, nil)
	for i := range m {
		for j := range n {
			x.Set(i, j, rng.NormFloat64())
		}
	}
	return rounded(x)
}

// rounded returns x as float32 sees it, so that oracle and optimizer get the same numbers.
func rounded(x *mat.Dense) *mat.Dense {
	out := mat.DenseCopyOf(x)
	out.Apply(func(_, _ int, v float64) float64 { return float64(float32(v)) }, out)
	return out
}

// orthonormal returns a random m x n matrix with all singular values one.
func orthonormal(t testing.TB, rng *rand.Rand, m, n int) *mat.Dense {
	t.Helper()
	return must[*mat.Dense](t)(oracle.Msign(gaussian(rng, m, n)))
}

// spectralNormOf returns the largest singular value.
func spectralNormOf(t testing.TB, x *mat.Dense) float64 {
	t.Helper()
	return must[float64](t)(oracle.SpectralNorm(x))
}

func mul(x, y mat.Matrix) *mat.Dense {
	out := new(mat.Dense)
	out.Mul(x, y)
	return out
}

func add(x, y mat.Matrix) *mat.Dense {
	out := new(mat.Dense)
	out.Add(x, y)
	return out
}

func sub(x, y mat.Matrix) *mat.Dense {
	out := new(mat.Dense)
	out.Sub(x, y)
	return out
}

func scaled(c float64, x mat.Matrix) *mat.Dense {
	out := new(mat.Dense)
	out.Scale(c, x)
	return out
}

// relative returns ‖got - want‖_F / ‖want‖_F; not a number is infinitely far.
func relative(got, want *mat.Dense) float64 {
	d := mat.Norm(sub(got, want), 2)
	if math.IsNaN(d) {
		return math.Inf(1)
	}
	if d == 0 {
		return 0
	}
	return d / mat.Norm(want, 2)
}
