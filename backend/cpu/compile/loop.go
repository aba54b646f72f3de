package compile

import (
	"fmt"
	"strings"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/polargo/polar/backend/cpu/kernel/vector"
	"github.com/polargo/polar/backend/cpu/program"
)

// mode is how an instruction sees an operand.
type mode uint8

const (
	vectorMode mode = iota // one value an element (of rows: one a row)
	rowMode                // one value a row, where elements are counted
	scalarMode             // one value
)

// shortRow is the row length below which row values are spread over their rows instead of looping over rows.
const shortRow = 32

// loopBuilder writes the program of a cell.
type loopBuilder struct {
	*lowering
	cell   *cell
	tile   *program.Tile
	values map[*node]int // refs of values computed in the cell
	loads  map[string]loaded
	absorb map[*node]bool // products that are computed inside a sum of products
	stores map[int]*node  // memory refs that are written
}

type loaded struct {
	ref  int
	mode mode
}

// loop lowers a cell.
func (l *lowering) loop(c *cell) {
	t := &program.Tile{Size: c.size, Columns: c.columns, Name: cellName(c)}
	b := &loopBuilder{lowering: l, cell: c, tile: t, values: map[*node]int{}, loads: map[string]loaded{}, absorb: map[*node]bool{},
		stores: map[int]*node{}}
	if c.columns == 0 {
		t.Columns = b.natural()
	}
	t.Layout()
	for _, n := range c.nodes {
		b.absorbed(n)
	}
	for _, n := range c.nodes {
		if !b.absorb[n] {
			b.node(n)
		}
	}
	b.allocate()
	l.step(t, b.reads(), b.writes(), b.inPlace())
}

func cellName(c *cell) string {
	var names []string
	for _, n := range c.nodes {
		name := n.op.String()
		if n.op == opCopy {
			name = "Copy"
		}
		names = append(names, name)
		if len(names) == 12 {
			names = append(names, "...")
			break
		}
	}
	return strings.Join(names, ",")
}

// natural is a row length for a cell that needs none: that along which operands in memory repeat, so that tiles fit it.
func (b *loopBuilder) natural() int {
	for _, n := range b.cell.nodes {
		for i, in := range n.in {
			if _, inside := b.cell.roles[in.base]; inside {
				continue
			}
			a := operand(n, i)
			if last := len(a.dims) - 1; last >= 1 && a.dims[last] >= shortRow && a.dims[last] <= maxRow/16 && b.cell.size%a.dims[last] == 0 {
				return a.dims[last]
			}
		}
	}
	return 0
}

// absorbed notes products that only a sum of their rows reads.
func (b *loopBuilder) absorbed(n *node) {
	if n.op != compute.OpTypeReduceSum || b.cell.roles[n] != rowSum {
		return
	}
	product := n.in[0].base
	if r, inside := b.cell.roles[product]; inside && r == full && product.op == compute.OpTypeMul && product.dtype == dtypes.Float32 &&
		len(product.uses) == 1 && !product.kept {
		b.absorb[product] = true
	}
}

func (b *loopBuilder) ref(r program.Ref) int {
	b.tile.Refs = append(b.tile.Refs, r)
	return len(b.tile.Refs) - 1
}

func (b *loopBuilder) emit(in program.Instr) { b.tile.Instrs = append(b.tile.Instrs, in) }

// register is a new register of full or row values.
func (b *loopBuilder) register(row bool) int {
	if row {
		return b.ref(program.Ref{Kind: program.RowRegister, Slot: -1})
	}
	return b.ref(program.Ref{Kind: program.Register, Slot: -1})
}

// load returns input i of n as seen by instructions on n's level.
func (b *loopBuilder) load(n *node, i int) (ref int, as mode) {
	in := n.in[i]
	role := b.cell.roles[n]
	if from, inside := b.cell.roles[in.base]; inside {
		if from != full && role == full {
			return b.values[in.base], rowMode
		}
		return b.values[in.base], vectorMode
	}
	a := operand(n, i)
	if role == columnSum {
		a = columnFirst(n)
	}
	row := role == perRow
	key := fmt.Sprint(in.base.id, a, row)
	if found, ok := b.loads[key]; ok {
		return found.ref, found.mode
	}
	ref, as = b.memory(in.base, a, row)
	b.loads[key] = loaded{ref, as}
	return ref, as
}

