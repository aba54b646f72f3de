package attention

import (
	"math"
	"math/rand/v2"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
	"github.com/polargo/polar/backend/cpu/team"
)

// layout says how a test's operands lie in memory.
type layout int

const (
	headsFirst layout = iota // [B, H, T, D]
	rowsFirst                // [B, T, H, D]
	gaps                     // [B, H, T, D] with unused elements after rows, heads and batches
)

func (l layout) strides(heads, length, dim int) Strides {
	switch l {
	case rowsFirst:
		return Strides{Batch: heads * length * dim, Head: dim, Row: heads * dim}
	case gaps:
		row := dim + 3
		head := length*row + 5
		return Strides{Batch: heads*head + 7, Head: head, Row: row}
	}
	return Strides{Batch: heads * length * dim, Head: length * dim, Row: dim}
}

// withLayout sets a spec's strides.
func withLayout(s Spec, l layout) Spec {
	s.Q, s.Out = l.strides(s.Heads, s.QueryLen, s.Dim), l.strides(s.Heads, s.QueryLen, s.ValueDim)
	s.K, s.V = l.strides(s.KVHeads, s.KeyLen, s.Dim), l.strides(s.KVHeads, s.KeyLen, s.ValueDim)
	return s
}

// problem is an attention with its inputs.
type problem struct {
	Spec
	q, k, v, dout []float32
	mask          any
}

func span4(batch, heads, rows, cols int, s Strides) int {
	if batch*heads*rows*cols == 0 {
		return 0
	}
	return s.at(batch-1, heads-1, rows-1) + cols
}

func newProblem(s Spec, seed uint64) *problem {
	r := rand.New(rand.NewPCG(seed, 1))
	fill := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		return x
	}
	p := &problem{Spec: s}
	p.q, p.dout = fill(span4(s.Batch, s.Heads, s.QueryLen, s.Dim, s.Q)), fill(span4(s.Batch, s.Heads, s.QueryLen, s.ValueDim, s.Out))
	p.k, p.v = fill(span4(s.Batch, s.KVHeads, s.KeyLen, s.Dim, s.K)), fill(span4(s.Batch, s.KVHeads, s.KeyLen, s.ValueDim, s.V))
	n := s.MaskStrides.at(s.Batch-1, s.Heads-1, s.QueryLen-1, s.KeyLen-1) + 1
	switch s.Mask {
	case BoolMask:
		mask := make([]bool, max(0, n))
		for i := 0; i < len(mask); { // runs of one value, some of them long
			run, value := 1+r.IntN(40), r.IntN(3) > 0
			for ; run > 0 && i < len(mask); run-- {
				mask[i] = value
				i++
			}
		}
		p.mask = mask
	case AddMask:
		mask := fill(max(0, n))
		for i := range mask {
			if r.IntN(8) == 0 {
				mask[i] = float32(math.Inf(-1))
			}
		}
		p.mask = mask
	}
	return p
}

// result is what the passes compute, dense [B, H, T, ...]. dqTerms and so on are sums of the absolute values of what the gradients
// are sums of: the scale of their rounding errors. A query that sees one key has gradients of the score that cancel to zero.
type result struct{ out, stats, dq, dk, dv, dqTerms, dkTerms, dvTerms []float64 }

// all returns the five results and what their errors are relative to.
func (r *result) all() (values, scales [5][]float64) {
	return [5][]float64{r.out, r.stats, r.dq, r.dk, r.dv}, [5][]float64{r.out, r.stats, r.dqTerms, r.dkTerms, r.dvTerms}
}

// reference computes everything in float64 from whole matrices: probabilities by rows, gradients by the Jacobian of softmax,
// without output or statistics.
func (p *problem) reference() *result {
	r := &result{
		out:   make([]float64, p.Batch*p.Heads*p.QueryLen*p.ValueDim),
		stats: make([]float64, p.Batch*p.Heads*p.QueryLen),
		dq:    make([]float64, p.Batch*p.Heads*p.QueryLen*p.Dim),
		dk:    make([]float64, p.Batch*p.KVHeads*p.KeyLen*p.Dim),
		dv:    make([]float64, p.Batch*p.KVHeads*p.KeyLen*p.ValueDim),
	}
	r.dqTerms, r.dkTerms, r.dvTerms = make([]float64, len(r.dq)), make([]float64, len(r.dk)), make([]float64, len(r.dv))
	for b := range p.Batch {
		for h := range p.Heads {
			for i := range p.QueryLen {
				p.referenceRow(r, b, h, i)
			}
		}
	}
	return r
}

