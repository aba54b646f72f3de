package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// exp2Poly are the coefficients of exp2 in kernels.go.
var exp2Poly = []float32{0.00015461445, 0.0013400428, 0.009618057, 0.05550327, 0.2402265, 0.6931472, 1}

var constants = map[string]Mem{}

// constant is a float32 in memory.
func constant(name string, value Constant) Mem {
	if m, ok := constants[name]; ok {
		return m
	}
	m := GLOBL(name, RODATA|NOPTR)
	DATA(0, value)
	constants[name] = m
	return m
}

// loop emits body for each of the rows counted by reg.RCX; body advances nothing.
func loop(advance func(), body func()) {
	Label("row")
	TESTQ(reg.RCX, reg.RCX)
	JZ(LabelRef("done"))
	body()
	advance()
	DECQ(reg.RCX)
	JMP(LabelRef("row"))
	Label("done")
}

func step(rs ...reg.GPPhysical) func() {
	return func() {
		for _, r := range rs {
			ADDQ(Imm(rowBytes), r)
		}
	}
}

// max raises m to the largest of a column. Where a score is NaN the other operand is taken.
func (k kind) max() {
	k.begin("max", "func(s *float32, rows int, m *float32)", "is maxGeneric.")
	s, m := arg("s", reg.RSI), arg("m", reg.RDX)
	arg("rows", reg.RCX)
	for h := range k.halves() {
		VMOVUPS(at(m, h*k.size()), k.vec(h))
	}
	loop(step(s), func() {
		for h := range k.halves() {
			VMOVUPS(at(s, h*k.size()), k.vec(2+h))
			VMAXPS(k.vec(h), k.vec(2+h), k.vec(h))
		}
	})
	for h := range k.halves() {
		VMOVUPS(k.vec(h), at(m, h*k.size()))
	}
	end()
}

// powers keeps the constants of exp2 in registers: a polynomial of degree 6, and for AVX2 those that build the power.
type powers struct {
	k    kind
	poly []reg.VecPhysical
	low  reg.VecPhysical // AVX2: -126
	one  reg.VecPhysical // AVX2: the exponent of 1, as an integer
}

// newPowers fills registers from number first on: 7, or 9 with AVX2.
func (k kind) newPowers(first int) *powers {
	p := &powers{k: k}
	names := []string{"exp2c6", "exp2c5", "exp2c4", "exp2c3", "exp2c2", "exp2c1", "exp2c0"}
	for i, name := range names {
		v := k.vec(first + i)
		VBROADCASTSS(constant(name, F32(exp2Poly[i])), v)
		p.poly = append(p.poly, v)
	}
	if !k.zmm {
		p.low, p.one = k.vec(first+7), k.vec(first+8)
		VBROADCASTSS(constant("exp2low", F32(-126)), p.low)
		VBROADCASTSS(constant("exp2one", U32(127<<23)), p.one)
	}
	return p
}

// exp2 replaces x by 2^x; t and y are for its use, u too with AVX2.
func (p *powers) exp2(x, t, y, u reg.VecPhysical) {
	round, sub := Imm(8), func() { VSUBPS(t, x, x) }
	if p.k.zmm {
		VRNDSCALEPS(round, x, t)
		sub()
	} else {
		VCMPPS(Imm(5), p.low, x, u) // not less: NaN stays
		VROUNDPS(round, x, t)
		sub()
	}
	VMOVAPS(p.poly[0], y)
	for _, c := range p.poly[1:] {
		VFMADD213PS(c, x, y)
	}
	if p.k.zmm {
		VSCALEFPS(t, y, x) // 0 for -Inf
		return
	}
	VCVTPS2DQ(t, t)
	VPSLLD(Imm(23), t, t)
	VPADDD(p.one, t, t)
	VMULPS(t, y, x)
	VANDPS(u, x, x)
}

// exp replaces a column by its exponentials and adds them up.
func (k kind) exp() {
	k.begin("exp", "func(s *float32, rows int, m, l *float32)", "is expGeneric.")
	s, m, l := arg("s", reg.RSI), arg("m", reg.RDX), arg("l", reg.RDI)
	arg("rows", reg.RCX)
	p := k.newPowers(7)
	for h := range k.halves() {
		VMOVUPS(at(l, h*k.size()), k.vec(h))
	}
	x, t, y, u := k.vec(2), k.vec(3), k.vec(4), k.vec(5)
	if k.zmm {
		VMOVUPS(at(m, 0), k.vec(6))
	}
	loop(step(s), func() {
		for h := range k.halves() {
			VMOVUPS(at(s, h*k.size()), x)
			if k.zmm {
				VSUBPS(k.vec(6), x, x)
			} else {
				VSUBPS(at(m, h*k.size()), x, x)
			}
			p.exp2(x, t, y, u)
			VMOVUPS(x, at(s, h*k.size()))
			VADDPS(x, k.vec(h), k.vec(h))
		}
	})
	for h := range k.halves() {
		VMOVUPS(k.vec(h), at(l, h*k.size()))
	}
	end()
}

