package attention

import (
	"math"

	"github.com/polargo/polar/backend/cpu/team"
)

// RunVJP computes dq, dk and dv from the operands of Run, its out and stats, and the adjoint dout of out. scratch has
// ScratchVJP(t.Size()) elements. A query that sees no key has and gives zero gradients.
//
// One task has all contributions to the gradients of its range of keys of one key head and adds them up in a fixed order; where
// there are several ranges, their shares of dq are added in order at the end.
func (p *Plan) RunVJP(t *team.Team, dq, dk, dv, q, k, v, out, stats, dout []float32, mask any, scratch []float32) {
	c := &call{Plan: p, q: q, k: k, v: v, out: out, stats: stats, dq: dq, dk: dk, dv: dv, dout: dout, mask: newMasks(p.Mask, mask)}
	rest := cutter{aligned(scratch)}
	workers := make([]*backward, t.Size())
	for i := range workers {
		workers[i] = newBackward(c, rest.cut(roundUp(p.vjpSize())))
	}
	shares := make([][]float32, p.parts)
	shares[0] = dq
	for i := 1; i < p.parts; i++ {
		shares[i] = rest.cut(p.dqSize())
	}
	heads := p.Batch * p.KVHeads
	t.Run(heads*p.parts, func(worker, task int) {
		part, head := task/heads, task%heads // the first keys are seen by most queries: they come first
		w := workers[worker]
		w.dqs, w.share = p.Q, shares[part]
		if part > 0 {
			w.dqs = p.shareStrides()
		}
		w.run(head/p.KVHeads, head%p.KVHeads, span{part * p.partLen, min(p.KeyLen, (part+1)*p.partLen)})
	})
	if p.parts > 1 {
		t.Run(p.Batch*p.Heads, func(_, head int) { c.addShares(head/p.Heads, head%p.Heads, shares[1:]) })
	}
}

// shareStrides are those of a range's share of dq.
func (p *Plan) shareStrides() Strides {
	return Strides{Batch: p.Heads * p.QueryLen * p.Dim, Head: p.QueryLen * p.Dim, Row: p.Dim}
}

func (c *call) addShares(batch, head int, shares [][]float32) {
	strides := c.shareStrides()
	for query := range c.QueryLen {
		row := c.dq[c.Q.at(batch, head, query):][:c.Dim]
		for _, share := range shares {
			addTo(row, share[strides.at(batch, head, query):])
		}
	}
}

func addTo(sum, x []float32) {
	x = x[:len(sum)]
	for i := range sum {
		sum[i] += x[i]
	}
}

// backward is a worker of the VJP.
type backward struct {
	*call
	qt, dqt      []float32 // [Dim] rows of panelWidth: queries, and their gradients
	gt, ot       []float32 // [ValueDim] rows: adjoints, and outputs
	s, dp        []float32 // [keyBlock][panelWidth]: probabilities; the gradients of the scores
	rowsQ, rowsG []float32 // padded copies of rows of q and dout
	dkSum, dvSum []float32 // [keyChunk][dimPad], [keyChunk][valPad]
	stat, delta  []float32 // [panelWidth]
	inv, sum     []float32 // [panelWidth]
	share        []float32 // dq, or a share of it
	dqs          Strides   // its strides
	seen         visibility
	b            rows // the panel's rows of q and dout as right operands
	chunk        span
	firstOfPart  bool
	notFinite    bool
}

// rows are rows of q and dout that may be read in whole columns of lanes.
type rows struct {
	q, g     []float32
	ldq, ldg int
}

func newBackward(c *call, scratch []float32) *backward {
	w := &backward{call: c}
	cut := cutter{scratch}
	w.qt, w.dqt = cut.cut(c.Dim*panelWidth), cut.cut(c.Dim*panelWidth)
	w.gt, w.ot = cut.cut(c.ValueDim*panelWidth), cut.cut(c.ValueDim*panelWidth)
	w.s, w.dp = cut.cut(keyBlock*panelWidth), cut.cut(keyBlock*panelWidth)
	w.rowsQ, w.rowsG = cut.cut(panelWidth*c.dimPad), cut.cut(panelWidth*c.valPad)
	keys := min(keyChunk, ceil(c.KeyLen, lanes)*lanes)
	w.dkSum, w.dvSum = cut.cut(keys*c.dimPad), cut.cut(keys*c.valPad)
	w.stat, w.delta, w.inv, w.sum = cut.cut(panelWidth), cut.cut(panelWidth), cut.cut(panelWidth), cut.cut(panelWidth)
	return w
}

