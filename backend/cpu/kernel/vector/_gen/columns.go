package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// columnRows is the number of rows added in one pass over the destination.
const columnRows = 4

func (m *machine) columns() {
	m.reduceColumns("AddColumns", false, m.add)
	m.reduceColumns("MaxColumns", false, func(a, b op) op { return m.extreme(true, a, b) })
	m.reduceColumns("MinColumns", false, func(a, b op) op { return m.extreme(false, a, b) })
	m.reduceColumns("MulAddColumns", true, nil)
}

// reduceColumns writes dst[c] = f(dst[c], x[r,c]) over rows in order, or dst[c] += w[r]*x[r,c].
func (m *machine) reduceColumns(name string, weights bool, f func(a, b op) op) {
	sources := []string{"dst", "x"}
	if weights {
		sources = []string{"dst", "w", "x"}
	}
	p := m.function(name, name, name+".", sources, []string{"rows", "cols"})
	dst, rows, cols := p["dst"], p["rows"], p["cols"]
	m.TESTQ(cols, cols)
	m.JZ(operand.LabelRef("done"))
	stride, last := m.GP64(), m.GP64()
	m.MOVQ(cols, stride)
	m.SHLQ(operand.U8(2), stride)
	m.MOVQ(cols, last)
	m.ANDQ(operand.U8(m.lanes-1), last)
	mask := m.tailMask(last)

	pass := func(label string, count int) {
		x := []reg.GPVirtual{p["x"]}
		for len(x) < count {
			next := m.GP64()
			m.LEAQ(operand.Mem{Base: x[len(x)-1], Index: stride, Scale: 1}, next)
			x = append(x, next)
		}
		var w []op
		for j := range count {
			if weights {
				v := m.vec()
				m.VBROADCASTSS(operand.Mem{Base: p["w"], Disp: 4 * j}, v)
				w = append(w, v)
			}
		}
		i, n := m.GP64(), m.GP64()
		m.XORQ(i, i)
		m.MOVQ(cols, n)
		step := func(mask op) {
			at := operand.Mem{Base: dst, Index: i, Scale: 4}
			a := m.load(at, mask)
			for j := range count {
				v := m.load(operand.Mem{Base: x[j], Index: i, Scale: 4}, mask)
				if weights {
					m.VFMADD231PS(v, w[j], a)
				} else {
					a = f(a, v)
				}
			}
			m.store(a, at, mask)
		}
		m.SUBQ(operand.I32(m.lanes), n)
		m.JL(operand.LabelRef(label + "last"))
		m.Label(label + "vector")
		step(nil)
		m.ADDQ(operand.I32(m.lanes), i)
		m.SUBQ(operand.I32(m.lanes), n)
		m.JGE(operand.LabelRef(label + "vector"))
		m.Label(label + "last")
		m.TESTQ(last, last)
		m.JZ(operand.LabelRef(label + "next"))
		step(mask)
		m.Label(label + "next")
		m.LEAQ(operand.Mem{Base: x[count-1], Index: stride, Scale: 1}, p["x"])
		if weights {
			m.ADDQ(operand.I32(4*count), p["w"])
		}
	}
	for _, count := range []int{columnRows, 1} {
		label := fmt.Sprintf("rows%d", count)
		m.SUBQ(operand.I32(count), rows)
		m.JL(operand.LabelRef(label + "end"))
		m.Label(label)
		pass(label, count)
		m.SUBQ(operand.I32(count), rows)
		m.JGE(operand.LabelRef(label))
		m.Label(label + "end")
		m.ADDQ(operand.I32(count), rows)
	}
	m.Label("done")
	m.end()
}
