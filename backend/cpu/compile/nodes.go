package compile

import (
	"fmt"
	"slices"
	"unsafe"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/polargo/polar/backend/cpu/ir"
	"github.com/polargo/polar/backend/cpu/kernel/gemm"
	"github.com/polargo/polar/backend/cpu/kernel/vector"
	"github.com/polargo/polar/backend/cpu/program"
)

// product lowers a batch of matrix products.
func (l *lowering) product(n *node) {
	p := n.attrs.(productAttrs)
	left, right := n.in[0], n.in[1]
	spec := gemm.Spec{M: p.m, N: p.n, K: p.k, C: gemm.View{Row: p.n, Col: 1}, BF16: l.options.BF16 && n.dtype == dtypes.Float32 && !p.full}
	spec.A = gemm.View{Row: groupStride(left, p.batchAxes, p.rowAxes), Col: groupStride(left, p.batchAxes+p.rowAxes, p.innerAxes)}
	spec.B = gemm.View{Row: groupStride(right, p.batchAxes, p.innerAxes), Col: groupStride(right, p.batchAxes+p.innerAxes, p.columnAxes)}
	spec.AOffsets, spec.BOffsets = batchOffsets(left, p.batchAxes), batchOffsets(right, p.batchAxes)
	spec.COffsets = make([]int, p.batch)
	for i := range spec.COffsets {
		spec.COffsets[i] = i * p.m * p.n
	}
	c, a, b := l.buffer(n), l.buffer(left.base), l.buffer(right.base)
	elems := [3]int{n.size(), left.base.size(), right.base.size()}
	name := fmt.Sprintf("%d of %dx%dx%d", p.batch, p.m, p.k, p.n)
	var s program.Step
	if n.dtype == dtypes.Float64 {
		s = program.NewProduct(gemm.New[float64](spec, l.options.Level), c, a, b, elems, name)
	} else {
		s = program.NewProduct(gemm.New[float32](spec, l.options.Level), c, a, b, elems, name)
	}
	l.step(s, []int{a, b}, []int{c}, nil)
}

// groupStride is the one stride of a group of axes.
func groupStride(x *node, from, count int) int {
	a := collapse(0, x.dims[from:from+count], x.where.strides[from:from+count])
	if len(a.strides) == 0 {
		return 1
	}
	return a.strides[0]
}

// batchOffsets lists where the matrices of a batch begin.
func batchOffsets(x *node, batchAxes int) []int {
	dims, strides := x.dims[:batchAxes], x.where.strides[:batchAxes]
	out := make([]int, size(dims))
	for i := range out {
		at, rest := x.where.offset, i
		for k := batchAxes - 1; k >= 0; k-- {
			at += rest % dims[k] * strides[k]
			rest /= dims[k]
		}
		out[i] = at
	}
	return out
}

func (l *lowering) concatenate(n *node) {
	axis := n.attrs.(ir.ConcatenateAttrs).Axis
	strides := dense(n.dims).strides
	to := l.buffer(n)
	offset := 0
	for _, in := range n.in {
		if in.size() > 0 {
			l.move("concatenate", n.dtype, in.base, in.where, to, offset, in.dims, strides)
		}
		offset += in.dims[axis] * strides[axis]
	}
}

// pad fills the output and copies what of the operand remains.
func (l *lowering) pad(n *node) {
	axes := n.attrs.(ir.PadAttrs).Axes
	x, fill := n.in[0], l.in0(n.in[1])
	to := l.buffer(n)
	strides := dense(n.dims).strides
	l.step(&program.Set{Elem: n.dtype.Size(), Dims: slices.Clone(n.dims), To: to, Value: fill, Strides: strides}, []int{fill}, []int{to}, nil)
	dims, where := slices.Clone(x.dims), layout{offset: x.where.offset, strides: slices.Clone(x.where.strides)}
	offset := 0
	toStrides := slices.Clone(strides)
	for i := range dims {
		var p compute.PadAxis
		if i < len(axes) {
			p = axes[i]
		}
		every := p.Interior + 1
		first, last := 0, x.dims[i]-1 // indices of the operand that land inside
		if p.Start < 0 {
			first = (-p.Start + every - 1) / every
		}
		for last >= first && p.Start+last*every >= n.dims[i] {
			last--
		}
		dims[i] = max(0, last-first+1)
		where.offset += first * where.strides[i]
		offset += (p.Start + first*every) * strides[i]
		toStrides[i] = strides[i] * every
	}
	if size(dims) > 0 {
		l.move("pad", n.dtype, x.base, where, to, offset, dims, toStrides)
	}
}

