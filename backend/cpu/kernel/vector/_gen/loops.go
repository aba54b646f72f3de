package main

import (
	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// body computes the destination's register from those of the sources.
type body func(in []op) op

// tailMask is the mask of the first n lanes, n below the number of lanes.
func (m *machine) tailMask(n reg.GPVirtual) op {
	if m.wide {
		ones, k := m.GP32(), m.K()
		m.MOVL(operand.I32(-1), ones)
		m.BZHIL(n.As32(), ones, ones)
		m.KMOVW(ones, k)
		return k
	}
	return m.windowMask(n)
}

// windowMask is tailMask at AVX2: 8 words of a table of 8 times -1 and 8 times 0, from word 8-n on.
func (m *machine) windowMask(n reg.GPVirtual) op {
	if m.window.Symbol.Name == "" {
		m.window = m.StaticGlobal(m.name + "_window")
		m.DataAttributes(attr.RODATA | attr.NOPTR)
		for i := range 16 {
			m.AppendDatum(operand.U32(uint32(int32(i/8 - 1))))
		}
	}
	base, v := m.GP64(), m.YMM()
	at := m.GP64()
	m.LEAQ(m.window, base)
	m.MOVQ(operand.U32(8), at)
	m.SUBQ(n, at)
	m.VMOVDQU(operand.Mem{Base: base, Index: at, Scale: 4}, v)
	return v
}

func (m *machine) load(p operand.Mem, mask op) op {
	d := m.vec()
	switch {
	case mask == nil:
		m.VMOVUPS(p, d)
	case m.wide:
		m.VMOVUPS_Z(p, mask, d)
	default:
		m.VMASKMOVPS(p, mask, d)
	}
	return d
}

func (m *machine) store(v op, p operand.Mem, mask op) {
	switch {
	case mask == nil:
		m.VMOVUPS(v, p)
	case m.wide:
		m.VMOVUPS(v, mask, p)
	default:
		m.VMASKMOVPS(v, mask, p)
	}
}

// stream is a source or the destination: how lanes are read from or written to it, with bytes a lane.
type stream struct {
	name   string
	scalar bool
	bytes  int
	load   func(p operand.Mem, mask op) op
	store  func(v op, p operand.Mem, mask op)
}

func (m *machine) words(names ...string) []stream {
	out := make([]stream, len(names))
	for i, n := range names {
		out[i] = stream{name: n, bytes: 4, load: m.load, store: m.store}
	}
	return out
}

// elementwise writes a function dst[i] = body(sources[i]). Streams are the destination, then the sources. setup runs before the
// loop, to load constants. unroll vectors go in one round of the loop.
func (m *machine) elementwise(name, slot, doc string, streams []stream, unroll int, setup func() body) {
	names := make([]string, len(streams))
	for i, s := range streams {
		names[i] = s.name
	}
	p := m.function(name, slot, doc, names, []string{"n"})
	n := p["n"]
	m.TESTQ(n, n)
	m.JZ(operand.LabelRef("done"))
	single := make([]op, len(streams))
	for i, s := range streams {
		if s.scalar {
			r := m.vec()
			m.VBROADCASTSS(operand.Mem{Base: p[s.name]}, r)
			single[i] = r
		}
	}
	f := setup()
	i := m.GP64()
	m.XORQ(i, i)
	step := func(offset int, mask op) {
		in := make([]op, len(streams)-1)
		for j, s := range streams[1:] {
			if in[j] = single[j+1]; !s.scalar {
				in[j] = s.load(operand.Mem{Base: p[s.name], Index: i, Scale: uint8(s.bytes), Disp: offset * s.bytes}, mask)
			}
		}
		d := streams[0]
		d.store(f(in), operand.Mem{Base: p[d.name], Index: i, Scale: uint8(d.bytes), Disp: offset * d.bytes}, mask)
	}
	loop := func(label string, vectors int) {
		count := operand.I32(int32(vectors * m.lanes))
		m.SUBQ(count, n)
		m.JL(operand.LabelRef(label + "end"))
		m.Label(label)
		for u := range vectors {
			step(u*m.lanes, nil)
		}
		m.ADDQ(count, i)
		m.SUBQ(count, n)
		m.JGE(operand.LabelRef(label))
		m.Label(label + "end")
		m.ADDQ(count, n)
	}
	if unroll > 1 {
		loop("many", unroll)
	}
	loop("one", 1)
	if !m.wholeOnly {
		m.JZ(operand.LabelRef("done"))
		step(0, m.tailMask(n))
	}
	m.Label("done")
	m.end()
}
