package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func (m *machine) moves() {
	s := m.words("dst", "value")
	s[1].scalar = true
	m.elementwise("Fill", "Fill", "Fill.", s, 4, func() body { return func(in []op) op { return in[0] } })
	m.planes("Repeat", "Repeat", []string{"rows", "cols"}, true)
	m.planes("Tile", "Tile", []string{"rows", "cols"}, false)
	m.planes("Copy2D", "", []string{"rows", "cols", "dstStride", "srcStride"}, false)
	m.largest()
	if m.wide {
		m.transpose16()
	} else {
		m.transpose()
	}
}

// planes writes rows of cols words, each a copy of a row of the source or of one of its words.
func (m *machine) planes(name, slot string, ints []string, repeat bool) {
	p := m.function(name, slot, name+".", []string{"dst", "src"}, ints)
	dst, src, rows, cols := p["dst"], p["src"], p["rows"], p["cols"]
	m.TESTQ(rows, rows)
	m.JZ(operand.LabelRef("done"))
	dstStep, srcStep := p["dstStride"], p["srcStride"]
	if dstStep == nil {
		dstStep = m.GP64()
		m.MOVQ(cols, dstStep)
	} else {
		m.SHLQ(operand.U8(2), srcStep)
	}
	m.SHLQ(operand.U8(2), dstStep)
	last := m.GP64()
	m.MOVQ(cols, last)
	m.ANDQ(operand.U8(m.lanes-1), last)
	mask := m.tailMask(last)
	m.Label("row")
	var value op
	if repeat {
		value = m.vec()
		m.VBROADCASTSS(operand.Mem{Base: src}, value)
	}
	i, n := m.GP64(), m.GP64()
	m.XORQ(i, i)
	m.MOVQ(cols, n)
	step := func(mask op) {
		v := value
		if v == nil {
			v = m.load(operand.Mem{Base: src, Index: i, Scale: 4}, mask)
		}
		m.store(v, operand.Mem{Base: dst, Index: i, Scale: 4}, mask)
	}
	m.SUBQ(operand.I32(m.lanes), n)
	m.JL(operand.LabelRef("last"))
	m.Label("vector")
	step(nil)
	m.ADDQ(operand.I32(m.lanes), i)
	m.SUBQ(operand.I32(m.lanes), n)
	m.JGE(operand.LabelRef("vector"))
	m.Label("last")
	m.TESTQ(last, last)
	m.JZ(operand.LabelRef("next"))
	step(mask)
	m.Label("next")
	m.ADDQ(dstStep, dst)
	if repeat {
		m.ADDQ(operand.U8(4), src)
	} else if srcStep != nil {
		m.ADDQ(srcStep, src)
	}
	m.DECQ(rows)
	m.JNZ(operand.LabelRef("row"))
	m.Label("done")
	m.end()
}

// largest writes the greatest word of x without its sign bit.
func (m *machine) largest() {
	p := m.function("Largest", "", "Largest is the greatest |x| as bits: NaN are above all numbers.", []string{"dst", "x"}, []string{"n"})
	n, i := p["n"], m.GP64()
	absolute, acc := m.hold(^uint32(signBit)), m.vec()
	m.VXORPS(acc.AsX(), acc.AsX(), acc.AsX())
	m.XORQ(i, i)
	step := func(mask op) {
		m.VPMAXUD(m.and(m.load(operand.Mem{Base: p["x"], Index: i, Scale: 4}, mask), absolute), acc, acc)
	}
	m.SUBQ(operand.I32(m.lanes), n)
	m.JL(operand.LabelRef("last"))
	m.Label("vector")
	step(nil)
	m.ADDQ(operand.I32(m.lanes), i)
	m.SUBQ(operand.I32(m.lanes), n)
	m.JGE(operand.LabelRef("vector"))
	m.Label("last")
	m.ADDQ(operand.I32(m.lanes), n)
	m.JZ(operand.LabelRef("fold"))
	step(m.tailMask(n))
	m.Label("fold")
	t := m.vec()
	if m.wide {
		m.VEXTRACTI64X4(operand.U8(1), acc, t.AsY())
		m.VPMAXUD(t.AsY(), acc.AsY(), acc.AsY())
		m.VEXTRACTI32X4(operand.U8(1), acc.AsY(), t.AsX())
	} else {
		m.VEXTRACTI128(operand.U8(1), acc, t.AsX())
	}
	m.VPMAXUD(t.AsX(), acc.AsX(), acc.AsX())
	for _, lanes := range []uint8{0x0e, 0x01} {
		m.VPSHUFD(operand.U8(lanes), acc.AsX(), t.AsX())
		m.VPMAXUD(t.AsX(), acc.AsX(), acc.AsX())
	}
	m.VMOVSS(acc.AsX(), operand.Mem{Base: p["dst"]})
	m.end()
}

