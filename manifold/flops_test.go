package manifold

import (
	"math"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/matfn"
)

// built returns the operations of the products of two matrices in the graph of fn for two m x n matrices.
func built(t *testing.T, fn func(w, x *Node) *Node, m, n int) (flops int64) {
	t.Helper()
	exec := must[*Exec](t)(NewExec(check.Backend(t), func(w, x *Node) *Node {
		y := fn(w, x)
		for _, node := range w.Graph().Nodes() {
			if node.Type() != NodeTypeDotGeneral || node.Rank() != 2 {
				continue
			}
			a, b, c := node.Inputs()[0].Shape().Size(), node.Inputs()[1].Shape().Size(), node.Shape().Size()
			flops += 2 * int64(c) * int64(math.Round(math.Sqrt(float64(a*b/c)))) // [p, q]·[q, r]: (pq)(qr)/(pr) = q²
		}
		return y
	}))
	defer exec.Finalize()
	if _, err := exec.Call(single.tensor(mat.NewDense(m, n, nil)), single.tensor(mat.NewDense(m, n, nil))); err != nil {
		t.Fatal(err)
	}
	return flops
}

// TestFlops: the counts are those of the graphs that are built.
func TestFlops(t *testing.T) {
	power := func(m, n int) int64 { return matfn.SpectralNormFlops(m, n, matfn.MinPowerSteps) } // products with vectors, not seen here
	for _, shape := range [][2]int{{6, 6}, {6, 20}, {20, 6}} {
		m, n := shape[0], shape[1]
		for _, s := range []Set{{Name: PSD}, {Name: Spectrahedron, Lo: -1, Hi: 1}, {Name: Ball, Radius: 1}, {Name: Band, Lo: 0.5, Hi: 2}, {Name: Stiefel}} {
			if s.Symmetric() && m != n {
				continue
			}
			if got, want := s.RetractFlops(m, n), built(t, func(w, _ *Node) *Node { return s.Retract(w) }, m, n); got != want {
				t.Errorf("retraction on %s %v: counted %d, built %d", s.Name, shape, got, want)
			}
			if got, want := s.TangentFlops(m, n), built(t, func(w, x *Node) *Node { return tangentOf(s, 0.1, single)([]*Node{w, x}) }, m, n); got != want {
				t.Errorf("tangent of %s %v: counted %d, built %d", s.Name, shape, got, want)
			}
			for _, norm := range Norms() {
				for _, solver := range []Solver{{Name: Oracle}, {Name: Alternating, Steps: 3}, {Name: PDHG, Steps: 1}, {Name: Dual, Steps: 1}} {
					solver.Norm = norm
					want := built(t, func(w, g *Node) *Node {
						start := make([]*Node, solver.Memory())
						for i := range start {
							start[i] = ZerosLike(w)
						}
						d, _ := solver.Direction(s, w, g, start)
						return d
					}, m, n)
					got := solver.DirectionFlops(s, m, n)
					if solver.Name != Oracle && s.Name != Spectrahedron {
						got -= power(m, n)
					}
					if got != want {
						t.Errorf("%s %s on %s %v: counted %d, built %d", solver.Name, norm, s.Name, shape, got, want)
					}
				}
			}
		}
	}
	more := Solver{Name: PDHG, Norm: Spectral, Steps: 3}.DirectionFlops(Set{Name: Ball, Radius: 1}, 8, 8)
	one := Solver{Name: PDHG, Norm: Spectral, Steps: 1}.DirectionFlops(Set{Name: Ball, Radius: 1}, 8, 8)
	if all := (Solver{Name: PDHG, Norm: Spectral}).DirectionFlops(Set{Name: Ball, Radius: 1}, 8, 8); all != one+127*(more-one)/2 {
		t.Errorf("128 iterations are counted as %d, 1 as %d and 3 as %d", all, one, more)
	}
}
