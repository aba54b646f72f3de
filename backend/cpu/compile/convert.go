package compile

import (
	"errors"
	"fmt"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"
	"github.com/polargo/polar/backend/cpu/ir"
	"github.com/polargo/polar/backend/cpu/program"
)

// ErrUnsupported is returned (wrapped) for functions that this compiler cannot compile at all, such as those with dynamic axes.
var ErrUnsupported = errors.New("not supported by the native compiler")

// convert turns a recorded function into the graph of the passes, simplified on the way.
func convert(f *ir.Function) (*graph, error) {
	g := &graph{known: map[string]*node{}, byIR: map[*ir.Node]*node{}, parts: map[*ir.Node][]*node{},
		products: map[*node]*node{}}
	for _, p := range f.Params {
		g.input(p)
	}
	for _, c := range f.Captures {
		g.input(c)
	}
	for _, n := range f.Nodes {
		if _, done := g.byIR[n]; done {
			continue
		}
		for _, s := range n.Shapes {
			if slices.ContainsFunc(s.Dimensions, func(d int) bool { return d < 0 }) {
				return nil, fmt.Errorf("%w: %s with dynamic axes %s", ErrUnsupported, n.Op, s)
			}
		}
		if err := g.record(n); err != nil {
			return nil, err
		}
	}
	for _, out := range f.Outputs {
		g.outputs = append(g.outputs, g.copied(g.byIR[out]))
	}
	g.link()
	return g, nil
}

func (g *graph) input(n *ir.Node) {
	v := g.insert(&node{op: opInput, dtype: n.DType(), dims: n.Dims()})
	g.byIR[n] = v
	g.inputs = append(g.inputs, v)
}

// record adds one recorded node.
func (g *graph) record(n *ir.Node) error {
	in := make([]*node, len(n.Inputs))
	for i, input := range n.Inputs {
		in[i] = g.byIR[input]
		if in[i] == nil && n.Op != ir.OpSelect {
			return fmt.Errorf("%w: %s uses %s, which is not a value", ErrUnsupported, n.Op, input.Op)
		}
	}
	switch n.Op {
	case ir.OpSelect:
		outputs := g.parts[n.Inputs[0]]
		g.byIR[n] = outputs[n.Attrs.(ir.SelectAttrs).Output]
		return nil
	case compute.OpTypeOptimizationBarrier:
		outputs := make([]*node, len(in))
		for i, x := range in {
			outputs[i] = g.barrier(x, nil)
		}
		g.setParts(n, outputs)
		return nil
	}
	if len(n.Shapes) > 1 || slices.Contains(severalOutputs, n.Op) {
		g.setParts(n, g.several(n, in))
		return nil
	}
	g.byIR[n] = g.single(n, in)
	return nil
}

// severalOutputs are operations that are read through OpSelect even with one output.
var severalOutputs = []compute.OpType{compute.OpTypeWhile, compute.OpTypeIf, compute.OpTypeCall, compute.OpTypeSort}

func (g *graph) setParts(n *ir.Node, outputs []*node) {
	g.parts[n] = outputs
	if len(outputs) == 1 {
		g.byIR[n] = outputs[0]
	}
}

// barrier is x, computed anew for those that read it through the barrier, and not before the others.
func (g *graph) barrier(x *node, others []*node) *node {
	n := g.insert(&node{op: compute.OpTypeSchedulingBarrier, dtype: x.dtype, dims: x.dims, in: []*node{x}})
	n.base, n.where = x.base, x.where
	for _, o := range others {
		n.after = append(n.after, o.base)
		n.after = append(n.after, o.afterAsView()...)
	}
	return n
}

// several adds an operation with several outputs and returns these.
func (g *graph) several(n *ir.Node, in []*node) []*node {
	whole := &node{op: n.Op, dtype: n.Shapes[0].DType, dims: n.Shapes[0].Dimensions, attrs: n.Attrs, ir: n, parts: len(n.Shapes)}
	whole.in = g.prepared(n, in)
	g.insert(whole)
	outputs := make([]*node, len(n.Shapes))
	for i, s := range n.Shapes {
		outputs[i] = g.insert(&node{op: opPartOut, dtype: s.DType, dims: s.Dimensions, attrs: ir.SelectAttrs{Output: i}, in: []*node{whole}})
	}
	return outputs
}

