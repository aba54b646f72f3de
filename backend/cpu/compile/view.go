package compile

import (
	"slices"

	"github.com/polargo/polar/backend/cpu/program"
)

// layout says where the elements of a node lie in the dense, row-major memory of its base: element (i0, i1, ...) is at
// offset + Σ i_k strides[k].
type layout struct {
	offset  int
	strides []int
}

// dense is the layout of row-major memory.
func dense(dims []int) layout { return layout{strides: program.RowMajor(dims)} }

// isDense says whether elements lie one after another from the start of the base, whatever the strides of axes of length 1.
func (l layout) isDense(dims []int) bool {
	a := collapse(l.offset, dims, l.strides)
	return a.linear()
}

// transposed is the layout with axis i taken from axis permutation[i].
func (l layout) transposed(permutation []int) layout {
	out := layout{offset: l.offset, strides: make([]int, len(permutation))}
	for i, p := range permutation {
		out.strides[i] = l.strides[p]
	}
	return out
}

// broadcast is the layout of a broadcast to dims: axis i of the operand (operandDims) is axis axes[i] of the result.
func (l layout) broadcast(operandDims, dims, axes []int) layout {
	out := layout{offset: l.offset, strides: make([]int, len(dims))}
	for i, axis := range axes {
		if operandDims[i] == dims[axis] {
			out.strides[axis] = l.strides[i]
		}
	}
	return out
}

func (l layout) sliced(starts, strides []int) layout {
	out := layout{offset: l.offset, strides: make([]int, len(l.strides))}
	for i, s := range l.strides {
		out.offset += starts[i] * s
		out.strides[i] = s * strides[i]
	}
	return out
}

func (l layout) reversed(dims, axes []int) layout {
	out := layout{offset: l.offset, strides: slices.Clone(l.strides)}
	for _, axis := range axes {
		if dims[axis] > 0 {
			out.offset += (dims[axis] - 1) * l.strides[axis]
		}
		out.strides[axis] = -l.strides[axis]
	}
	return out
}

// reshaped is the layout of the same elements in the same order with other dimensions; ok is false when no strides give it.
func (l layout) reshaped(from, to []int) (out layout, ok bool) {
	if size(from) == 0 {
		return layout{offset: l.offset, strides: make([]int, len(to))}, true
	}
	a := collapse(l.offset, from, l.strides)
	out = layout{offset: a.offset, strides: make([]int, len(to))}
	// Walk both from the innermost axis; every axis of the result must lie within one collapsed axis.
	i := len(a.dims) - 1
	left, stride := 1, 0
	if i >= 0 {
		left, stride = a.dims[i], a.strides[i]
	}
	for j := len(to) - 1; j >= 0; j-- {
		if to[j] == 1 {
			continue
		}
		for left == 1 && i > 0 {
			i--
			left, stride = a.dims[i], a.strides[i]
		}
		if left%to[j] != 0 {
			return layout{}, false
		}
		out.strides[j] = stride
		stride *= to[j]
		left /= to[j]
	}
	return out, true
}

// access is a layout seen from a loop over all elements in row-major order: nested axes, none of length 1, no two of which
// could be one.
type access struct {
	offset        int
	dims, strides []int
}

func collapse(offset int, dims, strides []int) access {
	a := access{offset: offset}
	for i, d := range dims {
		if d == 1 {
			continue
		}
		last := len(a.dims) - 1
		if last >= 0 && a.strides[last] == strides[i]*d {
			a.dims[last] *= d
			a.strides[last] = strides[i]
			continue
		}
		a.dims = append(a.dims, d)
		a.strides = append(a.strides, strides[i])
	}
	return a
}

// linear says whether element i lies at i.
func (a access) linear() bool {
	return a.offset == 0 && (len(a.dims) == 0 || len(a.dims) == 1 && a.strides[0] == 1)
}

// constant says whether all elements are the same one.
func (a access) constant() bool {
	return !slices.ContainsFunc(a.strides, func(s int) bool { return s != 0 })
}

func size(dims []int) int {
	n := 1
	for _, d := range dims {
		n *= d
	}
	return n
}
