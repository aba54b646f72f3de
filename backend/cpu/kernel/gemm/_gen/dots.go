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

// dots writes the kernel for m rows: four columns of B at a time, then one, vectors along k.
func (k kind) dots(m int) {
	TEXT(fmt.Sprintf("dots%sm%d", k.name, m), NOSPLIT, "func(x *byte)")
	Pragma("noescape")
	Doc(fmt.Sprintf("dots%sm%d multiplies %d contiguous rows by contiguous columns; x is a *dots.", k.name, m, m))
	Load(Param("x"), reg.RDI)
	k.scaled(dotsARow, reg.R8)
	k.scaled(dotsBCol, reg.R9)
	LEAQ(Mem{Base: reg.R9, Index: reg.R9, Scale: 2}, reg.R10)
	LEAQ(Mem{Base: reg.R8, Index: reg.R8, Scale: 2}, reg.R11)
	field(dotsN, reg.R12)
	field(dotsB, reg.R15)
	field(dotsC, reg.R14)
	field(dotsK, reg.R13)
	ANDQ(num(k.terms()-1), reg.R13) // terms after the last whole vector
	if k.pairs {
		k.masks(reg.R13, 1)
	} else {
		k.mask(reg.R13, 1, k.lanes())
	}
	for _, cols := range []int{4, 1} {
		name := fmt.Sprintf("cols%d", cols)
		Label(name)
		CMPQ(reg.R12, num(cols))
		JL(LabelRef(name + "End"))
		k.dotTile(name, m, cols)
		LEAQ(Mem{Base: reg.R15, Index: reg.R9, Scale: uint8(cols)}, reg.R15)
		ADDQ(num(cols*k.bytes()), reg.R14)
		SUBQ(num(cols), reg.R12)
		JMP(LabelRef(name))
		Label(name + "End")
	}
	VZEROUPPER()
	RET()
}

// terms is how many terms of the sum a vector multiplies.
func (k kind) terms() int {
	if k.pairs {
		return 2 * k.lanes()
	}
	return k.lanes()
}

func (k kind) dotTile(name string, m, cols int) {
	acc := func(i, j int) reg.VecPhysical { return k.vec(i*cols + j) }
	a := func(i int) reg.VecPhysical { return k.vec(m*cols + i) }
	b := k.vec(m*cols + m)
	for i := range m * cols {
		k.zero(k.vec(i))
	}
	field(dotsA, reg.RSI)
	if m > 4 {
		LEAQ(Mem{Base: reg.RSI, Index: reg.R8, Scale: 4}, reg.RBX)
	}
	MOVQ(reg.R15, reg.RDX)
	field(dotsK, reg.RCX)
	row := func(base reg.GPPhysical, stride, stride3 reg.GPPhysical, i int) Mem {
		return []Mem{{Base: base}, {Base: base, Index: stride, Scale: 1}, {Base: base, Index: stride, Scale: 2},
			{Base: base, Index: stride3, Scale: 1}}[i]
	}
	step := func(masked bool) {
		load := func(from Mem, to reg.VecPhysical) {
			switch {
			case k.pairs:
				k.loadPairs(from, masked, to)
			case masked:
				k.loadMasked(from, 1, to)
			default:
				k.load(from, to)
			}
		}
		for i := range m {
			if i < 4 {
				load(row(reg.RSI, reg.R8, reg.R11, i), a(i))
			} else {
				load(row(reg.RBX, reg.R8, reg.R11, i-4), a(i))
			}
		}
		for j := range cols {
			if k.pairs {
				load(row(reg.RDX, reg.R9, reg.R10, j), k.vec(30))
				for i := range m {
					k.fma(a(i), k.vec(30), acc(i, j))
				}
				continue
			}
			load(row(reg.RDX, reg.R9, reg.R10, j), b)
			for i := range m {
				k.fma(a(i), b, acc(i, j))
			}
		}
	}
	bytes := k.terms() * k.bytes()
	SUBQ(num(k.terms()), reg.RCX)
	JL(LabelRef(name + "Rest"))
	Label(name + "Term")
	step(false)
	ADDQ(num(bytes), reg.RSI)
	if m > 4 {
		ADDQ(num(bytes), reg.RBX)
	}
	ADDQ(num(bytes), reg.RDX)
	SUBQ(num(k.terms()), reg.RCX)
	JGE(LabelRef(name + "Term"))
	Label(name + "Rest")
	TESTQ(reg.R13, reg.R13)
	JE(LabelRef(name + "Sum"))
	step(true)
	Label(name + "Sum")
	MOVQ(reg.R14, reg.RDX)
	k.scaled(dotsCRow, reg.RAX)
	for i := range m {
		for j := range cols {
			k.horizontal(acc(i, j), a(0), Mem{Base: reg.RDX, Disp: j * k.bytes()})
		}
		if i < m-1 {
			ADDQ(reg.RAX, reg.RDX)
		}
	}
}

// horizontal stores the sum of a vector's lanes.
func (k kind) horizontal(v, t reg.VecPhysical, to Mem) {
	if k.zmm {
		VEXTRACTF64X4(Imm(1), v, t.AsY())
		k.add(t.AsY(), v.AsY(), v.AsY())
		VEXTRACTF32X4(Imm(1), v.AsY(), t.AsX())
	} else {
		VEXTRACTF128(Imm(1), v, t.AsX())
	}
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
