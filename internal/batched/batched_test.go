package batched

import (
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// tol is for sums of a few products in float64.
const tol = 1e-13

// TestAgainstGonum holds every operation on a batch, and on a matrix alone, against gonum's on each matrix.
func TestAgainstGonum(t *testing.T) {
	const m, n = 3, 5
	xs := []*mat.Dense{oracle.Gaussian(1, m, n), oracle.Gaussian(2, m, n)}
	ys := []*mat.Dense{oracle.Gaussian(3, n, m), oracle.Gaussian(4, n, m)}
	mul := func(x, y mat.Matrix) *mat.Dense { var z mat.Dense; z.Mul(x, y); return &z }
	for _, c := range []struct {
		name  string
		build func(x, y *Node) *Node
		want  func(x, y *mat.Dense) *mat.Dense
	}{
		{"Product", Product, func(x, y *mat.Dense) *mat.Dense { return mul(x, y) }},
		{"ProductT", func(x, _ *Node) *Node { return ProductT(x, x) }, func(x, _ *mat.Dense) *mat.Dense { return mul(x, x.T()) }},
		{"Transposed", func(x, _ *Node) *Node { return Transposed(x) }, func(x, _ *mat.Dense) *mat.Dense { return mat.DenseCopyOf(x.T()) }},
		{"Inner", func(x, y *Node) *Node { return Inner(x, Transposed(y)) }, func(x, y *mat.Dense) *mat.Dense {
			return mat.NewDense(1, 1, []float64{mat.Trace(mul(x, y))})
		}},
		{"Symmetric", func(x, y *Node) *Node { return Symmetric(Product(x, y)) }, func(x, y *mat.Dense) *mat.Dense {
			z := mul(x, y)
			var sum mat.Dense
			sum.Add(z, z.T())
			sum.Scale(0.5, &sum)
			return &sum
		}},
		{"Eye", func(x, y *Node) *Node { return Product(Eye(x, m), x) }, func(x, _ *mat.Dense) *mat.Dense { return x }},
		{"ScaleBy", func(x, _ *Node) *Node { return ScaleBy(x, SumSquares(x)) }, func(x, _ *mat.Dense) *mat.Dense {
			var z mat.Dense
			z.Scale(mat.Norm(x, 2)*mat.Norm(x, 2), x)
			return &z
		}},
	} {
		var want []float64
		for i := range xs {
			want = append(want, c.want(xs[i], ys[i]).RawMatrix().Data...)
		}
		check.Close(t, c.name, run(t, c.build, stacked(xs), stacked(ys)), want, tol)
		check.Close(t, c.name+" alone", run(t, c.build, stacked(xs[:1]), stacked(ys[:1])), want[:len(want)/2], tol)
	}
}

// stacked returns matrices as float64 [k, m, n], one alone as [m, n].
func stacked(xs []*mat.Dense) *tensors.Tensor {
	rows, cols := xs[0].Dims()
	var flat []float64
	for _, x := range xs {
		flat = append(flat, x.RawMatrix().Data...)
	}
	if len(xs) == 1 {
		return tensors.FromFlatDataAndDimensions(flat, rows, cols)
	}
	return tensors.FromFlatDataAndDimensions(flat, len(xs), rows, cols)
}

func run(t *testing.T, build func(x, y *Node) *Node, x, y *tensors.Tensor) []float64 {
	t.Helper()
	out, err := CallOnce(check.Backend(t), build, x, y)
	if err != nil {
		t.Fatal(err)
	}
	return tensors.MustCopyFlatData[float64](out)
}

// TestOneForZero: reciprocals of what it returns are finite, other numbers stay.
func TestOneForZero(t *testing.T) {
	in := []float32{0, 1e-45, 0x1p-126, 3}
	out, err := CallOnce(check.Backend(t), OneForZero, tensors.FromFlatDataAndDimensions(in, 4))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []float32{1, 0x1p-126, 0x1p-126, 3} {
		if got := tensors.MustCopyFlatData[float32](out)[i]; got != want {
			t.Errorf("%g became %g, want %g", in[i], got, want)
		}
	}
}
