package cpu

import (
	"fmt"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/polargo/polar/backend/cpu/ir"
)

// Reductions, each as compute.StandardOps has it. They are recorded with the axes listed in ascending order, all where none is given.

type reduceOp = func(compute.Function, compute.Value, ...int) (compute.Value, error)

func (f *Function) reduce(op compute.OpType, method reduceOp, x compute.Value, axes []int) (compute.Value, error) {
	if axes = slices.Clone(axes); len(axes) == 0 {
		for axis := range f.shapeOf(x).Rank() {
			axes = append(axes, axis)
		}
	}
	slices.Sort(axes)
	return f.one(operation{op: op, attrs: ir.AxesAttrs{Axes: axes}, inputs: []compute.Value{x},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(method(g, in[0], axes...))
		}})
}

// ReduceBitwiseAnd records the operation of that name.
func (f *Function) ReduceBitwiseAnd(x compute.Value, axes ...int) (compute.Value, error) {
	return f.reduce(compute.OpTypeReduceBitwiseAnd, compute.Function.ReduceBitwiseAnd, x, axes)
}

// ReduceBitwiseOr records the operation of that name.
func (f *Function) ReduceBitwiseOr(x compute.Value, axes ...int) (compute.Value, error) {
	return f.reduce(compute.OpTypeReduceBitwiseOr, compute.Function.ReduceBitwiseOr, x, axes)
}

// ReduceBitwiseXor records the operation of that name.
func (f *Function) ReduceBitwiseXor(x compute.Value, axes ...int) (compute.Value, error) {
	return f.reduce(compute.OpTypeReduceBitwiseXor, compute.Function.ReduceBitwiseXor, x, axes)
}

// ReduceLogicalAnd records the operation of that name.
func (f *Function) ReduceLogicalAnd(x compute.Value, axes ...int) (compute.Value, error) {
	return f.reduce(compute.OpTypeReduceLogicalAnd, compute.Function.ReduceLogicalAnd, x, axes)
}

// ReduceLogicalOr records the operation of that name.
func (f *Function) ReduceLogicalOr(x compute.Value, axes ...int) (compute.Value, error) {
	return f.reduce(compute.OpTypeReduceLogicalOr, compute.Function.ReduceLogicalOr, x, axes)
}

// ReduceLogicalXor records the operation of that name.
func (f *Function) ReduceLogicalXor(x compute.Value, axes ...int) (compute.Value, error) {
	return f.reduce(compute.OpTypeReduceLogicalXor, compute.Function.ReduceLogicalXor, x, axes)
}

// ReduceMax records the operation of that name.
func (f *Function) ReduceMax(x compute.Value, axes ...int) (compute.Value, error) {
	return f.reduce(compute.OpTypeReduceMax, compute.Function.ReduceMax, x, axes)
}

// ReduceMin records the operation of that name.
func (f *Function) ReduceMin(x compute.Value, axes ...int) (compute.Value, error) {
	return f.reduce(compute.OpTypeReduceMin, compute.Function.ReduceMin, x, axes)
}

// ReduceProduct records the operation of that name.
func (f *Function) ReduceProduct(x compute.Value, axes ...int) (compute.Value, error) {
	return f.reduce(compute.OpTypeReduceProduct, compute.Function.ReduceProduct, x, axes)
}

// ReduceSum records the operation of that name.
func (f *Function) ReduceSum(x compute.Value, axes ...int) (compute.Value, error) {
	return f.reduce(compute.OpTypeReduceSum, compute.Function.ReduceSum, x, axes)
}

// ArgMinMax records the operation of that name.
func (f *Function) ArgMinMax(x compute.Value, axis int, dtype dtypes.DType, isMin bool) (compute.Value, error) {
	return f.one(operation{
		op: compute.OpTypeArgMinMax, attrs: ir.ArgMinMaxAttrs{Axis: axis, IsMin: isMin}, inputs: []compute.Value{x},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(g.ArgMinMax(in[0], axis, dtype, isMin))
		},
	})
}

// ReduceWindow records the operation of that name.
func (f *Function) ReduceWindow(x compute.Value, reduction compute.ReduceOpType, window, strides, inputDilations,
	windowDilations []int, paddings [][2]int) (compute.Value, error) {
	window, strides = slices.Clone(window), slices.Clone(strides)
	inputDilations, windowDilations, paddings = slices.Clone(inputDilations), slices.Clone(windowDilations), slices.Clone(paddings)
	return f.one(operation{
		op: compute.OpTypeReduceWindow, attrs: raw(reduction, window, strides, inputDilations, windowDilations, paddings),
		inputs: []compute.Value{x},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(g.ReduceWindow(in[0], reduction, window, strides, inputDilations, windowDilations, paddings))
		},
	})
}

// raw prints the arguments of an operation without attributes of its own.
func raw(arguments ...any) ir.RawAttrs { return ir.RawAttrs{Arguments: fmt.Sprintf("%+v", arguments)} }
