package model

import (
	"math"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/internal/vjp"
)

// The key/value cache of a layer is two arrays [kv heads, capacity, head dimension]; row i holds the keys of token i, already
// rotated. Rows past the tokens seen so far hold old, finite numbers, which the mask hides. The graph reads the cache and
// returns the new tokens' rows; the host puts them in place, since the Go backend has no operation for it.

// extension is a forward pass over a few tokens that follow those in the cache.
type extension struct {
	pass
	positions *Node // int32 [1, count]
	old, new  *Node // masks of the cached and the new keys, [group·count, capacity] and [group·count, count]
	cache     []*Node
	rows      []*Node // keys and values of the new tokens, layer by layer, [kv heads, count, h]
}

// extend builds the logits [vocabulary] of token "last" of tokens int32 [1, count], whose positions begin at start, and their
// rows for the cache.
func (d *Decoder) extend(store *mlmodel.Store, opts Options, tokens, start, last *Node, cache []*Node) (logits *Node, rows []*Node) {
	g := tokens.Graph()
	count, capacity := tokens.Shape().Dim(1), cache[0].Shape().Dim(1)
	e := &extension{cache: cache}
	e.pass = pass{Decoder: d, store: store, opts: opts, graph: g, shape: batchShape{rows: 1, length: count}}
	e.positions = Add(Iota(g, shapes.Make(dtypes.Int32, 1, count), 1), start)
	if d.cfg.Positions == Rotary {
		e.rope = newRotary(g, d.cfg, e.shape, capacity, e.positions)
	}
	cached := Iota(g, shapes.Make(dtypes.Int32, capacity), 0)
	none := Scalar(g, dtypes.Int32, math.MaxInt32) // behind no token
	e.old = e.visible(Where(LessThan(cached, BroadcastToDims(start, capacity)), cached, BroadcastToDims(none, capacity)))
	e.new = e.visible(Reshape(e.positions, count))
	x := e.embedAt(tokens)
	for i := range d.blocks {
		b := &d.blocks[i]
		x = Add(x, e.attend(i, b, e.norm(b.norm1, d.cfg.Norm, x)))
		x = Add(x, e.mlp(b, e.norm(b.norm2, d.cfg.Norm, x)))
	}
	x = Gather(x, Reshape(last, 1, 1)) // [1, hidden]
	x = e.norm(d.finalNormName(), d.cfg.Norm, x)
	return Reshape(vjp.Times(x, e.parameter(d.headName()), 1), -1), e.rows
}

// embedAt is embed at the cache's end. Padding after the last token may lie past the learned positions, and takes the last.
func (e *extension) embedAt(tokens *Node) *Node {
	in := Inputs{Tokens: tokens}
	if e.cfg.Positions == Learned {
		in.Positions = Min(e.positions, Scalar(e.graph, dtypes.Int32, e.cfg.MaxPositions-1))
	}
	return e.embed(in)
}

// visible is the mask of keys at the given positions, int32 [n], for the new tokens: the same for every head, once for each
// head of a group.
func (e *extension) visible(keys *Node) *Node {
	count, n := e.shape.length, keys.Shape().Dim(0)
	query := BroadcastToDims(Reshape(e.positions, count, 1), count, n)
	key := BroadcastToDims(Reshape(keys, 1, n), count, n)
	add := addend(sees(query, key, e.cfg.SlidingWindow))
	group := e.cfg.Heads / e.cfg.KVHeads
	return Reshape(repeat(Reshape(add, 1, -1), 1, group), 1, group*count, n)
}

// attend builds the attention of layer i over the cache and the new tokens.
func (e *extension) attend(i int, b *block, x *Node) *Node {
	c, count := e.cfg, e.shape.length
	q, k, v := e.project(b, x)
	q, k = e.positioned(b, q, k)
	v = splitHeads(v, e.shape, c.KVHeads)
	k, v = Reshape(k, c.KVHeads, count, c.HeadDim), Reshape(v, c.KVHeads, count, c.HeadDim)
	e.rows = append(e.rows, k, v)
	q = Reshape(q, c.KVHeads, c.Heads/c.KVHeads*count, c.HeadDim)
	scores := Concatenate([]*Node{Add(batched(q, 2, e.cache[2*i], 2), e.old), Add(batched(q, 2, k, 2), e.new)}, 2)
	p := Softmax(scores, -1)
	capacity := e.cache[2*i].Shape().Dim(1)
	old, new := sliceAxis(p, 2, 0, capacity), sliceAxis(p, 2, capacity, capacity+count)
	y := Add(batched(old, 2, e.cache[2*i+1], 1), batched(new, 2, v, 1))
	return e.linear(b.o, b.oBias, mergeHeads(Reshape(y, 1, c.Heads, count, c.HeadDim)))
}
