package model

import (
	"math"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/internal/vjp"
)

// batchShape is the shape of a batch: rows of length tokens. tokensFirst says that heads are kept as [B, T, heads, h], not as
// [B, heads, T, h].
type batchShape struct {
	rows, length int
	tokensFirst  bool
}

func (s batchShape) tokens() int { return s.rows * s.length }

// attentionScale multiplies the scores of queries and keys.
func (c Config) attentionScale() float64 { return 1 / math.Sqrt(float64(c.HeadDim)) }

// masked is added to the scores of keys that a query does not see. It is finite, so that a row that sees nothing gives
// numbers, and exp of it is 0 beside any score that occurs.
const masked = -1e9

// Queries are taken in at most attentionBlocks blocks of at least attentionRows, each with only the keys up to its last: with
// four blocks the scores are 0.63 of the full square, with eight 0.56, and so is their memory.
const (
	attentionBlocks = 8
	attentionRows   = 64
)

// blockRows is how many queries a block takes of rows of the given length.
func blockRows(length int) int {
	return max(attentionRows, (length+attentionBlocks-1)/attentionBlocks)
}

// mask says which keys each query of a block sees: fused where the backend attends itself, else blocks.
type mask struct {
	blocks []maskBlock
	fused  *compute.ScaledDotProductAttentionConfig
}

// maskBlock is for queries from (included) to (excluded) and keys first to "to".
type maskBlock struct {
	from, to, first int
	add             *Node // float32 [B·key/value heads, group·(to-from), to-first], 0 or masked
}

// fusedAttention says whether the graph's backend attends to float32 in one operation that never holds the scores, and has its
// gradient. XLA has them where there is cuDNN, but for half precision only.
func fusedAttention(g *Graph) bool {
	has := g.Backend().Capabilities().Operations
	return has[compute.OpTypeFusedScaledDotProductAttention] && has[compute.OpTypeFusedScaledDotProductAttentionVJP] &&
		g.Backend().Name() != "xla"
}

// newMask builds the causal mask of a batch: a query sees keys of its own segment, at most window (0: any number) tokens
// back from itself included. segments is int32 [B, T], nil for one segment a row.
func newMask(g *Graph, c Config, shape batchShape, segments *Node) *mask {
	if shape.tokensFirst {
		return newFusedMask(g, c, shape, segments)
	}
	m := &mask{}
	rows := blockRows(shape.length)
	for from := 0; from < shape.length; from += rows {
		to := min(from+rows, shape.length)
		first := 0
		if c.SlidingWindow > 0 {
			first = max(0, from-c.SlidingWindow+1)
		}
		seen := positionMask(g, from, to, first, c.SlidingWindow) // [to-from, to-first]
		n := (to - from) * (to - first)
		if segments != nil {
			query := ExpandAxes(SliceAxis(segments, 1, AxisRange(from, to)), 2)
			key := ExpandAxes(SliceAxis(segments, 1, AxisRange(first, to)), 1)
			seen = LogicalAnd(ExpandAxes(seen, 0), Equal(query, key))
			seen = Reshape(seen, shape.rows, n)
		} else {
			seen = Reshape(seen, 1, n)
		}
		add := Reshape(repeat(addend(seen), shape.rows, c.Heads), shape.rows*c.KVHeads, -1, to-first)
		m.blocks = append(m.blocks, maskBlock{from: from, to: to, first: first, add: add})
	}
	return m
}

// newFusedMask is newMask for fused attention of queries that come scaled. What is more than causality is a bool mask
// [B or 1, T, 1, T], in the order of the queries' axes.
func newFusedMask(g *Graph, c Config, shape batchShape, segments *Node) *mask {
	config := &compute.ScaledDotProductAttentionConfig{Scale: 1, Causal: segments == nil && c.SlidingWindow == 0}
	if config.Causal {
		return &mask{fused: config}
	}
	seen := ExpandAxes(positionMask(g, 0, shape.length, 0, c.SlidingWindow), 0, 2)
	if segments != nil {
		seen = LogicalAnd(seen, Equal(ExpandAxes(segments, 2, 3), ExpandAxes(segments, 1, 2)))
	}
	config.Mask = InternalBackendOutputs(seen)[0]
	return &mask{fused: config}
}

