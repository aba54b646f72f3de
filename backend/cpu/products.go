package cpu

import (
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/shapes"
	"github.com/polargo/polar/backend/cpu/ir"
)

// Products, convolutions, transforms, normalisations, random bits and dynamic axes, each as compute.StandardOps has it.

// DotGeneral records the operation of that name.
func (f *Function) DotGeneral(lhs compute.Value, lhsContracting, lhsBatch []int, rhs compute.Value,
	rhsContracting, rhsBatch []int, config compute.DotGeneralConfig) (compute.Value, error) {
	a := ir.DotGeneralAttrs{
		LeftContracting: slices.Clone(lhsContracting), LeftBatch: slices.Clone(lhsBatch),
		RightContracting: slices.Clone(rhsContracting), RightBatch: slices.Clone(rhsBatch), Config: config,
	}
	return f.one(operation{
		op: compute.OpTypeDotGeneral, attrs: a, inputs: []compute.Value{lhs, rhs},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(g.DotGeneral(in[0], slices.Clone(a.LeftContracting), slices.Clone(a.LeftBatch),
				in[1], slices.Clone(a.RightContracting), slices.Clone(a.RightBatch), a.Config))
		},
	})
}

// ConvGeneral records the operation of that name.
func (f *Function) ConvGeneral(x, kernel compute.Value, axes compute.ConvolveAxesConfig, strides []int, paddings [][2]int,
	inputDilations, kernelDilations []int, channelGroups, batchGroups int) (compute.Value, error) {
	axes, strides, paddings = axes.Clone(), slices.Clone(strides), slices.Clone(paddings)
	inputDilations, kernelDilations = slices.Clone(inputDilations), slices.Clone(kernelDilations)
	return f.one(operation{
		op: compute.OpTypeConvGeneral, inputs: []compute.Value{x, kernel},
		attrs: raw(axes, strides, paddings, inputDilations, kernelDilations, channelGroups, batchGroups),
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(g.ConvGeneral(in[0], in[1], axes.Clone(), slices.Clone(strides), slices.Clone(paddings),
				slices.Clone(inputDilations), slices.Clone(kernelDilations), channelGroups, batchGroups))
		},
	})
}

// FFT records the operation of that name.
func (f *Function) FFT(x compute.Value, kind compute.FFTType, length []int) (compute.Value, error) {
	length = slices.Clone(length)
	return f.one(operation{op: compute.OpTypeFFT, attrs: raw(kind, length), inputs: []compute.Value{x},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(g.FFT(in[0], kind, length))
		}})
}

type selectAndScatterOp = func(g compute.Function, x, source compute.Value, window, strides []int, paddings [][2]int) (
	compute.Value, error)

func (f *Function) selectAndScatter(op compute.OpType, method selectAndScatterOp, x, source compute.Value, window, strides []int,
	paddings [][2]int) (compute.Value, error) {
	window, strides, paddings = slices.Clone(window), slices.Clone(strides), slices.Clone(paddings)
	return f.one(operation{op: op, attrs: raw(window, strides, paddings), inputs: []compute.Value{x, source},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(method(g, in[0], in[1], window, strides, paddings))
		}})
}

// SelectAndScatterMax records the operation of that name.
func (f *Function) SelectAndScatterMax(x, source compute.Value, window, strides []int, paddings [][2]int) (compute.Value, error) {
	return f.selectAndScatter(compute.OpTypeSelectAndScatterMax, compute.Function.SelectAndScatterMax, x, source, window, strides,
		paddings)
}

// SelectAndScatterMin records the operation of that name.
func (f *Function) SelectAndScatterMin(x, source compute.Value, window, strides []int, paddings [][2]int) (compute.Value, error) {
	return f.selectAndScatter(compute.OpTypeSelectAndScatterMin, compute.Function.SelectAndScatterMin, x, source, window, strides,
		paddings)
}

// RNGBitGenerator records the operation of that name: its first output is the state, the second the bits.
func (f *Function) RNGBitGenerator(state compute.Value, shape shapes.Shape) (newState, bits compute.Value, err error) {
	shape = shape.Clone()
	values, err := f.record(operation{op: compute.OpTypeRNGBitGenerator, inputs: []compute.Value{state},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			newState, bits, err := g.RNGBitGenerator(in[0], shape)
			return []compute.Value{newState, bits}, err
		}})
	if err != nil {
		return nil, nil, err
	}
	return values[0], values[1], nil
}

// BatchNormForInference records the operation of that name.
func (f *Function) BatchNormForInference(x, scale, offset, mean, variance compute.Value, epsilon float32, axis int) (
	compute.Value, error) {
	return f.one(operation{
		op: compute.OpTypeBatchNormForInference, attrs: raw(epsilon, axis), inputs: []compute.Value{x, scale, offset, mean, variance},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(g.BatchNormForInference(in[0], in[1], in[2], in[3], in[4], epsilon, axis))
		},
	})
}

// BatchNormForTraining records the operation of that name.
func (f *Function) BatchNormForTraining(x, scale, offset compute.Value, epsilon float32, axis int) (
	normalized, mean, variance compute.Value, err error) {
	return three(f.record(operation{
		op: compute.OpTypeBatchNormForTraining, attrs: raw(epsilon, axis), inputs: []compute.Value{x, scale, offset},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			normalized, mean, variance, err := g.BatchNormForTraining(in[0], in[1], in[2], epsilon, axis)
			return []compute.Value{normalized, mean, variance}, err
		},
	}))
}

// BatchNormGradient records the operation of that name.
func (f *Function) BatchNormGradient(x, scale, mean, variance, gradient compute.Value, epsilon float32, axis int) (
	dx, dScale, dOffset compute.Value, err error) {
	return three(f.record(operation{
		op: compute.OpTypeBatchNormGradient, attrs: raw(epsilon, axis), inputs: []compute.Value{x, scale, mean, variance, gradient},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			dx, dScale, dOffset, err := g.BatchNormGradient(in[0], in[1], in[2], in[3], in[4], epsilon, axis)
			return []compute.Value{dx, dScale, dOffset}, err
		},
	}))
}

func three(values []compute.Value, err error) (first, second, third compute.Value, _ error) {
	if err != nil {
		return nil, nil, nil, err
	}
	return values[0], values[1], values[2], nil
}

// DynamicDimensionSize records the operation of that name.
func (f *Function) DynamicDimensionSize(x compute.Value, axis int) (compute.Value, error) {
	return f.one(operation{op: compute.OpTypeDynamicDimensionSize, attrs: raw(axis), inputs: []compute.Value{x},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(g.DynamicDimensionSize(in[0], axis))
		}})
}

// DynamicShape records the operation of that name.
func (f *Function) DynamicShape(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeDynamicShape, compute.Function.DynamicShape, x)
}

// DynamicReshape records the operation of that name; inputs are the operand and the values in the dimensions.
func (f *Function) DynamicReshape(x compute.Value, dims ...compute.DynamicDimensionSpec) (compute.Value, error) {
	inputs := []compute.Value{x}
	specs := slices.Clone(dims)
	given := make([]bool, len(specs))
	for i := range specs {
		if specs[i].Value != nil {
			inputs = append(inputs, specs[i].Value)
			specs[i].Value, given[i] = nil, true
		}
	}
	return f.one(operation{op: compute.OpTypeDynamicReshape, attrs: raw(specs, given), inputs: inputs,
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			filled, next := slices.Clone(specs), 1
			for i := range filled {
				if given[i] {
					filled[i].Value = in[next]
					next++
				}
			}
			return single(g.DynamicReshape(in[0], filled...))
		}})
}
