//go:build amd64 && !noasm

package vector

import (
	"math"
	"unsafe"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
)

//go:generate sh -c "cd _gen && go run . && gofmt -w .."

func avx2(k Kernels) Kernels {
	below := k
	k.Level = feature.AVX2
	avx2Binary(&k)
	avx2Unary(&k)
	avx2Functions(&k)
	avx2Reduce(&k)
	avx2Move(&k)
	k.SumRows, k.DotRows = avx2SumLong, avx2DotLong
	k.Unary[Sin], k.Unary[Cos] = circular(avx2Sin, largest2, math.Sin), circular(avx2Cos, largest2, math.Cos)
	k.FloatFromBF16 = wholeVectors(avx2FloatFromBF16, below.FloatFromBF16, 4, 2)
	k.BF16FromFloat = wholeVectors(avx2BF16FromFloat, below.BF16FromFloat, 2, 4)
	k.MaskFromBool = wholeVectors(avx2MaskFromBool, below.MaskFromBool, 4, 1)
	k.BoolFromMask = wholeVectors(avx2BoolFromMask, below.BoolFromMask, 1, 4)
	k.Copy2D, k.Transpose2D = avx2CopyRows, avx2Transpose2D
	return k
}

func avx512(k Kernels) Kernels {
	k.Level = feature.AVX512
	avx512Binary(&k)
	avx512Unary(&k)
	avx512Functions(&k)
	avx512Reduce(&k)
	avx512Move(&k)
	k.SumRows, k.DotRows = avx512SumLong, avx512DotLong
	k.Unary[Sin], k.Unary[Cos] = circular(avx512Sin, largest512, math.Sin), circular(avx512Cos, largest512, math.Cos)
	k.Copy2D, k.Transpose2D = avx512CopyRows, avx512Transpose2D
	return k
}

// wholeVectors runs a kernel of whole vectors of 8 lanes, and one in Go for the rest. Sizes are bytes of an element.
func wholeVectors(kernel, rest UnaryFunc, dstSize, size int) UnaryFunc {
	return func(dst, x unsafe.Pointer, n int) {
		whole := n &^ 7
		kernel(dst, x, whole)
		if whole < n {
			rest(unsafe.Add(dst, dstSize*whole), unsafe.Add(x, size*whole), n-whole)
		}
	}
}

func avx2SumLong(dst, x unsafe.Pointer, rows, cols int) { inBlocks(avx2SumRows, dst, x, rows, cols) }
func avx512SumLong(dst, x unsafe.Pointer, rows, cols int) {
	inBlocks(avx512SumRows, dst, x, rows, cols)
}
func avx2DotLong(dst, a, b unsafe.Pointer, rows, cols int) {
	inBlocks2(avx2DotRows, dst, a, b, rows, cols)
}
func avx512DotLong(dst, a, b unsafe.Pointer, rows, cols int) {
	inBlocks2(avx512DotRows, dst, a, b, rows, cols)
}

func avx2CopyRows(dst, src unsafe.Pointer, rows, cols, dstStride, srcStride int) {
	if cols >= longRow {
		copy2D[uint32](dst, src, rows, cols, dstStride, srcStride)
		return
	}
	avx2Copy2D(dst, src, rows, cols, dstStride, srcStride)
}

func avx512CopyRows(dst, src unsafe.Pointer, rows, cols, dstStride, srcStride int) {
	if cols >= longRow {
		copy2D[uint32](dst, src, rows, cols, dstStride, srcStride)
		return
	}
	avx512Copy2D(dst, src, rows, cols, dstStride, srcStride)
}

// transposeRows and transposeCols are the part of the source that is transposed at a time: few enough columns that the pages of
// their destinations are few. Multiples of 16.
const transposeRows, transposeCols = 256, 32

// blocks transposes the whole squares of side side through kernel, and gives the rest to edge.
func blocks(kernel, edge func(dst, src unsafe.Pointer, rows, cols, dstStride, srcStride int), side int,
	dst, src unsafe.Pointer, rows, cols, dstStride, srcStride int) {
	wholeRows, wholeCols := rows&^(side-1), cols&^(side-1)
	for r := 0; r < wholeRows; r += transposeRows {
		for c := 0; c < wholeCols; c += transposeCols {
			kernel(unsafe.Add(dst, 4*(c*dstStride+r)), unsafe.Add(src, 4*(r*srcStride+c)),
				min(transposeRows, wholeRows-r), min(transposeCols, wholeCols-c), dstStride, srcStride)
		}
	}
	if wholeCols < cols && wholeRows > 0 {
		edge(unsafe.Add(dst, 4*wholeCols*dstStride), unsafe.Add(src, 4*wholeCols), wholeRows, cols-wholeCols, dstStride, srcStride)
	}
	if wholeRows < rows && cols > 0 {
		edge(unsafe.Add(dst, 4*wholeRows), unsafe.Add(src, 4*wholeRows*srcStride), rows-wholeRows, cols, dstStride, srcStride)
	}
}

func avx2Transpose2D(dst, src unsafe.Pointer, rows, cols, dstStride, srcStride int) {
	blocks(avx2Transpose8, transpose2D[uint32], 8, dst, src, rows, cols, dstStride, srcStride)
}

func avx512Transpose2D(dst, src unsafe.Pointer, rows, cols, dstStride, srcStride int) {
	blocks(avx512Transpose16, avx2Transpose2D, 16, dst, src, rows, cols, dstStride, srcStride)
}

// circularBound is up to where the reduction of sin and cos by multiples of pi/2 in three parts is good.
const circularBound = 1 << 15

// circularBlock is how many lanes are copied at a time where one is beyond the bound.
const circularBlock = 256

// largest2 and largest512 are max |x|, NaN if there is one, 0 for none.
func largest2(x unsafe.Pointer, n int) (most float32) {
	avx2Largest(unsafe.Pointer(&most), x, n)
	return most
}

func largest512(x unsafe.Pointer, n int) (most float32) {
	avx512Largest(unsafe.Pointer(&most), x, n)
	return most
}

// circular is sin or cos: by the vector kernel, and in float64 for the lanes beyond its bound.
func circular(kernel UnaryFunc, largest func(x unsafe.Pointer, n int) float32, f func(float64) float64) UnaryFunc {
	return func(dst, x unsafe.Pointer, n int) {
		if largest(x, n) <= circularBound {
			kernel(dst, x, n)
			return
		}
		var given [circularBlock]float32
		for from := 0; from < n; from += circularBlock {
			d, m := unsafe.Add(dst, 4*from), min(circularBlock, n-from)
			copy(given[:m], slice[float32](unsafe.Add(x, 4*from), m))
			kernel(d, unsafe.Pointer(&given), m)
			for i, v := range given[:m] {
				if v > circularBound || v < -circularBound {
					slice[float32](d, m)[i] = float32(f(float64(v)))
				}
			}
		}
	}
}
