// Command gen writes the kernels of package gemm: go run . -out ../kernels_amd64.s -stubs ../kernels_amd64.go -pkg gemm.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets of panel's fields; layout_test.go compares them.
const (
	panelA, panelB, panelC = 0, 24, 48
	panelN, panelK         = 80, 88
	panelARow, panelAK     = 96, 104
	panelBK, panelBStrip   = 112, 120
	panelCRow              = 128
	panelAccumulate        = 136
	panelWide              = 144
)

// Offsets of strip's fields.
const (
	stripDst, stripSrc, stripRows, stripCols = 0, 24, 48, 56
	stripDstRow, stripRowStride              = 64, 72
	stripColStride, stripTerms               = 80, 88
	stripWidth, stripDstStrip                = 96, 104
)

// Offsets of dots' fields.
const (
	dotsA, dotsB, dotsC, dotsM, dotsN, dotsK = 0, 24, 48, 72, 80, 88
	dotsARow, dotsBCol, dotsCRow             = 96, 104, 112
)

// kind is a type at a level.
type kind struct {
	name   string
	double bool
	zmm    bool
	pairs  bool
	mr     int
	wide   []int // vectors of the widest tile by rows; 0: two
	// dotRows is the most rows of the kernel for contiguous terms.
	dotRows int
}

var kinds = []kind{
	{name: "F32x512", zmm: true, mr: 12, wide: []int{0, 8, 8, 8, 6, 4, 4, 3, 3}, dotRows: 6},
	{name: "F64x512", zmm: true, double: true, mr: 12, wide: []int{0, 8, 8, 8, 6, 4, 4, 3, 3}, dotRows: 6},
	{name: "BF16x512", zmm: true, pairs: true, mr: 12, dotRows: 6},
	{name: "F32x256", mr: 6, wide: []int{0, 8, 6, 3}, dotRows: 2},
	{name: "F64x256", double: true, mr: 6, wide: []int{0, 8, 6, 3}, dotRows: 2},
}

func main() {
	ConstraintExpr("amd64,!noasm")
	for _, k := range kinds {
		for m := 1; m <= k.mr; m++ {
			k.panel(m)
		}
		k.copyStrip()
		k.turnStrip()
		if k.pairs {
			k.roundRows()
			interleave()
		}
		for m := 1; m <= k.dotRows; m++ {
			k.dots(m)
		}
		k.peak()
	}
	maskTable()
	Generate()
}

// bytes is the size of an element, or of a pair.
func (k kind) bytes() int {
	if k.double {
		return 8
	}
	return 4
}

func (k kind) log() uint64 {
	if k.double {
		return 3
	}
	return 2
}

// size of a vector in bytes, and its elements.
func (k kind) size() int {
	if k.zmm {
		return 64
	}
	return 32
}

func (k kind) lanes() int { return k.size() / k.bytes() }

var zmms = []reg.VecPhysical{reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7, reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13,
	reg.Z14, reg.Z15, reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23, reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29,
	reg.Z30, reg.Z31}

func (k kind) vec(i int) reg.VecPhysical {
	if k.zmm {
		return zmms[i]
	}
	if i > 15 {
		panic("no such register")
	}
	return zmms[i].AsY().(reg.VecPhysical)
}

func (k kind) registers() int {
	if k.zmm {
		return 32
	}
	return 16
}

// op emits the float32 or float64 form of an instruction.
func (k kind) op(single, double func(ops ...Op)) func(ops ...Op) {
	if k.double {
		return double
	}
	return single
}

func (k kind) load(ops ...Op)      { k.op(VMOVUPS, VMOVUPD)(ops...) }
func (k kind) broadcast(ops ...Op) { k.op(VBROADCASTSS, VBROADCASTSD)(ops...) }

// fmaBroadcast adds b times the broadcast element of memory.
func (k kind) fmaBroadcast(a Mem, b, acc reg.VecPhysical) {
	if k.pairs {
		dpbf16(a, b, acc)
		return
	}
	k.op(VFMADD231PS_BCST, VFMADD231PD_BCST)(a, b, acc)
}

func (k kind) add(ops ...Op) { k.op(VADDPS, VADDPD)(ops...) }

func (k kind) fma(a, b Op, acc reg.VecPhysical) {
	if k.pairs {
		dpbf16(a, b.(reg.VecPhysical), acc)
		return
	}
	k.op(VFMADD231PS, VFMADD231PD)(a, b, acc)
}

func (k kind) zero(v reg.VecPhysical) {
	if k.zmm {
		VPXORD(v, v, v)
	} else {
		VXORPS(v, v, v)
	}
}

// evex emits an instruction of three 512-bit registers in map 0F38 that avo lacks: dst = op(first, second), pp 2 for F3, 3 for F2.
// Instead of second, a broadcast word of memory without displacement may be given.
func evex(pp, opcode int, first reg.VecPhysical, second Op, dst reg.VecPhysical) {
	bit := func(x, i int) int { return ^x >> i & 1 }
	d, f := number(dst), number(first)
	p0 := bit(d, 3)<<7 | bit(d, 4)<<4 | 2
	p2 := 0x40 | bit(f, 4)<<3
	var tail []int
	switch x := second.(type) {
	case reg.VecPhysical:
		n := number(x)
		p0 |= bit(n, 4)<<6 | bit(n, 3)<<5
		tail = []int{0xc0 | d&7<<3 | n&7}
	case Mem:
		base := gp(x.Base)
		p2 |= 0x10
		if x.Index == nil {
			p0 |= 1<<6 | bit(base, 3)<<5
			tail = []int{d&7<<3 | base&7}
			break
		}
		index := gp(x.Index)
		p0 |= bit(index, 3)<<6 | bit(base, 3)<<5
		scale := map[uint8]int{1: 0, 2: 1, 4: 2, 8: 3}[x.Scale]
		tail = []int{d&7<<3 | 4, scale<<6 | index&7<<3 | base&7}
	}
	p1 := (^f&15)<<3 | 4 | pp
	for _, b := range append([]int{0x62, p0, p1, p2, opcode}, tail...) {
		Instruction(&ir.Instruction{Opcode: "BYTE", Operands: []Op{U8(b)}})
	}
}

func dpbf16(a Op, b, acc reg.VecPhysical) {
	Comment(fmt.Sprintf("VDPBF16PS %s, %s, %s", a.Asm(), b.Asm(), acc.Asm()))
	evex(2, 0x52, b, a, acc)
}

// gp is the number of a general register.
func gp(r reg.Register) int { return int(r.(reg.Physical).PhysicalIndex()) }

// number is the register's number.
func number(v reg.VecPhysical) int { return int(v.PhysicalIndex()) }

func shift(k kind, r Op) { SHLQ(Imm(k.log()), r) }

// field loads a field of the struct at DI; scaled gives bytes for elements.
func field(offset int, r reg.GPPhysical) { MOVQ(Mem{Base: reg.RDI, Disp: offset}, r) }

func (k kind) scaled(offset int, r reg.GPPhysical) {
	field(offset, r)
	shift(k, r)
}

// num is an immediate operand of arithmetic: a signed byte, or four.
func num(n int) Op {
	if n < 128 {
		return U8(n)
	}
	return U32(n)
}