// transpose goes through squares of 8 x 8 words, down the rows of the source first, so that it writes on where it stopped.
func (m *machine) transpose() {
	p := m.function("Transpose8", "", "Transpose8 is Transpose2D for rows and cols that are multiples of 8 and not 0.",
		[]string{"dst", "src"}, []string{"rows", "cols", "dstStride", "srcStride"})
	ds, ss := p["dstStride"], p["srcStride"]
	m.SHLQ(operand.U8(2), ds)
	m.SHLQ(operand.U8(2), ss)
	ds3, ss3 := m.GP64(), m.GP64()
	m.LEAQ(operand.Mem{Base: ds, Index: ds, Scale: 2}, ds3)
	m.LEAQ(operand.Mem{Base: ss, Index: ss, Scale: 2}, ss3)
	m.Label("columns")
	s, d, n := m.GP64(), m.GP64(), m.GP64()
	m.MOVQ(p["src"], s)
	m.MOVQ(p["dst"], d)
	m.MOVQ(p["rows"], n)
	m.Label("square")
	s4, d4 := m.GP64(), m.GP64()
	m.LEAQ(operand.Mem{Base: s, Index: ss, Scale: 4}, s4)
	m.LEAQ(operand.Mem{Base: d, Index: ds, Scale: 4}, d4)
	row := func(base, stride, stride3 reg.GPVirtual, i int) operand.Mem {
		return [4]operand.Mem{{Base: base}, {Base: base, Index: stride, Scale: 1}, {Base: base, Index: stride, Scale: 2},
			{Base: base, Index: stride3, Scale: 1}}[i]
	}
	for half := range 2 {
		var y [4]op
		for i := range y {
			v := m.YMM()
			m.VMOVUPS(row(s, ss, ss3, i).Offset(16*half), v.AsX())
			m.VINSERTF128(operand.U8(1), row(s4, ss, ss3, i).Offset(16*half), v, v)
			y[i] = v
		}
		low01, high01 := m.two(m.VUNPCKLPS, y[0], y[1]), m.two(m.VUNPCKHPS, y[0], y[1])
		low23, high23 := m.two(m.VUNPCKLPS, y[2], y[3]), m.two(m.VUNPCKHPS, y[2], y[3])
		to := []reg.GPVirtual{d, d4}[half]
		for i, pair := range [][2]op{{low01, low23}, {low01, low23}, {high01, high23}, {high01, high23}} {
			v := m.YMM()
			m.VSHUFPS(operand.U8([]uint8{0x44, 0xee}[i&1]), pair[1], pair[0], v)
			m.VMOVUPS(v, row(to, ds, ds3, i))
		}
	}
	m.LEAQ(operand.Mem{Base: s, Index: ss, Scale: 8}, s)
	m.ADDQ(operand.U8(32), d)
	m.SUBQ(operand.U8(8), n)
	m.JNZ(operand.LabelRef("square"))
	m.ADDQ(operand.U8(32), p["src"])
	m.LEAQ(operand.Mem{Base: p["dst"], Index: ds, Scale: 8}, p["dst"])
	m.SUBQ(operand.U8(8), p["cols"])
	m.JNZ(operand.LabelRef("columns"))
	m.end()
}

// transpose16 goes through squares of 16 x 16 words: each cache line of both arrays is touched once, so that strides of
// powers of 2, which put all lines of a column into the same few places of the cache, do no harm.
func (m *machine) transpose16() {
	p := m.function("Transpose16", "", "Transpose16 is Transpose2D for rows and cols that are multiples of 16 and not 0.",
		[]string{"dst", "src"}, []string{"rows", "cols", "dstStride", "srcStride"})
	ds, ss := p["dstStride"], p["srcStride"]
	m.SHLQ(operand.U8(2), ds)
	m.SHLQ(operand.U8(2), ss)
	m.Label("columns")
	s, d, n := m.GP64(), m.GP64(), m.GP64()
	m.MOVQ(p["src"], s)
	m.MOVQ(p["dst"], d)
	m.MOVQ(p["rows"], n)
	m.Label("square")
	var r, t, u, out [16]op
	for i := range r {
		v := m.ZMM()
		m.VMOVUPS(operand.Mem{Base: s}, v)
		m.ADDQ(ss, s)
		r[i] = v
	}
	for i := 0; i < 16; i += 2 {
		t[i], t[i+1] = m.two(m.VUNPCKLPS, r[i], r[i+1]), m.two(m.VUNPCKHPS, r[i], r[i+1])
	}
	for i := 0; i < 16; i += 4 {
		u[i], u[i+1] = m.two(m.VUNPCKLPD, t[i], t[i+2]), m.two(m.VUNPCKHPD, t[i], t[i+2])
		u[i+2], u[i+3] = m.two(m.VUNPCKLPD, t[i+1], t[i+3]), m.two(m.VUNPCKHPD, t[i+1], t[i+3])
	}
	quarters := func(a, b op, odd bool) op {
		v := m.ZMM()
		m.VSHUFF32X4(operand.U8(map[bool]uint8{false: 0x88, true: 0xdd}[odd]), b, a, v)
		return v
	}
	for j := range 4 {
		even, evenHigh := quarters(u[j], u[j+4], false), quarters(u[j+8], u[j+12], false)
		odd, oddHigh := quarters(u[j], u[j+4], true), quarters(u[j+8], u[j+12], true)
		out[j], out[j+8] = quarters(even, evenHigh, false), quarters(even, evenHigh, true)
		out[j+4], out[j+12] = quarters(odd, oddHigh, false), quarters(odd, oddHigh, true)
	}
	to := m.GP64()
	m.MOVQ(d, to)
	for i := range out {
		m.VMOVUPS(out[i], operand.Mem{Base: to})
		if i < 15 {
			m.ADDQ(ds, to)
		}
	}
	m.ADDQ(operand.U8(64), d)
	m.SUBQ(operand.U8(16), n)
	m.JNZ(operand.LabelRef("square"))
	m.ADDQ(operand.U8(64), p["src"])
	sixteen := m.GP64()
	m.MOVQ(ds, sixteen)
	m.SHLQ(operand.U8(4), sixteen)
	m.ADDQ(sixteen, p["dst"])
	m.SUBQ(operand.U8(16), p["cols"])
	m.JNZ(operand.LabelRef("columns"))
	m.end()
}
