package cpu

import (
	"slices"

	"github.com/gomlx/compute"
	"github.com/polargo/polar/backend/cpu/ir"
)

// Fused operations but for attention, each as compute.FusedOps has it. Optional inputs that are nil are left out.

// optional appends the values that are there and returns a function that finds them in the inputs of a build, in the same order.
func optional(inputs []compute.Value, values ...compute.Value) (all []compute.Value, find func(in []compute.Value) []compute.Value) {
	places := make([]int, len(values))
	for i, v := range values {
		if v == nil {
			places[i] = -1
			continue
		}
		places[i] = len(inputs)
		inputs = append(inputs, v)
	}
	return inputs, func(in []compute.Value) []compute.Value {
		found := make([]compute.Value, len(places))
		for i, place := range places {
			if place >= 0 {
				found[i] = in[place]
			}
		}
		return found
	}
}

// FusedSoftmax records the operation of that name.
func (f *Function) FusedSoftmax(x compute.Value, axis int) (compute.Value, error) {
	return f.one(operation{
		op: compute.OpTypeFusedSoftmax, attrs: ir.SoftmaxAttrs{Axis: axis}, inputs: []compute.Value{x},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(g.FusedSoftmax(in[0], axis))
		},
	})
}

// FusedGelu records the operation of that name.
func (f *Function) FusedGelu(x compute.Value, exact bool) (compute.Value, error) {
	return f.one(operation{
		op: compute.OpTypeFusedGelu, attrs: ir.GeluAttrs{Exact: exact}, inputs: []compute.Value{x},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(g.FusedGelu(in[0], exact))
		},
	})
}

// FusedLayerNorm records the operation of that name.
func (f *Function) FusedLayerNorm(x compute.Value, axes []int, epsilon float64, gamma, beta compute.Value) (compute.Value, error) {
	axes = slices.Clone(axes)
	for i, axis := range axes {
		if axis < 0 {
			axes[i] += f.shapeOf(x).Rank()
		}
	}
	inputs, find := optional([]compute.Value{x}, gamma, beta)
	return f.one(operation{
		op: compute.OpTypeFusedLayerNorm, inputs: inputs,
		attrs: ir.LayerNormAttrs{Axes: axes, Epsilon: epsilon, HasGamma: gamma != nil, HasBeta: beta != nil},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			more := find(in)
			return single(g.FusedLayerNorm(in[0], slices.Clone(axes), epsilon, more[0], more[1]))
		},
	})
}

// FusedDense records the operation of that name.
func (f *Function) FusedDense(x, weight, bias compute.Value, config compute.DenseConfig) (compute.Value, error) {
	inputs, find := optional([]compute.Value{x, weight}, bias)
	return f.one(operation{
		op: compute.OpTypeFusedDense, attrs: ir.DenseAttrs{Config: config, HasBias: bias != nil}, inputs: inputs,
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(g.FusedDense(in[0], in[1], find(in)[0], config))
		},
	})
}

// FusedAttentionQKVProjection records the operation of that name: its outputs are query, key and value.
func (f *Function) FusedAttentionQKVProjection(x, weight, biasQ, biasK, biasV compute.Value, queryDim, keyValueDim int) (
	query, key, value compute.Value, err error) {
	inputs, find := optional([]compute.Value{x, weight}, biasQ, biasK, biasV)
	return three(f.record(operation{
		op: compute.OpTypeFusedAttentionQKVProjection, inputs: inputs,
		attrs: raw(queryDim, keyValueDim, biasQ != nil, biasK != nil, biasV != nil),
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			bias := find(in)
			query, key, value, err := g.FusedAttentionQKVProjection(in[0], in[1], bias[0], bias[1], bias[2], queryDim, keyValueDim)
			return []compute.Value{query, key, value}, err
		},
	}))
}

// quantized separates the values of a quantization from its numbers.
func quantized(q *compute.Quantization) (plain compute.Quantization, values []compute.Value) {
	plain = *q
	plain.Scale, plain.ZeroPoint = nil, nil
	return plain, []compute.Value{q.Scale, q.ZeroPoint}
}

// QuantizedEmbeddingLookup records the operation of that name.
func (f *Function) QuantizedEmbeddingLookup(data, indices compute.Value, quantization *compute.Quantization) (compute.Value, error) {
	return f.withQuantization(compute.OpTypeQuantizedEmbeddingLookup, []compute.Value{data, indices}, nil, quantization,
		compute.ActivationNone,
		func(g compute.Function, in []compute.Value, _ compute.Value, q *compute.Quantization) (compute.Value, error) {
			return g.QuantizedEmbeddingLookup(in[0], in[1], q)
		})
}

// FusedQuantizedDense records the operation of that name; inputs are operand, weights, bias, scale, zero point, as far as given.
func (f *Function) FusedQuantizedDense(x, weights, bias compute.Value, quantization *compute.Quantization,
	activation compute.ActivationType) (compute.Value, error) {
	return f.withQuantization(compute.OpTypeFusedQuantizedDense, []compute.Value{x, weights}, bias, quantization, activation,
		func(g compute.Function, in []compute.Value, bias compute.Value, q *compute.Quantization) (compute.Value, error) {
			return g.FusedQuantizedDense(in[0], in[1], bias, q, activation)
		})
}

func (f *Function) withQuantization(op compute.OpType, inputs []compute.Value, bias compute.Value, q *compute.Quantization,
	activation compute.ActivationType,
	method func(g compute.Function, in []compute.Value, bias compute.Value, q *compute.Quantization) (compute.Value, error),
) (compute.Value, error) {
	if q == nil { // for the go backend to refuse
		return f.one(operation{op: op, inputs: inputs,
			build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
				return single(method(g, in, nil, nil))
			}})
	}
	plain, values := quantized(q)
	inputs, find := optional(inputs, bias, values[0], values[1])
	return f.one(operation{op: op, inputs: inputs,
		attrs: raw(plain, activation, bias != nil, values[0] != nil, values[1] != nil),
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			found := find(in)
			filled := plain
			filled.Scale, filled.ZeroPoint = found[1], found[2]
			return single(method(g, in, found[0], &filled))
		}})
}
