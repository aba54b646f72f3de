package cpu

import (
	"fmt"
	"sync"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/shapes"
	"github.com/polargo/polar/backend/cpu/ir"
)

// Executable is a compiled computation: by the native compiler, or as a whole by the go backend.
type Executable struct {
	backend *Backend
	name    string
	main    *ir.Function
	native  runner // nil: whole is used
	whole   *whole

	// Executions hold mu for reading, Finalize for writing.
	mu        sync.RWMutex
	finalized bool
}

var _ compute.Executable = (*Executable)(nil)

// Finalize waits for executions that are running and frees what the computation holds.
func (e *Executable) Finalize() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.finalized {
		return
	}
	e.finalized = true
	if e.native != nil {
		e.native.Close()
	}
	e.native, e.whole = nil, nil
}

// Inputs returns the names and shapes of the parameters.
func (e *Executable) Inputs() (names []string, inputShapes []shapes.Shape) {
	for _, parameter := range e.main.Params {
		names = append(names, parameter.Attrs.(ir.ParameterAttrs).Name)
		inputShapes = append(inputShapes, parameter.Shape())
	}
	return names, inputShapes
}

// Outputs returns the shapes of the outputs.
func (e *Executable) Outputs() (outputShapes []shapes.Shape) {
	for _, output := range e.main.Outputs {
		outputShapes = append(outputShapes, output.Shape())
	}
	return outputShapes
}

// Execute computes the outputs. Wrong counts and shapes, finalised buffers and too little memory are errors. Donated buffers are
// over when it returns, even with an error from the computation itself; their memory may hold outputs.
func (e *Executable) Execute(inputs []compute.Buffer, donate []bool, _ compute.DeviceNum) ([]compute.Buffer, error) {
	if err := e.backend.enter(); err != nil {
		return nil, err
	}
	defer e.backend.leave()
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.finalized {
		return nil, fmt.Errorf("computation %q was finalised", e.name)
	}
	buffers, err := e.acquire(inputs, donate)
	if err != nil {
		return nil, fmt.Errorf("execute %q: %w", e.name, err)
	}
	var outputs []*Buffer
	if e.native != nil {
		outputs, err = e.run(buffers, donate)
	} else {
		outputs, err = e.whole.run(e.backend, buffers)
	}
	for i, buffer := range buffers {
		if len(donate) > 0 && donate[i] {
			if memory := buffer.take(); memory != nil {
				e.backend.pool.put(memory)
			}
		}
		buffer.release()
	}
	if err != nil {
		return nil, fmt.Errorf("execute %q: %w", e.name, err)
	}
	result := make([]compute.Buffer, len(outputs))
	for i, output := range outputs {
		result[i] = output
	}
	return result, nil
}

// acquire checks the inputs and keeps their memory until they are released.
func (e *Executable) acquire(inputs []compute.Buffer, donate []bool) ([]*Buffer, error) {
	if len(inputs) != len(e.main.Params) {
		return nil, fmt.Errorf("%d inputs wanted, got %d", len(e.main.Params), len(inputs))
	}
	if len(donate) != 0 && len(donate) != len(inputs) {
		return nil, fmt.Errorf("%d inputs, but donate has %d values", len(inputs), len(donate))
	}
	buffers := make([]*Buffer, 0, len(inputs))
	for i, input := range inputs {
		buffer, err := e.check(i, input)
		if err == nil {
			err = buffer.acquire()
		}
		if err != nil {
			for _, acquired := range buffers {
				acquired.release()
			}
			return nil, fmt.Errorf("input #%d (%s): %w", i, e.main.Params[i].Attrs.(ir.ParameterAttrs).Name, err)
		}
		buffers = append(buffers, buffer)
	}
	return buffers, nil
}

func (e *Executable) check(i int, input compute.Buffer) (*Buffer, error) {
	buffer, ok := input.(*Buffer)
	switch want := e.main.Params[i].Shape(); {
	case !ok || buffer == nil:
		return nil, fmt.Errorf("want a buffer of the polar backend, got %T", input)
	case buffer.backend != e.backend:
		return nil, fmt.Errorf("the buffer belongs to another instance of the polar backend")
	case buffer.shape.DType != want.DType || !fits(buffer.shape.Dimensions, want.Dimensions):
		return nil, fmt.Errorf("want shape %s, got %s", want, buffer.shape)
	}
	return buffer, nil
}

// fits compares dimensions; dynamic ones take any length.
func fits(got, want []int) bool {
	if len(got) != len(want) {
		return false
	}
	for axis, dim := range want {
		if dim != shapes.DynamicDim && dim != got[axis] {
			return false
		}
	}
	return true
}

// run executes the native program. Outputs take the memory of donated inputs where the program allows it and nobody else uses it.
func (e *Executable) run(inputs []*Buffer, donate []bool) (outputs []*Buffer, err error) {
	memory := make([][]byte, len(inputs))
	for i, input := range inputs {
		n, err := byteSize(input.shape)
		if err != nil {
			return nil, err
		}
		memory[i] = input.block.data[:n]
	}
	defer func() {
		if err != nil {
			for _, output := range outputs {
				_ = output.Finalize() // live, and ours alone
			}
			outputs = nil
		}
	}()
	donatedInto := make([]int, len(e.main.Outputs))
	target := make([][]byte, len(e.main.Outputs))
	for o, source := range e.native.Donations() {
		shape := e.main.Outputs[o].Shape()
		donatedInto[o] = -1
		var output *Buffer
		if source >= 0 && len(donate) > 0 && donate[source] {
			if taken := inputs[source].take(); taken != nil {
				output = &Buffer{backend: e.backend, shape: shape.Clone(), block: taken, flat: typed(taken.data, shape)}
				donatedInto[o] = source
			}
		}
		if output == nil {
			if output, err = e.backend.newBuffer(shape); err != nil {
				return outputs, err
			}
		}
		outputs = append(outputs, output)
		n, err := byteSize(shape)
		if err != nil {
			return outputs, err
		}
		target[o] = output.block.data[:n]
	}
	return outputs, e.native.Run(memory, target, donatedInto)
}
