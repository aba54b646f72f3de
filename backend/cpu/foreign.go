package cpu

import (
	"errors"
	"fmt"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/shapes"
	"github.com/polargo/polar/backend/cpu/ir"
)

// foreign compiles one operation, with the closures that it calls, in the go backend. run takes and fills the memory of the
// node's inputs and outputs, row-major; it copies both. It may be called from several goroutines at once. Operations that the go
// backend lacks and shapes with dynamic axes are errors.
func (b *Backend) foreign(node *ir.Node) (run func(inputs, outputs [][]byte) error, err error) {
	if node.Replay == nil {
		return nil, fmt.Errorf("%s cannot run on its own", opName(node.Op))
	}
	builder := b.checker.Builder(opName(node.Op))
	main := builder.Main()
	executable, err := guard(func() (compute.Executable, error) {
		inputs := make([]compute.Value, len(node.Inputs))
		for i, input := range node.Inputs {
			if inputs[i], err = main.Parameter(fmt.Sprintf("input%d", i), input.Shape(), nil); err != nil {
				return nil, err
			}
		}
		outputs, err := node.Replay(main, inputs)
		if err != nil {
			return nil, err
		}
		if err := main.Return(outputs, nil); err != nil {
			return nil, err
		}
		return builder.Compile()
	})
	if err != nil {
		return nil, fmt.Errorf("%s on the go backend: %w", opName(node.Op), err)
	}
	return func(inputs, outputs [][]byte) error { return b.runForeign(executable, node, inputs, outputs) }, nil
}

func (b *Backend) runForeign(executable compute.Executable, node *ir.Node, inputs, outputs [][]byte) error {
	if len(inputs) != len(node.Inputs) || len(outputs) != len(node.Shapes) {
		return fmt.Errorf("%s has %d inputs and %d outputs, got %d and %d", opName(node.Op), len(node.Inputs), len(node.Shapes),
			len(inputs), len(outputs))
	}
	flat := make([]any, len(inputs))
	inputShapes := make([]shapes.Shape, len(inputs))
	for i, input := range node.Inputs {
		inputShapes[i] = input.Shape()
		flat[i] = typed(inputs[i], input.Shape())
	}
	results, err := b.runGo(executable, flat, inputShapes)
	if err != nil {
		return err
	}
	for i, result := range results {
		if err = errors.Join(err, result.ToFlatData(typed(outputs[i], node.Shapes[i])), result.Finalize()); err != nil {
			return fmt.Errorf("%s on the go backend: output #%d: %w", opName(node.Op), i, err)
		}
	}
	return nil
}

// runGo executes on the go backend with copies of the inputs.
func (b *Backend) runGo(executable compute.Executable, flat []any, inputShapes []shapes.Shape) ([]compute.Buffer, error) {
	return guard(func() ([]compute.Buffer, error) {
		inputs := make([]compute.Buffer, len(flat))
		donate := make([]bool, len(flat))
		for i := range flat {
			var err error
			if inputs[i], err = b.checker.BufferFromFlatData(0, flat[i], inputShapes[i]); err != nil {
				return nil, err
			}
			donate[i] = true
		}
		return executable.Execute(inputs, donate, 0)
	})
}

// whole is a computation that the go backend runs, from its shadow.
type whole struct {
	executable compute.Executable
	largest    int64 // bytes of the largest value with a known shape
}

func newWhole(b *Backend, main *ir.Function, shadow compute.Builder) (*whole, error) {
	executable, err := guard(shadow.Compile)
	if err != nil {
		return nil, err
	}
	w := &whole{executable: executable}
	for _, node := range main.Nodes {
		for _, shape := range node.Shapes {
			if shape.IsDynamic() {
				continue
			}
			n, err := byteSize(shape)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", opName(node.Op), err)
			}
			w.largest = max(w.largest, int64(n))
		}
	}
	return w, nil
}

// run copies the inputs to the go backend and the outputs back. The inputs must be acquired.
func (w *whole) run(b *Backend, inputs []*Buffer) (outputs []*Buffer, err error) {
	if err := b.pool.reserve(w.largest); err != nil { // Go itself ends the program when it gets no memory
		return nil, err
	}
	flat := make([]any, len(inputs))
	inputShapes := make([]shapes.Shape, len(inputs))
	for i, input := range inputs {
		flat[i], inputShapes[i] = input.flat, input.shape
	}
	results, err := b.runGo(w.executable, flat, inputShapes)
	if err != nil {
		return nil, err
	}
	for i, result := range results {
		output, err := b.adopt(result)
		if err != nil {
			for _, other := range outputs {
				err = errors.Join(err, other.Finalize())
			}
			return nil, fmt.Errorf("output #%d: %w", i, err)
		}
		outputs = append(outputs, output)
	}
	return outputs, nil
}

// adopt copies a buffer of the go backend and finalises it.
func (b *Backend) adopt(result compute.Buffer) (*Buffer, error) {
	shape, err := result.Shape()
	if err != nil {
		return nil, err
	}
	output, err := b.newBuffer(shape)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(result.ToFlatData(output.flat), result.Finalize()); err != nil {
		return nil, errors.Join(err, output.Finalize())
	}
	return output, nil
}

// guard turns a panic of the go backend into an error.
func guard[T any](call func() (T, error)) (result T, err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case error:
			err = fmt.Errorf("the go backend panicked: %w", p)
		default:
			err = fmt.Errorf("the go backend panicked: %v", p)
		}
	}()
	return call()
}

func opName(op compute.OpType) string {
	switch op {
	case ir.OpSelect:
		return "Select"
	case ir.OpCapture:
		return "Capture"
	}
	return op.String()
}

// replayFunction builds a recorded function in g, a new function or closure of another backend. captures are the values for
// fn.Captures, which g may see: of the functions around it.
func replayFunction(g compute.Function, fn *ir.Function, captures []compute.Value) error {
	values := make(map[*ir.Node][]compute.Value, len(fn.Nodes))
	for i, capture := range fn.Captures {
		values[capture] = captures[i : i+1]
	}
	for _, parameter := range fn.Params {
		attrs := parameter.Attrs.(ir.ParameterAttrs)
		v, err := g.Parameter(attrs.Name, parameter.Shape(), nil)
		if err != nil {
			return err
		}
		values[parameter] = []compute.Value{v}
	}
	used := usedNodes(fn)
	for _, node := range fn.Nodes {
		if !used[node] || values[node] != nil {
			continue
		}
		if node.Op == ir.OpSelect {
			i := node.Attrs.(ir.SelectAttrs).Output
			values[node] = values[node.Inputs[0]][i : i+1]
			continue
		}
		inputs := make([]compute.Value, len(node.Inputs))
		for i, input := range node.Inputs {
			inputs[i] = values[input][0]
		}
		built, err := node.Replay(g, inputs)
		if err != nil {
			return err
		}
		values[node] = built
	}
	outputs := make([]compute.Value, len(fn.Outputs))
	for i, output := range fn.Outputs {
		outputs[i] = values[output][0]
	}
	return g.Return(outputs, nil)
}

// usedNodes are those on which the outputs depend.
func usedNodes(fn *ir.Function) map[*ir.Node]bool {
	used := make(map[*ir.Node]bool, len(fn.Nodes))
	for _, output := range fn.Outputs {
		used[output] = true
	}
	for i := len(fn.Nodes) - 1; i >= 0; i-- {
		if node := fn.Nodes[i]; used[node] {
			for _, input := range node.Inputs {
				used[input] = true
			}
		}
	}
	return used
}
