package matfn

import (
	"math"
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
			{WithExact()}, {WithExact(), WithForm(Gram)},
		} {
			if got, want := MsignFlopsOf(m, n, opts...), built(t, msign(opts...), m, n); got != want {
				t.Errorf("Msign of %v: counted %d, built %d", shape, got, want)
			}
		}
		if got, want := MsignFlops(m, n, 8), built(t, msign(WithForm(Direct)), m, n); got != want {
			t.Errorf("direct Msign of %v: counted %d, built %d", shape, got, want)
		}
	}
	for _, opts := range [][]Option{nil, {WithExact()}} {
		got, want := InvSqrtFlopsOf(6, opts...), built(t, func(p *Node) *Node { return InvSqrt(p, opts...) }, 6, 6)
		if got != want {
			t.Errorf("InvSqrt with %d options: counted %d, built %d", len(opts), got, want)
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

// TestClipFlops: the same for the clips, in all forms and for all kinds of bounds, and for the eigenvalue functions.
func TestClipFlops(t *testing.T) {
	infinite := math.Inf(1)
	for _, shape := range [][2]int{{5, 5}, {5, 12}, {12, 5}} {
		m, n := shape[0], shape[1]
		for _, bounds := range [][2]float64{{0, 1}, {1, 2}, {-1, 1}, {1, 1}, {0, 0}, {1, infinite}} {
			lo, hi := bounds[0], bounds[1]
			for _, opts := range [][]Option{
				nil, {WithForm(Projected)}, {WithForm(Nested)}, {WithForm(Blockwise)}, {WithExact()}, {WithForm(Blockwise), WithExact()},
				{WithSchedule(YouCesista6), WithForm(Nested)},
			} {
				fn := func(w *Node) *Node {
					if hi == infinite {
						return SpectralReLU(w, lo, opts...)
					}
					return SpectralClip(w, lo, hi, opts...)
				}
				if got, want := SpectralClipFlops(m, n, lo, hi, opts...), built(t, fn, m, n); got != want {
					t.Errorf("clip of %v to %v with %d options: counted %d, built %d", shape, bounds, len(opts), got, want)
				}
			}
		}
		if m == n {
			for form, count := range map[Form]int64{Projected: 12*13 + 28, Nested: 12*13 + 12, Blockwise: 36*13 + 14} {
				if got := SpectralClipFlops(m, n, 0, 1, WithForm(form)); got != count*cube(m) {
					t.Errorf("form %d: counted %d m³, documented %d", form, got/cube(m), count)
				}
			}
		}
		hardcap := built(t, func(w *Node) *Node { return SpectralHardcap(w, 1) }, m, n)
		decay := built(t, func(w *Node) *Node { return SpectralClippedWeightDecay(w, 1, 0.5) }, m, n)
		if want := SpectralClipFlops(m, n, 0, 1); hardcap != want || decay != want {
			t.Errorf("hardcap of %v: built %d, decay %d, counted %d", shape, hardcap, decay, want)
		}
	}
	for _, opts := range [][]Option{nil, {WithExact()}, {WithForm(Gram)}, {WithSchedule(JordanQuintic5)}} {
		for _, c := range []struct {
			name    string
			counted int64
			fn      func(w *Node) *Node
		}{
			{"EigClip", EigClipFlops(6, opts...), func(w *Node) *Node { return EigClip(w, 1, 2, opts...) }},
			{"EigReLU", EigReLUFlops(6, opts...), func(w *Node) *Node { return EigReLU(w, 1, opts...) }},
			{"EigHardcap", EigReLUFlops(6, opts...), func(w *Node) *Node { return EigHardcap(w, 1, opts...) }},
			{"ProjPSD", ProjPSDFlops(6, opts...), func(w *Node) *Node { return ProjPSD(w, opts...) }},
			{"ProjNSD", ProjPSDFlops(6, opts...), func(w *Node) *Node { return ProjNSD(w, opts...) }},
			{"EigStep", EigStepFlops(6, opts...), func(w *Node) *Node { return EigStep(w, 1, opts...) }},
		} {
			if want := built(t, c.fn, 6, 6); c.counted != want {
				t.Errorf("%s: counted %d, built %d", c.name, c.counted, want)
			}
		}
	}
}
