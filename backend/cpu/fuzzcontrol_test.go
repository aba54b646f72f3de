package cpu

import (
	"fmt"
	"math"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
)

// Functions of random graphs: branches, loops and calls. Wild graphs have only exact operations in them, so that their outputs
// can be compared bit for bit.

// closure is a generator for a closure of g's function (or, with called, for a function that captures nothing).
func (g *generator) closure(called bool) (*generator, bool) {
	var f compute.Function
	var err error
	if called {
		f, err = g.f.Builder().NewFunction(fmt.Sprintf("called%d", g.n(1<<30)))
	} else {
		f, err = g.f.Closure()
	}
	if err != nil {
		return nil, false
	}
	return &generator{chooser: g.chooser, style: g.style, data: g.data, graph: &testGraph{}, f: f, most: 1 << 20, outer: g,
		depth: g.depth + 1, loose: called}, true
}

// argument adds a parameter of a closure.
func (g *generator) argument(s shapes.Shape, bound float64) int {
	g.add(&vertex{name: parameterName, shapes: []shapes.Shape{s}}, bound)
	return g.last()
}

// body adds a few operations.
func (g *generator) body() {
	for range 1 + g.n(5) {
		g.grow()
	}
}

// result is a value of a shape for an output of a closure, within a bound for exact graphs; zero if there is none.
func (g *generator) result(s shapes.Shape, bound float64) int {
	var found []int
	for x := range g.graph.values {
		if g.shape(x).Equal(s) {
			found = append(found, x)
		}
	}
	x := -1
	switch {
	case len(found) > 0:
		x = found[len(found)-1-g.n(min(3, len(found)))]
	case g.broadcastTo(g.scalar(s.DType, 1), s.Dimensions, nil):
		x = g.last()
	}
	if g.style == exact && s.DType.IsFloat() && g.bounds[x] > bound {
		low, high := g.scalar(s.DType, -bound), g.scalar(s.DType, bound)
		g.simple("Clamp", []int{low, x, high}, bound, func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(f.Clamp(in[0], in[1], in[2]))
		})
		x = g.last()
	}
	return x
}

// loopBound bounds the floats in the state of exact graphs' loops.
const loopBound = 100

func (g *generator) branch() bool {
	if g.depth > 1 {
		return false
	}
	p := g.value(func(s shapes.Shape) bool { return s.DType == dtypes.Bool && s.Rank() == 0 })
	if p < 0 {
		p = g.parameter(dtypes.Bool, nil)
	}
	var outputs []shapes.Shape
	for range 1 + g.n(2) {
		x := g.value(isAny)
		if x < 0 {
			return false
		}
		outputs = append(outputs, g.shape(x))
	}
	var sides [2]*testGraph
	for i := range sides {
		side, ok := g.closure(false)
		if !ok {
			return false
		}
		if x := g.value(isAny); x >= 0 {
			side.capture(x)
		}
		side.body()
		for _, s := range outputs {
			side.graph.outputs = append(side.graph.outputs, side.result(s, loopBound))
		}
		if side.f.Return(pick(side.built, side.graph.outputs), nil) != nil {
			return false
		}
		sides[i] = side.graph
	}
	n := len(sides[0].captured)
	in := slices.Concat([]int{p}, sides[0].captured, sides[1].captured)
	return g.add(&vertex{name: "If{\n" + sides[0].String() + "} else {\n" + sides[1].String() + "}", in: in, rule: g.insideRule(),
		build: func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
			var built [2]compute.Function
			for i, captures := range [][]compute.Value{in[1 : 1+n], in[1+n:]} {
				var err error
				if built[i], err = f.Closure(); err != nil {
					return nil, err
				}
				if err := sides[i].into(built[i], captures); err != nil {
					return nil, err
				}
			}
			return f.If(in[0], built[0], built[1])
		}}, g.afterwards(outputs))
}

