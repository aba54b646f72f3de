package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Masks are numbered from 1: the registers K1 to K4, or without AVX-512 vector registers from the last down.
var opmasks = []reg.OpmaskPhysical{reg.K0, reg.K1, reg.K2, reg.K3, reg.K4}

func vectorMask(i int) reg.VecPhysical { return zmms[16-i].AsY().(reg.VecPhysical) }

var names int

func unique(name string) string {
	names++
	return fmt.Sprintf("%s%d", name, names)
}

// mask sets a mask to the first n of so many lanes; n may be larger. It uses AX and CX.
func (k kind) mask(n reg.GPPhysical, which, lanes int) {
	MOVQ(n, reg.RCX)
	k.maskOfCount(which, lanes)
}

// masks sets mask which, and which+1 for the lanes of a second vector.
func (k kind) masks(n reg.GPPhysical, which int) {
	k.mask(n, which, k.lanes())
	MOVQ(n, reg.RCX)
	end := unique("positive")
	SUBQ(num(k.lanes()), reg.RCX)
	JGE(LabelRef(end))
	XORL(reg.ECX, reg.ECX)
	Label(end)
	k.maskOfCount(which+1, k.lanes())
}

func (k kind) maskOfCount(which, lanes int) {
	end := unique("most")
	CMPQ(reg.RCX, num(lanes))
	JLE(LabelRef(end))
	MOVQ(U32(lanes), reg.RCX)
	Label(end)
	if !k.zmm {
		LEAQ(NewDataAddr(Symbol{Name: "masks", Static: true}, 32), reg.RAX)
		shift(k, reg.RCX)
		SUBQ(reg.RCX, reg.RAX)
		VMOVUPS(Mem{Base: reg.RAX}, vectorMask(which))
		return
	}
	MOVQ(U32(1), reg.RAX)
	SHLQ(reg.CL, reg.RAX)
	DECQ(reg.RAX)
	KMOVW(reg.EAX, opmasks[which])
}

// loadMasked loads a vector with zeros where the mask is not set; storeMasked leaves those places alone.
func (k kind) loadMasked(from Mem, which int, to reg.VecPhysical) {
	switch {
	case k.zmm && k.double:
		VMOVUPD_Z(from, opmasks[which], to)
	case k.zmm:
		VMOVUPS_Z(from, opmasks[which], to)
	default:
		k.op(three(VMASKMOVPS), three(VMASKMOVPD))(from, sized(vectorMask(which), to), to)
	}
}

func (k kind) storeMasked(from reg.VecPhysical, which int, to Mem) {
	if k.zmm {
		k.load(from, opmasks[which], to)
		return
	}
	k.op(three(VMASKMOVPS), three(VMASKMOVPD))(from, sized(vectorMask(which), from), to)
}

func three(f func(a, b, c Op)) func(ops ...Op) { return func(ops ...Op) { f(ops[0], ops[1], ops[2]) } }

// sized is register r with the width of another.
func sized(r, like reg.VecPhysical) Op {
	if like.Size() == 16 {
		return r.AsX()
	}
	return r
}

// maskTable is set lanes followed by clear ones: 32 bytes each.
func maskTable() {
	GLOBL("masks", RODATA|NOPTR)
	for i := range 16 {
		v := uint32(0)
		if i < 8 {
			v = 0xffffffff
		}
		DATA(4*i, U32(v))
	}
}
