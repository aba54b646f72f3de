package compile

import (
	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/polargo/polar/backend/cpu/ir"
	"github.com/polargo/polar/backend/cpu/kernel/attention"
	"github.com/polargo/polar/backend/cpu/program"
)

// attention lowers scaled dot-product attention and its gradient; false for variants that the kernels lack.
func (l *lowering) attention(n *node) bool {
	a := n.attrs.(ir.AttentionAttrs)
	gradient := n.op == compute.OpTypeFusedScaledDotProductAttentionVJP
	if a.HasLengths || a.HasMask && a.HasBias || n.in[0].dtype != dtypes.Float32 {
		return false
	}
	q, k, v := n.in[0], n.in[1], n.in[2]
	spec := attention.Spec{Scale: float32(a.Scale), Causal: a.Causal}
	heads, row := a.Layout.HeadsAxis(), a.Layout.SeqAxis()
	spec.Batch, spec.Heads, spec.KVHeads = q.dims[0], q.dims[heads], k.dims[heads]
	spec.QueryLen, spec.KeyLen, spec.Dim, spec.ValueDim = q.dims[row], k.dims[row], q.dims[3], v.dims[3]
	strides := func(x *node) attention.Strides {
		return attention.Strides{Batch: x.where.strides[0], Head: x.where.strides[heads], Row: x.where.strides[row]}
	}
	spec.Q, spec.K, spec.V = strides(q), strides(k), strides(v)
	out := dense(q.dims).strides
	spec.Out = attention.Strides{Batch: out[0], Head: out[heads], Row: out[row]}
	s := &program.Attention{Gradient: gradient, Q: l.operand(q), K: l.operand(k), V: l.operand(v)}
	rest := n.in[3:]
	if a.HasMask || a.HasBias {
		mask := rest[0]
		rest = rest[1:]
		spec.Mask, s.Mask = attention.AddMask, l.operand(mask)
		if mask.dtype == dtypes.Bool {
			spec.Mask = attention.BoolMask
		} else if mask.dtype != dtypes.Float32 {
			return false
		}
		spec.MaskStrides = maskStrides(mask, a.HasMask && a.Layout == compute.AttentionAxesLayoutBSHD)
	}
	parts := l.partBuffers(n)
	reads := l.inputBuffers(n)
	part := func(i, elems int) program.Operand { return program.Operand{Buffer: parts[i], Elems: elems} }
	rows := spec.Batch * spec.Heads * spec.QueryLen
	if gradient {
		s.Out, s.Stats, s.DOut = l.operand(rest[0]), l.operand(rest[1]), l.operand(rest[2])
		s.DQ, s.DK, s.DV = part(0, q.size()), part(1, k.size()), part(2, v.size())
	} else {
		s.Out = part(0, q.size())
		if len(parts) < 2 {
			parts = append(parts, l.newBuffer(program.Buffer{Place: program.InArena, Bytes: 4 * rows}))
		}
		s.Stats = part(1, rows)
	}
	s.Plan = attention.New(spec, l.options.Level)
	l.step(s, reads, parts, nil)
	return true
}

// operand is the memory of a view, from its first element to the end of its base.
func (l *lowering) operand(x *node) program.Operand {
	return program.Operand{Buffer: l.buffer(x.base), Offset: x.where.offset, Elems: x.base.size() - x.where.offset}
}

// maskStrides are those of [batch, head, query, key], axes that a mask lacks or has once repeated. With queriesFirst a mask of four
// axes is [batch, query, head, key].
func maskStrides(mask *node, queriesFirst bool) attention.MaskStrides {
	var s [4]int
	shift := 4 - len(mask.dims)
	for i, d := range mask.dims {
		if d > 1 {
			s[i+shift] = mask.where.strides[i]
		}
	}
	if queriesFirst && len(mask.dims) == 4 {
		s[1], s[2] = s[2], s[1]
	}
	return attention.MaskStrides{Batch: s[0], Head: s[1], Query: s[2], Key: s[3]}
}
