package optimizer

import (
	. "github.com/gomlx/gomlx/core/graph"
)

// clip scales the stacked gradients of the groups, in place of the slices' nodes, so that their global norm is at most
// limit. Groups of directional rules take no part: neither scaled nor counted in the norm.
func clip(groups []*Group, grads [][]*Node, limit float64) {
	var total *Node
	each(groups, grads, func(x **Node) {
		square := ReduceAllSum(Square(*x))
		if total == nil {
			total = square
			return
		}
		total = Add(total, square)
	})
	if total == nil {
		return
	}
	limitNode := Scalar(total.Graph(), total.DType(), limit)
	factor := Div(limitNode, Max(limitNode, Sqrt(total))) // 1 up to the limit; never divides by zero
	each(groups, grads, func(x **Node) { *x = Mul(*x, factor) })
}

// each calls do on every stacked gradient that clipping applies to.
func each(groups []*Group, grads [][]*Node, do func(**Node)) {
	for i, gr := range groups {
		if gr.to.rule.Directional() {
			continue
		}
		for j := range grads[i] {
			do(&grads[i][j])
		}
	}
}
