package manifold_test

import (
	"fmt"

	. "github.com/gomlx/gomlx/core/graph"

	"github.com/polargo/polar/backend"
	"github.com/polargo/polar/manifold"
)

// A step in the spectral ball: the gradient pushes both singular values up, but the first is at the bound.
func Example() {
	goBackend, err := backend.Open("")
	if err != nil {
		fmt.Println(err)
		return
	}
	set := manifold.Set{Name: manifold.Ball, Radius: 1}
	solver := manifold.Solver{Name: manifold.Alternating, Norm: manifold.Spectral}
	out, err := CallOnceN(goBackend, func(w, grad *Node) []*Node {
		d, _ := solver.Direction(set, w, grad, nil)
		return []*Node{d, set.Retract(Add(w, MulScalar(d, 0.1)))}
	}, [][]float32{{1, 0}, {0, 0.5}}, [][]float32{{-3, 0}, {0, -1}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for i, name := range []string{"direction", "weight"} {
		rows := out[i].Value().([][]float32)
		fmt.Printf("%s: diagonal %.1f and %.1f\n", name, rows[0][0], rows[1][1])
	}
	// Output:
	// direction: diagonal 0.0 and 1.0
	// weight: diagonal 1.0 and 0.6
}
