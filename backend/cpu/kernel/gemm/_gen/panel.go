package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Registers of a panel. R14 is Go's g, which the wrapper around assembly restores.
var (
	aBase  = [3]reg.GPPhysical{reg.RSI, reg.RAX, reg.RBX} // rows 0, 5 and 10 of A at the current term
	aRow   = reg.R8
	aRow3  = reg.R9
	aK     = reg.R10
	bK     = reg.R11
	count  = reg.RCX
	bAt    = reg.RDX
	cRow   = reg.R12
	left   = reg.R13 // columns left
	cAt    = reg.R14
	bStart = reg.R15 // B at the tile's first term
)

// aMem addresses the element of row i of A at the current term.
func aMem(i int) Mem {
	base := aBase[i/5]
	switch i % 5 {
	case 1:
		return Mem{Base: base, Index: aRow, Scale: 1}
	case 2:
		return Mem{Base: base, Index: aRow, Scale: 2}
	case 3:
		return Mem{Base: base, Index: aRow3, Scale: 1}
	case 4:
		return Mem{Base: base, Index: aRow, Scale: 4}
	}
	return Mem{Base: base}
}

// panel writes the kernel for m rows: wide tiles, tiles of two vectors, then the last columns.
func (k kind) panel(m int) {
	TEXT(fmt.Sprintf("panel%sm%d", k.name, m), NOSPLIT, "func(x *byte)")
	Pragma("noescape")
	Doc(fmt.Sprintf("panel%sm%d multiplies a panel of %d rows; x is a *panel.", k.name, m, m))
	Load(Param("x"), reg.RDI)
	k.scaled(panelARow, aRow)
	LEAQ(Mem{Base: aRow, Index: aRow, Scale: 2}, aRow3)
	k.scaled(panelAK, aK)
	k.scaled(panelBK, bK)
	k.scaled(panelCRow, cRow)
	field(panelN, left)
	field(panelC, cAt)
	field(panelB, bStart)
	if wide := k.width(m); wide > 2 {
		CMPQ(Mem{Base: reg.RDI, Disp: panelWide}, Imm(0))
		JE(LabelRef("narrow"))
		Label("wide")
		CMPQ(left, num((wide * k.lanes())))
		JL(LabelRef("narrow"))
		k.tile("wide", m, wide, false)
		ADDQ(num((wide * k.size())), bStart)
		ADDQ(num((wide * k.size())), cAt)
		SUBQ(num((wide * k.lanes())), left)
		JMP(LabelRef("wide"))
	}
	Label("narrow")
	CMPQ(left, num((2 * k.lanes())))
	JL(LabelRef("last"))
	k.tile("full", m, 2, false)
	k.scaled(panelBStrip, count)
	ADDQ(count, bStart)
	ADDQ(num((2 * k.size())), cAt)
	SUBQ(num((2 * k.lanes())), left)
	JMP(LabelRef("narrow"))
	Label("last")
	TESTQ(left, left)
	JE(LabelRef("done"))
	CMPQ(left, num((k.lanes())))
	JLE(LabelRef("one"))
	SUBQ(num((k.lanes())), left)
	k.mask(left, 1, k.lanes())
	k.tile("lastTwo", m, 2, true)
	JMP(LabelRef("done"))
	Label("one")
	k.mask(left, 1, k.lanes())
	k.tile("lastOne", m, 1, true)
	Label("done")
	VZEROUPPER()
	RET()
}

func (k kind) width(m int) int {
	if m < len(k.wide) && k.wide[m] > 0 {
		return k.wide[m]
	}
	return 2
}

