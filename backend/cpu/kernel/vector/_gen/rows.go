package main

import (
	"fmt"
	"math"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// partials is the number of partial results of a row, as in the Go kernels.
const partials = 64

// reduction is a way to reduce rows.
type reduction struct {
	name     string
	identity float32
	ordered  bool // max or min: NaN are looked for on the side
	most     bool
	dot      bool
	f        func(m *machine, b, a, d op) // d = f(a, b)
}

var reductions = []reduction{
	{name: "SumRows", f: func(m *machine, b, a, d op) { m.VADDPS(b, a, d) }},
	{name: "ProdRows", identity: 1, f: func(m *machine, b, a, d op) { m.VMULPS(b, a, d) }},
	{name: "DotRows", dot: true, f: func(m *machine, b, a, d op) { m.VADDPS(b, a, d) }},
	{name: "MaxRows", identity: float32(math.Inf(-1)), ordered: true, most: true},
	{name: "MinRows", identity: float32(math.Inf(1)), ordered: true},
}

// combine is d = f(a, b) for numbers.
func (r reduction) combine(m *machine, b, a, d op) {
	switch {
	case !r.ordered:
		r.f(m, b, a, d)
	case m.wide && r.most:
		m.VRANGEPS(operand.U8(5), b, a, d)
	case m.wide:
		m.VRANGEPS(operand.U8(4), b, a, d)
	default:
		t := m.sameWidth(d)
		if r.most {
			m.VMAXPS(a, b, t)
			m.VMAXPS(b, a, d)
			m.VANDPS(t, d, d)
		} else {
			m.VMINPS(a, b, t)
			m.VMINPS(b, a, d)
			m.VORPS(t, d, d)
		}
	}
}

func (m *machine) sameWidth(r op) reg.VecVirtual {
	if r.(reg.Register).Size() == 16 {
		return m.XMM()
	}
	return m.vec()
}

// rowReducer holds the registers of one function.
type rowReducer struct {
	*machine
	reduction
	acc      []reg.VecVirtual
	identity op
	x, other reg.GPVirtual // other is the second source of a dot product
	nan      op            // where NaN were seen
}

// step takes in the vector at word offset of the row into accumulator j.
func (r *rowReducer) step(j, offset int, mask op) {
	m, acc := r.machine, r.acc[j]
	at := operand.Mem{Base: r.x, Disp: 4 * offset}
	switch {
	case r.dot:
		v := m.load(at, mask)
		second := operand.Mem{Base: r.other, Disp: 4 * offset}
		switch {
		case mask == nil:
			m.VFMADD231PS(second, v, acc)
		case m.wide:
			m.VFMADD231PS(second, v, mask, acc)
		default:
			m.VFMADD231PS(m.load(second, mask), v, acc)
		}
	case r.ordered:
		v := r.filled(at, mask)
		if m.wide {
			k := m.K()
			m.VCMPPS(operand.U8(unordered), v, v, k)
			m.KORW(k, r.nan, r.nan)
		} else {
			m.VORPS(m.cmp(unordered, v, v), r.nan, r.nan)
		}
		r.combine(m, v, acc, acc)
	case mask == nil:
		r.f(m, at, acc, acc)
	default:
		r.f(m, r.filled(at, mask), acc, acc)
	}
}

// filled loads a vector, with the identity where mask is not set.
func (r *rowReducer) filled(at operand.Mem, mask op) op {
	m := r.machine
	if mask == nil {
		return m.load(at, nil)
	}
	if m.wide {
		v := m.copy(r.identity)
		m.VMOVUPS(at, mask, v)
		return v
	}
	return m.blend(mask, m.load(at, mask), r.identity)
}

func (m *machine) rows() {
	for _, r := range reductions {
		m.reduceRows(r)
	}
}

func (m *machine) reduceRows(red reduction) {
	sources, slot, note := []string{"dst", "x"}, red.name, ""
	if red.dot {
		sources = []string{"dst", "x", "y"}
	}
	if red.name == "SumRows" || red.dot {
		slot, note = "", ", for at most rowBlock columns"
	}
	p := m.function(red.name, slot, red.name+note+".", sources, []string{"rows", "cols"})
	r := &rowReducer{machine: m, reduction: red, x: p["x"], other: p["y"]}
	rows, cols, dst := p["rows"], p["cols"], p["dst"]
	m.TESTQ(rows, rows)
	m.JZ(operand.LabelRef("done"))
	r.identity = m.hold(bits(red.identity))
	for range partials / m.lanes {
		r.acc = append(r.acc, m.vec())
	}
	blocks, rest, bytes := m.GP64(), m.GP64(), m.GP64()
	m.MOVQ(cols, blocks)
	m.SHRQ(operand.U8(6), blocks)
	m.MOVQ(cols, rest)
	m.ANDQ(operand.U8(partials-1), rest)
	m.MOVQ(rest, bytes)
	m.SHLQ(operand.U8(2), bytes)
	masks := m.rowMasks(rest)

	m.Label("row")
	for _, a := range r.acc {
		m.VMOVAPS(r.identity, a)
	}
	r.startNaN()
	n := m.GP64()
	m.MOVQ(blocks, n)
	m.TESTQ(n, n)
	m.JZ(operand.LabelRef("rest"))
	m.Label("block")
	for j := range r.acc {
		r.step(j, j*m.lanes, nil)
	}
	r.advance(nil)
	m.DECQ(n)
	m.JNZ(operand.LabelRef("block"))
	m.Label("rest")
	m.TESTQ(rest, rest)
	m.JZ(operand.LabelRef("fold"))
	r.tail(rest, masks)
	m.Label("fold")
	r.advance(bytes)
	r.fold(dst)
	m.ADDQ(operand.U8(4), dst)
	m.DECQ(rows)
	m.JNZ(operand.LabelRef("row"))
	m.Label("done")
	m.end()
}

// advance moves the sources by a block, or by bytes.
func (r *rowReducer) advance(bytes op) {
	if bytes == nil {
		bytes = operand.I32(4 * partials)
	}
	r.ADDQ(bytes, r.x)
	if r.dot {
		r.ADDQ(bytes, r.other)
	}
}

func (r *rowReducer) startNaN() {
	if !r.ordered {
		return
	}
	if r.wide {
		if r.nan == nil {
			r.nan = r.K()
		}
		r.KXORW(r.nan, r.nan, r.nan)
		return
	}
	if r.nan == nil {
		r.nan = r.vec()
	}
	r.VXORPS(r.nan, r.nan, r.nan)
}

// rowMasks are the masks of the last, incomplete block: one a vector at AVX-512, that of its last vector at AVX2.
func (m *machine) rowMasks(rest reg.GPVirtual) []op {
	if !m.wide {
		n := m.GP64()
		m.MOVQ(rest, n)
		m.ANDQ(operand.U8(m.lanes-1), n)
		return []op{m.tailMask(n)}
	}
	all := m.GP64()
	m.MOVQ(operand.I32(-1), all)
	m.BZHIQ(rest, all, all)
	var masks []op
	for range partials / m.lanes {
		k := m.K()
		m.KMOVW(all.As32(), k)
		m.SHRQ(operand.U8(m.lanes), all)
		masks = append(masks, k)
	}
	return masks
}

func (r *rowReducer) tail(rest reg.GPVirtual, masks []op) {
	m := r.machine
	if m.wide {
		for j := range r.acc {
			r.step(j, j*m.lanes, masks[j])
			if j < len(r.acc)-1 {
				m.CMPQ(rest, operand.U8((j+1)*m.lanes))
				m.JLE(operand.LabelRef("fold"))
			}
		}
		return
	}
	for j := range r.acc {
		m.CMPQ(rest, operand.U8((j+1)*m.lanes))
		m.JL(operand.LabelRef(fmt.Sprintf("part%d", j)))
		if j == len(r.acc)-1 {
			break
		}
		r.step(j, j*m.lanes, nil)
		m.JE(operand.LabelRef("fold"))
	}
	for j := range r.acc {
		m.Label(fmt.Sprintf("part%d", j))
		r.step(j, j*m.lanes, masks[0])
		m.JMP(operand.LabelRef("fold"))
	}
}

// fold combines the accumulators, and the lanes, number i with i+32, then i+16 and so on, and stores the result.
func (r *rowReducer) fold(dst reg.GPVirtual) {
	m := r.machine
	for half := len(r.acc) / 2; half > 0; half /= 2 {
		for j := range half {
			r.combine(m, r.acc[j+half], r.acc[j], r.acc[j])
		}
	}
	a := r.acc[0]
	t := m.vec()
	if m.wide {
		m.VEXTRACTF64X4(operand.U8(1), a, t.AsY())
		r.combine(m, t.AsY(), a.AsY(), a.AsY())
		m.VEXTRACTF32X4(operand.U8(1), a.AsY(), t.AsX())
	} else {
		m.VEXTRACTF128(operand.U8(1), a, t.AsX())
	}
	r.combine(m, t.AsX(), a.AsX(), a.AsX())
	for _, lanes := range []uint8{0x0e, 0x01} {
		m.VPERMILPS(operand.U8(lanes), a.AsX(), t.AsX())
		r.combine(m, t.AsX(), a.AsX(), a.AsX())
	}
	m.VMOVSS(a.AsX(), operand.Mem{Base: dst})
	if !r.ordered {
		return
	}
	if m.wide {
		m.KORTESTW(r.nan, r.nan)
	} else {
		m.VPTEST(r.nan, r.nan)
	}
	m.JZ(operand.LabelRef("number"))
	m.MOVL(operand.U32(0x7fc00000), operand.Mem{Base: dst})
	m.Label("number")
}
