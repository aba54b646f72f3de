package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func cvtPairs(low, high, dst reg.VecPhysical) {
	Comment(fmt.Sprintf("VCVTNE2PS2BF16 %s, %s, %s", low.Asm(), high.Asm(), dst.Asm()))
	evex(3, 0x72, high, low, dst)
}

// copyStrip packs rows that are contiguous: row by row, the strips of up to two vectors next to each other. Pairs interleave two
// rows.
func (k kind) copyStrip() {
	TEXT("copy"+k.name, NOSPLIT, "func(s *byte)")
	Pragma("noescape")
	Doc("copy" + k.name + " packs strips with colStride 1; s is a *strip.")
	Load(Param("s"), reg.RDI)
	field(stripRows, reg.R8)
	field(stripWidth, reg.R13)
	k.masks(reg.R13, 1) // of a strip: K1, K2
	field(stripCols, reg.RAX)
	XORL(reg.EDX, reg.EDX)
	DIVQ(reg.R13)
	MOVQ(reg.RDX, reg.R11)
	k.masks(reg.R11, 3) // of the last strip: K3, K4
	field(stripSrc, reg.RSI)
	field(stripDst, reg.RDX)
	k.scaled(stripDstRow, reg.R9)
	k.scaled(stripRowStride, reg.R10)
	k.scaled(stripDstStrip, reg.R12)
	MOVQ(reg.R13, reg.R15)
	shift(k, reg.R15)
	if k.pairs {
		field(stripTerms, reg.R14)
		VMOVDQU16(NewDataAddr(Symbol{Name: "interleave", Static: true}, 0), reg.Z31)
	}
	Label("row")
	MOVQ(reg.RSI, reg.RAX)
	MOVQ(reg.RDX, reg.RBX)
	field(stripCols, count)
	if !k.pairs {
		CMPQ(reg.R13, num(2*k.lanes()))
		JNE(LabelRef("narrow"))
		Label("strip")
		SUBQ(reg.R13, count)
		JL(LabelRef("rest"))
		k.load(Mem{Base: reg.RAX}, k.vec(0))
		k.load(Mem{Base: reg.RAX, Disp: k.size()}, k.vec(1))
		k.load(k.vec(0), Mem{Base: reg.RBX})
		k.load(k.vec(1), Mem{Base: reg.RBX, Disp: k.size()})
		ADDQ(num(2*k.size()), reg.RAX)
		ADDQ(reg.R12, reg.RBX)
		JMP(LabelRef("strip"))
	}
	Label("narrow")
	SUBQ(reg.R13, count)
	JL(LabelRef("rest"))
	k.copyMasked("narrow", reg.R13, 1)
	ADDQ(reg.R15, reg.RAX)
	ADDQ(reg.R12, reg.RBX)
	JMP(LabelRef("narrow"))
	Label("rest")
	TESTQ(reg.R11, reg.R11)
	JE(LabelRef("next"))
	k.copyMasked("rest", reg.R11, 3)
	Label("next")
	ADDQ(reg.R10, reg.RSI)
	if k.pairs {
		ADDQ(reg.R10, reg.RSI)
		SUBQ(Imm(2), reg.R14)
	}
	ADDQ(reg.R9, reg.RDX)
	DECQ(reg.R8)
	JNE(LabelRef("row"))
	VZEROUPPER()
	RET()
}

// copyMasked copies n columns, at most two vectors, from RAX to RBX by masks first and first+1.
func (k kind) copyMasked(name string, n reg.GPPhysical, first int) {
	for v := range 2 {
		if v == 1 {
			CMPQ(n, num(k.lanes()))
			JLE(LabelRef(name + "Copied"))
		}
		k.loadMasked(Mem{Base: reg.RAX, Disp: k.size() * v}, first+v, k.vec(v))
		if k.pairs {
			second := k.vec(v + 2)
			VPXORD(second, second, second)
			CMPQ(reg.R14, Imm(1))
			JE(LabelRef(fmt.Sprintf("%sOdd%d", name, v)))
			k.loadMasked(Mem{Base: reg.RAX, Index: reg.R10, Scale: 1, Disp: 64 * v}, first+v, second)
			Label(fmt.Sprintf("%sOdd%d", name, v))
			cvtPairs(k.vec(v), second, k.vec(v))
			VPERMW(k.vec(v), reg.Z31, k.vec(v))
		}
		k.storeMasked(k.vec(v), first+v, Mem{Base: reg.RBX, Disp: k.size() * v})
	}
	Label(name + "Copied")
}