// tile multiplies m rows by nv vectors of columns, the last of them masked if told.
func (k kind) tile(name string, m, nv int, masked bool) {
	acc := func(i, v int) reg.VecPhysical { return k.vec(i*nv + v) }
	free := m * nv // the first register for operands
	last := k.registers() - 1
	if masked && !k.zmm {
		last-- // the mask
	}
	if m*nv+min(m, nv)+1 > last+1 {
		panic(fmt.Sprintf("%s: too many registers for %dx%d", k.name, m, nv))
	}
	for i := range m {
		for v := range nv {
			k.zero(acc(i, v))
		}
	}
	k.prefetchC(m, nv)
	field(panelA, aBase[0])
	if m > 5 {
		LEAQ(Mem{Base: aBase[0], Index: aRow, Scale: 4}, aBase[1])
		ADDQ(aRow, aBase[1])
	}
	if m > 10 {
		LEAQ(Mem{Base: aBase[1], Index: aRow, Scale: 4}, aBase[2])
		ADDQ(aRow, aBase[2])
	}
	MOVQ(bStart, bAt)
	field(panelK, count)
	load := func(v int, to reg.VecPhysical) {
		from := Mem{Base: bAt, Disp: v * k.size()}
		if masked && v == nv-1 {
			k.loadMasked(from, 1, to)
		} else {
			k.load(from, to)
		}
	}
	Label(name + "Term")
	next := 0
	if nv <= m { // hold B, broadcast A
		for v := range nv {
			load(v, k.vec(free+v))
		}
		spare := min(last-(free+nv)+1, 6)
		for i := range m {
			if nv == 1 && k.zmm { // broadcasts into registers come at half the rate
				k.fmaBroadcast(aMem(i), k.vec(free), acc(i, 0))
				continue
			}
			t := k.vec(free + nv + next%spare)
			next++
			k.broadcast(aMem(i), t)
			for v := range nv {
				k.fma(t, k.vec(free+v), acc(i, v))
			}
		}
	} else { // hold A, load B
		for i := range m {
			k.broadcast(aMem(i), k.vec(free+i))
		}
		spare := min(last-(free+m)+1, 6)
		for v := range nv {
			t := k.vec(free + m + next%spare)
			next++
			load(v, t)
			for i := range m {
				k.fma(t, k.vec(free+i), acc(i, v))
			}
		}
	}
	for i := 0; i <= (m-1)/5; i++ {
		ADDQ(aK, aBase[i])
	}
	ADDQ(bK, bAt)
	DECQ(count)
	JNE(LabelRef(name + "Term"))
	k.finish(name, m, nv, masked, acc)
}

// prefetchC asks for the tile of C, whose lines arrive while terms are summed.
func (k kind) prefetchC(m, nv int) {
	MOVQ(cAt, bAt)
	for i := range m {
		for v := 0; v < nv*k.size(); v += 64 {
			PREFETCHT0(Mem{Base: bAt, Disp: v})
		}
		if i < m-1 {
			ADDQ(cRow, bAt)
		}
	}
}

// finish adds the sums to C or stores them.
func (k kind) finish(name string, m, nv int, masked bool, acc func(i, v int) reg.VecPhysical) {
	t := k.vec(m * nv)
	MOVQ(cAt, bAt)
	CMPQ(Mem{Base: reg.RDI, Disp: panelAccumulate}, Imm(0))
	JE(LabelRef(name + "Store"))
	for _, add := range []bool{true, false} {
		if !add {
			Label(name + "Store")
		}
		for i := range m {
			for v := range nv {
				at := Mem{Base: bAt, Disp: v * k.size()}
				mask := masked && v == nv-1
				switch {
				case add && mask:
					k.loadMasked(at, 1, t)
					k.add(t, acc(i, v), acc(i, v))
				case add:
					k.add(at, acc(i, v), acc(i, v))
				}
				if mask {
					k.storeMasked(acc(i, v), 1, at)
				} else {
					k.load(acc(i, v), at)
				}
			}
			if i < m-1 {
				ADDQ(cRow, bAt)
			}
		}
		if add {
			JMP(LabelRef(name + "End"))
		}
	}
	Label(name + "End")
}