// in0 is the buffer of a scalar; views of one start at 0 or are copied first.
func (l *lowering) in0(x *node) int {
	if x.where.offset == 0 {
		return l.buffer(x.base)
	}
	id := l.newBuffer(program.Buffer{Place: program.InArena, Bytes: x.dtype.Size()})
	l.move("scalar", x.dtype, x.base, x.where, id, 0, x.dims, x.where.strides)
	return id
}

// indexReader reads an index of an integer type; nil for other types.
func indexReader(t dtypes.DType) func(unsafe.Pointer, int) int {
	switch t {
	case dtypes.Int32:
		return readIndex[int32]
	case dtypes.Int64:
		return readIndex[int64]
	case dtypes.Uint32:
		return readIndex[uint32]
	case dtypes.Uint64:
		return readIndex[uint64]
	case dtypes.Uint8:
		return readIndex[uint8]
	case dtypes.Int8:
		return readIndex[int8]
	case dtypes.Int16:
		return readIndex[int16]
	case dtypes.Uint16:
		return readIndex[uint16]
	}
	return nil
}

func readIndex[T int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64](p unsafe.Pointer, i int) int {
	return int(*(*T)(unsafe.Add(p, i*int(unsafe.Sizeof(T(0))))))
}

func (l *lowering) dynamicSlice(n *node) bool {
	update := n.op == compute.OpTypeDynamicUpdateSlice
	starts := n.in[1:]
	if update {
		starts = n.in[2:]
	}
	s := &program.Slice{Elem: n.dtype.Size(), Whole: n.in[0].dims, Update: update}
	for _, x := range starts {
		read := indexReader(x.dtype)
		if read == nil {
			return false
		}
		s.Index = append(s.Index, func(p unsafe.Pointer) int { return read(p, 0) })
	}
	for _, x := range starts {
		s.Starts = append(s.Starts, l.in0(x))
	}
	out := l.buffer(n)
	if update {
		window := n.in[1]
		if !window.where.isDense(window.dims) {
			window = l.temporary(window)
		}
		l.fillFrom(n, n.in[0])
		s.Dims, s.Operand, s.Window = n.in[1].dims, out, l.buffer(window.base)
		l.step(s, append(slices.Clone(s.Starts), s.Window), []int{out}, nil)
		return true
	}
	s.Dims, s.Operand, s.Window = n.dims, l.buffer(n.in[0].base), out
	l.step(s, append(slices.Clone(s.Starts), s.Operand), []int{out}, nil)
	return true
}

// temporary is a dense copy of a view made for one step.
func (l *lowering) temporary(x *node) *node {
	t := &node{op: opCopy, dtype: x.dtype, dims: x.dims}
	t.base, t.where = t, dense(x.dims)
	l.move("copy", x.dtype, x.base, x.where, l.buffer(t), 0, x.dims, t.where.strides)
	return t
}

// fillFrom copies x to the buffer of n, or lets n lie where x lies when nothing needs x any more.
func (l *lowering) fillFrom(n, x *node) {
	l.move("start", n.dtype, x.base, x.where, l.buffer(n), 0, n.dims, dense(n.dims).strides)
	if x.where.isDense(x.dims) && x.size() == x.base.size() {
		l.pairs[len(l.pairs)-1] = []pair{{l.buffer(n), l.buffer(x.base)}}
	}
}

func (l *lowering) gather(n *node) bool {
	a := n.attrs.(ir.GatherAttrs)
	operand, indices := n.in[0], n.in[1]
	read := indexReader(indices.dtype)
	if read == nil {
		return false
	}
	out := dense(n.dims).strides
	w := program.Window{Elem: n.dtype.Size(), Dims: operand.dims, Sizes: slices.Clone(a.SliceSizes), Map: a.StartIndexMap, Index: read,
		WindowStrides: make([]int, len(operand.dims))}
	w.Operand, w.Indices, w.Other = l.buffer(operand.base), l.buffer(indices.base), l.buffer(n)
	next := 0
	for axis := range operand.dims {
		if !slices.Contains(a.CollapsedSliceAxes, axis) {
			w.WindowStrides[axis] = out[a.OffsetOutputAxes[next]]
			next++
		}
	}
	w.Batch(indices.dims, a.IndexVectorAxis, restStrides(out, a.OffsetOutputAxes))
	l.step(&program.Gather{Window: w}, []int{w.Operand, w.Indices}, []int{w.Other}, nil)
	return true
}