// positionMask is true where query row (from + i) sees key (first + j) by position.
func positionMask(g *Graph, from, to, first, window int) *Node {
	shape := shapes.Make(dtypes.Int32, to-from, to-first)
	return sees(AddScalar(Iota(g, shape, 0), float64(from)), AddScalar(Iota(g, shape, 1), float64(first)), window)
}

// sees is true where a query at one position sees a key at another, int32 of one shape: not ahead of it, and at most window (0: any
// number) tokens back from itself included.
func sees(query, key *Node, window int) *Node {
	seen := LessOrEqual(key, query)
	if window > 0 {
		seen = LogicalAnd(seen, LessThan(Sub(query, key), Scalar(key.Graph(), dtypes.Int32, window)))
	}
	return seen
}

// addend is what is added to the scores: 0 where seen, masked elsewhere.
func addend(seen *Node) *Node {
	g := seen.Graph()
	return Where(seen, Scalar(g, dtypes.Float32, 0), Scalar(g, dtypes.Float32, masked))
}

// constants lists the nodes that need no gradient.
func (m *mask) constants() []*Node {
	var out []*Node
	for _, block := range m.blocks {
		out = append(out, block.add)
	}
	return out
}

// attend returns the attention's output [B·T, heads·h] for scaled queries, keys and values as splitHeads gives them.
func attend(q, k, v *Node, shape batchShape, m *mask) *Node {
	if m.fused != nil {
		y, _ := BackendFusedScaledDotProductAttention(q, k, v, compute.AttentionAxesLayoutBSHD, m.fused)
		return Reshape(y, shape.tokens(), -1)
	}
	d, kv := q.Shape().Dimensions, k.Shape().Dim(1)
	grouped := func(x *Node) *Node { return Reshape(x, d[0]*kv, d[2], d[3]) }
	y := attendBlocks(Reshape(q, d[0]*kv, d[1]/kv, d[2], d[3]), grouped(k), grouped(v), m)
	return mergeHeads(Reshape(y, d...))
}

// attendBlocks returns softmax(q kᵀ + mask) v for scaled queries q [B·kv, group, T, h] and keys and values [B·kv, T, h], block by
// block of queries: [B·kv, group, T, h]. For the backward pass it keeps the probabilities.
func attendBlocks(q, k, v *Node, m *mask) *Node {
	blocks := make([]*attentionBlock, len(m.blocks))
	forward := func() *Node {
		outputs := make([]*Node, len(blocks))
		for i, part := range m.blocks {
			blocks[i] = newAttentionBlock(q, k, v, part)
			outputs[i] = blocks[i].output
		}
		return joinAxis(outputs, 2)
	}
	return vjp.Custom([]*Node{q, k, v}, forward, func(_, dy *Node) []*Node {
		var dq []*Node
		var dk, dv *Node
		for _, block := range blocks {
			q, k, v := block.gradients(dy)
			dq = append(dq, q)
			dk, dv = block.addKeys(dk, k, dy), block.addKeys(dv, v, dy)
		}
		return []*Node{joinAxis(dq, 2), dk, dv}
	})
}

// attentionBlock is the attention of one block of queries.
type attentionBlock struct {
	maskBlock
	q, k, v       *Node // [B·kv, group·rows, h], [B·kv, keys, h] twice
	probabilities *Node // [B·kv, group·rows, keys]
	output        *Node // [B·kv, group, rows, h]
}

