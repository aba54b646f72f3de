package cpu

import (
	"fmt"
	"math"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/polargo/polar/backend/cpu/ir"
)

// attentionInputs are query, key, value and what the configuration holds, in the order of ir.AttentionAttrs, with a function that
// puts the values of another backend into a configuration. A scale of 0 is recorded as what it means.
func (f *Function) attentionInputs(query, key, value compute.Value, layout compute.AttentionAxesLayout,
	config *compute.ScaledDotProductAttentionConfig) (
	inputs []compute.Value, attrs ir.AttentionAttrs, fill func(in []compute.Value) *compute.ScaledDotProductAttentionConfig) {
	var plain compute.ScaledDotProductAttentionConfig
	if config != nil {
		plain = *config
	}
	inputs, find := optional([]compute.Value{query, key, value}, plain.Mask, plain.Bias, plain.QuerySeqLen, plain.KeyValueSeqLen)
	attrs = ir.AttentionAttrs{
		Layout: layout, Scale: plain.Scale, Causal: plain.Causal, HasMask: plain.Mask != nil, HasBias: plain.Bias != nil,
		HasLengths: plain.QuerySeqLen != nil && plain.KeyValueSeqLen != nil,
	}
	if shape := f.shapeOf(query); attrs.Scale == 0 && shape.Rank() == 4 && shape.Dimensions[3] > 0 {
		attrs.Scale = 1 / math.Sqrt(float64(shape.Dimensions[3]))
	}
	plain.Mask, plain.Bias, plain.QuerySeqLen, plain.KeyValueSeqLen = nil, nil, nil, nil
	return inputs, attrs, func(in []compute.Value) *compute.ScaledDotProductAttentionConfig {
		filled, found := plain, find(in)
		filled.Mask, filled.Bias, filled.QuerySeqLen, filled.KeyValueSeqLen = found[0], found[1], found[2], found[3]
		return &filled
	}
}

// FusedScaledDotProductAttention records the operation of that name. Where its gradient is native too, there is one state: the
// logarithm of each row's sum of exponentials of scores, float32 of shape [batch, heads, query length].
func (f *Function) FusedScaledDotProductAttention(query, key, value compute.Value, layout compute.AttentionAxesLayout,
	config *compute.ScaledDotProductAttentionConfig) (output compute.Value, states []compute.Value, err error) {
	if config != nil && (config.QuerySeqLen == nil) != (config.KeyValueSeqLen == nil) {
		return nil, nil, fmt.Errorf("FusedScaledDotProductAttention: one of the two lengths is missing")
	}
	inputs, attrs, fill := f.attentionInputs(query, key, value, layout, config)
	withState := f.builder.backend.extra[compute.OpTypeFusedScaledDotProductAttentionVJP]
	values, err := f.record(operation{
		op: compute.OpTypeFusedScaledDotProductAttention, attrs: attrs, inputs: inputs,
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			output, states, err := g.FusedScaledDotProductAttention(in[0], in[1], in[2], layout, fill(in))
			return append([]compute.Value{output}, states...), err
		},
		infer: func(in []shapes.Shape) ([]shapes.Shape, error) {
			outputs, err := attentionShapes(in, attrs)
			if !withState {
				outputs = outputs[:min(len(outputs), 1)]
			}
			return outputs, err
		},
	})
	if err != nil {
		return nil, nil, err
	}
	return values[0], values[1:], nil
}

