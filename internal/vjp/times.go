package vjp

import (
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
)

// Times returns the product of the rows of x [..., k] with the matrix w: x·wᵀ for w [n, k] with axis 1, x·w for w [k, n]
// with axis 0, the axis of w that is summed over. The result is [..., n].
//
// It differs from graph.DotGeneral only in how the gradient of w is built: as a product whose narrower operand alone is
// transposed, where autodiff's transposes both. On a 2-core AVX-512 machine that took the gradient of a 1536 x 16 factor
// over 1024 rows from 7.5 to 0.7 ms on the Go backend.
func Times(x, w *graph.Node, axis int) *graph.Node {
	if w.Rank() != 2 || axis < 0 || axis > 1 || x.Rank() < 1 || x.Shape().Dim(-1) != w.Shape().Dim(axis) {
		exceptions.Panicf("vjp.Times: x %s does not fit axis %d of w %s", x.Shape(), axis, w.Shape())
	}
	last := x.Rank() - 1
	forward := func() *graph.Node { return graph.DotGeneral(x, []int{last}, nil, w, []int{axis}, nil) }
	return Custom([]*graph.Node{x, w}, forward, func(_, dy *graph.Node) []*graph.Node {
		dx := graph.DotGeneral(dy, []int{last}, nil, w, []int{1 - axis}, nil)
		left, right := rows(x), rows(dy) // dw = leftᵀ·right [k, n], or its transpose
		if axis == 1 {
			left, right = right, left
		}
		return []*graph.Node{dx, transposedTimes(left, right)}
	})
}

// transposedTimes returns aᵀ·b for a [N, m] and b [N, n], transposing the narrower of the two.
func transposedTimes(a, b *graph.Node) *graph.Node {
	if a.Shape().Dim(1) <= b.Shape().Dim(1) {
		return graph.DotGeneral(graph.Transpose(a, 0, 1), []int{1}, nil, b, []int{0}, nil)
	}
	return graph.Transpose(graph.DotGeneral(graph.Transpose(b, 0, 1), []int{1}, nil, a, []int{0}, nil), 0, 1)
}

// rows views x [..., k] as a matrix [N, k].
func rows(x *graph.Node) *graph.Node {
	if x.Rank() == 2 {
		return x
	}
	k := x.Shape().Dim(-1)
	return graph.Reshape(x, x.Shape().Size()/k, k)
}
