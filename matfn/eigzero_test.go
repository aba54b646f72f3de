package matfn

import (
	"math"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"gonum.org/v1/gonum/mat"
)

// TestEigZeroMatrix: against a zero matrix any bound is large, so that none is taken for zero, however small.
func TestEigZeroMatrix(t *testing.T) {
	zero := mat.NewDense(3, 3, nil)
	for name, opts := range map[string][]Option{"float32": nil, "exact": {WithExact()}} {
		for _, c := range []struct {
			name string
			fn   func(w *Node) *Node
			want float64 // on the diagonal
		}{
			{"clip around zero", func(w *Node) *Node { return EigClip(w, -3e-13, 5e-13, opts...) }, 0},
			{"clip above zero", func(w *Node) *Node { return EigClip(w, 3e-13, 5e-13, opts...) }, 3e-13},
			{"relu below zero", func(w *Node) *Node { return EigReLU(w, -3e-13, opts...) }, 0},
			{"relu above zero", func(w *Node) *Node { return EigReLU(w, 3e-13, opts...) }, 3e-13},
			{"hardcap below zero", func(w *Node) *Node { return EigHardcap(w, -3e-13, opts...) }, -3e-13},
			{"step below zero", func(w *Node) *Node { return EigStep(w, -3e-13, opts...) }, 1},
			{"step at zero", func(w *Node) *Node { return EigStep(w, 0, opts...) }, 0},
			{"step above zero", func(w *Node) *Node { return EigStep(w, 3e-13, opts...) }, 0},
			{"psd", func(w *Node) *Node { return ProjPSD(w, opts...) }, 0},
		} {
			got := apply1(t, c.fn, zero)
			for i := range 3 {
				for j := range 3 {
					want := 0.0
					if i == j {
						want = c.want
					}
					if diff := math.Abs(got.At(i, j) - want); !(diff <= 1e-6*max(math.Abs(want), 3e-13)) {
						t.Errorf("%s, %s: element [%d, %d] is %g, want %g", name, c.name, i, j, got.At(i, j), want)
					}
				}
			}
		}
	}
}