// afterwards is the bound of outputs of functions: integers wrap around.
func (g *generator) afterwards(outputs []shapes.Shape) float64 {
	for _, s := range outputs {
		if s.DType.IsInt() {
			return math.Inf(1)
		}
	}
	return loopBound
}

// insideRule is how far operations with functions may differ: exact graphs have sums in them, wild ones do not.
func (g *generator) insideRule() rule {
	if g.style == exact {
		return zeroRule
	}
	return exactRule
}

// while counts to a small number, in a state that has other values too.
func (g *generator) while() bool {
	if g.depth > 1 {
		return false
	}
	state := []int{g.scalar(dtypes.Int32, 0)}
	for range g.n(3) {
		x := g.value(func(s shapes.Shape) bool { return s.Size() <= 2000 })
		if x >= 0 && (g.style == wild || !floating(g.shape(x)) || g.bounds[x] <= loopBound) {
			state = append(state, x)
		}
	}
	cond, ok := g.closure(false)
	if !ok {
		return false
	}
	limit := g.scalar(dtypes.Int32, float64(g.n(5)))
	var outputs []shapes.Shape
	for _, x := range state {
		outputs = append(outputs, g.shape(x))
		cond.argument(g.shape(x), loopBound)
	}
	cond.two(comparisons[2], 0, cond.capture(limit), exactRule, 1)
	cond.graph.outputs = []int{cond.last()}
	body, ok := g.closure(false)
	if !ok || cond.f.Return(pick(cond.built, cond.graph.outputs), nil) != nil {
		return false
	}
	for _, x := range state {
		bound := float64(loopBound)
		if !floating(g.shape(x)) {
			bound = math.Inf(1)
		}
		body.argument(g.shape(x), bound)
	}
	body.two(sums[0], 0, body.scalar(dtypes.Int32, 1), exactRule, math.Inf(1))
	body.graph.outputs = []int{body.last()}
	body.body()
	for _, x := range state[1:] {
		body.graph.outputs = append(body.graph.outputs, body.result(g.shape(x), loopBound))
	}
	if body.f.Return(pick(body.built, body.graph.outputs), nil) != nil {
		return false
	}
	n, m := len(state), len(cond.graph.captured)
	return g.add(&vertex{name: "While{\n" + cond.graph.String() + "} do {\n" + body.graph.String() + "}",
		in: slices.Concat(state, cond.graph.captured, body.graph.captured), rule: g.insideRule(),
		build: func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
			c, err := f.Closure()
			if err != nil {
				return nil, err
			}
			if err := cond.graph.into(c, in[n:n+m]); err != nil {
				return nil, err
			}
			b, err := f.Closure()
			if err != nil {
				return nil, err
			}
			if err := body.graph.into(b, in[n+m:]); err != nil {
				return nil, err
			}
			return f.While(c, b, in[:n]...)
		}}, g.afterwards(outputs))
}

// call calls a function of its own.
func (g *generator) call() bool {
	if g.depth > 0 {
		return false
	}
	called, ok := g.closure(true)
	if !ok {
		return false
	}
	var in []int
	for range 1 + g.n(3) {
		if x := g.value(isAny); x >= 0 {
			in = append(in, x)
			called.argument(g.shape(x), g.bounds[x])
		}
	}
	if len(in) == 0 {
		return false
	}
	called.body()
	bound := 0.0
	for range 1 + g.n(2) {
		x := called.value(isAny)
		called.graph.outputs = append(called.graph.outputs, x)
		bound = max(bound, called.bounds[x])
	}
	if called.f.Return(pick(called.built, called.graph.outputs), nil) != nil {
		return false
	}
	return g.add(&vertex{name: "Call{\n" + called.graph.String() + "}", in: in, rule: g.insideRule(),
		build: func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
			fn, err := f.Builder().NewFunction(fmt.Sprintf("called%p", called.graph))
			if err != nil {
				return nil, err
			}
			if err := called.graph.into(fn, nil); err != nil {
				return nil, err
			}
			return f.Call(fn, in...)
		}}, bound)
}
