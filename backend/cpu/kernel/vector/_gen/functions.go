package main

import (
	"math"

	"github.com/mmcloughlin/avo/operand"
)

// Coefficients are minimax fits of the error relative to the function, each rounded to float32 before the next was fitted.
var (
	// exp(r) = 1 + r + r*r*P(r) for |r| <= ln(2)/2, error 4e-10.
	expP = []float32{0.5, 0.166666657, 0.0416664928, 0.00833354704, 0.00139323238, 0.000197606656}
	// log(1+f) = f + f*f*Q(f) for |f| <= 1/3, error 5e-9.
	logQ = []float32{-0.5, 0.333332151, -0.249998048, 0.200104356, -0.166802257, 0.14005518, -0.121874228, 0.139858603, -0.128791139}
	// erf(x) = x + x*S(x*x) for |x| <= 0.95, error 9e-10.
	erfS = []float32{0.128379166, -0.376126289, 0.112836257, -0.0268557407, 0.00519246049, -0.000805080403, 8.00277485e-05}
	// log(1-erf(x)) = -L(x) for 0.93 <= x <= 4, error of erf 1.5e-9. Signs are turned below.
	erfL = []float32{0.000211294653, 1.12761128, 0.637290299, 0.103837021, -0.0221814457, 0.00303183566, -0.000194779248}
	// sin(r) = r + r^3 S(r*r) and cos(r) = 1 - r*r/2 + r^4 C(r*r) for |r| <= pi/4, errors 4e-9 and 1e-10.
	sinS = []float32{-0.166666552, 0.00833218917, -0.000195182787}
	cosC = []float32{0.0416666456, -0.00138873095, 2.44323273e-05}
)

const (
	ln2Hi, ln2Lo = 0.693147182464599609375, -1.904654299957767e-09 // their sum is ln 2
	magic        = 0x1.8p23                                        // adding it rounds to an integer, in the lowest bits
	piHi         = 0x1.921fb6p0                                    // the sum of the three is pi/2
	piMid        = -0x1.777a5cp-25
	piLo         = -0x1.ee59dap-50
	erfSplit     = 0.94
	erfOne       = 4 // from here on erf is 1
)

// exponential is what exp and its relatives share.
type exponential struct {
	m                    *machine
	log2e, magic, hi, lo op
	p                    []op
	one                  op
}

func (m *machine) exponential() *exponential {
	e := &exponential{m: m, log2e: m.hold(bits(math.Log2E)), magic: m.kf(magic), hi: m.kf(ln2Hi), lo: m.kf(ln2Lo), p: m.ks(expP...)}
	e.one = m.kf(1)
	return e
}

// parts returns q = exp(r)-1, and t whose lowest bits are the integer k, where x = k ln 2 + r. Also k as a float.
func (e *exponential) parts(x op) (q, t, k op) {
	m := e.m
	t = m.copy(x)
	m.horner(t, e.log2e, e.magic)
	k = m.sub(t, e.magic)
	r := m.copy(x)
	m.subMul(r, k, e.hi)
	m.subMul(r, k, e.lo)
	p := m.polynomial(r, e.p)
	m.horner(p, m.mul(r, r), r)
	return p, t, k
}

// scaled is v * 2^k, rounded once also where it is denormal, for |k| <= 200.
func (e *exponential) scaled(v, t, k op) op {
	m := e.m
	if m.wide {
		return m.two(m.VSCALEFPS, v, k)
	}
	i := m.subInt(t, e.magic)
	half := m.shift(m.VPSRAD, i, 1)
	rest := m.subInt(i, half)
	v = m.mul(v, m.addInt(m.shift(m.VPSLLD, half, 23), e.one))
	return m.mul(v, m.addInt(m.shift(m.VPSLLD, rest, 23), e.one))
}

// power is 2^k for -127 < k < 128.
func (e *exponential) power(t op) op { return e.m.addInt(e.m.shift(e.m.VPSLLD, t, 23), e.one) }

// expm1 is exp(x)-1 where k < 128; x is at least -80.
func (e *exponential) expm1(x op) op {
	m := e.m
	q, t, _ := e.parts(x)
	s := e.power(t)
	m.horner(q, s, m.sub(s, e.one))
	return q
}

