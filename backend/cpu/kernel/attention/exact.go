package attention

import "math"

// The tiles multiply hidden values by zero, which makes NaN of NaN and infinities. Where that may have happened the rows are
// computed again here, pair by pair, looking only at what is seen.

// pair returns the score of a query and a key and whether the query sees the key. A mask of -Inf hides.
func (c *call) pair(batch, head, query, key int) (score float64, sees bool) {
	if from, to := c.sees(query, query); key < from || key >= to {
		return 0, false
	}
	at := c.MaskStrides.at(batch, head, query, key)
	if c.mask.seen != nil && c.mask.seen[at] == 0 {
		return 0, false
	}
	if c.mask.add != nil {
		if score = float64(c.mask.add[at]); math.IsInf(score, -1) {
			return 0, false
		}
	}
	q := c.q[c.Q.at(batch, head, query):][:c.Dim]
	k := c.k[c.K.at(batch, head/c.group, key):][:c.Dim]
	return score + float64(c.Scale)*dot64(q, k), true
}

func dot64(x, y []float32) float64 {
	sum := 0.0
	for i, v := range x {
		sum += float64(v) * float64(y[i])
	}
	return sum
}

// exactRow computes the output of row i of a panel and returns its statistic.
func (c *call) exactRow(x *panel, i int, out []float32) float32 {
	query, kv := x.first+i, x.head/c.group
	from, to := c.sees(query, query)
	largest, any := math.Inf(-1), false
	for key := from; key < to; key++ {
		if score, sees := c.pair(x.batch, x.head, query, key); sees {
			largest, any = math.Max(largest, score), true
		}
	}
	clear(out)
	if !any {
		return 0
	}
	sum, acc := 0.0, make([]float64, len(out))
	for key := from; key < to; key++ {
		score, sees := c.pair(x.batch, x.head, query, key)
		if !sees {
			continue
		}
		e := math.Exp(score - largest)
		sum += e
		for d, v := range c.v[c.V.at(x.batch, kv, key):][:len(out)] {
			acc[d] += e * float64(v)
		}
	}
	for d, v := range acc {
		out[d] = float32(v / sum)
	}
	return float32((largest + math.Log(sum)) * log2e)
}

// exactGradients computes dk and dv of a range of keys of one key head, and the share in dq of its query heads, which is
// set, not added to.
func (c *call) exactGradients(batch, kv int, keys span, dq []float32, dqs Strides) {
	for key := keys.from; key < keys.to; key++ {
		clear(c.dk[c.K.at(batch, kv, key):][:c.Dim])
		clear(c.dv[c.V.at(batch, kv, key):][:c.ValueDim])
	}
	for head := kv * c.group; head < (kv+1)*c.group; head++ {
		for query := range c.QueryLen {
			c.exactRowGradients(batch, head, query, keys, dq[dqs.at(batch, head, query):][:c.Dim])
		}
	}
}

func (c *call) exactRowGradients(batch, head, query int, keys span, dq []float32) {
	clear(dq)
	kv := head / c.group
	at := c.Out.at(batch, head, query)
	dout := c.dout[at:][:c.ValueDim]
	delta := dot64(dout, c.out[at:][:c.ValueDim])
	stat := float64(c.stats[(batch*c.Heads+head)*c.QueryLen+query])
	q := c.q[c.Q.at(batch, head, query):][:c.Dim]
	from, to := c.sees(query, query)
	for key := max(from, keys.from); key < min(to, keys.to); key++ {
		score, sees := c.pair(batch, head, query, key)
		if !sees {
			continue
		}
		prob := math.Exp2(score*log2e - stat)
		v := c.v[c.V.at(batch, kv, key):][:c.ValueDim]
		ds := prob * (dot64(dout, v) - delta) * float64(c.Scale)
		dv := c.dv[c.V.at(batch, kv, key):][:c.ValueDim]
		for d, x := range dout {
			dv[d] += float32(prob * float64(x))
		}
		k, dk := c.k[c.K.at(batch, kv, key):][:c.Dim], c.dk[c.K.at(batch, kv, key):][:c.Dim]
		for d := range q {
			dk[d] += float32(ds * float64(q[d]))
			dq[d] += float32(ds * float64(k[d]))
		}
	}
}
