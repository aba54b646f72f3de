package model

import (
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/internal/vjp"
)

// The key/value cache of a layer is two arrays [kv heads, capacity, head dimension]; row i holds the keys of token i, already
// rotated. Rows past the tokens seen so far hold anything: the mask hides them, and a later token overwrites them.

// extension is a forward pass over a few tokens that follow those in the cache.
type extension struct {
	pass
	positions *Node // int32 [1, count]
	start     *Node // int32 scalar, the first token's position
	capacity  int
	seen      *Node // [group·count, capacity], 0 or masked
	cache     []*Node
	updated   []*Node
}

// extend builds the logits [vocabulary] of token "last" of tokens int32 [1, count], whose positions begin at start, and the
// cache with them added.
func (d *Decoder) extend(store *mlmodel.Store, opts Options, tokens, start, last *Node, cache []*Node) (logits *Node, updated []*Node) {
	g := tokens.Graph()
	count := tokens.Shape().Dim(1)
	e := &extension{start: start, capacity: cache[0].Shape().Dim(1), cache: cache}
	e.pass = pass{Decoder: d, store: store, opts: opts, graph: g, shape: batchShape{1, count}}
	e.positions = Add(Iota(g, shapes.Make(dtypes.Int32, 1, count), 1), start)
	if d.cfg.Positions == Rotary {
		e.rope = newRotary(g, d.cfg, e.shape, e.capacity, e.positions)
	}
	e.seen = e.visible()
	x := e.embedAt(tokens)
	for i := range d.blocks {
		b := &d.blocks[i]
		x = Add(x, e.attend(i, b, e.norm(b.norm1, d.cfg.Norm, x)))
		x = Add(x, e.mlp(b, e.norm(b.norm2, d.cfg.Norm, x)))
	}
	x = Gather(x, Reshape(last, 1, 1)) // [1, hidden]
	x = e.norm(d.finalNormName(), d.cfg.Norm, x)
	return Reshape(vjp.Times(x, e.parameter(d.headName()), 1), -1), e.updated
}

// embedAt is embed at the cache's end. Padding after the last token may lie past the learned positions, and takes the last.
func (e *extension) embedAt(tokens *Node) *Node {
	in := Inputs{Tokens: tokens}
	if e.cfg.Positions == Learned {
		in.Positions = Min(e.positions, Scalar(e.graph, dtypes.Int32, e.cfg.MaxPositions-1))
	}
	return e.embed(in)
}

// visible is the mask of the new tokens, the same for every head, once for each head of a group.
func (e *extension) visible() *Node {
	count := e.shape.length
	key := Iota(e.graph, shapes.Make(dtypes.Int32, count, e.capacity), 1)
	back := Sub(BroadcastToDims(Reshape(e.positions, count, 1), count, e.capacity), key) // how far the key is behind
	seen := GreaterOrEqual(back, ZerosLike(back))
	if window := e.cfg.SlidingWindow; window > 0 {
		seen = LogicalAnd(seen, LessThan(back, Scalar(e.graph, dtypes.Int32, window)))
	}
	add := Where(seen, Scalar(e.graph, dtypes.Float32, 0), Scalar(e.graph, dtypes.Float32, masked))
	group := e.cfg.Heads / e.cfg.KVHeads
	return Reshape(repeat(Reshape(add, 1, -1), 1, group), group*count, e.capacity)
}

// attend builds the attention of layer i over the cache with the new tokens added.
func (e *extension) attend(i int, b *block, x *Node) *Node {
	c, count := e.cfg, e.shape.length
	q, k, v := e.project(b, x)
	q, k = e.positioned(b, q, k)
	v = splitHeads(v, e.shape, c.KVHeads)
	keys, values := e.add(2*i, k), e.add(2*i+1, v)
	q = Reshape(q, c.KVHeads, c.Heads/c.KVHeads*count, c.HeadDim)
	scores := Add(batched(q, 2, keys, 2), ExpandAxes(e.seen, 0))
	y := batched(Softmax(scores, -1), 2, values, 1)
	return e.linear(b.o, b.oBias, mergeHeads(Reshape(y, 1, c.Heads, count, c.HeadDim)))
}

// add puts x [1, kv heads, count, h] into a cache array at the new tokens' rows.
func (e *extension) add(at int, x *Node) *Node {
	zero := ZerosLike(e.start)
	now := DynamicUpdateSlice(e.cache[at], Reshape(x, e.cfg.KVHeads, e.shape.length, e.cfg.HeadDim), []*Node{zero, e.start, zero})
	e.updated = append(e.updated, now)
	return now
}
