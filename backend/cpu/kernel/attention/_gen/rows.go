package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// transpose turns a square of a vector's size.
func (k kind) transpose() {
	k.begin("transpose", "func(dst *float32, ldd int, src *float32, lds int, factors *float32)",
		"sets dst[c][r] = src[r][c]·factors[c] for as many rows and columns as a vector has lanes.")
	dst, src, f := arg("dst", reg.RDI), arg("src", reg.RSI), arg("factors", reg.RDX)
	ldd, lds := arg("ldd", reg.R8), arg("lds", reg.R9)
	SHLQ(Imm(2), ldd)
	SHLQ(Imm(2), lds)
	n := k.size() / 4
	if k.zmm {
		VMOVUPS(at(f, 0), k.vec(31))
	}
	load := func(i int) reg.VecPhysical {
		v := k.vec(i)
		if k.zmm {
			VMULPS(at(src, 0), k.vec(31), v)
		} else {
			VMOVUPS(at(f, 0), v)
			VMULPS(at(src, 0), v, v)
		}
		ADDQ(lds, src)
		return v
	}
	var out []reg.VecPhysical
	if k.zmm {
		out = k.turn16(load)
	} else {
		out = k.turn8(load)
	}
	for i := range n {
		VMOVUPS(out[i], at(dst, 0))
		ADDQ(ldd, dst)
	}
	end()
}

// pool lends registers.
type pool []reg.VecPhysical

func (p *pool) take() reg.VecPhysical {
	v := (*p)[len(*p)-1]
	*p = (*p)[:len(*p)-1]
	return v
}

func (p *pool) give(v reg.VecPhysical) { *p = append(*p, v) }

// turnFours turns the 4x4 squares of the rows' 128-bit parts: row 4g+i of the result has columns i, i+4, ... of rows 4g to 4g+3.
func turnFours(rows []reg.VecPhysical, p *pool) {
	for g := 0; g < len(rows); g += 4 {
		var t [4]reg.VecPhysical
		for i := range 2 {
			a, b := rows[g+2*i], rows[g+2*i+1]
			low, high := p.take(), p.take()
			VUNPCKLPS(b, a, low)
			VUNPCKHPS(b, a, high)
			p.give(a)
			p.give(b)
			t[i], t[2+i] = low, high
		}
		for i := range 2 {
			low, high := p.take(), p.take()
			VUNPCKLPD(t[2*i+1], t[2*i], low)
			VUNPCKHPD(t[2*i+1], t[2*i], high)
			p.give(t[2*i])
			p.give(t[2*i+1])
			rows[g+2*i], rows[g+2*i+1] = low, high
		}
	}
}

func (k kind) turn16(load func(int) reg.VecPhysical) []reg.VecPhysical {
	rows := make([]reg.VecPhysical, 16)
	for i := range rows {
		rows[i] = load(i)
	}
	p := pool(zmms[16:31])
	turnFours(rows, &p)
	// Parts 0 and 2, then 1 and 3, of rows of groups g and g+1.
	pair := func(a, b reg.VecPhysical) (even, odd reg.VecPhysical) {
		even, odd = p.take(), p.take()
		VSHUFF32X4(Imm(0x88), b, a, even)
		VSHUFF32X4(Imm(0xdd), b, a, odd)
		p.give(a)
		p.give(b)
		return even, odd
	}
	out := make([]reg.VecPhysical, 16)
	for i := range 4 {
		e0, o0 := pair(rows[i], rows[4+i])
		e1, o1 := pair(rows[8+i], rows[12+i])
		out[i], out[8+i] = pair(e0, e1)
		out[4+i], out[12+i] = pair(o0, o1)
	}
	return out
}

func (k kind) turn8(load func(int) reg.VecPhysical) []reg.VecPhysical {
	rows := make([]reg.VecPhysical, 8)
	for i := range rows {
		rows[i] = load(i)
	}
	p := pool{}
	for i := 8; i < 16; i++ {
		p.give(k.vec(i))
	}
	turnFours(rows, &p)
	out := make([]reg.VecPhysical, 8)
	for i := range 4 {
		low, high := p.take(), p.take()
		VPERM2F128(Imm(0x20), rows[4+i], rows[i], low)
		VPERM2F128(Imm(0x31), rows[4+i], rows[i], high)
		p.give(rows[i])
		p.give(rows[4+i])
		out[i], out[4+i] = low, high
	}
	return out
}
