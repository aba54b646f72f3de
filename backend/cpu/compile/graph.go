package compile

import (
	"fmt"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/polargo/polar/backend/cpu/ir"
)

// Operations that only this package's graph has.
const (
	opView    = compute.OpType(20_000) + iota // other layout of in[0]'s memory
	opCopy                                    // the elements of in[0], made dense
	opInput                                   // memory handed in: parameters, then captured values
	opPartOut                                 // one output of an operation with several
)

// node is a value of the graph that the passes work on. Unlike ir.Node it may be a view: elements in the memory of another.
type node struct {
	id    int // inputs have lower ones
	op    compute.OpType
	dtype dtypes.DType
	dims  []int
	in    []*node
	attrs any
	ir    *ir.Node // what it was recorded as; for operations that are handed on as they are
	parts int      // number of outputs, when more than one

	// Views: where the elements lie. base is the node itself and where is dense for all others.
	base  *node
	where layout

	after []*node // must be computed before this one, besides in
	cell  *cell   // the fused loop that computes it, nil for others
	uses  []*node // those that read it, directly or through a view; filled by link
	kept  bool    // an output of the function
}

func (n *node) size() int    { return size(n.dims) }
func (n *node) isView() bool { return n.base != n }

// uniform returns the constant that every element of a node is, if it is a view of a scalar constant.
func (n *node) uniform() (value float64, ok bool) {
	if n.base.op != compute.OpTypeConstant || n.base.size() != 1 {
		return 0, false
	}
	return scalarValue(n.base.attrs.(ir.ConstantAttrs).Flat)
}

// graph is a function while it is compiled.
type graph struct {
	nodes   []*node
	inputs  []*node
	outputs []*node
	known   map[string]*node // for common subexpressions
	byIR    map[*ir.Node]*node
	parts   map[*ir.Node][]*node
	// products are the matrix products by the view that has their operands' axes.
	products map[*node]*node
}

// add appends a node, or returns an equal one that is there already.
func (g *graph) add(op compute.OpType, dtype dtypes.DType, dims []int, attrs any, in ...*node) *node {
	return g.insert(&node{op: op, dtype: dtype, dims: slices.Clone(dims), attrs: attrs, in: in})
}

func (g *graph) insert(n *node) *node {
	for _, in := range n.in {
		for _, dep := range in.afterAsView() {
			if !slices.Contains(n.after, dep) {
				n.after = append(n.after, dep)
			}
		}
	}
	key := ""
	if n.repeatable() {
		key = n.key()
		if same, ok := g.known[key]; ok {
			return same
		}
	}
	n.id = len(g.nodes)
	n.base, n.where = n, dense(n.dims)
	g.nodes = append(g.nodes, n)
	if key != "" {
		g.known[key] = n
	}
	return n
}

// afterAsView lists what a reader of n must wait for besides n's base.
func (n *node) afterAsView() []*node {
	if n.isView() {
		return n.after
	}
	return nil
}

// repeatable says whether an equal operation gives an equal value and may be shared.
func (n *node) repeatable() bool {
	switch n.op {
	case opInput, opPartOut, compute.OpTypeSchedulingBarrier, compute.OpTypeOptimizationBarrier, compute.OpTypeWhile, compute.OpTypeIf,
		compute.OpTypeCall, compute.OpTypeSort:
		return false
	case compute.OpTypeConstant:
		return n.size() == 1
	}
	return n.parts <= 1
}

func (n *node) key() string {
	ids := make([]int, len(n.in))
	for i, in := range n.in {
		ids[i] = in.id
	}
	attrs := n.attrs
	if constant, ok := attrs.(ir.ConstantAttrs); ok {
		return fmt.Sprintf("const %v %T %v", n.dims, constant.Flat, bitsOf(constant.Flat))
	}
	return fmt.Sprintf("%d %d %v %v %T%+v", n.op, n.dtype, n.dims, ids, attrs, attrs)
}

// view appends a view of x, or returns x when it is the same.
func (g *graph) view(x *node, dims []int, where layout) *node {
	if slices.Equal(dims, x.dims) && where.offset == x.where.offset && slices.Equal(where.strides, x.where.strides) {
		return x
	}
	n := g.insert(&node{op: opView, dtype: x.dtype, dims: slices.Clone(dims), attrs: where, in: []*node{x}})
	n.base, n.where = x.base, where
	return n
}

// copied makes a node dense.
func (g *graph) copied(x *node) *node {
	if x.where.isDense(x.dims) && x.size() == x.base.size() {
		return g.view(x, x.dims, dense(x.dims))
	}
	return g.add(opCopy, x.dtype, x.dims, nil, x)
}

func (g *graph) reshape(x *node, dims []int) *node {
	where, ok := x.where.reshaped(x.dims, dims)
	if !ok {
		x = g.copied(x)
		where = dense(dims)
	}
	return g.view(x, dims, where)
}

func (g *graph) transpose(x *node, permutation []int) *node {
	if same := g.swapped(x, permutation); same != nil {
		return same
	}
	dims := make([]int, len(permutation))
	for i, p := range permutation {
		dims[i] = x.dims[p]
	}
	return g.view(x, dims, x.where.transposed(permutation))
}

func (g *graph) broadcast(x *node, dims, axes []int) *node {
	return g.view(x, dims, x.where.broadcast(x.dims, dims, axes))
}

// spread broadcasts an operand of an element-wise operation to the result's dimensions: scalars, and axes of length 1.
func (g *graph) spread(x *node, dims []int) *node {
	if slices.Equal(x.dims, dims) {
		return x
	}
	axes := make([]int, len(x.dims))
	for i := range axes {
		axes[i] = len(dims) - len(x.dims) + i
	}
	return g.broadcast(x, dims, axes)
}

// link fills uses for the nodes that outputs need, and drops all others.
func (g *graph) link() {
	needed := make([]bool, len(g.nodes))
	var need func(n *node)
	need = func(n *node) {
		if needed[n.id] {
			return
		}
		needed[n.id] = true
		for _, in := range n.in {
			need(in)
		}
		for _, in := range n.after {
			need(in)
		}
	}
	for _, n := range g.outputs {
		need(n)
		n.base.kept = true
	}
	for _, n := range g.inputs {
		needed[n.id] = true
	}
	nodes := g.nodes[:0]
	for _, n := range g.nodes {
		if needed[n.id] {
			nodes = append(nodes, n)
		}
	}
	g.nodes = nodes
	for i, n := range g.nodes {
		n.id = i
		if n.isView() {
			continue
		}
		for _, in := range n.in {
			in.base.uses = append(in.base.uses, n)
		}
	}
}
