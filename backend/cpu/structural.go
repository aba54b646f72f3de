package cpu

import (
	"fmt"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapeinference"
	"github.com/gomlx/compute/shapes"
	"github.com/polargo/polar/backend/cpu/ir"
)

// Operations that move values without computing with them, each as compute.StandardOps has it.

// Bitcast records the operation of that name.
func (f *Function) Bitcast(x compute.Value, dtype dtypes.DType) (compute.Value, error) {
	return f.one(operation{op: compute.OpTypeBitcast, inputs: []compute.Value{x},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(g.Bitcast(in[0], dtype))
		}})
}

// BroadcastInDim records the operation of that name.
func (f *Function) BroadcastInDim(x compute.Value, shape shapes.Shape, axes []int) (compute.Value, error) {
	axes, shape = slices.Clone(axes), shape.Clone()
	return f.one(operation{
		op: compute.OpTypeBroadcastInDim, attrs: ir.BroadcastAttrs{Axes: axes}, inputs: []compute.Value{x},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(g.BroadcastInDim(in[0], shape, axes))
		},
	})
}

// Concatenate records the operation of that name; a single operand is recorded too.
func (f *Function) Concatenate(axis int, operands ...compute.Value) (compute.Value, error) {
	return f.one(operation{
		op: compute.OpTypeConcatenate, attrs: ir.ConcatenateAttrs{Axis: axis}, inputs: operands,
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(g.Concatenate(axis, in...))
		},
	})
}

// Iota records the operation of that name.
func (f *Function) Iota(shape shapes.Shape, axis int) (compute.Value, error) {
	shape = shape.Clone()
	return f.one(operation{
		op: compute.OpTypeIota, attrs: ir.IotaAttrs{Axis: axis},
		build: func(g compute.Function, _ []compute.Value) ([]compute.Value, error) {
			return single(g.Iota(shape, axis))
		},
	})
}

// Pad records the operation of that name, with an entry for every axis.
func (f *Function) Pad(x, fill compute.Value, axes ...compute.PadAxis) (compute.Value, error) {
	axes = slices.Clone(axes)
	for len(axes) < f.shapeOf(x).Rank() {
		axes = append(axes, compute.PadAxis{})
	}
	return f.one(operation{
		op: compute.OpTypePad, attrs: ir.PadAttrs{Axes: axes}, inputs: []compute.Value{x, fill},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(g.Pad(in[0], in[1], axes...))
		},
	})
}

// Reshape records the operation of that name.
func (f *Function) Reshape(x compute.Value, dims ...int) (compute.Value, error) {
	dims = slices.Clone(dims)
	return f.one(operation{op: compute.OpTypeReshape, inputs: []compute.Value{x},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(g.Reshape(in[0], dims...))
		}})
}

// Reverse records the operation of that name.
func (f *Function) Reverse(x compute.Value, axes ...int) (compute.Value, error) {
	axes = slices.Clone(axes)
	return f.one(operation{
		op: compute.OpTypeReverse, attrs: ir.AxesAttrs{Axes: axes}, inputs: []compute.Value{x},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(g.Reverse(in[0], axes...))
		},
	})
}

// Slice records the operation of that name, with strides of 1 where none are given.
func (f *Function) Slice(x compute.Value, starts, limits, strides []int) (compute.Value, error) {
	starts, limits, strides = slices.Clone(starts), slices.Clone(limits), slices.Clone(strides)
	if len(strides) == 0 {
		strides = slices.Repeat([]int{1}, len(starts))
	}
	return f.one(operation{
		op: compute.OpTypeSlice, attrs: ir.SliceAttrs{Starts: starts, Limits: limits, Strides: strides}, inputs: []compute.Value{x},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(g.Slice(in[0], starts, limits, strides))
		},
	})
}

// Transpose records the operation of that name.
func (f *Function) Transpose(x compute.Value, permutation ...int) (compute.Value, error) {
	permutation = slices.Clone(permutation)
	return f.one(operation{
		op: compute.OpTypeTranspose, attrs: ir.TransposeAttrs{Permutation: permutation}, inputs: []compute.Value{x},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(g.Transpose(in[0], permutation...))
		},
	})
}

