package compile

import (
	"container/heap"
	"fmt"
	"slices"
	"unsafe"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/polargo/polar/backend/cpu/ir"
	"github.com/polargo/polar/backend/cpu/kernel/vector"
	"github.com/polargo/polar/backend/cpu/program"
)

// unit is what becomes a step: a cell, or a node outside cells.
type unit struct {
	cell  *cell
	node  *node
	last  int // greatest id of its nodes: units run in this order where they can
	wants int // units that must run before it and have not
	next  []*unit
}

// units lists what must be computed, in an order in which it can be.
func (g *graph) units() ([]*unit, error) {
	of := map[*node]*unit{}
	cells := map[*cell]*unit{}
	var all []*unit
	for _, n := range g.nodes {
		if !computed(n) {
			continue
		}
		c := home(n)
		if c == nil {
			of[n] = &unit{node: n, last: n.id}
			all = append(all, of[n])
			continue
		}
		if cells[c] == nil {
			cells[c] = &unit{cell: c, last: c.high}
			all = append(all, cells[c])
		}
		of[n] = cells[c]
	}
	unitOf := func(n *node) *unit {
		if n.op == opPartOut {
			return of[n.in[0]]
		}
		return of[n.base]
	}
	for n, u := range of {
		for _, d := range n.dependencies() {
			if before := unitOf(d); before != nil && before != u && !slices.Contains(before.next, u) {
				before.next = append(before.next, u)
				u.wants++
			}
		}
	}
	ready := &queue{}
	for _, u := range all {
		if u.wants == 0 {
			heap.Push(ready, u)
		}
	}
	var out []*unit
	for ready.Len() > 0 {
		u := heap.Pop(ready).(*unit)
		out = append(out, u)
		for _, v := range u.next {
			if v.wants--; v.wants == 0 {
				heap.Push(ready, v)
			}
		}
	}
	if len(out) != len(all) {
		return nil, fmt.Errorf("compile: %d of %d units wait for each other", len(all)-len(out), len(all))
	}
	return out, nil
}

// computed says whether a node needs a step.
func computed(n *node) bool {
	return !n.isView() && n.op != opInput && n.op != opPartOut && n.op != compute.OpTypeConstant
}

type queue []*unit

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].last < q[j].last }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(*unit)) }
func (q *queue) Pop() any {
	last := len(*q) - 1
	u := (*q)[last]
	*q = (*q)[:last]
	return u
}

// use is when a buffer is needed.
type use struct {
	first, last int // steps; -1 before there is any
}

// lowering turns units into a program.
type lowering struct {
	*graph
	options Options
	kernels *vector.Kernels
	out     *program.Program
	buffers map[*node]int
	uses    []use
	pairs   [][]pair // by step: outputs that may lie where inputs lie
}

func (l *lowering) copyLanes(dst, x unsafe.Pointer, n int) { l.kernels.Copy2D(dst, x, 1, n, n, n) }

// buffer is the buffer of a node with memory of its own.
func (l *lowering) buffer(n *node) int {
	if id, ok := l.buffers[n]; ok {
		return id
	}
	id := l.newBuffer(program.Buffer{Place: program.InArena, Bytes: n.size() * n.dtype.Size()})
	if n.op == compute.OpTypeConstant {
		b := &l.out.Buffers[id]
		b.Place, b.Index = program.InConstant, len(l.out.Constants)
		l.out.Constants = append(l.out.Constants, flatBytes(n.attrs.(ir.ConstantAttrs).Flat))
	}
	l.buffers[n] = id
	return id
}

func (l *lowering) newBuffer(b program.Buffer) int {
	l.out.Buffers = append(l.out.Buffers, b)
	l.uses = append(l.uses, use{first: -1, last: -1})
	return len(l.out.Buffers) - 1
}

// step appends a step that reads and writes buffers.
func (l *lowering) step(s program.Step, reads, writes []int, inPlace []pair) {
	at := len(l.out.Steps)
	l.out.Steps = append(l.out.Steps, s)
	l.pairs = append(l.pairs, inPlace)
	for _, list := range [][]int{reads, writes} {
		for _, b := range list {
			u := &l.uses[b]
			if u.first < 0 {
				u.first = at
			}
			u.last = at
		}
	}
}