// memory is an operand outside the cell.
func (b *loopBuilder) memory(base *node, a access, row bool) (ref int, as mode) {
	r := program.Ref{Kind: program.Linear, Buffer: b.buffer(base), Offset: a.offset, Elem: base.dtype.Size()}
	as = vectorMode
	rows := 0
	if b.tile.Columns > 0 {
		rows = b.tile.Size / b.tile.Columns
	}
	spread := a
	spread.offset = 0
	switch {
	case a.constant():
		r.Kind, as = program.Fixed, scalarMode
	case len(a.dims) == 1 && a.strides[0] == 1:
		if row {
			r.Kind = program.LinearRow
		}
	case !row && rows > 1 && spreadsRows(spread, rows, b.tile.Columns):
		r.Kind, as = program.LinearRow, rowMode
	default:
		r.Kind, r.Slot = program.Strided, -1
		if row {
			r.Kind = program.StridedRow
		}
		r.Dims, r.Strides = a.dims, a.strides
	}
	ref = b.ref(r)
	widen := b.widening(base.dtype)
	if widen == nil {
		return ref, as
	}
	rowValue := row || as != vectorMode
	out := b.register(rowValue)
	b.emit(program.Instr{Code: program.Unary, Row: rowValue, Single: as == scalarMode, D: out, A: ref, F1: widen})
	return out, as
}

// widening is the conversion of a type in memory to lanes of 32 bits, nil for none.
func (b *loopBuilder) widening(t dtypes.DType) vector.UnaryFunc {
	switch t {
	case dtypes.BFloat16:
		return b.kernels.FloatFromBF16
	case dtypes.Bool:
		return b.kernels.MaskFromBool
	}
	return nil
}

func (b *loopBuilder) narrowing(t dtypes.DType) vector.UnaryFunc {
	switch t {
	case dtypes.BFloat16:
		return b.kernels.BF16FromFloat
	case dtypes.Bool:
		return b.kernels.BoolFromMask
	}
	return nil
}

// whole makes an operand a vector of n's level.
func (b *loopBuilder) whole(ref int, as mode, row bool) int {
	switch as {
	case rowMode:
		out := b.register(false)
		b.emit(program.Instr{Code: program.Expand, D: out, A: ref})
		return out
	case scalarMode:
		out := b.register(row)
		b.emit(program.Instr{Code: program.Spread, Row: row, D: out, A: ref})
		return out
	}
	return ref
}

// stored says whether something outside the cell reads a node.
func (b *loopBuilder) stored(n *node) bool {
	if n.kept {
		return true
	}
	for _, user := range n.uses {
		if _, inside := b.cell.roles[user]; !inside {
			return true
		}
	}
	return false
}

// destination is where a node's value goes: memory if it is stored as it is, else a register.
func (b *loopBuilder) destination(n *node, row bool) int {
	if !b.stored(n) || b.narrowing(n.dtype) != nil {
		return b.register(row)
	}
	return b.store(n, row)
}

func (b *loopBuilder) store(n *node, row bool) int {
	kind := program.Linear
	if row {
		kind = program.LinearRow
	}
	ref := b.ref(program.Ref{Kind: kind, Buffer: b.buffer(n), Elem: n.dtype.Size()})
	b.stores[ref] = n
	return ref
}

// done records a node's value and stores types that are narrower in memory.
func (b *loopBuilder) done(n *node, ref int, row bool) {
	inside := false
	for _, user := range n.uses {
		if _, ok := b.cell.roles[user]; ok {
			inside = true
		}
	}
	if n.dtype == dtypes.BFloat16 && inside {
		rounded := b.register(row)
		b.emit(program.Instr{Code: program.Round, Row: row, D: rounded, A: ref})
		ref = rounded
	}
	b.values[n] = ref
	if narrow := b.narrowing(n.dtype); narrow != nil && b.stored(n) {
		b.emit(program.Instr{Code: program.Unary, Row: row, D: b.store(n, row), A: ref, F1: narrow})
	}
}

// node emits the instructions of one node.
func (b *loopBuilder) node(n *node) {
	role := b.cell.roles[n]
	if reductionOp(n.op) {
		b.reduce(n, role)
		return
	}
	row := role == perRow
	switch {
	case n.op == compute.OpTypeWhere:
		b.choose(n, row)
	case n.op == opCopy || n.op == compute.OpTypeConvertDType:
		b.convert(n, row)
	case len(n.in) == 2:
		b.binary(n, row)
	default:
		op, _ := instruction(n.op, n.in[0].dtype)
		b.unary(n, row, b.kernels.Unary[op])
	}
}

func (b *loopBuilder) unary(n *node, row bool, f vector.UnaryFunc) {
	ref, as := b.load(n, 0)
	ref = b.whole(ref, as, row)
	out := b.destination(n, row)
	b.emit(program.Instr{Code: program.Unary, Row: row, D: out, A: ref, F1: f})
	b.done(n, out, row)
}

