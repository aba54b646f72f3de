package cpu

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/notimplemented"
	"github.com/gomlx/compute/shapes"
	"github.com/polargo/polar/backend/cpu/ir"
	"github.com/polargo/polar/backend/cpu/program"
)

// Function implements compute.Function: it records operations in package ir's form and builds them in the go backend too.
type Function struct {
	notimplemented.Function
	builder  *Builder
	parent   *Function // nil but for closures
	shadow   compute.Function
	ir       *ir.Function
	captures map[*ir.Node]*value // by the node of the function in which the value was made
	known    map[string]*value   // by what was recorded, for merging equal operations
	returned bool
}

var _ compute.Function = (*Function)(nil)

// build builds an operation in another backend's function.
type build = func(g compute.Function, inputs []compute.Value) ([]compute.Value, error)

// operation is what record needs to know.
type operation struct {
	op     compute.OpType
	attrs  any
	inputs []compute.Value
	build  build // in the shadow and, if replay is nil, elsewhere

	// Operations that call closures have further inputs, what those capture, and must build the closures elsewhere.
	closures []*Function
	replay   build

	// infer gives the shapes of operations that the go backend lacks; nil for all others.
	infer func(inputs []shapes.Shape) ([]shapes.Shape, error)
}

func newFunction(b *Builder, name string, parent *Function, shadow compute.Function) *Function {
	f := &Function{
		Function: notimplemented.Function{ErrFn: notImplemented}, builder: b, parent: parent, shadow: shadow,
		ir: &ir.Function{Name: name}, captures: map[*ir.Node]*value{}, known: map[string]*value{},
	}
	if parent != nil {
		f.ir.Parent = parent.ir
	}
	return f
}

// Name returns the function's name, "" for closures.
func (f *Function) Name() string { return f.ir.Name }

// Builder returns the builder of this function.
func (f *Function) Builder() compute.Builder { return f.builder }

// Parent returns the function around a closure, nil for others.
func (f *Function) Parent() compute.Function {
	if f.parent == nil {
		return nil
	}
	return f.parent
}

// Closure starts a function for While, If or Sort that can use this function's values.
func (f *Function) Closure() (compute.Function, error) {
	if f.builder.compiled {
		return nil, f.builder.over()
	}
	shadow, err := f.shadow.Closure()
	if err != nil {
		return nil, err
	}
	return newFunction(f.builder, "", f, shadow), nil
}

// Shape returns the shape of a value.
func (f *Function) Shape(v compute.Value) (shapes.Shape, error) { return f.builder.OpShape(v) }

// add appends a node.
func (f *Function) add(op compute.OpType, attrs any, inputs []*ir.Node, outputs []shapes.Shape, replay build) *ir.Node {
	node := &ir.Node{ID: len(f.ir.Nodes), Op: op, Inputs: inputs, Shapes: outputs, Attrs: attrs, Replay: replay}
	f.ir.Nodes = append(f.ir.Nodes, node)
	return node
}

// local returns a value as one of this function: values of functions around a closure are captured.
func (f *Function) local(operation string, i int, x compute.Value) (*value, error) {
	v, err := f.builder.own(operation, i, x)
	if err != nil || v.fn == f {
		return v, err
	}
	for around := f.parent; around != nil; around = around.parent {
		if v.fn == around {
			return f.capture(v)
		}
	}
	return nil, fmt.Errorf("%s: input #%d is a value of another function", operation, i)
}

// capture returns what stands in this closure for a value of a function around it, of each function in between too.
func (f *Function) capture(v *value) (*value, error) {
	if known := f.captures[v.node]; known != nil {
		return known, nil
	}
	if f.returned {
		return nil, fmt.Errorf("a closure that has returned cannot capture more values")
	}
	outer := v
	if v.fn != f.parent {
		var err error
		if outer, err = f.parent.capture(v); err != nil {
			return nil, err
		}
	}
	node := f.add(ir.OpCapture, ir.CaptureAttrs{Outer: outer.node}, nil, v.node.Shapes, nil)
	f.ir.Captures = append(f.ir.Captures, node)
	captured := &value{fn: f, node: node, shadow: v.shadow} // the shadow captures on its own
	f.captures[v.node] = captured
	return captured, nil
}

