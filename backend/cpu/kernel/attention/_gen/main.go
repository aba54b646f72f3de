// Command gen writes the kernels of package attention:
// go run . -out ../kernels_amd64.s -stubs ../stubs_amd64.go -pkg attention.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// rowBytes is the distance of a panel's rows: panelWidth float32.
const rowBytes = 128

// kind is a level: 512-bit or 256-bit vectors.
type kind struct {
	name string
	zmm  bool
	mr   int // rows of the largest product tile
}

func main() {
	ConstraintExpr("amd64,!noasm")
	for _, k := range []kind{{"AVX512", true, 8}, {"AVX2", false, 4}} {
		k.mul()
		k.max()
		k.exp()
		k.grad()
		k.scale()
		k.hide()
		k.dots()
		k.transpose()
	}
	Generate()
}

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

// size of a vector in bytes.
func (k kind) size() int {
	if k.zmm {
		return 64
	}
	return 32
}

// halves are the vectors of a column.
func (k kind) halves() int { return 64 / k.size() }

func (k kind) zero(v reg.VecPhysical) {
	if k.zmm {
		VPXORD(v, v, v)
	} else {
		VXORPS(v, v, v)
	}
}

func (k kind) begin(name, signature string, doc ...string) {
	TEXT(name+k.name, NOSPLIT, signature)
	Pragma("noescape")
	Doc(name + k.name + " " + doc[0])
}

func end() {
	VZEROUPPER()
	RET()
}

func arg(name string, r reg.GPPhysical) reg.GPPhysical {
	Load(Param(name), r)
	return r
}

func at(base reg.GPPhysical, disp int) Mem { return Mem{Base: base, Disp: disp} }