// convert copies, or converts between types.
func (b *loopBuilder) convert(n *node, row bool) {
	op, none, _ := conversion(n.in[0].dtype, n.dtype)
	if !none {
		b.unary(n, row, b.kernels.Unary[op])
		return
	}
	ref, as := b.load(n, 0)
	out := b.destination(n, row)
	switch {
	case as == rowMode:
		b.emit(program.Instr{Code: program.Expand, D: out, A: ref})
	case as == scalarMode:
		b.emit(program.Instr{Code: program.Spread, Row: row, D: out, A: ref})
	default:
		b.emit(program.Instr{Code: program.Unary, Row: row, D: out, A: ref, F1: b.copyLanes})
	}
	b.done(n, out, row)
}

func (b *loopBuilder) choose(n *node, row bool) {
	var refs [3]int
	var modes [3]mode
	for i := range refs {
		refs[i], modes[i] = b.load(n, i)
		if i == 0 || modes[i] == rowMode {
			refs[i], modes[i] = b.whole(refs[i], modes[i], row), vectorMode
		}
	}
	f := b.kernels.Select
	switch {
	case modes[1] == scalarMode && modes[2] == scalarMode:
		f = b.kernels.SelectSS
	case modes[1] == scalarMode:
		f = b.kernels.SelectSV
	case modes[2] == scalarMode:
		f = b.kernels.SelectVS
	}
	out := b.destination(n, row)
	b.emit(program.Instr{Code: program.Choose, Row: row, D: out, A: refs[0], B: refs[1], C: refs[2], F3: f})
	b.done(n, out, row)
}

func (b *loopBuilder) binary(n *node, row bool) {
	op, _ := instruction(n.op, n.in[0].dtype)
	x, xMode := b.load(n, 0)
	y, yMode := b.load(n, 1)
	if xMode == rowMode && (yMode != vectorMode || b.tile.Columns < shortRow) {
		x, xMode = b.whole(x, xMode, row), vectorMode
	}
	if yMode == rowMode && b.tile.Columns < shortRow {
		y, yMode = b.whole(y, yMode, row), vectorMode
	}
	if xMode == scalarMode && yMode != vectorMode {
		x, xMode = b.whole(x, xMode, row), vectorMode
	}
	out := b.destination(n, row)
	in := program.Instr{Code: program.Binary, Row: row, D: out, A: x, B: y}
	switch {
	case xMode == rowMode:
		in.Code, in.F2 = program.RowFirst, b.kernels.SV[op]
	case yMode == rowMode:
		in.Code, in.F2 = program.RowSecond, b.kernels.VS[op]
	case xMode == scalarMode:
		in.F2 = b.kernels.SV[op]
	case yMode == scalarMode:
		in.F2 = b.kernels.VS[op]
	default:
		in.F2 = b.kernels.VV[op]
	}
	b.emit(in)
	b.done(n, out, row)
}

// reduction kernels by operation.
func (b *loopBuilder) reducers(op compute.OpType) (rows, columns vector.RowsFunc, two vector.BinaryFunc, identity float32) {
	k := b.kernels
	switch op {
	case compute.OpTypeReduceMax:
		return k.MaxRows, k.MaxColumns, k.VV[vector.Max], program.MaxIdentity
	case compute.OpTypeReduceMin:
		return k.MinRows, k.MinColumns, k.VV[vector.Min], program.MinIdentity
	}
	return k.SumRows, k.AddColumns, k.VV[vector.Add], program.SumIdentity
}

func (b *loopBuilder) reduce(n *node, role role) {
	rows, columns, two, identity := b.reducers(n.op)
	if product := n.in[0].base; role == rowSum && b.absorb[product] {
		x, xMode := b.load(product, 0)
		y, yMode := b.load(product, 1)
		x, y = b.whole(x, xMode, false), b.whole(y, yMode, false)
		out := b.destination(n, true)
		b.emit(program.Instr{Code: program.DotRows, D: out, A: x, B: y})
		b.done(n, out, true)
		return
	}
	ref, as := b.load(n, 0)
	ref = b.whole(ref, as, false)
	if role == rowSum {
		out := b.destination(n, true)
		b.emit(program.Instr{Code: program.ReduceRows, D: out, A: ref, FR: rows})
		b.done(n, out, true)
		return
	}
	final := program.Final{Slot: len(b.tile.Finals), Columns: n.size(), Identity: identity, Reduce: columns, Buffer: b.buffer(n),
		BF16: n.dtype == dtypes.BFloat16}
	out := b.ref(program.Ref{Kind: program.Partial, Slot: final.Slot})
	b.tile.Finals = append(b.tile.Finals, final)
	in := program.Instr{Code: program.ReduceColumns, D: out, A: ref, FR: columns}
	if role == totalSum {
		in = program.Instr{Code: program.ReduceAll, D: out, A: ref, FR: rows, F2: two}
	}
	b.emit(in)
}