// interleave is the order of VPERMW that alternates the halves of a register.
func interleave() {
	GLOBL("interleave", RODATA|NOPTR)
	for i := range 16 {
		DATA(4*i, U32(uint32(i)|uint32(i+16)<<16))
	}
}

// side is the side of the squares that are transposed: a register's elements, four without AVX-512.
func (k kind) side() int {
	if k.zmm {
		return k.lanes()
	}
	return 4
}

// part is the register that holds a row of a square.
func (k kind) part(i int) reg.VecPhysical {
	if !k.zmm && !k.double {
		return k.vec(i).AsX().(reg.VecPhysical)
	}
	return k.vec(i)
}

// turnStrip packs a strip whose columns are contiguous, by transposing squares in registers.
func (k kind) turnStrip() {
	TEXT("turn"+k.name, NOSPLIT, "func(s *byte)")
	Pragma("noescape")
	Doc("turn" + k.name + " packs a strip with rowStride 1; s is a *strip.")
	n, perTerm := k.side(), 1
	if k.pairs {
		perTerm = 2
	}
	bytes := n * k.bytes()
	Load(Param("s"), reg.RDI)
	k.scaled(stripDstRow, reg.R9)
	k.scaled(stripColStride, reg.R10)
	field(stripCols, reg.R11)
	field(stripSrc, reg.R14)
	field(stripDst, reg.R15)
	Label("columns") // the next n columns, or the last fewer
	MOVQ(reg.R14, reg.RSI)
	MOVQ(reg.R15, reg.RDX)
	field(stripTerms, reg.R12)
	field(stripRows, reg.R8)
	CMPQ(reg.R11, num(n))
	JL(LabelRef("edge"))
	Label("full")
	CMPQ(reg.R12, num(n*perTerm))
	JL(LabelRef("rest"))
	k.square("full", false)
	ADDQ(num(bytes*perTerm), reg.RSI)
	SUBQ(num(n*perTerm), reg.R12)
	SUBQ(num(n), reg.R8)
	JMP(LabelRef("full"))
	Label("rest")
	TESTQ(reg.R8, reg.R8)
	JE(LabelRef("next"))
	Label("edge")
	k.mask(reg.R11, 3, n) // columns
	if k.pairs {
		k.masks(reg.R12, 1) // terms
	} else {
		k.mask(reg.R12, 1, n)
	}
	k.square("edge", true)
	ADDQ(num(bytes*perTerm), reg.RSI)
	SUBQ(num(n*perTerm), reg.R12)
	SUBQ(num(n), reg.R8)
	JG(LabelRef("edge"))
	Label("next")
	IMUL3Q(num(n), reg.R10, reg.RAX)
	ADDQ(reg.RAX, reg.R14)
	ADDQ(num(bytes), reg.R15)
	SUBQ(num(n), reg.R11)
	JG(LabelRef("columns"))
	VZEROUPPER()
	RET()
}

