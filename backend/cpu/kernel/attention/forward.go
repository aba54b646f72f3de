package attention

import (
	"math"
	"unsafe"

	"github.com/polargo/polar/backend/cpu/team"
)

// call holds the operands of one Run or RunVJP.
type call struct {
	*Plan
	q, k, v, out, stats []float32
	dq, dk, dv, dout    []float32 // of a VJP
	mask                masks
}

// Run computes out, and stats [Batch, Heads, QueryLen] for the VJP: of each query the logarithm to base 2 of the sum over keys
// of 2^(score·log2 e). mask is a []bool or []float32 as the Spec says, or nil; scratch has Scratch(t.Size()) elements.
//
// A query that sees no key gives zeros, with 0 in stats. NaN and infinities in the inputs reach the rows that see them and no
// others; rows with them are computed again one by one, slowly.
func (p *Plan) Run(t *team.Team, out, stats, q, k, v []float32, mask any, scratch []float32) {
	c := &call{Plan: p, q: q, k: k, v: v, out: out, stats: stats, mask: newMasks(p.Mask, mask)}
	rest := cutter{aligned(scratch)}
	workers := make([]*forwarder, t.Size())
	for i := range workers {
		workers[i] = newForwarder(c, rest.cut(roundUp(p.forwardSize())))
	}
	heads, step := p.Batch*p.Heads, 1
	if heads*p.panels >= fewTasks {
		step = chunkRows
	}
	chunks := ceil(p.panels, step)
	t.Run(heads*chunks, func(worker, task int) {
		chunk, head := chunks-1-task/max(1, heads), task%heads // later queries see more: they come first
		for i := chunk * step; i < min(p.panels, (chunk+1)*step); i++ {
			x := p.newPanel(head/p.Heads, head%p.Heads, i)
			workers[worker].panel(&x)
		}
	})
}

// forwarder is a worker of the forward pass.
type forwarder struct {
	*call
	qt, ot, s    []float32 // [Dim], [ValueDim] and [keyBlock] rows of panelWidth
	m, l, old    []float32 // [panelWidth]: maxima, sums, maxima before a block
	base, unused [lanes]float32
	seen         visibility
}

func newForwarder(c *call, scratch []float32) *forwarder {
	w := &forwarder{call: c}
	cut := cutter{scratch}
	w.qt, w.ot = cut.cut(c.Dim*panelWidth), cut.cut(c.ValueDim*panelWidth)
	w.s = cut.cut(keyBlock * panelWidth)
	w.m, w.l, w.old = cut.cut(panelWidth), cut.cut(panelWidth), cut.cut(panelWidth)
	return w
}

func (w *forwarder) panel(x *panel) {
	w.pack(w.qt, w.q[w.Q.at(x.batch, x.head, x.first):], w.Q.Row, x.rows, w.Dim, w.Scale*log2e)
	clear(w.ot)
	clear(w.l)
	for i := range w.m {
		w.m[i] = float32(math.Inf(-1))
	}
	for from := x.from; from < x.to; {
		to := min(x.to, (from/keyBlock+1)*keyBlock)
		keys, all := w.seen.look(w.Plan, x, &w.mask, span{from, to})
		if !keys.empty() {
			w.block(x, keys, all)
		}
		from = to
	}
	w.finish(x)
}