// record builds an operation in the shadow and adds it with the shapes found there.
func (f *Function) record(o operation) ([]compute.Value, error) {
	if f.builder.compiled {
		return nil, f.builder.over()
	}
	nodes := make([]*ir.Node, len(o.inputs))
	shadows := make([]compute.Value, len(o.inputs))
	inputShapes := make([]shapes.Shape, len(o.inputs))
	for i, x := range o.inputs {
		v, err := f.local(o.op.String(), i, x)
		if err != nil {
			return nil, err
		}
		nodes[i], shadows[i], inputShapes[i] = v.node, v.shadow, v.node.Shape()
	}
	built, err := guard(func() ([]compute.Value, error) { return o.build(f.shadow, shadows) })
	if compute.IsNotImplemented(err) && o.infer != nil && f.builder.backend.extra[o.op] {
		built, err = f.standIn(o, inputShapes)
	}
	if err != nil {
		return nil, err
	}
	outputs := make([]shapes.Shape, len(built))
	for i, v := range built {
		if outputs[i], err = f.shadow.Shape(v); err != nil {
			return nil, err
		}
	}
	for _, closure := range o.closures {
		for _, capture := range closure.ir.Captures {
			nodes = append(nodes, capture.Attrs.(ir.CaptureAttrs).Outer)
		}
	}
	replay := o.replay
	if replay == nil {
		replay = o.build
	}
	key := o.key(nodes, outputs)
	if equal := f.known[key]; key != "" && equal != nil {
		return []compute.Value{equal}, nil
	}
	recorded := f.outputs(f.add(o.op, o.attrs, nodes, outputs, replay), built)
	if key != "" {
		f.known[key] = recorded[0].(*value)
	}
	return recorded, nil
}

// mergedConstant is the largest constant, in bytes, that is compared with others.
const mergedConstant = 64

// key is the same for equal operations, which are recorded once, and "" for those that are recorded each time: barriers, whose
// purpose that is, operations with closures or several outputs, and large constants.
func (o operation) key(inputs []*ir.Node, outputs []shapes.Shape) string {
	if len(outputs) != 1 || o.closures != nil || o.op == compute.OpTypeCall || o.op == compute.OpTypeOptimizationBarrier ||
		o.op == compute.OpTypeSchedulingBarrier {
		return ""
	}
	text := make([]byte, 0, 128)
	text = fmt.Appendf(text, "%d %s", o.op, outputs[0])
	for _, input := range inputs {
		text = append(strconv.AppendInt(append(text, ' '), int64(input.ID), 10), ',')
	}
	switch attrs := o.attrs.(type) {
	case nil:
	case ir.ConstantAttrs:
		data := dtypes.UnsafeByteSliceFromAny(attrs.Flat)
		if len(data) > mergedConstant {
			return ""
		}
		text = append(text, data...)
	default:
		text = fmt.Appendf(text, "%+v", attrs)
	}
	return string(text)
}

// outputs gives the values of a node: itself if it has one output, else selections.
func (f *Function) outputs(node *ir.Node, shadows []compute.Value) []compute.Value {
	if len(node.Shapes) == 1 {
		return []compute.Value{&value{fn: f, node: node, shadow: shadows[0]}}
	}
	values := make([]compute.Value, len(node.Shapes))
	for i, shape := range node.Shapes {
		selected := f.add(ir.OpSelect, ir.SelectAttrs{Output: i}, []*ir.Node{node}, []shapes.Shape{shape}, nil)
		values[i] = &value{fn: f, node: selected, shadow: shadows[i]}
	}
	return values
}

// standIn puts values of the right shapes into the shadow where the go backend lacks an operation. The shadow must not be run then.
func (f *Function) standIn(o operation, inputs []shapes.Shape) ([]compute.Value, error) {
	outputs, err := o.infer(inputs)
	if err != nil {
		return nil, err
	}
	values := make([]compute.Value, len(outputs))
	for i, shape := range outputs {
		if shape.IsDynamic() {
			return nil, fmt.Errorf("%s of dynamic axes: %w", o.op, compute.ErrNotImplemented)
		}
		zero, err := f.shadow.Constant(dtypes.MakeAnySlice(shape.DType, 1))
		if err != nil {
			return nil, err
		}
		if values[i], err = f.shadow.BroadcastInDim(zero, shape, nil); err != nil {
			return nil, err
		}
	}
	if f.builder.unshadowed == "" {
		f.builder.unshadowed = o.op.String()
	}
	return values, nil
}