// prepared makes the inputs what the operation's step can read: views with contiguous rows for attention, dense for all others.
func (g *graph) prepared(n *ir.Node, in []*node) []*node {
	out := make([]*node, len(in))
	for i, x := range in {
		if _, ok := n.Attrs.(ir.AttentionAttrs); ok && n.Op == compute.OpTypeFusedScaledDotProductAttention && i < 3 {
			out[i] = g.rows(x)
			continue
		}
		out[i] = g.copied(x)
	}
	return out
}

// rows is x with a contiguous innermost axis.
func (g *graph) rows(x *node) *node {
	last := len(x.dims) - 1
	if x.where.strides[last] == 1 || x.dims[last] == 1 {
		return x
	}
	return g.copied(x)
}

// single adds an operation with one output.
func (g *graph) single(n *ir.Node, in []*node) *node {
	dims, dtype := n.Dims(), n.DType()
	switch n.Op {
	case compute.OpTypeConstant:
		return g.add(n.Op, dtype, dims, n.Attrs)
	case compute.OpTypeIdentity:
		return in[0]
	case compute.OpTypeSchedulingBarrier:
		return g.barrier(in[0], in[1:])
	case compute.OpTypeReshape:
		return g.reshape(in[0], dims)
	case compute.OpTypeTranspose:
		return g.transpose(in[0], n.Attrs.(ir.TransposeAttrs).Permutation)
	case compute.OpTypeBroadcastInDim:
		return g.broadcast(in[0], dims, n.Attrs.(ir.BroadcastAttrs).Axes)
	case compute.OpTypeSlice:
		a := n.Attrs.(ir.SliceAttrs)
		return g.view(in[0], dims, in[0].where.sliced(a.Starts, a.Strides))
	case compute.OpTypeReverse:
		return g.view(in[0], dims, in[0].where.reversed(dims, n.Attrs.(ir.AxesAttrs).Axes))
	case compute.OpTypeIota:
		return g.iota(n)
	case compute.OpTypeConvertDType:
		if in[0].dtype == dtype {
			return in[0]
		}
	case compute.OpTypeReduceSum, compute.OpTypeReduceMax, compute.OpTypeReduceMin:
		if native(dtype) && isFloat(dtype) {
			return g.reduce(n.Op, in[0], n.Attrs.(ir.AxesAttrs).Axes)
		}
	case compute.OpTypeDotGeneral:
		if size(dimsOf(in[0], n.Attrs.(ir.DotGeneralAttrs).LeftContracting)) == 0 {
			return g.zeros(dtype, dims)
		}
		if out := g.product(n, in[0], in[1]); out != nil {
			return out
		}
	case compute.OpTypeFusedSoftmax:
		if native(dtype) && isFloat(dtype) {
			return g.softmax(in[0], n.Attrs.(ir.SoftmaxAttrs).Axis)
		}
	case compute.OpTypeClamp:
		if elementwise(n.Op, dtype, []dtypes.DType{dtype}) {
			low, x, high := g.spread(in[0], dims), in[1], g.spread(in[2], dims)
			return g.element(compute.OpTypeMin, dtype, dims, g.element(compute.OpTypeMax, dtype, dims, low, x), high)
		}
	}
	if elementwise(n.Op, dtype, typesOf(in)) {
		return g.element(n.Op, dtype, dims, in...)
	}
	return g.insertOther(n, in)
}

// insertOther adds an operation that has a step of its own, or is handed to another backend.
func (g *graph) insertOther(n *ir.Node, in []*node) *node {
	prepared := in
	if !readsViews(n) {
		prepared = g.prepared(n, in)
	}
	return g.insert(&node{op: n.Op, dtype: n.DType(), dims: slices.Clone(n.Dims()), attrs: n.Attrs, ir: n, in: prepared})
}

// readsViews says whether an operation's step reads inputs of any layout.
func readsViews(n *ir.Node) bool {
	switch n.Op {
	case compute.OpTypeConcatenate, compute.OpTypePad, compute.OpTypeDynamicUpdateSlice:
		return true
	}
	return false
}

func typesOf(in []*node) []dtypes.DType {
	out := make([]dtypes.DType, len(in))
	for i, x := range in {
		out[i] = x.dtype
	}
	return out
}