// square transposes a square from RSI to RDX, which it moves on; at an edge, a part of one.
func (k kind) square(name string, edge bool) {
	n := k.side()
	MOVQ(reg.RSI, reg.RBX)
	if edge {
		for i := range n {
			k.zero(k.vec(i))
		}
	}
	for i := range n {
		if edge && i > 0 {
			CMPQ(reg.R11, num(i))
			JLE(LabelRef(name + "Loaded"))
		}
		at := Mem{Base: reg.RBX}
		switch {
		case k.pairs:
			k.loadPairs(at, edge, k.vec(i))
		case edge:
			k.loadMasked(at, 1, k.part(i))
		default:
			k.load(at, k.part(i))
		}
		if i < n-1 {
			ADDQ(reg.R10, reg.RBX)
		}
	}
	Label(name + "Loaded")
	out := k.transpose()
	for i := range n {
		if edge && i > 0 {
			CMPQ(reg.R8, num(i))
			JLE(LabelRef(name + "Stored"))
		}
		if edge {
			k.storeMasked(out[i], 3, Mem{Base: reg.RDX})
		} else {
			k.load(out[i], Mem{Base: reg.RDX})
		}
		ADDQ(reg.R9, reg.RDX)
	}
	Label(name + "Stored")
}

// loadPairs loads 32 float32, by masks 1 and 2 if told, and rounds them to bfloat16.
func (k kind) loadPairs(at Mem, masked bool, to reg.VecPhysical) {
	low, high := k.vec(30), k.vec(31)
	if masked {
		k.loadMasked(at, 1, low)
		k.loadMasked(at.Offset(64), 2, high)
	} else {
		k.load(at, low)
		k.load(at.Offset(64), high)
	}
	cvtPairs(low, high, to)
}

// roundRows rounds contiguous rows to pairs.
func (k kind) roundRows() {
	TEXT("round"+k.name, NOSPLIT, "func(s *byte)")
	Pragma("noescape")
	Doc("round" + k.name + " rounds rows to pairs along them; s is a *strip.")
	Load(Param("s"), reg.RDI)
	field(stripDst, reg.RDX)
	field(stripSrc, reg.RSI)
	field(stripRows, reg.R8)
	k.scaled(stripDstRow, reg.R9)
	k.scaled(stripRowStride, reg.R10)
	field(stripCols, reg.R11)
	ANDQ(num(31), reg.R11)
	k.masks(reg.R11, 1)
	ADDQ(num(1), reg.R11)
	SHRQ(Imm(1), reg.R11)
	k.mask(reg.R11, 3, 16)
	Label("row")
	MOVQ(reg.RSI, reg.RAX)
	MOVQ(reg.RDX, reg.RBX)
	field(stripCols, reg.RCX)
	SUBQ(num(32), reg.RCX)
	JL(LabelRef("rest"))
	Label("full")
	k.loadPairs(Mem{Base: reg.RAX}, false, k.vec(0))
	k.load(k.vec(0), Mem{Base: reg.RBX})
	ADDQ(num(128), reg.RAX)
	ADDQ(num(64), reg.RBX)
	SUBQ(num(32), reg.RCX)
	JGE(LabelRef("full"))
	Label("rest")
	TESTQ(reg.R11, reg.R11)
	JE(LabelRef("next"))
	k.loadPairs(Mem{Base: reg.RAX}, true, k.vec(0))
	k.storeMasked(k.vec(0), 3, Mem{Base: reg.RBX})
	Label("next")
	ADDQ(reg.R10, reg.RSI)
	ADDQ(reg.R9, reg.RDX)
	DECQ(reg.R8)
	JNE(LabelRef("row"))
	VZEROUPPER()
	RET()
}

// transpose transposes the square in the first registers and returns where its rows are then.
func (k kind) transpose() []reg.VecPhysical {
	switch {
	case !k.zmm && k.double:
		return k.transpose4()
	case !k.zmm:
		return k.transpose4Single()
	case k.double:
		return k.transpose8()
	}
	return k.transpose16()
}

// transpose4Single is for float32 in 128 bits.
func (k kind) transpose4Single() []reg.VecPhysical {
	v := k.part
	for i := 0; i < 4; i += 2 {
		VUNPCKLPS(v(i+1), v(i), v(4+i))
		VUNPCKHPS(v(i+1), v(i), v(5+i))
	}
	VUNPCKLPD(v(6), v(4), v(0))
	VUNPCKHPD(v(6), v(4), v(1))
	VUNPCKLPD(v(7), v(5), v(2))
	VUNPCKHPD(v(7), v(5), v(3))
	return []reg.VecPhysical{v(0), v(1), v(2), v(3)}
}

