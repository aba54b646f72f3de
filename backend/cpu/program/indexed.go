package program

import (
	"fmt"
	"unsafe"

	"github.com/polargo/polar/backend/cpu/kernel/vector"
)

// Window says how gathers and scatters walk: for each index vector, a window of the operand beside a window of the other array.
type Window struct {
	Operand, Indices, Other int // buffers; Other is a gather's output and a scatter's updates
	Elem                    int
	Dims                    []int // of the operand
	Sizes                   []int // of the window, one an operand axis
	// Axes of the operand that the components of an index vector belong to; components are Component elements apart.
	Map       []int
	Component int
	Index     func(unsafe.Pointer, int) int // element i of the indices
	// The index vectors: BatchDims of them, IndexStrides apart in the indices and OtherStrides in the other array.
	BatchDims, IndexStrides, OtherStrides []int
	// WindowStrides are the strides of the window's axes in the other array, one an operand axis (0 for those that it lacks).
	WindowStrides []int
}

// Batch sets how index vectors lie: indices of the given dimensions with the vectors along an axis (their number of axes: scalars),
// and strides in the other array of the axes that are left.
func (w *Window) Batch(indices []int, vectorAxis int, other []int) {
	strides := RowMajor(indices)
	w.Component = 1
	for i, d := range indices {
		if i == vectorAxis {
			w.Component = strides[i]
			continue
		}
		w.BatchDims = append(w.BatchDims, d)
		w.IndexStrides = append(w.IndexStrides, strides[i])
	}
	w.OtherStrides = other
}

// each calls f with where each window begins: in elements of the other array, and as indices of the operand.
func (w *Window) each(m *Machine, from, to int, f func(other int, start []int)) {
	start := make([]int, len(w.Dims))
	for i := from; i < to; i++ {
		at, other, rest := 0, 0, i
		for k := len(w.BatchDims) - 1; k >= 0; k-- {
			x := rest % w.BatchDims[k]
			rest /= w.BatchDims[k]
			at += x * w.IndexStrides[k]
			other += x * w.OtherStrides[k]
		}
		clear(start)
		for c, axis := range w.Map {
			start[axis] = w.Index(m.Memory[w.Indices], at+c*w.Component)
		}
		f(other, start)
	}
}

// Gather copies windows of the operand to the output. Indices are clamped so that windows lie within.
type Gather struct{ Window }

func (s *Gather) String() string { return fmt.Sprintf("gather %v from %v", s.Sizes, s.Dims) }

// Scratch is none.
func (s *Gather) Scratch(int) int { return 0 }

// Run gathers, windows split over the team.
func (s *Gather) Run(m *Machine) error {
	strides := RowMajor(s.Dims)
	batch := count(s.BatchDims)
	per := max(1, moveElements/max(1, count(s.Sizes)))
	m.Team.Run((batch+per-1)/per, func(_, task int) {
		s.each(m, task*per, min(batch, (task+1)*per), func(other int, start []int) {
			at := 0
			for i, x := range start {
				at += min(max(x, 0), max(0, s.Dims[i]-s.Sizes[i])) * strides[i]
			}
			m.Kernels.CopyStridedAt(unsafe.Add(m.Memory[s.Other], other*s.Elem), unsafe.Add(m.Memory[s.Operand], at*s.Elem), s.Elem, s.Sizes,
				s.WindowStrides, strides)
		})
	})
	return nil
}

// Scatter combines windows of updates with the operand, in the order of the index vectors. Windows that do not lie within are left out.
type Scatter struct {
	Window
	Combine vector.BinaryFunc
}

func (s *Scatter) String() string { return fmt.Sprintf("scatter %v to %v", s.Sizes, s.Dims) }

// Scratch is none.
func (s *Scatter) Scratch(int) int { return 0 }

// Run combines, on one worker: windows may meet.
func (s *Scatter) Run(m *Machine) error {
	strides := RowMajor(s.Dims)
	dims, a, b := joined(s.Sizes, strides, s.WindowStrides)
	rowsDims, inner, contiguous := dims, 1, false
	if last := len(dims) - 1; last >= 0 && a[last] == 1 && b[last] == 1 {
		rowsDims, inner, contiguous = dims[:last], dims[last], true
	}
	rows := count(rowsDims)
	s.each(m, 0, count(s.BatchDims), func(other int, start []int) {
		at := 0
		for i, x := range start {
			if x < 0 || x > s.Dims[i]-s.Sizes[i] {
				return
			}
			at += x * strides[i]
		}
		for r := range rows {
			d, u, rest := at, other, r
			for k := len(rowsDims) - 1; k >= 0; k-- {
				d += rest % rowsDims[k] * a[k]
				u += rest % rowsDims[k] * b[k]
				rest /= rowsDims[k]
			}
			dst := unsafe.Add(m.Memory[s.Operand], s.Elem*d)
			n := 1
			if contiguous {
				n = inner
			}
			s.Combine(dst, dst, unsafe.Add(m.Memory[s.Other], s.Elem*u), n)
		}
	})
	return nil
}

// joined drops axes of length 1 and joins those that are one axis in both layouts.
func joined(dims, a, b []int) (outDims, outA, outB []int) {
	for i, d := range dims {
		if d == 1 {
			continue
		}
		if last := len(outDims) - 1; last >= 0 && outA[last] == a[i]*d && outB[last] == b[i]*d {
			outDims[last] *= d
			outA[last], outB[last] = a[i], b[i]
			continue
		}
		outDims, outA, outB = append(outDims, d), append(outA, a[i]), append(outB, b[i])
	}
	return outDims, outA, outB
}
