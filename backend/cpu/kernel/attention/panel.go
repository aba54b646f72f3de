package attention

// statRows are the rows of panelWidth numbers kept for a panel's queries.
const statRows = 4

// panel is a worker's view of 32 queries of one head, or fewer at the end.
type panel struct {
	batch, head, first, rows int
	from, to                 int     // keys that some query sees by position
	column                   [2]span // and those of each column
}

// span is a range of keys.
type span struct{ from, to int }

func (s span) within(t span) span {
	from := max(s.from, t.from)
	return span{from, max(from, min(s.to, t.to))}
}

func (s span) empty() bool { return s.from >= s.to }

// segment is a range of keys that the same columns see some of.
type segment struct {
	span
	column int // the first column
	width  int // lanes: one column or both
}

func (p *Plan) newPanel(batch, head, index int) panel {
	x := panel{batch: batch, head: head, first: index * panelWidth}
	x.rows = min(panelWidth, p.QueryLen-x.first)
	for c := range x.column {
		first := x.first + c*lanes
		if first >= p.QueryLen {
			x.column[c] = span{x.column[0].to, x.column[0].to}
			continue
		}
		x.column[c].from, x.column[c].to = p.sees(first, min(first+lanes, p.QueryLen)-1)
	}
	x.from, x.to = x.column[0].from, max(x.column[0].to, x.column[1].to)
	return x
}

// segments splits keys into ranges by the columns that see some of them, in order. Later columns see later keys.
func (x *panel) segments(keys span) (out [3]segment, n int) {
	a, b := x.column[0].within(keys), x.column[1].within(keys)
	put := func(from, to, column, width int) {
		if from < to {
			out[n] = segment{span{from, to}, column, width}
			n++
		}
	}
	put(a.from, min(a.to, max(a.from, b.from)), 0, lanes)
	put(max(a.from, b.from), min(a.to, b.to), 0, panelWidth)
	put(max(b.from, min(a.to, b.to)), b.to, 1, lanes)
	return out, n
}

// pack writes rows [rows][cols] of src, times factor, as dst [cols][panelWidth], with zeros for queries that are not there.
func (p *Plan) pack(dst, src []float32, stride, rows, cols int, factor float32) {
	if rows < panelWidth {
		clear(dst[:cols*panelWidth])
	}
	var factors [lanes]float32
	for i := range factors {
		factors[i] = factor
	}
	p.transpose(dst, panelWidth, src, stride, rows, cols, factors[:], 0)
}

// unpack writes src [cols][panelWidth], times the factor of each query, as rows [rows][cols] of dst.
func (p *Plan) unpack(dst []float32, stride int, src []float32, rows, cols int, factors []float32) {
	p.transpose(dst, stride, src, panelWidth, cols, rows, factors, 1)
}

// transpose sets dst[c][r] = src[r][c]·factors[c·step], tile by tile.
func (p *Plan) transpose(dst []float32, ldd int, src []float32, lds, rows, cols int, factors []float32, step int) {
	tile := p.tile()
	if tile == 0 {
		transposeGeneric(dst, ldd, src, lds, rows, cols, factors, step)
		return
	}
	wholeRows, wholeCols := rows/tile*tile, cols/tile*tile
	for c := 0; c < wholeCols; c += tile {
		for r := 0; r < wholeRows; r += tile {
			p.transposeTile(dst[c*ldd+r:], ldd, src[r*lds+c:], lds, factors[c*step:])
		}
	}
	if wholeRows < rows {
		transposeGeneric(dst[wholeRows:], ldd, src[wholeRows*lds:], lds, rows-wholeRows, cols, factors, step)
	}
	if wholeCols < cols {
		transposeGeneric(dst[wholeCols*ldd:], ldd, src[wholeCols:], lds, wholeRows, cols-wholeCols, factors[wholeCols*step:], step)
	}
}

func transposeGeneric(dst []float32, ldd int, src []float32, lds, rows, cols int, factors []float32, step int) {
	for c := range cols {
		f := factors[c*step]
		for r := range rows {
			dst[c*ldd+r] = src[r*lds+c] * f
		}
	}
}