// block takes one block of keys into the panel's output.
func (w *forwarder) block(x *panel, keys span, all bool) {
	segments, n := x.segments(keys)
	kv := x.head / w.group
	for _, part := range segments[:n] {
		w.mul(&product{
			c: w.s[(part.from-keys.from)*panelWidth+part.column*lanes:], ldc: panelWidth,
			a: w.k[w.K.at(x.batch, kv, part.from):], am: w.K.Row, ak: 1,
			b: w.qt[part.column*lanes:], ldb: panelWidth,
			m: part.to - part.from, depth: w.Dim, width: part.width,
		})
	}
	if w.mask.add != nil {
		w.addMask(w.s, x, w.mask.add, keys)
	}
	copy(w.old, w.m)
	for c, column := range x.column {
		column = column.within(keys)
		if column.empty() {
			continue
		}
		s := w.s[(column.from-keys.from)*panelWidth+c*lanes:]
		if !all {
			w.hide(s, column.to-column.from, w.seen.bits[column.from-w.seen.base:], c*lanes)
		}
		w.softmax(c, s, column.to-column.from)
	}
	for _, part := range segments[:n] {
		w.mul(&product{
			c: w.ot[part.column*lanes:], ldc: panelWidth,
			a: w.v[w.V.at(x.batch, kv, part.from):], am: 1, ak: w.V.Row,
			b: w.s[(part.from-keys.from)*panelWidth+part.column*lanes:], ldb: panelWidth,
			m: w.ValueDim, depth: part.to - part.from, width: part.width, add: true,
		})
	}
}

// softmax turns a column's scores into exponentials relative to the new maxima and brings what was summed before to them.
func (w *forwarder) softmax(column int, s []float32, keys int) {
	at := column * lanes
	m, l, old := w.m[at:][:lanes], w.l[at:][:lanes], w.old[at:][:lanes]
	w.max(s, keys, m)
	base := w.base[:]
	grown := false
	for i, after := range m {
		base[i] = after
		if math.IsInf(float64(after), -1) {
			base[i] = 0 // nothing seen yet: 2^-Inf is 0 below any base
		}
		grown = grown || after != old[i] && !math.IsInf(float64(old[i]), -1)
	}
	if grown {
		w.exp(old, 1, base, w.unused[:])
		for i := range l {
			l[i] *= old[i]
		}
		w.scale(w.ot[at:], w.ValueDim, old)
	}
	w.exp(s, keys, base, l)
}

// finish divides by the sums and writes the panel's outputs and statistics.
func (w *forwarder) finish(x *panel) {
	inverse := w.old
	for i, l := range w.l {
		inverse[i] = 1 / l
	}
	out := w.out[w.Out.at(x.batch, x.head, x.first):]
	w.unpack(out, w.Out.Row, w.ot, x.rows, w.ValueDim, inverse)
	stats := w.stats[(x.batch*w.Heads+x.head)*w.QueryLen+x.first:][:x.rows]
	finite := w.finiteLanes(w.ot, w.ValueDim)
	for i := range stats {
		if l := w.l[i]; !finite || !(l > 0 && l <= math.MaxFloat32) {
			stats[i] = w.exactRow(x, i, out[i*w.Out.Row:][:w.ValueDim])
		} else {
			stats[i] = float32(float64(w.m[i]) + log2(l))
		}
	}
}

// finiteLanes says whether all of s [rows][panelWidth] is finite: 0·s adds up to 0.
func (p *Plan) finiteLanes(s []float32, rows int) bool {
	var sum [panelWidth]float32
	return p.finite(sum[:], s, panelWidth, rows, panelWidth)
}

// finite says whether all of s [rows][cols], rows stride apart, is finite. cols is a multiple of lanes; sum is for its use.
func (p *Plan) finite(sum, s []float32, stride, rows, cols int) bool {
	zero := [1]float32{}
	for j := 0; j < cols; j += panelWidth {
		width := min(panelWidth, cols-j)
		p.mul(&product{c: sum, ldc: width, a: zero[:], b: s[min(j, len(s)):], ldb: stride, m: 1, depth: rows, width: width})
		for _, x := range sum[:width] {
			if x != 0 {
				return false
			}
		}
	}
	return true
}

// aligned cuts scratch to begin at a multiple of 64 bytes.
func aligned(scratch []float32) []float32 {
	at := uintptr(unsafe.Pointer(unsafe.SliceData(scratch)))
	return scratch[(64-at%64)%64/4:]
}