// one is record for operations with one output.
func (f *Function) one(o operation) (compute.Value, error) {
	values, err := f.record(o)
	if err != nil {
		return nil, err
	}
	return values[0], nil
}

// same returns x as a value of this function.
func (f *Function) same(op compute.OpType, x compute.Value) (compute.Value, error) {
	v, err := f.local(op.String(), 0, x)
	if err != nil {
		return nil, err
	}
	return v, nil
}

// single adapts a builder method with one output.
func single(v compute.Value, err error) ([]compute.Value, error) { return []compute.Value{v}, err }

// shapeOf is the shape of a value, without one for what is not a value: record refuses that.
func (f *Function) shapeOf(x compute.Value) shapes.Shape {
	if v, ok := x.(*value); ok && v != nil {
		return v.node.Shape()
	}
	return shapes.Shape{}
}

// Parameter adds an input of the function.
func (f *Function) Parameter(name string, shape shapes.Shape, sharding *compute.ShardingSpec) (compute.Value, error) {
	if f.builder.compiled {
		return nil, f.builder.over()
	}
	shadow, err := guard(func() (compute.Value, error) { return f.shadow.Parameter(name, shape, sharding) })
	if err != nil {
		return nil, err
	}
	node := f.add(compute.OpTypeParameter, ir.ParameterAttrs{Name: name, Index: len(f.ir.Params)}, nil,
		[]shapes.Shape{shape.Clone()}, nil)
	f.ir.Params = append(f.ir.Params, node)
	return &value{fn: f, node: node, shadow: shadow}, nil
}

// Constant adds values, which are copied.
func (f *Function) Constant(flat any, dims ...int) (compute.Value, error) {
	if err := f.builder.backend.enter(); err != nil {
		return nil, err
	}
	defer f.builder.backend.leave()
	kept, err := cloneFlat(flat, dims)
	if err != nil {
		return nil, err
	}
	dims = slices.Clone(dims)
	return f.one(operation{
		op: compute.OpTypeConstant, attrs: ir.ConstantAttrs{Flat: kept},
		build: func(g compute.Function, _ []compute.Value) ([]compute.Value, error) {
			return single(g.Constant(kept, dims...))
		},
	})
}

// cloneFlat copies values to aligned memory.
func cloneFlat(flat any, dims []int) (any, error) {
	kind := reflect.TypeOf(flat)
	if kind == nil || kind.Kind() != reflect.Slice || dtypes.FromGoType(kind.Elem()) == dtypes.InvalidDType {
		return nil, fmt.Errorf("Constant: values must be a slice of numbers or bool, not %T", flat)
	}
	shape := shapes.Shape{DType: dtypes.FromGoType(kind.Elem()), Dimensions: dims}
	n, err := byteSize(shape)
	if err != nil {
		return nil, fmt.Errorf("Constant: %w", err)
	}
	source := dtypes.UnsafeByteSliceFromAny(flat)
	if len(source) != n {
		return nil, fmt.Errorf("Constant: shape %s wants %d bytes, got %d", shape, n, len(source))
	}
	kept := typed(program.Memory(max(n, 1)), shape)
	copy(dtypes.UnsafeByteSliceFromAny(kept), source)
	return kept, nil
}

// Return ends the function and names its outputs.
func (f *Function) Return(outputs []compute.Value, shardings []*compute.ShardingSpec) error {
	if f.builder.compiled {
		return f.builder.over()
	}
	shadows := make([]compute.Value, len(outputs))
	nodes := make([]*ir.Node, len(outputs))
	for i, output := range outputs {
		v, err := f.local("Return", i, output)
		if err != nil {
			return err
		}
		nodes[i], shadows[i] = v.node, v.shadow
	}
	_, err := guard(func() (any, error) { return nil, f.shadow.Return(shadows, shardings) })
	if err != nil {
		return err
	}
	f.ir.Outputs = nodes
	f.returned = true
	return nil
}
