package cpu

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
)

// The graphs of the differential tests: a description that can be built in any backend, whole or operation by operation.

// tensor is a value outside of backends.
type tensor struct {
	shape shapes.Shape
	flat  any // slice of the dtype's Go type
}

// rule says how two backends may differ in an operation's outputs; see compare.
type rule int

const (
	exactRule  rule = iota // not at all
	zeroRule               // in the sign of zeros
	roundRule              // an approximated function: a few units of the last place
	sumRule                // sums in another order: relative to the sum of absolute values
	weightRule             // softmax: relative to the value, whose exponent carries the error of a difference
	mixRule                // weighted means of inputs: relative to their largest absolute value
)

// builder builds an operation.
type opBuilder = func(f compute.Function, in []compute.Value) ([]compute.Value, error)

// vertex is an operation of a test graph. Its outputs are values first, first+1, ...
type vertex struct {
	name   string
	in     []int
	shapes []shapes.Shape
	first  int
	data   any // of parameters of the main function
	build  opBuilder
	rule   rule
	terms  int  // of a sum
	cut    bool // its bits may depend on what it is compiled together with: sums and what contains them

	// How the expected outputs are found where the go backend does not have the operation (other), or, for sumRule, the sum in
	// float64, from inputs converted to that (sum64).
	other opBuilder
	host  func(in []tensor) []tensor
	sum64 opBuilder
}

// kinds of vertices that build themselves otherwise
const (
	parameterName = "Parameter"
	captureName   = "Capture"
)

// testGraph is a function: vertices in an order in which they can be built, the values that are its outputs, and for closures the
// values of the function around it that its captures stand for.
type testGraph struct {
	vertices []*vertex
	outputs  []int
	captured []int
	values   int
}

func (g *testGraph) append(v *vertex) {
	v.first = g.values
	g.values += len(v.shapes)
	g.vertices = append(g.vertices, v)
}

// of returns the vertex that makes a value and which output it is.
func (g *testGraph) of(value int) (*vertex, int) {
	i, found := slices.BinarySearchFunc(g.vertices, value, func(v *vertex, value int) int { return v.first - value })
	if !found {
		i--
	}
	return g.vertices[i], value - g.vertices[i].first
}

func (g *testGraph) shape(value int) shapes.Shape {
	v, i := g.of(value)
	return v.shapes[i]
}

func (g *testGraph) params() (all []*vertex) {
	for _, v := range g.vertices {
		if v.name == parameterName {
			all = append(all, v)
		}
	}
	return all
}

// build builds all vertices in f and returns the values.
func (g *testGraph) build(f compute.Function, captures []compute.Value) ([]compute.Value, error) {
	values := make([]compute.Value, 0, g.values)
	for _, v := range g.vertices {
		switch v.name {
		case parameterName:
			p, err := f.Parameter(fmt.Sprintf("p%d", v.first), v.shapes[0], nil)
			if err != nil {
				return nil, err
			}
			values = append(values, p)
			continue
		case captureName:
			values = append(values, captures[0])
			captures = captures[1:]
			continue
		}
		built, err := v.build(f, pick(values, v.in))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v.name, err)
		}
		if len(built) != len(v.shapes) {
			return nil, fmt.Errorf("%s has %d outputs, want %d", v.name, len(built), len(v.shapes))
		}
		values = append(values, built...)
	}
	return values, nil
}

// into builds a function: vertices and outputs. In the go backend it leaves out what no output needs, at which that stops.
func (g *testGraph) into(f compute.Function, captures []compute.Value) error {
	if _, polar := f.(*Function); !polar {
		needed := g.ancestors(g.outputs)
		for _, v := range g.vertices {
			if v.name == parameterName || v.name == captureName {
				needed[v] = true
			}
		}
		g = g.only(needed, nil)
	}
	values, err := g.build(f, captures)
	if err != nil {
		return err
	}
	outputs := pick(values, g.outputs)
	if _, polar := f.(*Function); !polar {
		var err error
		if outputs, err = g.apart(f, values, outputs); err != nil {
			return err
		}
	}
	return f.Return(outputs, nil)
}

