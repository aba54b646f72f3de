package manifold

import (
	"fmt"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
)

// loop calls step at most steps times on the number of steps done, a scalar of the state's dtype, and the state; after a step it
// ends unless more holds, a scalar bool (nil: always). It returns the number of steps and the state. It has no gradient.
//
// The first step is built outside of the loop, the others are one node of the graph. That is also what makes the loop work:
// GoMLX keeps one node for each scalar constant of a graph, and one that is first needed inside a closure is then used by other
// closures and by the graph around it, where it is never computed. The first step has them all.
func loop(steps int, state []*Node, more func(state []*Node) *Node, step func(i *Node, state []*Node) []*Node) (done *Node, last []*Node) {
	g, dtype := state[0].Graph(), state[0].DType()
	advance := func(i *Node, state []*Node) []*Node {
		state = step(i, state)
		i = AddScalar(i, 1)
		done := GreaterOrEqual(i, Scalar(i.Graph(), dtype, steps))
		if more != nil {
			done = LogicalOr(done, LogicalNot(more(state)))
		}
		return append([]*Node{done, i}, state...)
	}
	all := advance(ScalarZero(g, dtype), state)
	if steps == 1 {
		return all[1], all[2:]
	}
	parameters := func(g *Graph) (inside []*Node) {
		inside = append(inside, Parameter(g, "done", shapes.Make(dtypes.Bool)))
		for k, x := range all[1:] {
			inside = append(inside, Parameter(g, fmt.Sprint("state", k), x.Shape()))
		}
		return inside
	}
	// The Go backend wants a closure's outputs to be made after its parameters: LogicalNot is.
	condition := NewClosure(g, func(g *Graph) []*Node { return []*Node{LogicalNot(parameters(g)[0])} })
	body := NewClosure(g, func(g *Graph) []*Node {
		inside := parameters(g)
		return advance(inside[1], inside[2:])
	})
	all = While(condition, body, all...)
	return all[1], all[2:]
}
