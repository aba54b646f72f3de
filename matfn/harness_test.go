package matfn

import (
	"testing"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// call runs fn on the arguments and returns the results' elements in float32.
func call(t testing.TB, fn func(inputs []*Node) []*Node, args ...*tensors.Tensor) [][]float32 {
	t.Helper()
	exec, err := NewExec(check.Backend(t), func(inputs []*Node) []*Node {
		var out []*Node
		for _, node := range fn(inputs) {
			out = append(out, ConvertDType(node, dtypes.Float32))
		}
		return out
	})
	if err != nil {
		t.Fatal(err)
	}
	defer exec.Finalize()
	anyArgs := make([]any, len(args))
	for i, a := range args {
		anyArgs[i] = a
	}
	outputs, err := exec.Call(anyArgs...)
	if err != nil {
		t.Fatal(err)
	}
	flat := make([][]float32, len(outputs))
	for i, o := range outputs {
		flat[i] = tensors.MustCopyFlatData[float32](o)
	}
	return flat
}

// apply1 runs a function of one matrix and returns its result as a matrix of the same shape.
func apply1(t testing.TB, fn func(x *Node) *Node, x *mat.Dense) *mat.Dense {
	t.Helper()
	m, n := x.Dims()
	out := call(t, func(in []*Node) []*Node { return []*Node{fn(in[0])} }, tensorOf(x))
	return matrixOf(t, out[0], m, n)
}

// msign returns Msign with options as a function of a matrix.
func msign(opts ...Option) func(*Node) *Node {
	return func(x *Node) *Node { return Msign(x, opts...) }
}

// tensorOf stacks matrices of one shape as float32 [k, m, n]; one matrix alone is [m, n].
func tensorOf(xs ...*mat.Dense) *tensors.Tensor {
	m, n := xs[0].Dims()
	var flat []float32
	for _, x := range xs {
		flat = append(flat, oracle.Float32(x)...)
	}
	if len(xs) == 1 {
		return tensors.FromFlatDataAndDimensions(flat, m, n)
	}
	return tensors.FromFlatDataAndDimensions(flat, len(xs), m, n)
}

func matrixOf(t testing.TB, data []float32, m, n int) *mat.Dense {
	t.Helper()
	x, err := oracle.FromFloat32(data, m, n)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// rounded returns x as float32 sees it, so that the oracle gets the numbers that the code under test gets.
func rounded(t testing.TB, x *mat.Dense) *mat.Dense {
	t.Helper()
	m, n := x.Dims()
	return matrixOf(t, oracle.Float32(x), m, n)
}

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

// random returns a float32-rounded matrix of the given condition number.
func random(t testing.TB, seed uint64, m, n int, cond float64) *mat.Dense {
	t.Helper()
	return rounded(t, must[*mat.Dense](t)(oracle.RandomMatrix(seed, m, n, cond)))
}

func flat(x *mat.Dense) []float64 { return x.RawMatrix().Data }
func scaled(c float64, x *mat.Dense) *mat.Dense {
	out := new(mat.Dense)
	out.Scale(c, x)
	return out
}

// plainRoot is InvSqrt without options.
func plainRoot(p *Node) *Node { return InvSqrt(p) }