// FusedScaledDotProductAttentionVJP records the operation of that name: its outputs are the gradients of query, key and value.
func (f *Function) FusedScaledDotProductAttentionVJP(query, key, value compute.Value, layout compute.AttentionAxesLayout,
	config *compute.ScaledDotProductAttentionConfig, output compute.Value, states []compute.Value, dOutput compute.Value) (
	dQuery, dKey, dValue compute.Value, err error) {
	inputs, attrs, fill := f.attentionInputs(query, key, value, layout, config)
	first := len(inputs)
	inputs = append(append(append(inputs, output), states...), dOutput)
	return three(f.record(operation{
		op: compute.OpTypeFusedScaledDotProductAttentionVJP, attrs: attrs, inputs: inputs,
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			last := len(in) - 1
			dQuery, dKey, dValue, err := g.FusedScaledDotProductAttentionVJP(in[0], in[1], in[2], layout, fill(in), in[first],
				in[first+1:last], in[last])
			return []compute.Value{dQuery, dKey, dValue}, err
		},
		infer: func(in []shapes.Shape) ([]shapes.Shape, error) {
			want, err := attentionShapes(in, attrs)
			if err != nil {
				return nil, err
			}
			if got := in[first:]; len(got) != 3 || !got[0].Equal(want[0]) || !got[1].Equal(want[1]) || !got[2].Equal(want[0]) {
				return nil, fmt.Errorf("FusedScaledDotProductAttentionVJP: output, states and gradient must be %s, %s and %s, got %v",
					want[0], want[1], want[0], got)
			}
			return []shapes.Shape{in[0].Clone(), in[1].Clone(), in[2].Clone()}, nil
		},
	}))
}

// attentionShapes checks the inputs and returns the shapes of the output and the state. What the kernels lack is refused as not
// implemented, so that callers fall back to the operations that attention is made of: other dtypes than float32, a mask together
// with a bias, and lengths.
func attentionShapes(in []shapes.Shape, attrs ir.AttentionAttrs) ([]shapes.Shape, error) {
	query, key, value := in[0], in[1], in[2]
	for _, shape := range in[:3] {
		if shape.DType != dtypes.Float32 || shape.IsDynamic() {
			return nil, fmt.Errorf("attention of %s: %w", shape, compute.ErrNotImplemented)
		}
	}
	if attrs.HasLengths || attrs.HasMask && attrs.HasBias {
		return nil, fmt.Errorf("attention with lengths or with both a mask and a bias: %w", compute.ErrNotImplemented)
	}
	if query.Rank() != 4 || key.Rank() != 4 || !key.Equal(value) {
		return nil, fmt.Errorf("attention: query, key and value must have four axes, and key and value the same shape, got %s, %s, %s",
			query, key, value)
	}
	heads, sequence := attrs.Layout.HeadsAxis(), attrs.Layout.SeqAxis()
	q, k := query.Dimensions, key.Dimensions
	if q[0] != k[0] || q[3] != k[3] || k[heads] == 0 || q[heads]%k[heads] != 0 {
		return nil, fmt.Errorf("attention: query %s and key %s do not fit: batch and the last axis must be equal, and the heads of the "+
			"query a multiple of the key's", query, key)
	}
	scores := []int{q[0], q[heads], q[sequence], k[sequence]}
	if attrs.HasMask || attrs.HasBias {
		added := in[3]
		if added.DType != dtypes.Float32 && (added.DType != dtypes.Bool || attrs.HasBias) {
			return nil, fmt.Errorf("attention with a mask or bias of %s: %w", added.DType, compute.ErrNotImplemented)
		}
		target := scores
		if attrs.HasMask && added.Rank() == 4 { // a bias is heads first in both layouts, a mask lies as the queries do
			target = []int{q[0], q[1], q[2], k[sequence]}
		}
		if attrs.HasMask && added.Rank() == 3 && added.Dimensions[0] != 1 {
			return nil, fmt.Errorf("attention with a mask of three axes: %w", compute.ErrNotImplemented) // batch or head first?
		}
		if !broadcasts(added.Dimensions, target) {
			return nil, fmt.Errorf("attention: mask or bias %s does not fit %v", added, target)
		}
	}
	return []shapes.Shape{query.Clone(), shapes.Make(dtypes.Float32, scores[:3]...)}, nil
}

// broadcasts says whether dimensions, aligned at the end, are 1 or those of the target.
func broadcasts(dims, target []int) bool {
	if len(dims) > len(target) {
		return false
	}
	for i, dim := range dims {
		if dim != 1 && dim != target[len(target)-len(dims)+i] {
			return false
		}
	}
	return true
}
