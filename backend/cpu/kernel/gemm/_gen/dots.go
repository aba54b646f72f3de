package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// peak writes a loop of multiply-adds on registers alone, 12 in each turn.
func (k kind) peak() {
	TEXT("peak"+k.name, NOSPLIT, "func(turns int)")
	Doc("peak" + k.name + " does 12 independent multiply-adds of a register in each turn.")
	Load(Param("turns"), count)
	for i := range 14 {
		k.zero(k.vec(i))
	}
	Label("turn")
	for i := range 12 {
		k.fma(k.vec(12), k.vec(13), k.vec(i))
	}
	DECQ(count)
	JNE(LabelRef("turn"))
	VZEROUPPER()
	RET()
}

// dots writes the kernel for one to three rows: four columns of B at a time, then one, vectors along k.
func (k kind) dots() {
	if !k.zmm {
		return
	}
	for m := 1; m <= 3; m++ {
		TEXT(fmt.Sprintf("dots%sm%d", k.name, m), NOSPLIT, "func(x *byte)")
		Pragma("noescape")
		Doc(fmt.Sprintf("dots%sm%d multiplies %d contiguous rows by contiguous columns; x is a *dots.", k.name, m, m))
		Load(Param("x"), reg.RDI)
		k.scaled(dotsARow, reg.R8)
		k.scaled(dotsBCol, reg.R9)
		LEAQ(Mem{Base: reg.R9, Index: reg.R9, Scale: 2}, reg.R10)
		k.scaled(dotsCRow, reg.R11)
		field(dotsN, reg.R12)
		field(dotsB, reg.R15)
		field(dotsC, reg.R14)
		field(dotsK, reg.R13)
		ANDQ(num((k.lanes() - 1)), reg.R13)
		k.mask(reg.R13, 1)
		for _, cols := range []int{4, 1} {
			name := fmt.Sprintf("cols%d", cols)
			Label(name)
			CMPQ(reg.R12, num((cols)))
			JL(LabelRef(name + "End"))
			k.dotTile(name, m, cols)
			LEAQ(Mem{Base: reg.R15, Index: reg.R9, Scale: uint8(cols)}, reg.R15)
			ADDQ(num((cols * k.bytes())), reg.R14)
			SUBQ(num((cols)), reg.R12)
			JMP(LabelRef(name))
			Label(name + "End")
		}
		VZEROUPPER()
		RET()
	}
}

func (k kind) dotTile(name string, m, cols int) {
	acc := func(i, j int) reg.VecPhysical { return k.vec(i*cols + j) }
	for i := range m * cols {
		k.zero(k.vec(i))
	}
	field(dotsA, reg.RSI)
	MOVQ(reg.R15, reg.RDX)
	field(dotsK, count)
	a := func(i int) Mem {
		if i == 0 {
			return Mem{Base: reg.RSI}
		}
		return Mem{Base: reg.RSI, Index: reg.R8, Scale: uint8(i)}
	}
	b := func(j int) Mem {
		return []Mem{{Base: reg.RDX}, {Base: reg.RDX, Index: reg.R9, Scale: 1}, {Base: reg.RDX, Index: reg.R9, Scale: 2},
			{Base: reg.RDX, Index: reg.R10, Scale: 1}}[j]
	}
	step := func(load func(from Mem, to reg.VecPhysical)) {
		for i := range m {
			load(a(i), k.vec(16+i))
		}
		for j := range cols {
			load(b(j), k.vec(20+j))
			for i := range m {
				k.fma(k.vec(16+i), k.vec(20+j), acc(i, j))
			}
		}
	}
	SUBQ(num((k.lanes())), count)
	JL(LabelRef(name + "Rest"))
	Label(name + "Term")
	step(func(from Mem, to reg.VecPhysical) { k.load(from, to) })
	ADDQ(Imm(64), reg.RSI)
	ADDQ(Imm(64), reg.RDX)
	SUBQ(num((k.lanes())), count)
	JGE(LabelRef(name + "Term"))
	Label(name + "Rest")
	TESTQ(reg.R13, reg.R13)
	JE(LabelRef(name + "Sum"))
	step(k.loadMasked)
	Label(name + "Sum")
	MOVQ(reg.R14, reg.RDX)
	for i := range m {
		for j := range cols {
			k.horizontal(acc(i, j), k.vec(16), Mem{Base: reg.RDX, Disp: j * k.bytes()})
		}
		if i < m-1 {
			ADDQ(reg.R11, reg.RDX)
		}
	}
}

// horizontal stores the sum of a vector's lanes.
func (k kind) horizontal(v, t reg.VecPhysical, to Mem) {
	VEXTRACTF64X4(Imm(1), v, t.AsY())
	k.add(t.AsY(), v.AsY(), v.AsY())
	VEXTRACTF32X4(Imm(1), v.AsY(), t.AsX())
	k.add(t.AsX(), v.AsX(), v.AsX())
	VPERMILPD(Imm(1), v.AsX(), t.AsX())
	k.add(t.AsX(), v.AsX(), v.AsX())
	if k.double {
		VMOVSD(v.AsX(), to)
		return
	}
	VMOVSHDUP(v.AsX(), t.AsX())
	VADDSS(t.AsX(), v.AsX(), v.AsX())
	VMOVSS(v.AsX(), to)
}