// withSign gives v the sign of x, which v has where it is not 0.
func (m *machine) withSign(v, x, sign op) op {
	if m.wide {
		m.VPTERNLOGD(operand.U8(0xf8), sign, x, v) // v | x & sign
		return v
	}
	return m.or(v, m.and(x, sign))
}

func (m *machine) expSetup() body {
	e := m.exponential()
	low, high := m.hold(bits(-104)), m.hold(bits(89))
	return func(in []op) op {
		x := m.least(high, m.most(low, in[0]))
		q, t, k := e.parts(x)
		return e.scaled(m.add(q, e.one), t, k)
	}
}

// Half of the result is computed, as 2^128 is no number; but where k is 0 it is q, which may be denormal.
func (m *machine) expm1Setup() body {
	e := m.exponential()
	low, high, half, sign, zero := m.hold(bits(-80)), m.hold(bits(89)), m.kf(0.5), m.k(signBit), m.hold(0)
	return func(in []op) op {
		q, t, k := e.parts(m.least(high, m.most(low, in[0])))
		s := m.addInt(m.shift(m.VPSLLD, t, 23), half)
		v := m.copy(q)
		m.horner(v, s, m.sub(s, half))
		return m.withSign(m.blend(m.cmp(eq, k, zero), q, m.add(v, v)), in[0], sign)
	}
}

func (m *machine) tanhSetup() body {
	e := m.exponential()
	absolute, high, two, sign := m.k(^uint32(signBit)), m.hold(bits(20)), m.kf(2), m.k(signBit)
	return func(in []op) op {
		a := m.and(in[0], absolute)
		v := e.expm1(m.least(high, m.add(a, a)))
		return m.withSign(m.div(v, m.add(v, two)), in[0], sign)
	}
}

func (m *machine) logisticSetup() body {
	e := m.exponential()
	low, sign, one := m.hold(bits(-104)), m.k(signBit), m.hold(bits(1))
	return func(in []op) op {
		q, t, k := e.parts(m.most(low, m.or(in[0], sign)))
		z := e.scaled(m.add(q, e.one), t, k)
		return m.div(m.blend(m.signs(in[0]), z, one), m.add(z, e.one))
	}
}

func (m *machine) erfSetup() body {
	e := m.exponential()
	absolute, sign, high := m.k(^uint32(signBit)), m.k(signBit), m.hold(bits(erfOne))
	split, one := m.kf(erfSplit), m.hold(bits(1))
	s := m.kfar(erfS...)
	negative := make([]float32, len(erfL))
	for i, c := range erfL {
		negative[i] = -c
	}
	l := m.kfar(negative...)
	return func(in []op) op {
		x := in[0]
		a := m.and(x, absolute)
		q, t, _ := e.parts(m.polynomial(m.least(high, a), l))
		power := e.power(t)
		large := m.sub(one, power)
		m.subMul(large, q, power)
		small := m.polynomial(m.mul(a, a), s)
		m.horner(small, a, a)
		return m.withSign(m.blend(m.cmp(lt, a, split), small, large), x, sign)
	}
}

// logarithm is what Log and Log1p share.
type logarithm struct {
	m                                  *machine
	threshold, exponent, one, scale    op
	ln2                                op
	q                                  []op
	table, zero, inf, minusInf, notNum op
}

func (m *machine) logarithm() *logarithm {
	l := &logarithm{m: m, threshold: m.k(bits(2.0 / 3)), exponent: m.k(0xff800000), one: m.kf(1), scale: m.hold(bits(0x1p-23)),
		ln2: m.kf(ln2Hi), q: m.ks(logQ...)}
	if m.wide {
		l.table = m.hold(0x03530422) // NaN stays, zero to -Inf, -Inf and negative to NaN, +Inf stays
	} else {
		l.zero, l.inf, l.minusInf, l.notNum = m.hold(0), m.kf(float32(math.Inf(1))), m.kf(float32(math.Inf(-1))), m.k(0x7fc00000)
	}
	return l
}

// log1p is log(1+f), for |f| <= 1/3, plus k ln 2.
func (l *logarithm) log1p(f, k op) op {
	m := l.m
	q := m.polynomial(f, l.q)
	m.horner(q, m.mul(f, f), f)
	m.addMul(q, k, l.ln2)
	return q
}