// grad turns a column of scores into probabilities, and one of their gradients into the scores' gradients.
func (k kind) grad() {
	k.begin("grad", "func(s, d *float32, rows int, m, delta *float32)", "is gradGeneric.")
	s, d, m, delta := arg("s", reg.RSI), arg("d", reg.RAX), arg("m", reg.RDX), arg("delta", reg.RDI)
	arg("rows", reg.RCX)
	p := k.newPowers(7)
	x, t, y, u := k.vec(2), k.vec(3), k.vec(4), k.vec(5)
	loop(step(s, d), func() {
		for h := range k.halves() {
			at := func(r reg.GPPhysical) Mem { return at(r, h*k.size()) }
			VMOVUPS(at(s), x)
			VSUBPS(at(m), x, x)
			p.exp2(x, t, y, u)
			VMOVUPS(x, at(s))
			VMOVUPS(at(d), y)
			VSUBPS(at(delta), y, y)
			VMULPS(x, y, y)
			VMOVUPS(y, at(d))
		}
	})
	end()
}

// scale multiplies the lanes of a column.
func (k kind) scale() {
	k.begin("scale", "func(s *float32, rows int, factors *float32)", "is scaleGeneric.")
	s, f := arg("s", reg.RSI), arg("factors", reg.RDX)
	arg("rows", reg.RCX)
	for h := range k.halves() {
		VMOVUPS(at(f, h*k.size()), k.vec(h))
	}
	loop(step(s), func() {
		for h := range k.halves() {
			VMULPS(at(s, h*k.size()), k.vec(h), k.vec(2))
			VMOVUPS(k.vec(2), at(s, h*k.size()))
		}
	})
	end()
}

// dots adds up the products of two columns.
func (k kind) dots() {
	k.begin("dots", "func(x, y *float32, rows int, sums *float32)", "is dotsGeneric.")
	x, y, sums := arg("x", reg.RSI), arg("y", reg.RAX), arg("sums", reg.RDX)
	arg("rows", reg.RCX)
	for h := range k.halves() {
		k.zero(k.vec(h))
	}
	loop(step(x, y), func() {
		for h := range k.halves() {
			VMOVUPS(at(x, h*k.size()), k.vec(2))
			VFMADD231PS(at(y, h*k.size()), k.vec(2), k.vec(h))
		}
	})
	for h := range k.halves() {
		VMOVUPS(k.vec(h), at(sums, h*k.size()))
	}
	end()
}

// hide writes -Inf where bits are 0.
func (k kind) hide() {
	k.begin("hide", "func(s *float32, rows int, bits *uint16)", "is hideGeneric; bits are those of the column in the first row's.")
	s, bits := arg("s", reg.RSI), arg("bits", reg.RDX)
	arg("rows", reg.RCX)
	VBROADCASTSS(constant("negInf", U32(0xff800000)), k.vec(0))
	if !k.zmm {
		VMOVDQU(laneBits(), k.vec(1))
	}
	advance := func() {
		step(s)()
		ADDQ(Imm(4), bits)
	}
	loop(advance, func() {
		if k.zmm {
			KMOVW(at(bits, 0), reg.K1)
			KNOTW(reg.K1, reg.K1)
			VMOVUPS(k.vec(0), reg.K1, at(s, 0))
			return
		}
		for h := range 2 {
			MOVBLZX(at(bits, h), reg.EAX)
			VMOVD(reg.EAX, k.vec(2).AsX())
			VPBROADCASTD(k.vec(2).AsX(), k.vec(2))
			VPAND(k.vec(1), k.vec(2), k.vec(2))
			VPCMPEQD(k.vec(1), k.vec(2), k.vec(2)) // seen
			VMOVUPS(at(s, 32*h), k.vec(3))
			VBLENDVPS(k.vec(2), k.vec(3), k.vec(0), k.vec(3))
			VMOVUPS(k.vec(3), at(s, 32*h))
		}
	})
	end()
}

// laneBits are 1<<i for lanes 0 to 7.
func laneBits() Mem {
	m := GLOBL("laneBits", RODATA|NOPTR)
	for i := range 8 {
		DATA(4*i, U32(1<<i))
	}
	return m
}
