package model

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/internal/check"
)

// eps32 is float32's; tolerances are multiples of it.
const eps32 = 1.2e-7

// array is an argument of a graph: values in row-major order.
type array struct {
	dims   []int
	values []float32
}

func size(dims ...int) int {
	n := 1
	for _, d := range dims {
		n *= d
	}
	return n
}

// random returns an array of numbers in [-scale, scale), the same for a seed.
func random(seed uint64, scale float64, dims ...int) array {
	rng := rand.New(rand.NewPCG(seed, 1))
	a := array{dims, make([]float32, size(dims...))}
	for i := range a.values {
		a.values[i] = float32(scale * (2*rng.Float64() - 1))
	}
	return a
}

func (a array) tensor() *tensors.Tensor {
	return tensors.FromFlatDataAndDimensions(a.values, a.dims...)
}

// wide returns the values in float64.
func wide(values []float32) []float64 {
	out := make([]float64, len(values))
	for i, x := range values {
		out[i] = float64(x)
	}
	return out
}

// run executes a graph of the arguments, with store's variables, and returns the values of its float outputs.
func run(t testing.TB, store *mlmodel.Store, args []any, build func(in []*Node) []*Node) [][]float32 {
	t.Helper()
	return runOn(t, check.Backend(t), store, args, build)
}

// runOn is run on a backend.
func runOn(t testing.TB, b compute.Backend, store *mlmodel.Store, args []any, build func(in []*Node) []*Node) [][]float32 {
	t.Helper()
	out, err := mlmodel.CallOnceN(b, store, func(_ *mlmodel.Scope, in []*Node) []*Node { return build(in) }, args...)
	if err != nil {
		t.Fatal(err)
	}
	values := make([][]float32, len(out))
	for i, x := range out {
		values[i] = tensors.MustCopyFlatData[float32](x)
	}
	return values
}

// bites fails the test if the comparison would also accept wrong.
func bites(t *testing.T, name string, got, wrong []float64, tol float64) {
	t.Helper()
	if check.Compare(got, wrong, tol) == "" {
		t.Errorf("%s: a wrong reference is within the tolerance too", name)
	}
}

// same fails the test unless the arrays are equal bit for bit.
func same(t *testing.T, name string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", name, len(got), len(want))
	}
	for i := range got {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Errorf("%s: [%d] is %v, want exactly %v", name, i, got[i], want[i])
			return
		}
	}
}

func finite(values []float32) bool {
	for _, x := range values {
		if x-x != 0 {
			return false
		}
	}
	return true
}

// step is the step of central differences in float64: their error is about step² + 1e-16/step, near 1e-10 of the value.
const step = 1e-5

// slope returns the derivative of f along direction at x.
func slope(f func(x []float64) float64, x, direction []float64) float64 {
	at := func(s float64) float64 {
		moved := make([]float64, len(x))
		for i := range x {
			moved[i] = x[i] + s*direction[i]
		}
		return f(moved)
	}
	return (at(step) - at(-step)) / (2 * step)
}

// directions is how many random directions a gradient is compared in; an error stays unseen only if it is orthogonal to all.
const directions = 4

// alongDirections returns the derivatives of f at x, and their prediction by gradient, along the same random directions.
func alongDirections(seed uint64, f func(x []float64) float64, x []float64, gradient []float32) (predicted, want []float64) {
	for i := range uint64(directions) {
		direction := wide(random(seed+i, 1, len(x)).values)
		dot := 0.0
		for j, d := range direction {
			dot += d * float64(gradient[j])
		}
		predicted, want = append(predicted, dot), append(want, slope(f, x, direction))
	}
	return predicted, want
}

// weighting returns different weights for n outputs, to make a scalar of them.
func weighting(n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32((7*i)%11)/4 - 1.125
	}
	return out
}

func dot(a, b []float64) float64 {
	sum := 0.0
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}
