package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/operand"
)

// plain are the instructions of two operands; each gets three functions.
func (m *machine) binaries() {
	and := func(f func(a, b op) op) func() func(a, b op) op { return func() func(a, b op) op { return f } }
	of := func(f func(...op)) func() func(a, b op) op {
		return and(func(a, b op) op { return m.two(f, a, b) })
	}
	of3 := func(wide func(...op), narrow func(a, b, c op)) func() func(a, b op) op {
		return and(func(a, b op) op {
			if m.wide {
				return m.two(wide, a, b)
			}
			return m.two3(narrow, a, b)
		})
	}
	for _, b := range []struct {
		name string
		f    func() func(a, b op) op
	}{
		{"Add", of(m.VADDPS)}, {"Sub", of(m.VSUBPS)}, {"Mul", of(m.VMULPS)}, {"Div", of(m.VDIVPS)},
		{"Max", and(func(a, b op) op { return m.extreme(true, a, b) })},
		{"Min", and(func(a, b op) op { return m.extreme(false, a, b) })},
		{"AddInt", of(m.VPADDD)}, {"SubInt", of(m.VPSUBD)}, {"MulInt", of(m.VPMULLD)},
		{"MaxInt", of(m.VPMAXSD)}, {"MinInt", of(m.VPMINSD)}, {"MaxUint", of(m.VPMAXUD)}, {"MinUint", of(m.VPMINUD)},
		{"And", of3(m.VPANDD, m.VPAND)}, {"Or", of3(m.VPORD, m.VPOR)}, {"Xor", of3(m.VPXORD, m.VPXOR)},
		{"ShiftLeft", of(m.VPSLLVD)}, {"ShiftRight", of(m.VPSRAVD)}, {"ShiftRightLogical", of(m.VPSRLVD)},
		{"Eq", m.compare(eq)}, {"Ne", m.compare(ne)}, {"Lt", m.compare(lt)}, {"Le", m.compare(le)},
		{"Gt", m.compare(gt)}, {"Ge", m.compare(ge)},
		{"EqInt", m.compareInt(0, true)}, {"NeInt", m.compareInt(4, true)}, {"LtInt", m.compareInt(1, true)},
		{"LeInt", m.compareInt(2, true)}, {"GtInt", m.compareInt(6, true)}, {"GeInt", m.compareInt(5, true)},
		{"LtUint", m.compareInt(1, false)}, {"LeUint", m.compareInt(2, false)},
		{"GtUint", m.compareInt(6, false)}, {"GeUint", m.compareInt(5, false)},
	} {
		for _, shape := range []string{"VV", "VS", "SV"} {
			s := m.words("dst", "a", "b")
			s[1].scalar, s[2].scalar = shape == "SV", shape == "VS"
			m.halved(shape == "VV")
			m.elementwise(b.name+shape, fmt.Sprintf("%s[%s]", shape, b.name), fmt.Sprintf("%s of operands %s.", b.name, shape), s, 4, func() body {
				f := b.f()
				return func(in []op) op { return f(in[0], in[1]) }
			})
		}
	}
	m.halved(false)
}

// extreme is max or min with NaN where an operand is, and -0 below +0.
func (m *machine) extreme(most bool, a, b op) op {
	if m.wide {
		d, k := m.vec(), m.K()
		how := operand.U8(4)
		if most {
			how = 5
		}
		m.VRANGEPS(how, b, a, d)
		m.VCMPPS(operand.U8(unordered), b, a, k)
		m.VADDPS(b, a, k, d)
		return d
	}
	f, join := m.VMAXPS, m.VANDPS
	if !most {
		f, join = m.VMINPS, m.VORPS
	}
	ab, ba := m.two(f, a, b), m.two(f, b, a)
	return m.or(m.two(join, ab, ba), m.cmp(unordered, a, b))
}

func (m *machine) compare(how uint8) func() func(a, b op) op {
	return func() func(a, b op) op {
		return func(a, b op) op { return m.lanesOf(m.cmp(how, a, b)) }
	}
}

// compareInt has the predicates of VPCMPD: 0 equal, 1 less, 2 less or equal, 4 not equal, 5 greater or equal, 6 greater.
func (m *machine) compareInt(how uint8, signed bool) func() func(a, b op) op {
	if m.wide {
		return func() func(a, b op) op {
			return func(a, b op) op {
				k := m.K()
				if signed {
					m.VPCMPD(operand.U8(how), b, a, k)
				} else {
					m.VPCMPUD(operand.U8(how), b, a, k)
				}
				return m.lanesOf(k)
			}
		}
	}
	return func() func(a, b op) op {
		ones, sign := m.hold(0xffffffff), m.hold(signBit)
		return func(a, b op) op {
			if !signed {
				a, b = m.xor(a, sign), m.xor(b, sign)
			}
			var d op
			switch how {
			case 0, 4:
				d = m.two(m.VPCMPEQD, a, b)
			case 1, 5:
				d = m.two(m.VPCMPGTD, b, a)
			case 2, 6:
				d = m.two(m.VPCMPGTD, a, b)
			}
			if how == 4 || how == 5 || how == 2 {
				d = m.xor(d, ones)
			}
			return d
		}
	}
}