// apart makes outputs that the go backend computes rightly: it stops at parameters that are not needed, computes only one of equal
// outputs, and frees captured values that are outputs.
func (g *testGraph) apart(f compute.Function, values, outputs []compute.Value) ([]compute.Value, error) {
	var needed []compute.Value
	for _, v := range g.vertices {
		if v.name == parameterName {
			needed = append(needed, values[v.first])
		}
	}
	yes, err := f.Constant([]bool{true})
	if err != nil {
		return nil, err
	}
	out := make([]compute.Value, len(outputs))
	for i, x := range outputs {
		different, err := f.Constant([]int32{int32(i)})
		if err != nil {
			return nil, err
		}
		if x, err = f.Where(yes, x, x); err != nil {
			return nil, err
		}
		if out[i], err = f.SchedulingBarrier(x, append(slices.Clone(needed), different)...); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func pick[T any](from []T, which []int) []T {
	out := make([]T, len(which))
	for i, w := range which {
		out[i] = from[w]
	}
	return out
}

// String lists the graph.
func (g *testGraph) String() string {
	var b strings.Builder
	for _, v := range g.vertices {
		for i, s := range v.shapes {
			if i > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "%%%d %s", v.first+i, s)
		}
		fmt.Fprintf(&b, " = %s", v.name)
		if v.name == parameterName && v.data != nil {
			b.WriteString(" " + few(v.data))
		}
		for _, in := range v.in {
			fmt.Fprintf(&b, " %%%d", in)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "outputs %v\n", g.outputs)
	return b.String()
}

// few prints the first values of a slice.
func few(flat any) string {
	s := fmt.Sprint(flat)
	if len(s) > 60 {
		s = s[:60] + "..."
	}
	return s
}

// ancestors marks the values that the given ones need, themselves included.
func (g *testGraph) ancestors(of []int) map[*vertex]bool {
	needed := map[*vertex]bool{}
	for _, value := range of {
		v, _ := g.of(value)
		needed[v] = true
	}
	for i := len(g.vertices) - 1; i >= 0; i-- {
		if v := g.vertices[i]; needed[v] {
			for _, in := range v.in {
				from, _ := g.of(in)
				needed[from] = true
			}
		}
	}
	return needed
}

// only returns the graph of the vertices for which keep is true; those in cuts become parameters with the given values.
func (g *testGraph) only(keep map[*vertex]bool, cuts map[*vertex][]tensor) *testGraph {
	out := &testGraph{}
	renamed := make([]int, g.values)
	for i := range renamed {
		renamed[i] = -1
	}
	for _, v := range g.vertices {
		if !keep[v] {
			continue
		}
		if values, ok := cuts[v]; ok {
			for i, x := range values {
				renamed[v.first+i] = out.values
				out.append(&vertex{name: parameterName, shapes: []shapes.Shape{x.shape}, data: x.flat})
			}
			continue
		}
		copied := *v
		copied.in = make([]int, len(v.in))
		for i, in := range v.in {
			copied.in[i] = renamed[in]
		}
		out.append(&copied)
		for i := range v.shapes {
			renamed[v.first+i] = copied.first + i
		}
	}
	for _, value := range g.outputs {
		if renamed[value] >= 0 {
			out.outputs = append(out.outputs, renamed[value])
		}
	}
	return out
}

// outputs of one backend.

// execute compiles a graph with the given outputs and runs it. donate says which parameters are given away.
func (g *testGraph) execute(backend compute.Backend, outputs []int, donate []bool) ([]tensor, error) {
	exec, err := g.compile(backend, outputs)
	if err != nil {
		return nil, err
	}
	defer exec.Finalize()
	return g.runWith(backend, exec, donate)
}

func (g *testGraph) compile(backend compute.Backend, outputs []int) (compute.Executable, error) {
	builder := backend.Builder("fuzz")
	main := builder.Main()
	values, err := g.build(main, nil)
	if err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	if err := main.Return(pick(values, outputs), nil); err != nil {
		return nil, err
	}
	exec, err := builder.Compile()
	if polar, ok := exec.(*Executable); ok && polar.native == nil {
		return nil, fmt.Errorf("compiled by the go backend as a whole")
	}
	return exec, err
}

func (g *testGraph) runWith(backend compute.Backend, exec compute.Executable, donate []bool) (results []tensor, err error) {
	params := g.params()
	inputs := make([]compute.Buffer, len(params))
	for i, p := range params {
		if inputs[i], err = backend.BufferFromFlatData(0, p.data, p.shapes[0]); err != nil {
			return nil, err
		}
	}
	buffers, err := exec.Execute(inputs, donate, 0)
	if err != nil {
		return nil, fmt.Errorf("execute: %w", err)
	}
	for _, buffer := range buffers {
		shape, err := buffer.Shape()
		if err != nil {
			return nil, err
		}
		flat := dtypes.MakeAnySlice(shape.DType, shape.Size())
		if err := buffer.ToFlatData(flat); err != nil {
			return nil, err
		}
		results = append(results, tensor{shape, flat})
	}
	for i, p := range params {
		if len(donate) > 0 && donate[i] {
			continue
		}
		kept := dtypes.MakeAnySlice(p.shapes[0].DType, p.shapes[0].Size())
		if err := inputs[i].ToFlatData(kept); err != nil {
			return nil, err
		}
		if problem := same(tensor{p.shapes[0], kept}, tensor{p.shapes[0], p.data}); problem != "" {
			return nil, fmt.Errorf("input %%%d was overwritten: %s", p.first, problem)
		}
		if err := inputs[i].Finalize(); err != nil {
			return nil, err
		}
	}
	for _, buffer := range buffers {
		if err := buffer.Finalize(); err != nil {
			return nil, err
		}
	}
	return results, nil
}

func (g *testGraph) all() []int {
	out := make([]int, g.values)
	for i := range out {
		out[i] = i
	}
	return out
}
