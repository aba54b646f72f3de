package vector

import "unsafe"

func genericMove(k *Kernels) {
	k.Fill = func(dst, value unsafe.Pointer, n int) {
		if n > 0 {
			fill(slice[uint32](dst, n), *(*uint32)(value))
		}
	}
	k.Repeat = func(dst, src unsafe.Pointer, rows, cols int) {
		for r, v := range slice[uint32](src, rows) {
			fill(slice[uint32](unsafe.Add(dst, 4*r*cols), cols), v)
		}
	}
	k.Tile = func(dst, src unsafe.Pointer, rows, cols int) {
		for r := range rows {
			copy(slice[uint32](unsafe.Add(dst, 4*r*cols), cols), slice[uint32](src, cols))
		}
	}
	k.Copy2D = copy2D[uint32]
	k.Transpose2D = transpose2D[uint32]
	k.Strided = strided[uint32]
}

// longRow is the number of words from which on the runtime's copy of a row is faster than the kernels of the levels.
const longRow = 512

func fill[T any](d []T, v T) {
	for i := range d {
		d[i] = v
	}
}

func size[T any]() int { return int(unsafe.Sizeof(*new(T))) }

func copy2D[T any](dst, src unsafe.Pointer, rows, cols, dstStride, srcStride int) {
	if cols <= 0 {
		return
	}
	for r := range rows {
		copy(slice[T](unsafe.Add(dst, size[T]()*r*dstStride), cols), slice[T](unsafe.Add(src, size[T]()*r*srcStride), cols))
	}
}

// transposeTile is the side of the squares in which transposes go, so that the lines read and written stay in the cache.
const transposeTile = 16

func transpose2D[T any](dst, src unsafe.Pointer, rows, cols, dstStride, srcStride int) {
	for r0 := 0; r0 < rows; r0 += transposeTile {
		height := min(transposeTile, rows-r0)
		for c := range max(cols, 0) {
			d := slice[T](unsafe.Add(dst, size[T]()*(c*dstStride+r0)), height)
			from := unsafe.Add(src, size[T]()*(r0*srcStride+c))
			for i := range d {
				d[i] = *(*T)(unsafe.Add(from, size[T]()*i*srcStride))
			}
		}
	}
}

// The pointer stays at the first element: beyond the array it would be none.
func strided[T any](dst, src unsafe.Pointer, n, srcStride int) {
	d, step, at := slice[T](dst, n), size[T]()*srcStride, 0
	for len(d) >= 4 {
		d[0], d[1] = *(*T)(unsafe.Add(src, at)), *(*T)(unsafe.Add(src, at+step))
		d[2], d[3] = *(*T)(unsafe.Add(src, at+2*step)), *(*T)(unsafe.Add(src, at+3*step))
		d, at = d[4:], at+4*step
	}
	for i := range d {
		d[i] = *(*T)(unsafe.Add(src, at+i*step))
	}
}