// run computes the gradients of a range of keys of one key head.
func (w *backward) run(batch, kv int, keys span) {
	w.notFinite = false
	from := keys.from
	for first := true; first || from < keys.to; first = false {
		w.chunk, w.firstOfPart = span{from, min(keys.to, from+keyChunk)}, first
		from = w.chunk.to
		n := w.chunk.to - w.chunk.from
		clear(w.dkSum[:n*w.dimPad])
		clear(w.dvSum[:n*w.valPad])
		for head := kv * w.group; head < (kv+1)*w.group; head++ {
			for i := range w.panels {
				x := w.newPanel(batch, head, i)
				w.panel(&x)
			}
		}
		w.writeKeys(batch, kv)
	}
	if w.notFinite {
		w.exactGradients(batch, kv, keys, w.share, w.dqs)
	}
}

// writeKeys writes the chunk's dk and dv.
func (w *backward) writeKeys(batch, kv int) {
	n := w.chunk.to - w.chunk.from
	if !w.finite(w.sum, w.dkSum, w.dimPad, n, w.dimPad) || !w.finite(w.sum, w.dvSum, w.valPad, n, w.valPad) {
		w.notFinite = true
		return
	}
	for i := range n {
		dk, sum := w.dk[w.K.at(batch, kv, w.chunk.from+i):][:w.Dim], w.dkSum[i*w.dimPad:]
		for d := range dk {
			dk[d] = sum[d] * w.Scale
		}
		copy(w.dv[w.V.at(batch, kv, w.chunk.from+i):][:w.ValueDim], w.dvSum[i*w.valPad:])
	}
}

// panel takes the queries of a panel into the sums of the chunk's keys, and the chunk into their dq.
func (w *backward) panel(x *panel) {
	keys := span{x.from, x.to}.within(w.chunk)
	clear(w.dqt)
	loaded := false
	for from := keys.from; from < keys.to; {
		to := min(keys.to, (from/keyBlock+1)*keyBlock)
		left, all := w.seen.look(w.Plan, x, &w.mask, span{from, to})
		if !left.empty() {
			if !loaded {
				w.load(x)
				loaded = true
			}
			w.block(x, left, all)
		}
		from = to
	}
	w.store(x, loaded)
}

// load brings the panel's queries, adjoints and statistics into place.
func (w *backward) load(x *panel) {
	q, g := w.Q.at(x.batch, x.head, x.first), w.Out.at(x.batch, x.head, x.first)
	w.pack(w.qt, w.q[q:], w.Q.Row, x.rows, w.Dim, w.Scale*log2e)
	w.pack(w.gt, w.dout[g:], w.Out.Row, x.rows, w.ValueDim, 1)
	w.b.q, w.b.ldq = padRows(w.rowsQ, w.q[q:], w.Q.Row, x.rows, w.Dim, w.dimPad)
	w.b.g, w.b.ldg = padRows(w.rowsG, w.dout[g:], w.Out.Row, x.rows, w.ValueDim, w.valPad)
	stats := w.stats[(x.batch*w.Heads+x.head)*w.QueryLen+x.first:][:x.rows]
	for i := copy(w.stat, stats); i < panelWidth; i++ {
		w.stat[i] = float32(math.Inf(1)) // no query: probabilities are 0
	}
	w.pack(w.ot, w.out[g:], w.Out.Row, x.rows, w.ValueDim, 1)
	for at := 0; at < panelWidth; at += lanes {
		first := min(at, len(w.ot))
		w.dots(w.ot[first:], w.gt[first:], w.ValueDim, w.delta[at:])
	}
}

// padRows returns rows whose length is a multiple of lanes: x itself if it is so, else a copy.
func padRows(buffer, x []float32, stride, rows, cols, padded int) ([]float32, int) {
	if cols == padded {
		return x, stride
	}
	for i := range rows {
		row := buffer[i*padded:][:padded]
		copy(row, x[i*stride:][:cols])
		clear(row[cols:])
	}
	return buffer, padded
}

