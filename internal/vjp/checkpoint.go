package vjp

import "github.com/gomlx/gomlx/core/graph"

// Checkpoint returns block(x) and keeps none of its intermediates: the backward pass computes the block again from x.
// Gradients flow to x and to every float node from outside that the block uses (the parameters), except those listed in
// constants. block must be pure: called twice, it builds the same computation.
func Checkpoint(x *graph.Node, block func(x *graph.Node) *graph.Node, constants ...*graph.Node) *graph.Node {
	first := graph.NodeId(len(x.Graph().Nodes()))
	built := block(x)
	inputs := append([]*graph.Node{x}, outside(built, x, first, constants)...)
	return Custom(inputs, func() *graph.Node { return built }, func(_, dy *graph.Node) []*graph.Node {
		again := graph.SchedulingBarrier(x, dy) // not before dy is there, and not merged with the first computation
		y := graph.IdentityWithCustomGradient(block(again), func(_, _ *graph.Node) *graph.Node { return dy })
		return graph.Gradient(graph.ReduceAllSum(y), append([]*graph.Node{again}, inputs[1:]...)...)
	})
}

// outside lists, in the order met, the differentiable nodes that y uses and that were made before first.
func outside(y, x *graph.Node, first graph.NodeId, constants []*graph.Node) (found []*graph.Node) {
	seen := map[*graph.Node]bool{x: true}
	for _, node := range constants {
		seen[node] = true
	}
	stack := []*graph.Node{y}
	for len(stack) > 0 {
		node := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if seen[node] {
			continue
		}
		seen[node] = true
		if node.Id() < first || node.Type() == graph.NodeTypeParameter {
			if node.DType().IsFloat() && node.Type() != graph.NodeTypeConstant && !node.StopGradient() {
				found = append(found, node)
			}
			continue
		}
		stack = append(stack, node.Inputs()...)
	}
	return found
}