// iota is a vector of the axis's indices, seen from all of the shape.
func (g *graph) iota(n *ir.Node) *node {
	dtype, dims, axis := n.DType(), n.Dims(), n.Attrs.(ir.IotaAttrs).Axis
	if !native(dtype) || dtype == dtypes.BFloat16 || dtype == dtypes.Bool {
		return g.insertOther(n, nil)
	}
	vector := g.add(compute.OpTypeConstant, dtype, []int{dims[axis]}, ir.ConstantAttrs{Flat: counting(dtype, dims[axis])})
	return g.broadcast(vector, dims, []int{axis})
}

// element adds an element-wise operation on operands of the result's dimensions or broadcast to them.
func (g *graph) element(op compute.OpType, dtype dtypes.DType, dims []int, in ...*node) *node {
	operands := make([]*node, len(in))
	for i, x := range in {
		operands[i] = g.spread(x, dims)
	}
	if same := g.neutral(op, operands); same != nil {
		return same
	}
	return g.add(op, dtype, dims, nil, operands...)
}

// neutral returns the operand that a product with 1 or a quotient by 1 equals.
func (g *graph) neutral(op compute.OpType, in []*node) *node {
	if op != compute.OpTypeMul && op != compute.OpTypeDiv {
		return nil
	}
	if v, ok := in[1].uniform(); ok && v == 1 {
		return in[0]
	}
	if v, ok := in[0].uniform(); ok && v == 1 && op == compute.OpTypeMul {
		return in[1]
	}
	return nil
}

// reduceAttrs: rows and columns of the loop over a reduced operand, whose axes are the kept ones followed by the reduced ones.
type reduceAttrs struct{ rows, columns int }

// reduce reduces axes of x. The operand of the node has the kept axes first, as rows, and the reduced ones last, as columns.
func (g *graph) reduce(op compute.OpType, x *node, axes []int) *node {
	var kept, order []int
	var dims []int
	columns := 1
	for i, d := range x.dims {
		if slices.Contains(axes, i) {
			columns *= d
			continue
		}
		kept = append(kept, i)
		dims = append(dims, d)
	}
	order = append(slices.Clone(kept), axesIn(axes, len(x.dims))...)
	if columns == 1 && size(x.dims) > 0 {
		return g.reshape(x, dims)
	}
	if columns == 0 {
		return g.broadcast(g.constant(x.dtype, reductionOfNothing(op)), dims, nil)
	}
	rows := size(dims)
	out := g.add(op, x.dtype, []int{rows}, reduceAttrs{rows, columns}, g.transpose(x, order))
	return g.reshape(out, dims)
}

// reductionOfNothing is what a reduction of no elements gives.
func reductionOfNothing(op compute.OpType) float32 {
	switch op {
	case compute.OpTypeReduceMax:
		return program.MaxIdentity
	case compute.OpTypeReduceMin:
		return program.MinIdentity
	}
	return program.SumIdentity
}

// constant is a scalar of a type that is a float.
func (g *graph) constant(dtype dtypes.DType, value float32) *node {
	flat := any([]float32{value})
	if dtype == dtypes.BFloat16 {
		flat = []bfloat16.BFloat16{bfloat16.FromFloat32(value)}
	}
	return g.add(compute.OpTypeConstant, dtype, nil, ir.ConstantAttrs{Flat: flat})
}

// zeros is a sum of nothing of any type.
func (g *graph) zeros(dtype dtypes.DType, dims []int) *node {
	zero := g.add(compute.OpTypeConstant, dtype, nil, ir.ConstantAttrs{Flat: dtypes.MakeAnySlice(dtype, 1)})
	return g.broadcast(zero, dims, nil)
}

// axesIn lists axes in increasing order.
func axesIn(axes []int, rank int) []int {
	var out []int
	for i := range rank {
		if slices.Contains(axes, i) {
			out = append(out, i)
		}
	}
	return out
}

// softmax is exp(x - max) / Σ exp(x - max) along an axis.
func (g *graph) softmax(x *node, axis int) *node {
	along := func(r *node) *node {
		axes := make([]int, 0, len(x.dims)-1)
		for i := range x.dims {
			if i != axis {
				axes = append(axes, i)
			}
		}
		return g.broadcast(r, x.dims, axes)
	}
	shifted := g.element(compute.OpTypeSub, x.dtype, x.dims, x, along(g.reduce(compute.OpTypeReduceMax, x, []int{axis})))
	e := g.element(compute.OpTypeExp, x.dtype, x.dims, shifted)
	return g.element(compute.OpTypeDiv, x.dtype, x.dims, e, along(g.reduce(compute.OpTypeReduceSum, e, []int{axis})))
}
