package matfn

import (
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/polargo/polar/internal/check"
)

// built returns the operations of the products of two matrices in the graph of fn for an m x n matrix.
func built(t *testing.T, fn func(x *Node) *Node, m, n int) (flops int64) {
	t.Helper()
	exec, err := NewExec(check.Backend(t), func(x *Node) *Node {
		y := fn(x)
		for _, node := range x.Graph().Nodes() {
			if node.Type() != NodeTypeDotGeneral || node.Rank() != 2 {
				continue
			}
			a, b, c := node.Inputs()[0].Shape().Size(), node.Inputs()[1].Shape().Size(), node.Shape().Size()
			flops += 2 * int64(c) * int64(sqrt(a*b/c)) // [p, q]·[q, r]: (pq)(qr)/(pr) = q²
		}
		return y
	})
	if err != nil {
		t.Fatal(err)
	}
	defer exec.Finalize()
	if _, err := exec.Call(tensors.FromFlatDataAndDimensions(make([]float32, m*n), m, n)); err != nil {
		t.Fatal(err)
	}
	return flops
}

func sqrt(x int) int {
	r := 0
	for r*r < x {
		r++
	}
	return r
}

// TestFlops: the counts are those of the graphs that are built.
func TestFlops(t *testing.T) {
	for _, shape := range [][2]int{{5, 5}, {5, 40}, {40, 5}, {5, 8}} {
		m, n := shape[0], shape[1]
		for _, opts := range [][]Option{
			{WithForm(Direct)}, {WithForm(Gram)}, nil, {WithExactFinish()}, {WithForm(Gram), WithExactFinish()},
			{WithSchedule(YouCesista6), WithForm(Gram)}, {WithSchedule(JordanQuintic5)},
		} {
			if got, want := MsignFlopsOf(m, n, opts...), built(t, msign(opts...), m, n); got != want {
				t.Errorf("Msign of %v: counted %d, built %d", shape, got, want)
			}
		}
		if got, want := MsignFlops(m, n, 8), built(t, msign(WithForm(Direct)), m, n); got != want {
			t.Errorf("direct Msign of %v: counted %d, built %d", shape, got, want)
		}
	}
	if got, want := InvSqrtFlops(6, RootSteps), built(t, plainRoot, 6, 6); got != want {
		t.Errorf("InvSqrt: counted %d, built %d", got, want)
	}
	if InvSqrtFlops(6, 0) != 0 || MsignFlops(3, 4, 0) != 0 {
		t.Error("no steps cost something")
	}
	if got, want := SpectralNormFlops(10, 20, 16), int64(2*33*200); got != want {
		t.Errorf("SpectralNorm: counted %d, want %d", got, want)
	}
}