// Gather records the operation of that name.
func (f *Function) Gather(operand, indices compute.Value, vectorAxis int, offsetAxes, collapsed, indexMap, sizes []int,
	sorted bool) (compute.Value, error) {
	a := ir.GatherAttrs{
		IndexVectorAxis: vectorAxis, OffsetOutputAxes: slices.Clone(offsetAxes), CollapsedSliceAxes: slices.Clone(collapsed),
		StartIndexMap: slices.Clone(indexMap), SliceSizes: slices.Clone(sizes), IndicesAreSorted: sorted,
	}
	return f.one(operation{
		op: compute.OpTypeGather, attrs: a, inputs: []compute.Value{operand, indices},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(g.Gather(in[0], in[1], a.IndexVectorAxis, a.OffsetOutputAxes, a.CollapsedSliceAxes, a.StartIndexMap,
				a.SliceSizes, a.IndicesAreSorted))
		},
	})
}

type scatterOp = func(g compute.Function, operand, indices, updates compute.Value, vectorAxis int, windowAxes, inserted,
	toOperand []int, sorted, unique bool) (compute.Value, error)

func (f *Function) scatter(op compute.OpType, method scatterOp, inputs []compute.Value, a ir.ScatterAttrs) (compute.Value, error) {
	a.UpdateWindowAxes, a.InsertedWindowAxes = slices.Clone(a.UpdateWindowAxes), slices.Clone(a.InsertedWindowAxes)
	a.ScatterAxesToOperandAxes = slices.Clone(a.ScatterAxesToOperandAxes)
	return f.one(operation{op: op, attrs: a, inputs: inputs,
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(method(g, in[0], in[1], in[2], a.IndexVectorAxis, a.UpdateWindowAxes, a.InsertedWindowAxes,
				a.ScatterAxesToOperandAxes, a.IndicesAreSorted, a.UniqueIndices))
		}})
}

// ScatterSum records the operation of that name.
func (f *Function) ScatterSum(operand, indices, updates compute.Value, vectorAxis int, windowAxes, inserted, toOperand []int,
	sorted, unique bool) (compute.Value, error) {
	return f.scatter(compute.OpTypeScatterSum, compute.Function.ScatterSum, []compute.Value{operand, indices, updates},
		ir.ScatterAttrs{IndexVectorAxis: vectorAxis, UpdateWindowAxes: windowAxes, InsertedWindowAxes: inserted,
			ScatterAxesToOperandAxes: toOperand, IndicesAreSorted: sorted, UniqueIndices: unique})
}

// ScatterMax records the operation of that name.
func (f *Function) ScatterMax(operand, indices, updates compute.Value, vectorAxis int, windowAxes, inserted, toOperand []int,
	sorted, unique bool) (compute.Value, error) {
	return f.scatter(compute.OpTypeScatterMax, compute.Function.ScatterMax, []compute.Value{operand, indices, updates},
		ir.ScatterAttrs{IndexVectorAxis: vectorAxis, UpdateWindowAxes: windowAxes, InsertedWindowAxes: inserted,
			ScatterAxesToOperandAxes: toOperand, IndicesAreSorted: sorted, UniqueIndices: unique})
}

// ScatterMin records the operation of that name.
func (f *Function) ScatterMin(operand, indices, updates compute.Value, vectorAxis int, windowAxes, inserted, toOperand []int,
	sorted, unique bool) (compute.Value, error) {
	return f.scatter(compute.OpTypeScatterMin, compute.Function.ScatterMin, []compute.Value{operand, indices, updates},
		ir.ScatterAttrs{IndexVectorAxis: vectorAxis, UpdateWindowAxes: windowAxes, InsertedWindowAxes: inserted,
			ScatterAxesToOperandAxes: toOperand, IndicesAreSorted: sorted, UniqueIndices: unique})
}