func newAttentionBlock(q, k, v *Node, part maskBlock) *attentionBlock {
	b := &attentionBlock{maskBlock: part}
	b.q = b.queryRows(q)
	b.k, b.v = sliceAxis(k, 1, part.first, part.to), sliceAxis(v, 1, part.first, part.to)
	scores := Add(batched(b.q, 2, b.k, 2), part.add)
	b.probabilities = Softmax(scores, -1)
	dims := q.Shape().Dimensions
	b.output = Reshape(batched(b.probabilities, 2, b.v, 1), dims[0], dims[1], part.to-part.from, dims[3])
	return b
}

// queryRows returns the block's rows of x [B·kv, group, T, h] as [B·kv, group·rows, h].
func (b *attentionBlock) queryRows(x *Node) *Node {
	dims := x.Shape().Dimensions
	return Reshape(sliceAxis(x, 2, b.from, b.to), dims[0], -1, dims[3])
}

// gradients returns dq [B·kv, group, rows, h] and dk, dv [B·kv, keys, h] from the adjoint of the whole output. dk and dv
// come from products that transpose their narrow operand instead of the square one.
func (b *attentionBlock) gradients(dy *Node) (dq, dk, dv *Node) {
	dims := dy.Shape().Dimensions
	dout := b.queryRows(dy)
	p := b.probabilities
	dp := batched(dout, 2, b.v, 2)
	along := DotGeneral(p, []int{2}, []int{0, 1}, dp, []int{2}, []int{0, 1}) // Σ p dp of each row, [B·kv, group·rows]
	keys := p.Shape().Dim(2)
	ds := Mul(p, Sub(dp, Reshape(outer(Reshape(along, -1), ones(p, keys)), p.Shape().Dimensions...)))
	dq = Reshape(batched(ds, 2, b.k, 1), dims[0], dims[1], b.to-b.from, dims[3])
	narrow := func(x, square *Node) *Node { // squareᵀ x
		return Transpose(batched(Transpose(x, 1, 2), 2, square, 1), 1, 2)
	}
	return dq, narrow(b.q, ds), narrow(dout, p)
}

// batched contracts an axis of x with one of y, both [batch, ...].
func batched(x *Node, xAxis int, y *Node, yAxis int) *Node {
	return DotGeneral(x, []int{xAxis}, []int{0}, y, []int{yAxis}, []int{0})
}

// addKeys adds x [B·kv, keys of the block, h] to sum [B·kv, T, h], nil for zero.
func (b *attentionBlock) addKeys(sum, x, dy *Node) *Node {
	length := dy.Shape().Dim(2)
	if b.first > 0 || b.to < length {
		none := compute.PadAxis{}
		x = Pad(x, ScalarZero(x.Graph(), x.DType()), none, compute.PadAxis{Start: b.first, End: length - b.to}, none)
	}
	if sum == nil {
		return x
	}
	return Add(sum, x)
}

// sliceAxis returns x from start to end along an axis, x itself when that is all of it.
func sliceAxis(x *Node, axis, start, end int) *Node {
	if start == 0 && end == x.Shape().Dim(axis) {
		return x
	}
	return SliceAxis(x, axis, AxisRange(start, end))
}

// joinAxis concatenates along an axis.
func joinAxis(parts []*Node, axis int) *Node {
	if len(parts) == 1 {
		return parts[0]
	}
	return Concatenate(parts, axis)
}

// splitHeads turns x [B·T, heads·h] into [B, heads, T, h], or [B, T, heads, h] if the shape says so.
func splitHeads(x *Node, shape batchShape, heads int) *Node {
	x = Reshape(x, shape.rows, shape.length, heads, -1)
	if shape.tokensFirst {
		return x
	}
	return TransposeAllAxes(x, 0, 2, 1, 3)
}

// mergeHeads turns x [B, heads, T, h] into [B·T, heads·h].
func mergeHeads(x *Node) *Node {
	d := x.Shape().Dimensions
	return Reshape(TransposeAllAxes(x, 0, 2, 1, 3), d[0]*d[2], d[1]*d[3])
}
