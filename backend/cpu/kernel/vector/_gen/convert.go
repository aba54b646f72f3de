package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// conversions to and from lanes of 16 and 8 bits. AVX2 has no masks for them: its functions take whole vectors only.
func (m *machine) conversions() {
	m.wholeOnly = !m.wide
	half := stream{name: "dst", bytes: 2, load: m.loadHalf, store: m.storeHalf}
	byteWide := stream{name: "dst", bytes: 1, load: m.loadByte, store: m.storeByte}
	word := m.words("dst")[0]
	named := func(s stream, name string) stream { s.name = name; return s }

	slot, note := func(name string) string { return name }, ""
	if !m.wide {
		slot, note = func(string) string { return "" }, ", n a multiple of 8"
	}
	convert := func(name string, dst, src stream, setup func() body) {
		m.elementwise(name, slot(name), name+note+".", []stream{dst, named(src, "x")}, 2, setup)
	}
	convert("FloatFromBF16", word, half, func() body {
		return func(in []op) op { return m.shift(m.VPSLLD, in[0], 16) }
	})
	convert("BF16FromFloat", half, word, func() body {
		one, below, quiet := m.k(1), m.k(0x7fff), m.k(0x40)
		return func(in []op) op {
			high := m.shift(m.VPSRLD, in[0], 16)
			even := m.addInt(m.addInt(in[0], below), m.and(high, one))
			return m.blend(m.cmp(unordered, in[0], in[0]), m.or(high, quiet), m.shift(m.VPSRLD, even, 16))
		}
	})
	convert("MaskFromBool", word, byteWide, func() body {
		zero := m.hold(0)
		greater := m.compareInt(6, true)()
		return func(in []op) op { return greater(in[0], zero) }
	})
	convert("BoolFromMask", byteWide, word, func() body {
		one := m.k(1)
		return func(in []op) op { return m.and(in[0], one) }
	})
	m.wholeOnly = false
}

func (m *machine) loadHalf(p operand.Mem, mask op) op {
	d := m.vec()
	if mask != nil {
		m.VPMOVZXWD_Z(p, mask, d)
	} else {
		m.VPMOVZXWD(p, d)
	}
	return d
}

func (m *machine) loadByte(p operand.Mem, mask op) op {
	d := m.vec()
	if mask != nil {
		m.VPMOVZXBD_Z(p, mask, d)
	} else {
		m.VPMOVZXBD(p, d)
	}
	return d
}

// narrowed packs the lanes into words of 16 bits at AVX2.
func (m *machine) narrowed(v op) reg.VecVirtual {
	high := m.XMM()
	low := v.(reg.VecVirtual).AsX()
	m.VEXTRACTI128(operand.U8(1), v, high)
	m.VPACKUSDW(high, low, high)
	return high
}

func (m *machine) storeHalf(v op, p operand.Mem, mask op) {
	switch {
	case mask != nil:
		m.VPMOVDW(v, mask, p)
	case m.wide:
		m.VPMOVDW(v, p)
	default:
		m.VMOVDQU(m.narrowed(v), p)
	}
}

func (m *machine) storeByte(v op, p operand.Mem, mask op) {
	switch {
	case mask != nil:
		m.VPMOVDB(v, mask, p)
	case m.wide:
		m.VPMOVDB(v, p)
	default:
		x := m.narrowed(v)
		m.VPACKUSWB(x, x, x)
		m.VMOVQ(x, p)
	}
}