// DynamicSlice records the operation of that name.
func (f *Function) DynamicSlice(x compute.Value, starts []compute.Value, sizes []int) (compute.Value, error) {
	sizes = slices.Clone(sizes)
	return f.one(operation{
		op: compute.OpTypeDynamicSlice, attrs: ir.DynamicSliceAttrs{Sizes: sizes}, inputs: append([]compute.Value{x}, starts...),
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(g.DynamicSlice(in[0], in[1:], sizes))
		},
		infer: func(in []shapes.Shape) ([]shapes.Shape, error) {
			if err := checkStarts("DynamicSlice", in[0], in[1:]); err != nil {
				return nil, err
			}
			if _, err := shapeinference.DynamicSlice(in[0], sizes); err != nil {
				return nil, err
			}
			return []shapes.Shape{{DType: in[0].DType, Dimensions: slices.Clone(sizes)}}, nil
		},
	})
}

// DynamicUpdateSlice records the operation of that name; inputs are the operand, the update and the starts.
func (f *Function) DynamicUpdateSlice(x, update compute.Value, starts []compute.Value) (compute.Value, error) {
	return f.one(operation{
		op: compute.OpTypeDynamicUpdateSlice, inputs: append([]compute.Value{x, update}, starts...),
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(g.DynamicUpdateSlice(in[0], in[1], in[2:]))
		},
		infer: func(in []shapes.Shape) ([]shapes.Shape, error) {
			if err := checkStarts("DynamicUpdateSlice", in[0], in[2:]); err != nil {
				return nil, err
			}
			if _, err := shapeinference.DynamicUpdateSlice(in[0], in[1]); err != nil {
				return nil, err
			}
			for axis, dim := range in[1].Dimensions {
				if dim > in[0].Dimensions[axis] {
					return nil, fmt.Errorf("DynamicUpdateSlice: update %s does not fit into %s", in[1], in[0])
				}
			}
			return []shapes.Shape{in[0].Clone()}, nil
		},
	})
}

// checkStarts wants an integer scalar for every axis. Types that are packed or that no index can hold are not implemented.
func checkStarts(operation string, operand shapes.Shape, starts []shapes.Shape) error {
	if len(starts) != operand.Rank() {
		return fmt.Errorf("%s: operand %s wants %d starts, got %d", operation, operand, operand.Rank(), len(starts))
	}
	for i, start := range starts {
		if start.Rank() != 0 || !start.DType.IsInt() {
			return fmt.Errorf("%s: start #%d must be an integer scalar, not %s", operation, i, start)
		}
		if start.DType.IsPacked() || start.DType == dtypes.Uint64 {
			return fmt.Errorf("%s from a start of %s: %w", operation, start.DType, compute.ErrNotImplemented)
		}
	}
	if operand.DType.IsPacked() {
		return fmt.Errorf("%s of %s: %w", operation, operand.DType, compute.ErrNotImplemented)
	}
	return nil
}

// OptimizationBarrier records one node for each operand.
func (f *Function) OptimizationBarrier(operands ...compute.Value) ([]compute.Value, error) {
	if len(operands) == 0 {
		return nil, fmt.Errorf("OptimizationBarrier wants at least one operand")
	}
	values := make([]compute.Value, len(operands))
	for i, operand := range operands {
		var err error
		values[i], err = f.one(operation{op: compute.OpTypeOptimizationBarrier, inputs: []compute.Value{operand},
			build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
				return g.OptimizationBarrier(in...)
			}})
		if err != nil {
			return nil, err
		}
	}
	return values, nil
}

// SchedulingBarrier records the operation of that name; inputs are the operand and what it waits for.
func (f *Function) SchedulingBarrier(x compute.Value, dependencies ...compute.Value) (compute.Value, error) {
	return f.one(operation{op: compute.OpTypeSchedulingBarrier, inputs: append([]compute.Value{x}, dependencies...),
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(g.SchedulingBarrier(in[0], in[1:]...))
		}})
}
