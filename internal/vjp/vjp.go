// Package vjp gives pieces of a graph gradients of their own: fewer intermediates, fewer passes, and activation
// checkpointing.
//
// GoMLX's autodiff walks a node's recorded inputs. For a fused operation it walks a second, decomposed graph instead,
// which is never executed when the fused one is. Custom uses that door: the executed graph is the caller's forward, and
// the walked one leads straight to the caller's backward. It costs nothing at run time.
//
// Everything here builds graphs and panics on misuse, like GoMLX itself.
package vjp

import (
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
)

// Custom returns forward()'s result, a freshly computed node of any shape, whose gradients with respect to inputs are
// what backward returns for the adjoint dy (the result's shape): one node per input, of that input's shape, or nil where
// nothing flows back. backward is called at most once per gradient that is taken; nodes it makes that nobody uses are
// never executed. What forward uses besides inputs is treated as constant.
func Custom(inputs []*graph.Node, forward func() *graph.Node, backward func(y, dy *graph.Node) []*graph.Node) *graph.Node {
	// The walked graph has to exist, and have lower numbers, before the executed one; its output's shape is only known
	// afterwards. So forward is built first, and a copy of its last operation, with a higher number, is the result.
	built := forward()
	var y *graph.Node
	walked := func() []*graph.Node { return []*graph.Node{surrogate(inputs, built, &y, backward)} }
	executed := func() []*graph.Node {
		y = graph.Identity(built)
		return []*graph.Node{y}
	}
	outputs, fused := graph.InternalFusedOpCallerMulti(executed, walked, true)
	if !fused {
		exceptions.Panicf("vjp.Custom: the engine did not take the node with its own gradient")
	}
	return outputs[0]
}

// surrogate builds the graph that only the autodiff walks: from a node shaped like the result back to every input.
func surrogate(inputs []*graph.Node, like *graph.Node, y **graph.Node, backward func(y, dy *graph.Node) []*graph.Node) *graph.Node {
	g := like.Graph()
	var gradients []*graph.Node
	sum := graph.ScalarZero(g, like.DType())
	for i, input := range inputs {
		gate := graph.IdentityWithCustomGradient(input, func(_, _ *graph.Node) *graph.Node { return gradients[i] })
		sum = graph.Add(sum, graph.ConvertDType(graph.ReduceAllSum(gate), like.DType()))
	}
	root := sum
	if !like.IsScalar() {
		root = graph.BroadcastToShape(sum, like.Shape())
	}
	return graph.IdentityWithCustomGradient(root, func(_, dy *graph.Node) *graph.Node {
		gradients = backward(*y, dy)
		if len(gradients) != len(inputs) {
			exceptions.Panicf("vjp.Custom: backward returned %d gradients for %d inputs", len(gradients), len(inputs))
		}
		return dy
	})
}
