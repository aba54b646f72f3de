package matfn_test

import (
	"fmt"
	"math"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/polargo/polar/backend"
	"github.com/polargo/polar/matfn"
)

// run computes fn of float32 matrices and rounds the result for printing.
func run(fn func(w *graph.Node) *graph.Node, w [][]float32) [][]float64 {
	engine, err := backend.Open("")
	if err != nil {
		panic(err)
	}
	out, err := graph.CallOnce(engine, fn, tensors.FromValue(w))
	if err != nil {
		panic(err)
	}
	var rows [][]float64
	for _, row := range out.Value().([][]float32) {
		var rounded []float64
		for _, v := range row {
			rounded = append(rounded, math.Round(float64(v)*1e3)/1e3+0) // + 0 makes -0 print as 0
		}
		rows = append(rows, rounded)
	}
	return rows
}

func ExampleSpectralHardcap() {
	w := [][]float32{{3, 0, 0}, {0, 0.5, 0}}
	fmt.Println(run(func(w *graph.Node) *graph.Node { return matfn.SpectralHardcap(w, 1) }, w))
	// Output: [[1 0 0] [0 0.5 0]]
}

// A step of Muon is the polar factor of the momentum: the singular values 5 and 1 become one.
func ExampleMsign() {
	momentum := [][]float32{{3, -2}, {2, -3}}
	fmt.Println(run(func(m *graph.Node) *graph.Node { return matfn.Msign(m, matfn.WithExactFinish()) }, momentum))
	// Output: [[1 0] [0 -1]]
}

// Clipped decay takes a tenth of what is above 1, and nothing of what is below.
func ExampleSpectralClippedWeightDecay() {
	w := [][]float32{{3, 0}, {0, 0.5}}
	fmt.Println(run(func(w *graph.Node) *graph.Node { return matfn.SpectralClippedWeightDecay(w, 1, 0.1) }, w))
	// Output: [[2.8 0] [0 0.5]]
}

// The eigenvalues of w are 3 and -1; the positive part keeps the first.
func ExampleProjPSD() {
	w := [][]float32{{1, 2}, {2, 1}}
	fmt.Println(run(func(w *graph.Node) *graph.Node { return matfn.ProjPSD(w) }, w))
	// Output: [[1.5 1.5] [1.5 1.5]]
}

// WithExact computes in float64 until nothing changes.
func ExampleInvSqrt() {
	p := [][]float32{{4, 0}, {0, 1e-8}}
	fmt.Println(run(func(p *graph.Node) *graph.Node { return matfn.InvSqrt(p, matfn.WithExact()) }, p))
	// Output: [[0.5 0] [0 10000]]
}