// restStrides are the strides of the axes that are not listed.
func restStrides(strides, axes []int) []int {
	var out []int
	for i, s := range strides {
		if !slices.Contains(axes, i) {
			out = append(out, s)
		}
	}
	return out
}

func (l *lowering) scatter(n *node) bool {
	a := n.attrs.(ir.ScatterAttrs)
	operand, indices, updates := n.in[0], n.in[1], n.in[2]
	read := indexReader(indices.dtype)
	op := map[compute.OpType]compute.OpType{compute.OpTypeScatterSum: compute.OpTypeAdd, compute.OpTypeScatterMax: compute.OpTypeMax,
		compute.OpTypeScatterMin: compute.OpTypeMin}[n.op]
	combine := combiner(op, n.dtype)
	if lanes, ok := instruction(op, n.dtype); ok && n.dtype.Size() == 4 {
		combine = vector.For(l.options.Level).VV[lanes]
	}
	if read == nil || combine == nil {
		return false
	}
	up := dense(updates.dims).strides
	w := program.Window{Elem: n.dtype.Size(), Dims: operand.dims, Sizes: make([]int, len(operand.dims)), Map: a.ScatterAxesToOperandAxes, Index: read,
		WindowStrides: make([]int, len(operand.dims))}
	next := 0
	for axis := range operand.dims {
		w.Sizes[axis] = 1
		if !slices.Contains(a.InsertedWindowAxes, axis) {
			w.Sizes[axis] = updates.dims[a.UpdateWindowAxes[next]]
			w.WindowStrides[axis] = up[a.UpdateWindowAxes[next]]
			next++
		}
	}
	w.Batch(indices.dims, a.IndexVectorAxis, restStrides(up, a.UpdateWindowAxes))
	l.fillFrom(n, operand)
	w.Operand, w.Indices, w.Other = l.buffer(n), l.buffer(indices.base), l.buffer(updates.base)
	l.step(&program.Scatter{Window: w, Combine: combine}, []int{w.Indices, w.Other}, []int{w.Operand}, nil)
	return true
}

// control lowers loops, branches and calls, with programs for their functions.
func (l *lowering) control(n *node) error {
	in, outputs := l.inputBuffers(n), l.partBuffers(n)
	var bytes []int
	for _, s := range n.ir.Shapes {
		bytes = append(bytes, int(s.ByteSize()))
	}
	sub := func(f *ir.Function) (*program.Program, error) { return Compile(f, l.options) }
	switch a := n.attrs.(type) {
	case ir.WhileAttrs:
		cond, err := sub(a.Cond)
		if err != nil {
			return err
		}
		body, err := sub(a.Body)
		if err != nil {
			return err
		}
		state := len(n.ir.Shapes)
		rest := state + len(a.Cond.Captures)
		l.step(&program.While{Cond: cond, Body: body, State: in[:state], Bytes: bytes, CondRest: in[state:rest], BodyRest: in[rest:],
			Outputs: outputs}, in, outputs, nil)
	case ir.IfAttrs:
		then, err := sub(a.Then)
		if err != nil {
			return err
		}
		other, err := sub(a.Else)
		if err != nil {
			return err
		}
		split := 1 + len(a.Then.Captures)
		l.step(&program.Branch{Predicate: in[0], Then: then, Else: other, ThenInputs: in[1:split], ElseInputs: in[split:], Outputs: outputs,
			Bytes: bytes}, in, outputs, nil)
	case ir.CallAttrs:
		called, err := sub(a.Function)
		if err != nil {
			return err
		}
		l.step(&program.Branch{Predicate: -1, Then: called, ThenInputs: in, Outputs: outputs, Bytes: bytes}, in, outputs, nil)
	}
	return nil
}
