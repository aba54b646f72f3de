package cpu

import (
	"fmt"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/polargo/polar/backend/cpu/ir"
)

// attentionInputs are query, key, value and what the configuration holds, in the order of ir.AttentionAttrs, with a function that
// puts the values of another backend into a configuration.
func attentionInputs(query, key, value compute.Value, layout compute.AttentionAxesLayout,
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
	inputs, attrs, fill := attentionInputs(query, key, value, layout, config)
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
	inputs, attrs, fill := attentionInputs(query, key, value, layout, config)
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

// attentionShapes checks the inputs and returns the shapes of the output and the state.
func attentionShapes(in []shapes.Shape, attrs ir.AttentionAttrs) ([]shapes.Shape, error) {
	query, key, value := in[0], in[1], in[2]
	if query.DType != dtypes.Float32 && query.DType != dtypes.BFloat16 {
		return nil, fmt.Errorf("attention of %s: %w", query.DType, compute.ErrNotImplemented)
	}
	if query.Rank() != 4 || key.Rank() != 4 || !key.Equal(value) || key.DType != query.DType {
		return nil, fmt.Errorf("attention: query, key and value must have four axes and one dtype, and key and value the same shape, "+
			"got %s, %s, %s", query, key, value)
	}
	heads, sequence := attrs.Layout.HeadsAxis(), attrs.Layout.SeqAxis()
	q, k := query.Dimensions, key.Dimensions
	if q[0] != k[0] || q[3] != k[3] || k[heads] == 0 || q[heads]%k[heads] != 0 {
		return nil, fmt.Errorf("attention: query %s and key %s do not fit: batch and the last axis must be equal, and the heads of the "+
			"query a multiple of the key's", query, key)
	}
	scores := []int{q[0], q[heads], q[sequence], k[sequence]}
	next := 3
	if attrs.HasMask {
		if mask := in[next]; mask.DType != dtypes.Bool && !mask.DType.IsFloat() || !broadcasts(mask.Dimensions, scores) {
			return nil, fmt.Errorf("attention: mask %s is neither bool nor float or does not fit scores of %v", mask, scores)
		}
		next++
	}
	if attrs.HasBias {
		if bias := in[next]; !bias.DType.IsFloat() || !broadcasts(bias.Dimensions, scores) {
			return nil, fmt.Errorf("attention: bias %s is not float or does not fit scores of %v", bias, scores)
		}
		next++
	}
	if attrs.HasLengths {
		for _, lengths := range in[next : next+2] {
			if lengths.DType != dtypes.Int32 || lengths.Rank() != 1 || lengths.Dimensions[0] != q[0] {
				return nil, fmt.Errorf("attention: lengths must be Int32 of shape [%d], got %s", q[0], lengths)
			}
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