// transpose4 is for float64 in 256 bits.
func (k kind) transpose4() []reg.VecPhysical {
	v := k.vec
	for i := 0; i < 4; i += 2 {
		VUNPCKLPD(v(i+1), v(i), v(4+i))
		VUNPCKHPD(v(i+1), v(i), v(5+i))
	}
	for c := range 2 {
		VPERM2F128(Imm(0x20), v(6+c), v(4+c), v(c))
		VPERM2F128(Imm(0x31), v(6+c), v(4+c), v(2+c))
	}
	return []reg.VecPhysical{v(0), v(1), v(2), v(3)}
}

// transpose16 transposes registers 0 to 15 with the help of the others and returns where the rows are.
func (k kind) transpose16() []reg.VecPhysical {
	v := k.vec
	for i := 0; i < 16; i += 2 { // pairs of rows, within lanes of 128 bits
		VUNPCKLPS(v(i+1), v(i), v(16+i))
		VUNPCKHPS(v(i+1), v(i), v(17+i))
	}
	for i := 0; i < 16; i += 4 { // fours: v(i+c) holds column c of every lane, of rows i to i+3
		VUNPCKLPD(v(18+i), v(16+i), v(i))
		VUNPCKHPD(v(18+i), v(16+i), v(i+1))
		VUNPCKLPD(v(19+i), v(17+i), v(i+2))
		VUNPCKHPD(v(19+i), v(17+i), v(i+3))
	}
	out := make([]reg.VecPhysical, 16)
	for c := range 4 { // lanes: rows 0-3, 4-7, 8-11, 12-15 at columns c, c+4, c+8, c+12
		VSHUFF32X4(Imm(0x88), v(4+c), v(c), v(16)) // lanes 0, 2 of both
		VSHUFF32X4(Imm(0xdd), v(4+c), v(c), v(17)) // lanes 1, 3
		VSHUFF32X4(Imm(0x88), v(12+c), v(8+c), v(18))
		VSHUFF32X4(Imm(0xdd), v(12+c), v(8+c), v(19))
		a, b, d, e := v(c), v(4+c), v(8+c), v(12+c)
		VSHUFF32X4(Imm(0x88), v(18), v(16), a)
		VSHUFF32X4(Imm(0x88), v(19), v(17), b)
		VSHUFF32X4(Imm(0xdd), v(18), v(16), d)
		VSHUFF32X4(Imm(0xdd), v(19), v(17), e)
		out[c], out[c+4], out[c+8], out[c+12] = a, b, d, e
	}
	return out
}

// transpose8 transposes registers 0 to 7 of float64.
func (k kind) transpose8() []reg.VecPhysical {
	v := k.vec
	for i := 0; i < 8; i += 2 {
		VUNPCKLPD(v(i+1), v(i), v(16+i))
		VUNPCKHPD(v(i+1), v(i), v(17+i))
	}
	out := make([]reg.VecPhysical, 8)
	for c := range 2 { // v(16+2i+c): columns c, c+2, c+4, c+6 by lane, of rows 2i and 2i+1
		w := func(i int) reg.VecPhysical { return v(16 + 2*i + c) }
		VSHUFF64X2(Imm(0x88), w(1), w(0), v(24))
		VSHUFF64X2(Imm(0xdd), w(1), w(0), v(25))
		VSHUFF64X2(Imm(0x88), w(3), w(2), v(26))
		VSHUFF64X2(Imm(0xdd), w(3), w(2), v(27))
		for i, imm := range []uint64{0x88, 0x88, 0xdd, 0xdd} {
			out[c+2*i] = v(4*c + i)
			VSHUFF64X2(Imm(imm), v(26+i%2), v(24+i%2), out[c+2*i])
		}
	}
	return out
}