// special puts in the results where y, whose logarithm v is, is not positive and finite.
func (l *logarithm) special(v, y op) op {
	m := l.m
	if m.wide {
		m.VFIXUPIMMPS(operand.U8(0), l.table, y, v)
		return v
	}
	v = m.blend(m.cmp(eq, y, l.zero), l.minusInf, v)
	v = m.blend(m.cmp(lt, y, l.zero), l.notNum, v)
	return m.blend(m.cmp(notLess, y, l.inf), m.add(y, y), v)
}

func (m *machine) logSetup() body {
	l := m.logarithm()
	least, up, shift := m.kf(0x1p-126), m.kf(0x1p23), m.kf(-23)
	return func(in []op) op {
		x := in[0]
		tiny := m.cmp(lt, x, least)
		y := m.blend(tiny, m.mul(x, up), x)
		e := m.and(m.subInt(y, l.threshold), l.exponent)
		f := m.sub(m.subInt(y, e), l.one)
		k := m.vec()
		m.VCVTDQ2PS(e, k)
		down := m.only(tiny, shift)
		m.horner(k, l.scale, down)
		return l.special(l.log1p(f, k), x)
	}
}

func (m *machine) log1pSetup() body {
	l := m.logarithm()
	four, quarter, minus, sign := m.hold(bits(4)), m.kf(0.25), m.kf(-1), m.k(signBit)
	return func(in []op) op {
		x := in[0]
		y := m.add(x, l.one)
		e := m.and(m.subInt(y, l.threshold), l.exponent)
		f := m.subInt(four, e)
		m.horner(f, m.loaded(quarter), minus)
		f = m.add(f, m.subInt(x, e))
		whole := m.vec()
		m.VCVTDQ2PS(e, whole)
		return m.withSign(l.special(l.log1p(f, m.mul(whole, l.scale)), y), x, sign)
	}
}

// loaded is x in a register.
func (m *machine) loaded(x op) op {
	if _, memory := x.(operand.Mem); memory {
		return m.copy(x)
	}
	return x
}

// circularSetup is sin, or cos for quarter 1. Right for |x| <= circularBound.
func (m *machine) circularSetup(quarter uint32) func() body {
	return func() body {
		perQuarter, rounder := m.hold(bits(2/math.Pi)), m.kf(magic)
		pis := m.ks(piHi, piMid, piLo)
		s, c := m.ks(sinS...), m.ks(cosC...)
		one, half, add := m.kf(1), m.kf(-0.5), m.k(quarter)
		zero := m.hold(0)
		return func(in []op) op {
			x := in[0]
			t := m.copy(x)
			m.horner(t, perQuarter, rounder)
			k := m.sub(t, rounder)
			r := m.copy(x)
			for _, part := range pis {
				m.subMul(r, k, part)
			}
			if quarter != 0 {
				t = m.addInt(t, add)
			}
			z := m.mul(r, r)
			sin := m.polynomial(z, s)
			m.horner(sin, m.mul(z, r), r)
			cos := m.polynomial(z, c)
			m.horner(cos, z, half)
			m.horner(cos, z, one)
			v := m.blend(m.signs(m.shift(m.VPSLLD, t, 31)), cos, sin)
			v = m.xor(v, m.shift(m.VPSLLD, m.shift(m.VPSRLD, t, 1), 31))
			if quarter == 0 {
				v = m.blend(m.cmp(eq, x, zero), x, v) // sin(-0) is -0
			}
			return v
		}
	}
}

func (m *machine) functions() {
	for _, f := range []struct {
		name  string
		setup func() body
	}{
		{"Exp", m.expSetup}, {"Expm1", m.expm1Setup}, {"Tanh", m.tanhSetup}, {"Logistic", m.logisticSetup}, {"Erf", m.erfSetup},
		{"Log", m.logSetup}, {"Log1p", m.log1pSetup},
	} {
		m.elementwise(f.name, "Unary["+f.name+"]", f.name+".", m.words("dst", "x"), 1, f.setup)
	}
	m.elementwise("Sin", "", "Sin for |x| <= circularBound.", m.words("dst", "x"), 1, m.circularSetup(0))
	m.elementwise("Cos", "", "Cos for |x| <= circularBound.", m.words("dst", "x"), 1, m.circularSetup(1))
}
