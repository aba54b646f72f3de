package model

import (
	"math"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/internal/vjp"
)

// rotary rotates queries and keys by their positions. Ref: Su et al. 2021, arXiv 2104.09864, in the layout of halves.
type rotary struct {
	// Tables of the shape of what they rotate, [B, heads, T, head dimension], or [B or 1, T, 1, head dimension] for tokens first;
	// those of the queries carry the attention's scale.
	cosQ, sinQ, cosK, sinK *Node
	// swap is the matrix for which x·swap is x with its halves exchanged, [h, h]; nil for tokens first, where a copy does it. The
	// sines of the first half are negative.
	swap *Node
}

// frequencies returns the rotation of each pair of a head of the given dimension per position, in radians.
func (r Rope) frequencies(headDim int) []float64 {
	out := make([]float64, headDim/2)
	for i := range out {
		f := math.Pow(r.Base, -2*float64(i)/float64(headDim))
		switch s := r.Scaling; s.Type {
		case "linear":
			f /= s.Factor
		case "llama3":
			f = s.llama3(f)
		}
		out[i] = f
	}
	return out
}

// llama3 divides frequencies of long waves by Factor, keeps those of short ones and blends in between, as Llama 3.1 does.
func (s RopeScaling) llama3(f float64) float64 {
	turns := float64(s.OriginalMaxPositions) * f / (2 * math.Pi) // over the trained context
	switch {
	case turns < s.LowFreqFactor:
		return f / s.Factor
	case turns > s.HighFreqFactor:
		return f
	}
	keep := (turns - s.LowFreqFactor) / (s.HighFreqFactor - s.LowFreqFactor)
	return keep*f + (1-keep)*f/s.Factor
}

// angles returns the cosines and sines of positions 0 to count-1, [count, headDim] row-major, times scale. The sines of the first
// half are negated: x turns to x·cos + (x with its halves exchanged)·sin.
func (r Rope) angles(count, headDim int, scale float64) (cos, sin []float32) {
	frequencies := r.frequencies(headDim)
	half := headDim / 2
	cos, sin = make([]float32, count*headDim), make([]float32, count*headDim)
	for p := range count {
		for i, f := range frequencies {
			s, c := math.Sincos(float64(p) * f)
			at := p*headDim + i
			cos[at], cos[at+half] = float32(scale*c), float32(scale*c)
			sin[at], sin[at+half] = float32(-scale*s), float32(scale*s)
		}
	}
	return cos, sin
}

// newRotary builds the tables for tokens at the given positions, int32 [B, T] below count, or 0 to T-1 in each row when nil.
func newRotary(g *Graph, c Config, shape batchShape, count int, positions *Node) *rotary {
	table := func(values []float32, heads int) *Node {
		node := Reshape(Const(g, values), count, c.HeadDim)
		if positions == nil {
			node = Reshape(node, 1, count*c.HeadDim)
		} else {
			node = Reshape(Gather(node, ExpandAxes(positions, -1)), shape.rows, shape.length*c.HeadDim)
		}
		if shape.tokensFirst {
			return Reshape(node, -1, shape.length, 1, c.HeadDim)
		}
		return Reshape(repeat(node, shape.rows, heads), shape.rows, heads, shape.length, c.HeadDim)
	}
	r := &rotary{}
	cos, sin := c.Rope.angles(count, c.HeadDim, c.attentionScale())
	r.cosQ, r.sinQ = table(cos, c.Heads), table(sin, c.Heads)
	cos, sin = c.Rope.angles(count, c.HeadDim, 1)
	r.cosK, r.sinK = table(cos, c.KVHeads), table(sin, c.KVHeads)
	if shape.tokensFirst {
		return r
	}
	half := c.HeadDim / 2
	swap := make([]float32, c.HeadDim*c.HeadDim)
	for i := range half {
		swap[(i+half)*c.HeadDim+i] = 1
		swap[i*c.HeadDim+i+half] = 1
	}
	r.swap = Reshape(Const(g, swap), c.HeadDim, c.HeadDim)
	return r
}

// repeat returns x [1 or rows, n], each row repeated: [rows, times, n]. A product writes it faster than a broadcast, and is
// not folded back into its users, where it would be done again for each of them.
func repeat(x *Node, rows, times int) *Node {
	n := x.Shape().Dim(1)
	if x.Shape().Dim(0) == 1 {
		return Reshape(outer(ones(x, rows*times), x), rows, times, n)
	}
	column := Reshape(ones(x, rows*times), rows, times, 1)
	return DotGeneral(column, []int{2}, []int{0}, Reshape(x, rows, 1, n), []int{1}, []int{0})
}

func (r *rotary) rotate(x, cos, sin *Node) *Node {
	if r.swap != nil {
		swapped := DotGeneral(x, []int{3}, nil, r.swap, []int{0}, nil)
		return Add(Mul(x, cos), Mul(swapped, sin))
	}
	turn := func(x, sin *Node) *Node {
		d := x.Shape().Dimensions
		halves := Reshape(x, d[0], d[1], d[2], 2, d[3]/2)
		return Add(Mul(x, cos), Mul(Reshape(Reverse(halves, 3), d...), sin))
	}
	return vjp.Custom([]*Node{x}, func() *Node { return turn(x, sin) }, func(_, dy *Node) []*Node {
		return []*Node{turn(dy, Neg(sin))} // back by the same angle
	})
}

// queries rotates and scales queries as splitHeads gives them; keys rotates keys.
func (r *rotary) queries(x *Node) *Node { return r.rotate(x, r.cosQ, r.sinQ) }
func (r *rotary) keys(x *Node) *Node    { return r.rotate(x, r.cosK, r.sinK) }

// constants lists the nodes that need no gradient.
func (r *rotary) constants() []*Node {
	out := []*Node{r.cosQ, r.sinQ, r.cosK, r.sinK}
	if r.swap != nil {
		out = append(out, r.swap)
	}
	return out
}