func (p *problem) referenceRow(r *result, b, h, i int) {
	g := h / (p.Heads / p.KVHeads)
	q, dout := p.q[p.Q.at(b, h, i):][:p.Dim], p.dout[p.Out.at(b, h, i):][:p.ValueDim]
	key := func(j int) []float32 { return p.k[p.K.at(b, g, j):][:p.Dim] }
	value := func(j int) []float32 { return p.v[p.V.at(b, g, j):][:p.ValueDim] }
	var seen []int
	var scores []float64
	for j := range p.KeyLen {
		if p.Causal && (j > i || p.Window > 0 && i-j >= p.Window) {
			continue
		}
		score, at := 0.0, p.MaskStrides.at(b, h, i, j)
		for d, x := range key(j) {
			score += float64(q[d]) * float64(x)
		}
		score *= float64(p.Scale)
		if mask, ok := p.mask.([]bool); ok && !mask[at] {
			continue
		}
		if mask, ok := p.mask.([]float32); ok {
			if math.IsInf(float64(mask[at]), -1) {
				continue
			}
			score += float64(mask[at])
		}
		seen, scores = append(seen, j), append(scores, score)
	}
	if len(seen) == 0 {
		return
	}
	largest, sum := math.Inf(-1), 0.0
	for _, s := range scores {
		largest = math.Max(largest, s)
	}
	prob, dprob := make([]float64, len(seen)), make([]float64, len(seen))
	for n, s := range scores {
		prob[n] = math.Exp(s - largest)
		sum += prob[n]
	}
	row := (b*p.Heads+h)*p.QueryLen + i
	r.stats[row] = (largest + math.Log(sum)) / math.Ln2
	mean := 0.0
	for n, j := range seen {
		prob[n] /= sum
		at := ((b*p.KVHeads+g)*p.KeyLen + j) * p.ValueDim
		for d, x := range value(j) {
			r.out[row*p.ValueDim+d] += prob[n] * float64(x)
			dprob[n] += float64(dout[d]) * float64(x)
			r.dv[at+d] += prob[n] * float64(dout[d])
			r.dvTerms[at+d] += prob[n] * math.Abs(float64(dout[d]))
		}
		mean += prob[n] * dprob[n]
	}
	for n, j := range seen {
		ds := prob[n] * (dprob[n] - mean) * float64(p.Scale)
		terms := prob[n] * (math.Abs(dprob[n]) + math.Abs(mean)) * float64(p.Scale)
		at := ((b*p.KVHeads+g)*p.KeyLen + j) * p.Dim
		for d, x := range key(j) {
			r.dq[row*p.Dim+d] += ds * float64(x)
			r.dqTerms[row*p.Dim+d] += terms * math.Abs(float64(x))
			r.dk[at+d] += ds * float64(q[d])
			r.dkTerms[at+d] += terms * math.Abs(float64(q[d]))
		}
	}
}

const canary = float32(-1234.5)

// guarded returns n elements with guards on both sides, all canaries, off elements after a multiple of 64 bytes.
func guarded(n, off int) (whole, inside []float32) {
	whole = make([]float32, n+4*align)
	for i := range whole {
		whole[i] = canary
	}
	at := len(whole) - len(aligned(whole)) + align + off%align
	return whole, whole[at : at+n : at+n]
}

// computed is a result in the layout of its problem.
type computed struct {
	out, stats, dq, dk, dv []float32
	wholes                 [][]float32
	used                   []int // elements of each whole that may have changed
}

// compute runs both passes at a level with a number of workers; operands lie off elements after a multiple of 64 bytes.
func (p *problem) compute(level feature.Level, workers, off int) *computed {
	t := team.New(workers)
	defer t.Close()
	plan := New(p.Spec, level)
	c := &computed{}
	take := func(n, used int) []float32 {
		whole, inside := guarded(n, off)
		c.wholes, c.used = append(c.wholes, whole), append(c.used, used)
		return inside
	}
	copied := func(x []float32) []float32 {
		_, y := guarded(len(x), off)
		copy(y, x)
		return y
	}
	q, k, v, dout := copied(p.q), copied(p.k), copied(p.v), copied(p.dout)
	rows := p.Batch * p.Heads * p.QueryLen
	keys := p.Batch * p.KVHeads * p.KeyLen
	c.out, c.stats = take(len(p.dout), rows*p.ValueDim), take(rows, rows)
	c.dq, c.dk, c.dv = take(len(p.q), rows*p.Dim), take(len(p.k), keys*p.Dim), take(len(p.v), keys*p.ValueDim)
	scratch := take(plan.Scratch(workers), plan.Scratch(workers))
	plan.Run(t, c.out, c.stats, q, k, v, p.mask, scratch)
	scratch = take(plan.ScratchVJP(workers), plan.ScratchVJP(workers))
	plan.RunVJP(t, c.dq, c.dk, c.dv, q, k, v, c.out, c.stats, dout, p.mask, scratch)
	return c
}

// overwritten counts the canaries lost beyond those that a result may have taken.
func (c *computed) overwritten() int {
	lost := 0
	for i, whole := range c.wholes {
		left := 0
		for _, x := range whole {
			if x == canary {
				left++
			}
		}
		lost += max(0, len(whole)-c.used[i]-left)
	}
	return lost
}

// dense copies a result out of its layout.
func dense(x []float32, batch, heads, rows, cols int, s Strides) []float32 {
	out := make([]float32, 0, batch*heads*rows*cols)
	for b := range batch {
		for h := range heads {
			for i := range rows {
				out = append(out, x[s.at(b, h, i):][:cols]...)
			}
		}
	}
	return out
}

// dense returns out, stats, dq, dk and dv.
func (c *computed) dense(p *problem) [5][]float32 {
	return [5][]float32{
		dense(c.out, p.Batch, p.Heads, p.QueryLen, p.ValueDim, p.Out),
		c.stats,
		dense(c.dq, p.Batch, p.Heads, p.QueryLen, p.Dim, p.Q),
		dense(c.dk, p.Batch, p.KVHeads, p.KeyLen, p.Dim, p.K),
		dense(c.dv, p.Batch, p.KVHeads, p.KeyLen, p.ValueDim, p.V),
	}
}
