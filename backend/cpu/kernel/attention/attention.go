// Package attention computes scaled dot-product attention and its vector-Jacobian product in tiles, without ever holding the
// matrix of scores: scratch memory is linear in the length.
//
// Queries are taken in panels of 32, two columns of 16, the width of a vector register. Everything about a panel is kept with
// the queries side by side in the lanes: scores are [key][query], outputs [dimension][query]. So maxima and sums over keys need
// no operation across lanes, and keys and values are read where they lie, one element broadcast at a time; only the queries
// are transposed, once a panel. The one kernel that matters is mul: C[i][lane] += Σ_k A[i, k]·B[k][lane], A by any two strides.
//
// A Plan is never changed and serves any number of goroutines at once, each with its own scratch. Results do not depend on the
// number of workers: a panel's output is one task's, and so are a key's gradients.
package attention

import (
	"fmt"
	"math"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
)

const (
	lanes      = 16        // queries of a column
	panelWidth = 2 * lanes // queries of a panel
	keyBlock   = 128       // keys whose scores are held at once: 16 KB a panel
	keyChunk   = 512       // keys whose gradients are held at once: 256 KB for 64 dimensions
	chunkRows  = 4         // panels of a forward task, when there are enough of them
	fewTasks   = 64        // forward tasks are single panels below this number of panels
	minVJP     = 8         // VJP tasks to have at least, where the length allows it
)

// MaskKind says what a mask holds.
type MaskKind int

// The kinds of masks.
const (
	NoMask   MaskKind = iota
	BoolMask          // []bool, true where the key is seen
	AddMask           // []float32, added to the scaled scores
)

// Strides of one operand, in elements. Its innermost axis, the head's dimension, is contiguous.
type Strides struct{ Batch, Head, Row int }

func (s Strides) at(batch, head, row int) int { return batch*s.Batch + head*s.Head + row*s.Row }

// MaskStrides are those of a mask in elements, 0 along axes that it is broadcast along.
type MaskStrides struct{ Batch, Head, Query, Key int }

// Spec describes an attention. Gradients have the strides of what they are gradients of, the adjoint of the output those of Out.
type Spec struct {
	Batch, Heads, KVHeads int // query head h uses key head h / (Heads/KVHeads)
	QueryLen, KeyLen      int
	Dim, ValueDim         int
	Scale                 float32 // multiplies the products of queries and keys
	Causal                bool    // query i sees keys 0 to i, whatever the two lengths
	Window                int     // with Causal, query i sees no key before i-Window+1; 0 for no such limit
	Mask                  MaskKind
	MaskStrides           MaskStrides
	Q, K, V, Out          Strides
}

// Plan computes one Spec.
type Plan struct {
	Spec
	level          feature.Level
	group          int // query heads of a key head
	panels         int // of a head
	dimPad, valPad int // dimensions rounded up to lanes
	parts, partLen int // ranges of keys, each a task of the VJP with its own share of dq
}

// New plans an attention with the instructions of level. It panics on a Spec that makes no sense: that is the caller's mistake.
func New(spec Spec, level feature.Level) *Plan {
	if spec.KVHeads <= 0 || spec.Heads%spec.KVHeads != 0 {
		panic(fmt.Sprintf("attention: %d query heads for %d key heads", spec.Heads, spec.KVHeads))
	}
	if min(spec.Batch, spec.QueryLen, spec.KeyLen, spec.Dim, spec.ValueDim, spec.Window) < 0 {
		panic(fmt.Sprintf("attention: negative size in %+v", spec))
	}
	if spec.Window > 0 && !spec.Causal {
		panic("attention: a window needs causality")
	}
	p := &Plan{Spec: spec, level: level, group: spec.Heads / spec.KVHeads}
	p.panels = ceil(spec.QueryLen, panelWidth)
	p.dimPad, p.valPad = ceil(spec.Dim, lanes)*lanes, ceil(spec.ValueDim, lanes)*lanes
	blocks := ceil(spec.KeyLen, keyBlock)
	p.parts = max(1, min(blocks, minVJP/max(1, spec.Batch*spec.KVHeads)))
	p.partLen = ceil(blocks, p.parts) * keyBlock
	p.parts = max(1, ceil(spec.KeyLen, p.partLen))
	return p
}

func ceil(n, unit int) int {
	if unit == 0 {
		return 0
	}
	return (n + unit - 1) / unit
}

// Flops returns the useful operations of the forward pass, two for each element of a head's dimension and each pair of a query
// and a key that causality and the window let it see, in both products; and of the VJP, the same for its five products (the
// scores are computed again). Masks count for nothing.
func (p *Plan) Flops() (forward, vjp float64) {
	pairs := 0.0
	for i := range p.QueryLen {
		from, to := p.sees(i, i)
		pairs += float64(max(0, to-from))
	}
	pairs *= 2 * float64(p.Batch*p.Heads)
	d, e := float64(p.Dim), float64(p.ValueDim)
	return pairs * (d + e), pairs * (3*d + 2*e)
}

// sees returns the keys [from, to) that some query of first to last sees by position.
func (p *Plan) sees(first, last int) (from, to int) {
	to = p.KeyLen
	if p.Causal {
		to = min(to, last+1)
		if p.Window > 0 {
			from = min(max(0, first-p.Window+1), to)
		}
	}
	return from, to
}

// align is what a scratch slice is cut to: the 64 bytes of a vector register.
const align = 16

// forwardSize is the scratch of one forward worker.
func (p *Plan) forwardSize() int {
	return panelWidth*(p.Dim+p.ValueDim+keyBlock+statRows) + lanes
}

// Scratch is how many float32 Run needs for the given number of workers. It does not depend on the lengths.
func (p *Plan) Scratch(workers int) int { return align + workers*roundUp(p.forwardSize()) }

// vjpSize is the scratch of one VJP worker.
func (p *Plan) vjpSize() int {
	keys := min(keyChunk, ceil(p.KeyLen, lanes)*lanes)
	rows := panelWidth * (p.dimPad + p.valPad)
	return panelWidth*(2*p.Dim+2*p.ValueDim+2*keyBlock+statRows) + 2*rows + keys*(p.dimPad+p.valPad) + lanes
}

// dqSize is the scratch for one range's share of dq.
func (p *Plan) dqSize() int { return p.Batch * p.Heads * p.QueryLen * p.Dim }

// ScratchVJP is how many float32 RunVJP needs for the given number of workers: for few heads as many as dq has, a few times.
func (p *Plan) ScratchVJP(workers int) int {
	return align + workers*roundUp(p.vjpSize()) + (p.parts-1)*p.dqSize()
}

func roundUp(n int) int { return ceil(n, align) * align }

// cutter hands out parts of a scratch slice.
type cutter struct{ rest []float32 }

func (c *cutter) cut(n int) []float32 {
	out := c.rest[:n:n]
	c.rest = c.rest[n:]
	return out
}

// log2e turns scores into exponents of two.
const log2e = math.Log2E