// block takes one block of keys.
func (w *backward) block(x *panel, keys span, all bool) {
	segments, n := x.segments(keys)
	kv := x.head / w.group
	for _, part := range segments[:n] {
		at := (part.from-keys.from)*panelWidth + part.column*lanes
		scores := product{ldc: panelWidth, ak: 1, ldb: panelWidth, m: part.to - part.from, width: part.width}
		scores.c, scores.b, scores.depth = w.s[at:], w.qt[part.column*lanes:], w.Dim
		scores.a, scores.am = w.k[w.K.at(x.batch, kv, part.from):], w.K.Row
		w.mul(&scores)
		scores.c, scores.b, scores.depth = w.dp[at:], w.gt[part.column*lanes:], w.ValueDim
		scores.a, scores.am = w.v[w.V.at(x.batch, kv, part.from):], w.V.Row
		w.mul(&scores)
	}
	if w.mask.add != nil {
		w.addMask(w.s, x, w.mask.add, keys)
	}
	for c, column := range x.column {
		column = column.within(keys)
		if column.empty() {
			continue
		}
		at := (column.from-keys.from)*panelWidth + c*lanes
		if !all {
			w.hide(w.s[at:], column.to-column.from, w.seen.bits[column.from-w.seen.base:], c*lanes)
		}
		w.grad(w.s[at:], w.dp[at:], column.to-column.from, w.stat[c*lanes:], w.delta[c*lanes:])
	}
	for _, part := range segments[:n] {
		w.addGradients(x, kv, keys, part)
	}
}

// addGradients adds a segment to the sums of dk, dv and dq.
func (w *backward) addGradients(x *panel, kv int, keys span, part segment) {
	at, first := (part.from-keys.from)*panelWidth+part.column*lanes, part.column*lanes
	size := part.to - part.from
	queries := min(part.width, x.rows-first)
	w.mul(&product{
		c: w.dqt[first:], ldc: panelWidth,
		a: w.k[w.K.at(x.batch, kv, part.from):], am: 1, ak: w.K.Row,
		b: w.dp[at:], ldb: panelWidth, m: w.Dim, depth: size, width: part.width, add: true,
	})
	if queries <= 0 {
		return
	}
	row := part.from - w.chunk.from
	w.addKeys(w.dkSum[row*w.dimPad:], w.dimPad, w.dp[at:], w.b.q[first*w.b.ldq:], w.b.ldq, size, queries)
	w.addKeys(w.dvSum[row*w.valPad:], w.valPad, w.s[at:], w.b.g[first*w.b.ldg:], w.b.ldg, size, queries)
}

// addKeys adds a·b to sum [size][cols], a [size][panelWidth] with the given number of queries.
func (w *backward) addKeys(sum []float32, cols int, a, b []float32, ldb, size, queries int) {
	for j := 0; j < cols; j += panelWidth {
		w.mul(&product{
			c: sum[j:], ldc: cols, a: a, am: panelWidth, ak: 1, b: b[j:], ldb: ldb,
			m: size, depth: queries, width: min(panelWidth, cols-j), add: true,
		})
	}
}

// store sets or adds to the panel's rows of dq. The first chunk of a range sets them, seen or not.
func (w *backward) store(x *panel, loaded bool) {
	if !loaded && !w.firstOfPart {
		return
	}
	if !w.finiteLanes(w.dqt, w.Dim) {
		w.notFinite = true
		return
	}
	for i := range w.inv {
		w.inv[i] = w.Scale
	}
	out := w.share[w.dqs.at(x.batch, x.head, x.first):]
	if w.firstOfPart {
		w.unpack(out, w.dqs.Row, w.dqt, x.rows, w.Dim, w.inv)
		return
	}
	w.unpack(w.qt, w.Dim, w.dqt, x.rows, w.Dim, w.inv) // the queries are done with
	for i := range x.rows {
		addTo(out[i*w.dqs.Row:][:w.Dim], w.qt[i*w.Dim:])
	}
}