// lower builds the program of a graph.
func (g *graph) lower(name string, options Options) (*program.Program, error) {
	l := &lowering{graph: g, options: options, kernels: vector.For(options.Level), out: &program.Program{Name: name}, buffers: map[*node]int{}}
	for i, n := range g.inputs {
		id := l.newBuffer(program.Buffer{Place: program.InInput, Index: i, Bytes: n.size() * n.dtype.Size()})
		l.buffers[n] = id
		l.out.Inputs = append(l.out.Inputs, l.out.Buffers[id].Bytes)
	}
	var copies []int
	for i, n := range g.outputs {
		base := n.base
		bytes := n.size() * n.dtype.Size()
		l.out.Outputs = append(l.out.Outputs, bytes)
		_, taken := l.buffers[base]
		if taken || base.op == compute.OpTypeConstant {
			copies = append(copies, i)
			continue
		}
		l.buffers[base] = l.newBuffer(program.Buffer{Place: program.InOutput, Index: i, Bytes: bytes})
	}
	units, err := g.units()
	if err != nil {
		return nil, err
	}
	for _, u := range units {
		if u.cell != nil {
			l.loop(u.cell)
			continue
		}
		if err := l.single(u.node); err != nil {
			return nil, err
		}
	}
	for _, i := range copies {
		n := g.outputs[i]
		id := l.newBuffer(program.Buffer{Place: program.InOutput, Index: i, Bytes: l.out.Outputs[i]})
		l.move("output", n.dtype, n.base, n.where, id, 0, n.dims, dense(n.dims).strides)
	}
	l.place()
	return l.out, nil
}

// move appends a copy of elements of base to a buffer.
func (l *lowering) move(name string, t dtypes.DType, base *node, from layout, to, toOffset int, dims, toStrides []int) {
	source := l.buffer(base)
	l.step(&program.Move{Name: name, Elem: t.Size(), Dims: slices.Clone(dims), To: to, From: source, ToOffset: toOffset, FromOffset: from.offset,
		ToStrides: slices.Clone(toStrides), FromStrides: slices.Clone(from.strides)}, []int{source}, []int{to}, nil)
}

// single lowers a node that is no loop.
func (l *lowering) single(n *node) error {
	if n.size() == 0 && n.parts <= 1 {
		return nil
	}
	switch n.op {
	case opProduct:
		l.product(n)
		return nil
	case opCopy:
		l.move("copy", n.dtype, n.in[0].base, n.in[0].where, l.buffer(n), 0, n.dims, dense(n.dims).strides)
		return nil
	case compute.OpTypeConcatenate:
		l.concatenate(n)
		return nil
	case compute.OpTypePad:
		l.pad(n)
		return nil
	case compute.OpTypeDynamicSlice, compute.OpTypeDynamicUpdateSlice:
		if l.dynamicSlice(n) {
			return nil
		}
	case compute.OpTypeGather:
		if l.gather(n) {
			return nil
		}
	case compute.OpTypeScatterSum, compute.OpTypeScatterMax, compute.OpTypeScatterMin:
		if l.scatter(n) {
			return nil
		}
	case compute.OpTypeWhile, compute.OpTypeIf, compute.OpTypeCall:
		return l.control(n)
	case compute.OpTypeFusedScaledDotProductAttention, compute.OpTypeFusedScaledDotProductAttentionVJP:
		if l.attention(n) {
			return nil
		}
	}
	return l.foreign(n)
}

// parts lists the buffers of a node's outputs.
func (l *lowering) partBuffers(n *node) []int {
	if n.parts <= 1 && !slices.Contains(severalOutputs, n.op) {
		return []int{l.buffer(n)}
	}
	out := make([]int, len(n.ir.Shapes))
	for i := range out {
		out[i] = -1
	}
	for _, user := range n.uses {
		if user.op == opPartOut {
			out[user.attrs.(ir.SelectAttrs).Output] = l.buffer(user)
		}
	}
	for i, b := range out {
		if b < 0 {
			out[i] = l.newBuffer(program.Buffer{Place: program.InArena, Bytes: int(n.ir.Shapes[i].ByteSize())})
		}
	}
	return out
}

func (l *lowering) inputBuffers(n *node) []int {
	out := make([]int, len(n.in))
	for i, in := range n.in {
		out[i] = l.buffer(in.base)
	}
	return out
}

// foreign hands a node to the other backend.
func (l *lowering) foreign(n *node) error {
	if n.ir == nil || l.options.Foreign == nil {
		return fmt.Errorf("%w: %s of %s", ErrUnsupported, n.op, n.dtype)
	}
	call, err := l.options.Foreign(n.ir)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnsupported, n.op, err)
	}
	s := &program.Foreign{Name: n.op.String(), Inputs: l.inputBuffers(n), Outputs: l.partBuffers(n), Call: call}
	for _, in := range n.in {
		s.InBytes = append(s.InBytes, in.size()*in.dtype.Size())
	}
	for _, shape := range n.ir.Shapes {
		s.OutBytes = append(s.OutBytes, int(shape.ByteSize()))
	}
	l.step(s, s.Inputs, s.Outputs, nil)
	return nil
}