func (m *machine) unaries() {
	one := func(f func(x op) op) func() body { return func() body { return func(in []op) op { return f(in[0]) } } }
	direct := func(f func(...op)) func() body {
		return one(func(x op) op { d := m.vec(); f(x, d); return d })
	}
	with := func(v uint32, f func(x, k op) op) func() body {
		return func() body {
			k := m.hold(v)
			return func(in []op) op { return f(in[0], k) }
		}
	}
	all := []struct {
		name  string
		setup func() body
	}{
		{"Neg", with(signBit, m.xor)}, {"Abs", with(^uint32(signBit), m.and)},
		{"Sign", func() body {
			zero, plus, minus := m.hold(0), m.hold(bits(1)), m.hold(bits(-1))
			return func(in []op) op {
				return m.or(m.only(m.cmp(gt, in[0], zero), plus), m.only(m.cmp(lt, in[0], zero), minus))
			}
		}},
		{"Floor", one(func(x op) op { return m.round(x, 9) })}, {"Ceil", one(func(x op) op { return m.round(x, 10) })},
		{"Round", one(func(x op) op { return m.round(x, 8) })}, {"Sqrt", direct(m.VSQRTPS)},
		{"Rsqrt", with(bits(1), func(x, k op) op { d := m.vec(); m.VSQRTPS(x, d); return m.div(k, d) })},
		{"Reciprocal", with(bits(1), func(x, k op) op { return m.div(k, x) })},
		{"Square", one(func(x op) op { return m.mul(x, x) })},
		{"IsFinite", func() body {
			absolute, inf := m.hold(^uint32(signBit)), m.hold(0x7f800000)
			return func(in []op) op { return m.lanesOf(m.cmp(lt, m.and(in[0], absolute), inf)) }
		}},
		{"IsNaN", one(func(x op) op { return m.lanesOf(m.cmp(unordered, x, x)) })},
		{"NegInt", with(0, func(x, k op) op { return m.subInt(k, x) })}, {"AbsInt", direct(m.VPABSD)},
		{"SignInt", func() body {
			one, minus := m.hold(1), m.hold(0xffffffff)
			return func(in []op) op { return m.two(m.VPMAXSD, m.two(m.VPMINSD, in[0], one), minus) }
		}},
		{"Not", with(0xffffffff, m.xor)},
		{"FloatFromInt", direct(m.VCVTDQ2PS)}, {"IntFromFloat", direct(m.VCVTTPS2DQ)},
		{"FloatFromMask", with(bits(1), m.and)}, {"IntFromMask", with(1, m.and)},
		{"MaskFromInt", func() body {
			zero := m.hold(0)
			f := m.compareInt(4, true)()
			return func(in []op) op { return f(in[0], zero) }
		}},
		{"MaskFromFloat", with(0, func(x, k op) op { return m.lanesOf(m.cmp(ne, x, k)) })},
	}
	if m.wide {
		all = append(all, []struct {
			name  string
			setup func() body
		}{{"LeadingZeros", direct(m.VPLZCNTD)}, {"FloatFromUint", direct(m.VCVTUDQ2PS)}, {"UintFromFloat", func() body {
			zero := m.hold(0)
			return func(in []op) op {
				d := m.vec()
				m.VCVTTPS2UDQ(m.most(in[0], zero), d)
				return d
			}
		}}}...)
	}
	for _, u := range all {
		m.elementwise(u.name, "Unary["+u.name+"]", u.name+".", m.words("dst", "x"), 4, u.setup)
	}
}

// ternaries are Select and MulAdd with their scalar operands.
func (m *machine) ternaries() {
	for _, shape := range []string{"", "VS", "SV", "SS"} {
		s := m.words("dst", "mask", "a", "b")
		s[2].scalar, s[3].scalar = shape == "SV" || shape == "SS", shape == "VS" || shape == "SS"
		m.halved(true)
		m.elementwise("Select"+shape, "Select"+shape, "Select"+shape+".", s, 2, func() body {
			return func(in []op) op {
				if !m.wide {
					return m.blend(in[0], in[1], in[2])
				}
				m.VPTERNLOGD(operand.U8(0xca), in[2], in[1], in[0])
				return in[0]
			}
		})
	}
	for _, shape := range []string{"VVV", "VSV", "VVS", "VSS"} {
		s := m.words("dst", "a", "b", "c")
		s[2].scalar, s[3].scalar = shape[1] == 'S', shape[2] == 'S'
		m.halved(true)
		m.elementwise("MulAdd"+shape, "MulAdd"+shape, "MulAdd"+shape+".", s, 2, func() body {
			return func(in []op) op {
				m.VFMADD213PS(in[2], in[1], in[0])
				return in[0]
			}
		})
	}
	m.halved(false)
}
