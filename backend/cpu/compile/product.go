package compile

import (
	"math"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/polargo/polar/backend/cpu/ir"
)

// opProduct is a batch of matrix products: in[0] is [batch..., M..., K...], in[1] is [batch..., K..., N...], the node [batch, M, N].
const opProduct = compute.OpType(20_100)

// productAttrs says how the axes of the operands are grouped; each group but the batch has one stride in memory.
type productAttrs struct {
	batchAxes, rowAxes, innerAxes, columnAxes int
	batch, m, n, k                            int
	full                                      bool // operands are not rounded, whatever the options say
}

// product turns a DotGeneral into element-wise operations and sums where it is no more than that, so that it fuses, and into
// matrix products otherwise. It returns nil for types without native products.
func (g *graph) product(n *ir.Node, a, b *node) *node {
	attrs := n.Attrs.(ir.DotGeneralAttrs)
	dtype := a.dtype
	if b.dtype != dtype {
		return nil
	}
	switch dtype {
	case dtypes.BFloat16:
		dims := n.Dims()
		wide := func(x *node) *node { return g.element(compute.OpTypeConvertDType, dtypes.Float32, x.dims, x) }
		out := g.multiply(attrs, wide(a), wide(b))
		return g.element(compute.OpTypeConvertDType, n.DType(), dims, out)
	case dtypes.Float32, dtypes.Float64:
		if n.DType() != dtype {
			return nil
		}
		return g.multiply(attrs, a, b)
	}
	return nil
}

// grouped is an operand with its axes in the order batch, first group, second group.
func (g *graph) grouped(x *node, groups ...[]int) *node {
	return g.transpose(x, slices.Concat(groups...))
}

func rest(rank int, taken ...[]int) []int {
	var out []int
	for i := range rank {
		if !slices.Contains(slices.Concat(taken...), i) {
			out = append(out, i)
		}
	}
	return out
}

func dimsOf(x *node, axes []int) []int {
	out := make([]int, len(axes))
	for i, axis := range axes {
		out[i] = x.dims[axis]
	}
	return out
}

func (g *graph) multiply(attrs ir.DotGeneralAttrs, a, b *node) *node {
	leftInner, rightInner := innerOrder(a, b, attrs)
	rows := rest(len(a.dims), attrs.LeftBatch, leftInner)
	columns := rest(len(b.dims), attrs.RightBatch, rightInner)
	p := productAttrs{batchAxes: len(attrs.LeftBatch), rowAxes: len(rows), innerAxes: len(leftInner), columnAxes: len(columns),
		batch: size(dimsOf(a, attrs.LeftBatch)), m: size(dimsOf(a, rows)), n: size(dimsOf(b, columns)), k: size(dimsOf(a, leftInner)),
		full: attrs.Config.AccumulatorDType == a.dtype}
	dims := slices.Concat(dimsOf(a, attrs.LeftBatch), dimsOf(a, rows), dimsOf(b, columns))
	left := g.grouped(a, attrs.LeftBatch, rows, leftInner)
	right := g.grouped(b, attrs.RightBatch, rightInner, columns)
	return g.multiplyGrouped(p, left, right, dims)
}

// innerOrder is the order of the contracted axes: that of the left operand's memory, so that they are one axis where they can be.
func innerOrder(a, b *node, attrs ir.DotGeneralAttrs) (left, right []int) {
	order := make([]int, len(attrs.LeftContracting))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		return a.where.strides[attrs.LeftContracting[j]] - a.where.strides[attrs.LeftContracting[i]]
	})
	for _, i := range order {
		left = append(left, attrs.LeftContracting[i])
		right = append(right, attrs.RightContracting[i])
	}
	return left, right
}

func (g *graph) multiplyGrouped(p productAttrs, left, right *node, dims []int) *node {
	if out := g.simpleProduct(p, left, right, dims); out != nil {
		return out
	}
	left = g.matrices(left, p.batchAxes, p.rowAxes)
	right = g.matrices(right, p.batchAxes, p.innerAxes)
	out := g.add(opProduct, left.dtype, []int{p.batch, p.m, p.n}, p, left, right)
	view := g.reshape(out, dims)
	g.products[view] = out
	return view
}

// matrices is x if each of the groups of axes after the batch has one stride, which is not negative, else a dense copy.
func (g *graph) matrices(x *node, batchAxes, firstAxes int) *node {
	for _, group := range [][2]int{{batchAxes, batchAxes + firstAxes}, {batchAxes + firstAxes, len(x.dims)}} {
		a := collapse(0, x.dims[group[0]:group[1]], x.where.strides[group[0]:group[1]])
		if len(a.dims) > 1 || len(a.dims) == 1 && a.strides[0] < 0 {
			return g.copied(x)
		}
	}
	return x
}

