package vjp

import (
	"slices"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
)

// Checkpoint returns block(x) and keeps none of the intermediates that depend on x: the backward pass computes the block
// again from x, once the adjoint is there. Gradients flow to x and to every float node from outside that the block uses
// (the parameters), except those listed in constants. block must be pure: called twice, it builds the same computation.
//
// Memory is saved only where the backend executes a graph in the order it was built (creation_order of the Go backend).
// Its dependency_order puts the gradients of all weights last, and keeps what they are computed from until then.
//
// Two things that a block uses from outside may not be computed from one another (a node and its sine): Checkpoint panics.
// A block should reach the results of other checkpointed blocks through x only. Through a closure they work too, but the
// graph then grows with every block between. What the block computes from outside nodes alone, without x, the engine may
// compute once and keep.
func Checkpoint(x *graph.Node, block func(x *graph.Node) *graph.Node, constants ...*graph.Node) *graph.Node {
	first := graph.NodeId(len(x.Graph().Nodes()))
	built := block(x)
	inputs := append([]*graph.Node{x}, outside(built, x, first, constants)...)
	return Custom(inputs, func() *graph.Node { return built }, func(_, dy *graph.Node) []*graph.Node {
		again, open := entrance(x, dy)
		defer open()
		y := graph.IdentityWithCustomGradient(block(again), func(_, _ *graph.Node) *graph.Node { return dy })
		return graph.Gradient(graph.ReduceAllSum(y), append([]*graph.Node{again}, inputs[1:]...)...)
	})
}

// entrance returns a node with x's value for the second computation. It is not there before dy, and the engine does not
// merge what is computed from it with the first computation. Until open is called, no gradient passes it to x: Custom
// makes the autodiff walk all ancestors of its inputs, and without this stop the gradient of one block would contain
// those of all blocks before it, and so on down: a graph that doubles with every block.
func entrance(x, dy *graph.Node) (again *graph.Node, open func()) {
	closed := true
	again = graph.IdentityWithCustomGradient(graph.SchedulingBarrier(x, dy), func(_, v *graph.Node) *graph.Node {
		if closed {
			return nil
		}
		return v
	})
	return again, func() { closed = false }
}

// outside lists, in the order met, the differentiable nodes that y uses and that were made before first. It panics where
// one of them is computed from another: the gradient of the block with respect to the latter would contain the way
// through the former, and the autodiff outside would then go that way a second time.
func outside(y, x *graph.Node, first graph.NodeId, constants []*graph.Node) (found []*graph.Node) {
	var border []*graph.Node
	seen := map[*graph.Node]bool{x: true}
	stack := []*graph.Node{y}
	for len(stack) > 0 {
		node := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		switch {
		case seen[node]:
		case node.Type() == graph.NodeTypeParameter || node.Id() < first:
			if passesGradient(node) {
				border = append(border, node)
			}
		default:
			stack = append(stack, node.Inputs()...)
		}
		seen[node] = true
	}
	for _, node := range border {
		if !slices.Contains(constants, node) {
			found = append(found, node)
		}
	}
	refuseDependent(border, found)
	return found
}

// passesGradient tells whether a gradient can arrive at node and go on to what it is computed from.
func passesGradient(node *graph.Node) bool {
	differentiable := node.NumOutputs() > 1 || node.DType().IsFloat()
	return differentiable && !node.StopGradient() && node.Type() != graph.NodeTypeConstant
}

// refuseDependent panics if a node of border is computed from one of found.
func refuseDependent(border, found []*graph.Node) {
	seen := map[*graph.Node]bool{}
	for _, top := range border {
		stack := slices.Clone(top.Inputs())
		for len(stack) > 0 {
			node := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if seen[node] || !passesGradient(node) {
				continue
			}
			seen[node] = true
			if slices.Contains(found, node) {
				exceptions.Panicf("vjp.Checkpoint: the block uses %s and %s, which is computed from it: compute the latter "+
					"inside the block, or stop its gradient", node, top)
			}
			stack = append(stack, node.Inputs()...)
		}
	}
}
