package vector

import (
	"fmt"
	"unsafe"
)

// axis is one loop of a strided copy.
type axis struct{ dim, dst, src int }

// mover copies planes of elements of one size.
type mover struct {
	copy2D, transpose2D func(dst, src unsafe.Pointer, rows, cols, dstStride, srcStride int)
	strided             func(dst, src unsafe.Pointer, n, srcStride int)
	fill                func(dst, value unsafe.Pointer, n int)
	one                 func(dst, src unsafe.Pointer)
}

func moverOf[T any]() mover {
	return mover{copy2D[T], transpose2D[T], strided[T],
		func(dst, value unsafe.Pointer, n int) { fill(slice[T](dst, n), *(*T)(value)) },
		func(dst, src unsafe.Pointer) { *(*T)(dst) = *(*T)(src) }}
}

// movers are those of 1, 2 and 8 bytes.
var movers = [9]*mover{1: new(moverOf[uint8]()), 2: new(moverOf[uint16]()), 8: new(moverOf[uint64]())}

// CopyStrided copies an array of dims elements of elem bytes: element (i, j, ...) lies at i*strides[0] + j*strides[1] + ...
// elements in each of dst and src. Where strides are negative, the slice starts at the lowest element that is touched. Strides
// of src may be 0 (broadcast); no two elements of dst may be the same, and dst and src may not overlap. Parts of one array can be
// copied by several goroutines. Elements of 1, 2, 4 and 8 bytes are fast, 4 the fastest. Panics if a slice is too short.
func (k *Kernels) CopyStrided(dst, src []byte, elem int, dims, dstStrides, srcStrides []int) {
	dstFirst, dstSpan := span(dims, dstStrides)
	srcFirst, srcSpan := span(dims, srcStrides)
	if dstSpan == 0 {
		return
	}
	if len(dst) < dstSpan*elem || len(src) < srcSpan*elem {
		panic(fmt.Sprintf("strided copy of %v elements of %d bytes, strides %v and %v, needs %d and %d bytes, has %d and %d",
			dims, elem, dstStrides, srcStrides, dstSpan*elem, srcSpan*elem, len(dst), len(src)))
	}
	k.CopyStridedAt(unsafe.Pointer(&dst[dstFirst*elem]), unsafe.Pointer(&src[srcFirst*elem]), elem, dims, dstStrides, srcStrides)
}

// span is where element (0, 0, ...) lies above the lowest one, and the number of elements from the lowest to the highest.
func span(dims, strides []int) (first, elements int) {
	last := 0
	for i, d := range dims {
		if d <= 0 {
			return 0, 0
		}
		if s := (d - 1) * strides[i]; s < 0 {
			first -= s
		} else {
			last += s
		}
	}
	return first, first + last + 1
}

// CopyStridedAt is CopyStrided from element (0, 0, ...) at src to the one at dst, without checks.
func (k *Kernels) CopyStridedAt(dst, src unsafe.Pointer, elem int, dims, dstStrides, srcStrides []int) {
	var room [12]axis
	axes := room[:0]
	m, scale := &k.words, 1
	switch elem {
	case 1, 2, 8:
		m = movers[elem]
	case 4:
	default:
		m, scale = movers[1], elem
		axes = append(axes, axis{elem, 1, 1})
		elem = 1
	}
	for i, d := range dims {
		if d <= 0 {
			return
		}
		if d > 1 {
			axes = insert(axes, axis{d, dstStrides[i] * scale, srcStrides[i] * scale})
		}
	}
	axes = merge(axes)
	switch n := len(axes); {
	case n == 0:
		m.one(dst, src)
	case n == 1:
		m.plane(dst, src, axis{dim: 1}, axes[0], elem)
	default:
		outer := chooseOuter(axes)
		axes[outer], axes[n-2] = axes[n-2], axes[outer]
		m.walk(dst, src, axes[:n-2], axes[n-2], axes[n-1], elem)
	}
}

// insert keeps axes ordered from the largest step in dst to the smallest, equal ones as they came.
func insert(axes []axis, a axis) []axis {
	axes = append(axes, a)
	for i := len(axes) - 1; i > 0 && abs(axes[i-1].dst) < abs(a.dst); i-- {
		axes[i], axes[i-1] = axes[i-1], a
	}
	return axes
}

func abs(x int) int { return max(x, -x) }

// merge joins an axis with the next inner one where both arrays go on without a gap.
func merge(axes []axis) []axis {
	out := axes[:0]
	for _, a := range axes {
		if n := len(out); n > 0 && out[n-1].dst == a.dst*a.dim && out[n-1].src == a.src*a.dim {
			a.dim *= out[n-1].dim
			out[n-1] = a
			continue
		}
		out = append(out, a)
	}
	return out
}

// chooseOuter picks the axis that forms a plane with the last: one along which src is contiguous where the last is not (a
// transpose), else the one before the last.
func chooseOuter(axes []axis) int {
	n := len(axes)
	if axes[n-1].dst == 1 && axes[n-1].src != 1 {
		for i := range n - 1 {
			if axes[i].src == 1 {
				return i
			}
		}
	}
	return n - 2
}

// walk copies the plane of rows and cols for every index of the outer axes.
func (m *mover) walk(dst, src unsafe.Pointer, outer []axis, rows, cols axis, elem int) {
	if len(outer) == 0 {
		m.plane(dst, src, rows, cols, elem)
		return
	}
	a := outer[0]
	for i := range a.dim {
		m.walk(unsafe.Add(dst, i*a.dst*elem), unsafe.Add(src, i*a.src*elem), outer[1:], rows, cols, elem)
	}
}

func (m *mover) plane(dst, src unsafe.Pointer, rows, cols axis, elem int) {
	switch {
	case cols.dst == 1 && cols.src == 1:
		m.copy2D(dst, src, rows.dim, cols.dim, rows.dst, rows.src)
	case cols.dst == 1 && rows.src == 1:
		m.transpose2D(dst, src, cols.dim, rows.dim, rows.dst, cols.src)
	case cols.dst == 1 && cols.src == 0:
		for r := range rows.dim {
			m.fill(unsafe.Add(dst, r*rows.dst*elem), unsafe.Add(src, r*rows.src*elem), cols.dim)
		}
	case cols.dst == 1:
		for r := range rows.dim {
			m.strided(unsafe.Add(dst, r*rows.dst*elem), unsafe.Add(src, r*rows.src*elem), cols.dim, cols.src)
		}
	default:
		for r := range rows.dim {
			d, s := unsafe.Add(dst, r*rows.dst*elem), unsafe.Add(src, r*rows.src*elem)
			for c := range cols.dim {
				m.one(unsafe.Add(d, c*cols.dst*elem), unsafe.Add(s, c*cols.src*elem))
			}
		}
	}
}