// simpleProduct writes products with one term in each sum, with a constant operand, or of rows with rows as element-wise
// operations and sums; nil where there is more to it.
func (g *graph) simpleProduct(p productAttrs, left, right *node, dims []int) *node {
	if !native(left.dtype) || p.k == 0 || size(dims) == 0 {
		return nil
	}
	batch, rows, columns := axisRange(0, p.batchAxes), axisRange(p.batchAxes, p.rowAxes), axisRange(p.batchAxes+p.rowAxes, p.columnAxes)
	innerLeft := axisRange(p.batchAxes+p.rowAxes, p.innerAxes)
	innerRight := axisRange(p.batchAxes, p.innerAxes)
	overColumns := func(x *node) *node { return g.broadcast(x, dims, slices.Concat(batch, rows)) } // of [batch, M]
	overRows := func(x *node) *node { return g.broadcast(x, dims, slices.Concat(batch, columns)) } // of [batch, N]
	sumLeft := func() *node { return g.reduce(compute.OpTypeReduceSum, left, innerLeft) }
	sumRight := func() *node { return g.reduce(compute.OpTypeReduceSum, right, innerRight) }
	times := func(a, b *node) *node { return g.element(compute.OpTypeMul, left.dtype, a.dims, a, b) }
	switch constantLeft, known := left.uniform(); {
	case p.k == 1:
		a := g.reshape(left, left.dims[:p.batchAxes+p.rowAxes])
		b := g.reshape(right, slices.Concat(right.dims[:p.batchAxes], right.dims[p.batchAxes+p.innerAxes:]))
		return times(overColumns(a), overRows(b))
	case known && tame(constantLeft):
		one := g.scalarOf(left)
		sum := sumRight()
		return overRows(times(sum, g.spread(one, sum.dims)))
	case p.m == 1 && p.n == 1:
		a := g.reshape(left, []int{p.batch, p.k})
		b := g.reshape(right, []int{p.batch, p.k})
		return g.reshape(g.reduce(compute.OpTypeReduceSum, times(a, b), []int{1}), dims)
	case p.batch == 1 && p.m == 1 && fusible(right.base) && right.base.op != opCopy:
		a := g.broadcast(g.reshape(left, []int{p.k}), []int{p.k, p.n}, []int{0})
		return g.reshape(g.reduce(compute.OpTypeReduceSum, times(a, g.reshape(right, []int{p.k, p.n})), []int{0}), dims)
	case p.batch == 1 && p.n == 1 && fusible(left.base) && left.base.op != opCopy:
		b := g.broadcast(g.reshape(right, []int{p.k}), []int{p.m, p.k}, []int{1})
		return g.reshape(g.reduce(compute.OpTypeReduceSum, times(g.reshape(left, []int{p.m, p.k}), b), []int{1}), dims)
	}
	if constantRight, known := right.uniform(); known && tame(constantRight) {
		one := g.scalarOf(right)
		sum := sumLeft()
		return overColumns(times(sum, g.spread(one, sum.dims)))
	}
	return nil
}

// tame says whether a sum may be multiplied by a number instead of its terms: not if the sum could overflow where the terms do not,
// but for the last 2^20 below the largest number, and not by what is not finite.
func tame(x float64) bool { return x == 0 || math.Abs(x) >= 0x1p-20 && math.Abs(x) <= math.MaxFloat32 }

// scalarOf is the scalar constant that a uniform node is a view of.
func (g *graph) scalarOf(x *node) *node { return g.reshape(x.base, nil) }

func axisRange(from, count int) []int {
	out := make([]int, count)
	for i := range out {
		out[i] = from + i
	}
	return out
}

// swapped returns the transposed product where a transposition exchanges the rows and columns of one, nil otherwise.
func (g *graph) swapped(x *node, permutation []int) *node {
	out, ok := g.products[x]
	if !ok {
		return nil
	}
	p := out.attrs.(productAttrs)
	batch := axisRange(0, p.batchAxes)
	rows := axisRange(p.batchAxes, p.rowAxes)
	columns := axisRange(p.batchAxes+p.rowAxes, p.columnAxes)
	if len(rows) == 0 || len(columns) == 0 || !slices.Equal(permutation, slices.Concat(batch, columns, rows)) {
		return nil
	}
	left, right := out.in[0], out.in[1]
	left = g.grouped(left, batch, axisRange(p.batchAxes+p.rowAxes, p.innerAxes), rows)
	right = g.grouped(right, batch, axisRange(p.batchAxes+p.innerAxes, p.columnAxes), innerRightAxes(p))
	dims := make([]int, len(permutation))
	for i, axis := range permutation {
		dims[i] = x.dims[axis]
	}
	p.rowAxes, p.columnAxes, p.m, p.n = p.columnAxes, p.rowAxes, p.n, p.m
	return g.multiplyGrouped(p, right, left, dims)
}

func innerRightAxes(p productAttrs) []int { return axisRange(p.batchAxes, p.innerAxes) }
