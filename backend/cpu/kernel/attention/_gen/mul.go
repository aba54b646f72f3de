package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets of product's fields; TestLayout compares them.
const (
	productC, productA, productB = 0, 24, 48
	productLdc, productAM        = 72, 80
	productAK, productLdb        = 88, 96
	productM, productDepth       = 104, 112
	productWidth, productAdd     = 120, 128
)

// Registers of a product.
var (
	args   = reg.RDI
	aStart = reg.RSI // A at the tile's first row
	aFirst = reg.RAX // A at the current term, row 0
	aSixth = reg.RBX // row 5
	am     = reg.R8
	am3    = reg.R9
	ak     = reg.R10
	ldb    = reg.R11
	ldc    = reg.R12
	m      = reg.R13
	bAt    = reg.RDX
	count  = reg.RCX
	cStart = reg.R15
	cAt    = reg.R14
)

// aMem addresses the element of row i at the current term.
func aMem(i int) Mem {
	base := aFirst
	if i >= 5 {
		base = aSixth
	}
	switch i % 5 {
	case 1:
		return Mem{Base: base, Index: am, Scale: 1}
	case 2:
		return Mem{Base: base, Index: am, Scale: 2}
	case 3:
		return Mem{Base: base, Index: am3, Scale: 1}
	case 4:
		return Mem{Base: base, Index: am, Scale: 4}
	}
	return Mem{Base: base}
}

// mul writes the product: tiles of mr rows and then fewer, one or two vectors wide.
func (k kind) mul() {
	k.begin("mul", "func(x *byte)", "computes the product at x, of one column with AVX2.")
	Load(Param("x"), args)
	for _, f := range []struct {
		offset int
		to     reg.GPPhysical
	}{{productLdc, ldc}, {productAM, am}, {productAK, ak}, {productLdb, ldb}} {
		MOVQ(at(args, f.offset), f.to)
		SHLQ(Imm(2), f.to)
	}
	LEAQ(Mem{Base: am, Index: am, Scale: 2}, am3)
	MOVQ(at(args, productC), cStart)
	MOVQ(at(args, productA), aStart)
	MOVQ(at(args, productM), m)
	if k.zmm {
		CMPQ(at(args, productWidth), Imm(16))
		JE(LabelRef("narrow"))
	}
	k.tiles(2)
	if k.zmm {
		Label("narrow")
		k.tiles(1)
	}
}

func (k kind) tiles(vectors int) {
	for rows := k.mr; rows >= 1; rows /= 2 {
		label := func(s string) string { return fmt.Sprintf("%s%dx%d", s, rows, vectors) }
		Label(label("tile"))
		CMPQ(m, Imm(uint64(rows)))
		JL(LabelRef(label("fewer")))
		k.tile(rows, vectors, label)
		if rows == k.mr {
			JMP(LabelRef(label("tile")))
		}
		Label(label("fewer"))
	}
	end()
}

func (k kind) tile(rows, vectors int, label func(string) string) {
	acc := func(i, j int) reg.VecPhysical { return k.vec(4 + i*vectors + j) }
	MOVQ(aStart, aFirst)
	if rows > 5 {
		LEAQ(Mem{Base: aStart, Index: am, Scale: 4}, aSixth)
		ADDQ(am, aSixth)
	}
	MOVQ(at(args, productB), bAt)
	MOVQ(at(args, productDepth), count)
	CMPB(at(args, productAdd), Imm(0))
	JE(LabelRef(label("set")))
	k.each(rows, vectors, func(i, j int) { VMOVUPS(at(cAt, j*k.size()), acc(i, j)) })
	JMP(LabelRef(label("start")))
	Label(label("set"))
	for i := range rows * vectors {
		k.zero(k.vec(4 + i))
	}
	Label(label("start"))
	TESTQ(count, count)
	JZ(LabelRef(label("store")))
	Label(label("term"))
	for j := range vectors {
		VMOVUPS(at(bAt, j*k.size()), k.vec(j))
	}
	for i := range rows {
		if vectors == 1 && k.zmm {
			VFMADD231PS_BCST(aMem(i), k.vec(0), acc(i, 0))
			continue
		}
		a := k.vec(2 + i%2)
		VBROADCASTSS(aMem(i), a)
		for j := range vectors {
			VFMADD231PS(k.vec(j), a, acc(i, j))
		}
	}
	ADDQ(ak, aFirst)
	if rows > 5 {
		ADDQ(ak, aSixth)
	}
	ADDQ(ldb, bAt)
	DECQ(count)
	JNZ(LabelRef(label("term")))
	Label(label("store"))
	k.each(rows, vectors, func(i, j int) { VMOVUPS(acc(i, j), at(cAt, j*k.size())) })
	MOVQ(cAt, cStart)
	for range rows {
		ADDQ(am, aStart)
	}
	SUBQ(Imm(uint64(rows)), m)
}

// each calls f for a tile's vectors with cAt at the row's first.
func (k kind) each(rows, vectors int, f func(i, j int)) {
	MOVQ(cStart, cAt)
	for i := range rows {
		for j := range vectors {
			f(i, j)
		}
		ADDQ(ldc, cAt)
	}
}
