package program

import (
	"unsafe"

	"github.com/polargo/polar/backend/cpu/kernel/vector"
)

// copyAll copies elements of elem bytes between layouts: for each index of dims, from src + Σ index·srcStrides to the same of dst.
// Strides are in elements.
func copyAll(k *vector.Kernels, elem int, dst, src unsafe.Pointer, dims, dstStrides, srcStrides []int) {
	if count(dims) == 0 {
		return
	}
	dims, dstStrides, srcStrides = collapseTogether(dims, dstStrides, srcStrides)
	last := len(dims) - 1
	if last <= 0 {
		n, ds, ss := 1, 1, 1
		if last == 0 {
			n, ds, ss = dims[0], dstStrides[0], srcStrides[0]
		}
		copyPlane(k, elem, dst, src, [2]int{1, n}, [2]int{0, ds}, [2]int{0, ss})
		return
	}
	index := make([]int, last-1)
	for {
		d, s := 0, 0
		for i, x := range index {
			d += x * dstStrides[i]
			s += x * srcStrides[i]
		}
		copyPlane(k, elem, unsafe.Add(dst, elem*d), unsafe.Add(src, elem*s), [2]int(dims[last-1:]), [2]int(dstStrides[last-1:]), [2]int(srcStrides[last-1:]))
		axis := len(index) - 1
		for ; axis >= 0; axis-- {
			if index[axis]++; index[axis] < dims[axis] {
				break
			}
			index[axis] = 0
		}
		if axis < 0 {
			return
		}
	}
}

// collapseTogether drops axes of length 1 and joins those that are one axis in both layouts. The axis with the least stride of
// src comes last or second to last, so that planes are rows or transpositions.
func collapseTogether(dims, a, b []int) (outDims, outA, outB []int) {
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
	// Bring the axis along which src is contiguous next to the last one.
	last := len(outDims) - 1
	for i := range last {
		if outB[i] == 1 && outB[last] != 1 {
			for j := i; j < last-1; j++ {
				outDims[j], outDims[j+1] = outDims[j+1], outDims[j]
				outA[j], outA[j+1] = outA[j+1], outA[j]
				outB[j], outB[j+1] = outB[j+1], outB[j]
			}
			break
		}
	}
	return outDims, outA, outB
}

func copyPlane(k *vector.Kernels, elem int, dst, src unsafe.Pointer, dims, ds, ss [2]int) {
	rows, cols := dims[0], dims[1]
	switch {
	case ds[1] == 1 && ss[1] == 1 && (elem == 4 || elem == 8):
		f := elem / 4
		k.Copy2D(dst, src, rows, f*cols, f*ds[0], f*ss[0])
	case elem == 4 && ds[1] == 1 && ss[0] == 1:
		k.Transpose2D(dst, src, cols, rows, ds[0], ss[1]) // src seen as cols rows of rows elements
	case elem == 4 && ds[1] == 1:
		for r := range rows {
			k.Strided(unsafe.Add(dst, 4*r*ds[0]), unsafe.Add(src, 4*r*ss[0]), cols, ss[1])
		}
	case ds[1] == 1 && ss[1] == 1:
		for r := range rows {
			copy(unsafe.Slice((*byte)(unsafe.Add(dst, elem*r*ds[0])), elem*cols), unsafe.Slice((*byte)(unsafe.Add(src, elem*r*ss[0])), elem*cols))
		}
	default:
		for r := range rows {
			copyElements(elem, unsafe.Add(dst, elem*r*ds[0]), unsafe.Add(src, elem*r*ss[0]), cols, ds[1], ss[1])
		}
	}
}

func copyElements(elem int, dst, src unsafe.Pointer, n, ds, ss int) {
	switch elem {
	case 1:
		copyTyped[uint8](dst, src, n, ds, ss)
	case 2:
		copyTyped[uint16](dst, src, n, ds, ss)
	case 4:
		copyTyped[uint32](dst, src, n, ds, ss)
	case 8:
		copyTyped[uint64](dst, src, n, ds, ss)
	default:
		copyTyped[[2]uint64](dst, src, n, ds, ss)
	}
}

func copyTyped[T any](dst, src unsafe.Pointer, n, ds, ss int) {
	size := int(unsafe.Sizeof(*new(T)))
	for i := range n {
		*(*T)(unsafe.Add(dst, i*ds*size)) = *(*T)(unsafe.Add(src, i*ss*size))
	}
}
