package model

import (
	"math"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/polargo/polar/internal/check"
)

// attendTol bounds the relative error of the attention's values and gradients: products of four, and averages over up to 530
// keys whose rounding errors do not add up.
const attendTol = 32 * eps32

// attendCase is a batch of rows for the attention core.
type attendCase struct {
	name                    string
	rows, heads, kv, length int
	window                  int
	segments                []int32 // of every row
	wrongWindow             int     // a window that must be rejected as reference
	scale                   float64 // of queries and keys
}

const attendHeadDim = 4

func (c attendCase) config() Config {
	return Config{Heads: c.heads, KVHeads: c.kv, HeadDim: attendHeadDim, SlidingWindow: c.window}
}

// plain is the attention of all rows for q [rows·kv, group, length, h] and k, v [rows·kv, length, h].
func (c attendCase) plain(q, k, v []float64, window int) (out []float64) {
	h, group := attendHeadDim, c.heads/c.kv
	at := func(x []float64, n, i int) []float64 { return x[(n*c.length+i)*h : (n*c.length+i+1)*h] }
	row := plainRow{segments: c.segments}
	for n := range c.rows * c.heads {
		for i := range c.length {
			keys, values := make([][]float64, 0, i+1), make([][]float64, 0, i+1)
			for j := range i + 1 {
				if row.sees(i, j, window) {
					keys, values = append(keys, at(k, n/group, j)), append(values, at(v, n/group, j))
				}
			}
			query := each(func(x float64) float64 { return 2 * x }, at(q, n, i)) // attend takes scaled queries: √h = 2
			out = append(out, plainAttend(query, keys, values)...)
		}
	}
	return out
}

func (c attendCase) inputs() []array {
	n, group := c.rows*c.kv, c.heads/c.kv
	q, k := random(1, c.scale, n, group, c.length, attendHeadDim), random(2, c.scale, n, c.length, attendHeadDim)
	return []array{q, k, random(3, 1, n, c.length, attendHeadDim)}
}

func (c attendCase) graph(x []*Node) *Node {
	g := x[0].Graph()
	var segments *Node
	if c.segments != nil {
		var all []int32
		for range c.rows {
			all = append(all, c.segments...)
		}
		segments = Const(g, tensors.FromFlatDataAndDimensions(all, c.rows, c.length))
	}
	shape := batchShape{rows: c.rows, length: c.length, tokensFirst: fusedAttention(g)}
	m := newMask(g, c.config(), shape, segments)
	if !shape.tokensFirst {
		return attendBlocks(x[0], x[1], x[2], m)
	}
	tokensFirst := func(x *Node) *Node {
		return TransposeAllAxes(Reshape(x, c.rows, -1, c.length, attendHeadDim), 0, 2, 1, 3)
	}
	y := attend(tokensFirst(x[0]), tokensFirst(x[1]), tokensFirst(x[2]), shape, m)
	return Reshape(TransposeAllAxes(Reshape(y, c.rows, c.length, c.heads, -1), 0, 2, 1, 3), x[0].Shape().Dimensions...)
}

func (c attendCase) test(t *testing.T) {
	inputs := c.inputs()
	got := valueAndGradients(t, inputs, c.graph)
	x := [][]float64{wide(inputs[0].values), wide(inputs[1].values), wide(inputs[2].values)}
	check.Close(t, "value", wide(got[0]), c.plain(x[0], x[1], x[2], c.window), attendTol)
	if c.wrongWindow != c.window {
		bites(t, "value", wide(got[0]), c.plain(x[0], x[1], x[2], c.wrongWindow), attendTol)
	}
	for i := range x {
		total := func(moved []float64, window int) float64 {
			y := append([][]float64(nil), x...)
			y[i] = moved
			return dot(c.plain(y[0], y[1], y[2], window), wide(weighting(len(got[0]))))
		}
		predicted, want := alongDirections(9, func(y []float64) float64 { return total(y, c.window) }, x[i], got[1+i])
		check.Close(t, "gradient", predicted, want, attendTol)
		if c.wrongWindow != c.window {
			_, wrong := alongDirections(9, func(y []float64) float64 { return total(y, c.wrongWindow) }, x[i], got[1+i])
			bites(t, "gradient", predicted, wrong, attendTol)
		}
	}
}

// packed returns the segments of documents of the given lengths, the last of which is padding.
func packed(lengths ...int) (segments []int32) {
	for i, n := range lengths {
		for range n {
			segments = append(segments, int32((i+1)%len(lengths)))
		}
	}
	return segments
}

// TestBlockRows: at most eight blocks, of at least 64 queries.
func TestBlockRows(t *testing.T) {
	for length := range 3000 {
		rows := blockRows(length)
		if blocks := (length + rows - 1) / rows; rows < attentionRows || blocks > attentionBlocks {
			t.Fatalf("%d tokens make %d blocks of %d", length, blocks, rows)
		}
	}
}

// TestAttend goes over the lengths around the block of 64 queries, and 530, where eight blocks have 67 each.
func TestAttend(t *testing.T) {
	if got := blockRows(530); got <= attentionRows {
		t.Fatalf("530 tokens make blocks of %d, no more than %d: choose a longer row", got, attentionRows)
	}
	for _, c := range []attendCase{
		{name: "one token", rows: 2, heads: 2, kv: 2, length: 1},
		{name: "63", rows: 2, heads: 2, kv: 1, length: 63, wrongWindow: 62},
		{name: "64", rows: 1, heads: 4, kv: 2, length: 64, wrongWindow: 63},
		{name: "65", rows: 1, heads: 2, kv: 1, length: 65, wrongWindow: 64},
		{name: "130", rows: 1, heads: 3, kv: 1, length: 130, wrongWindow: 128},
		{name: "530", rows: 1, heads: 1, kv: 1, length: 530, wrongWindow: 500},
		{name: "window 1", rows: 1, heads: 2, kv: 2, length: 5, window: 1, wrongWindow: 2},
		{name: "window 5", rows: 1, heads: 2, kv: 1, length: 130, window: 5, wrongWindow: 4},
		{name: "window 64", rows: 1, heads: 1, kv: 1, length: 130, window: 64, wrongWindow: 65},
		{name: "window 70", rows: 1, heads: 1, kv: 1, length: 130, window: 70, wrongWindow: 71},
		{name: "segments", rows: 2, heads: 2, kv: 1, length: 130, segments: packed(1, 60, 10, 39, 20), wrongWindow: 50},
		{name: "segments and window", rows: 1, heads: 2, kv: 1, length: 70, segments: packed(30, 35, 5), window: 9, wrongWindow: 8},
		{name: "large scores", rows: 1, heads: 1, kv: 1, length: 65, scale: 8, wrongWindow: 9}, // up to ±100
	} {
		if c.scale == 0 {
			c.scale = 1
		}
		t.Run(c.name, c.test)
	}
}

// TestAttendNaN: a NaN in a key reaches the queries that see it and no query of another row.
func TestAttendNaN(t *testing.T) {
	c := attendCase{rows: 2, heads: 1, kv: 1, length: 6, scale: 1}
	inputs := c.inputs()
	bad := inputs[1].values
	bad[2*attendHeadDim] = float32(math.NaN())
	got := valueAndGradients(t, inputs, c.graph)
	row := c.length * attendHeadDim
	if finite(got[0][2*attendHeadDim:row]) || !finite(got[0][row:]) {
		t.Errorf("values %v", got[0])
	}
}
