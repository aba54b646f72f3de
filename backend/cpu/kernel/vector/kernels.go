package vector

import (
	"unsafe"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
)

// The shapes of kernels: dst first, then the sources; lengths count elements.
type (
	// UnaryFunc writes n elements of dst from n of x.
	UnaryFunc = func(dst, x unsafe.Pointer, n int)
	// BinaryFunc writes n elements of dst from n of a and b, or from the one value at a pointer to a scalar.
	BinaryFunc = func(dst, a, b unsafe.Pointer, n int)
	// TernaryFunc is BinaryFunc with three sources.
	TernaryFunc = func(dst, a, b, c unsafe.Pointer, n int)
	// RowsFunc reduces x, rows x cols and contiguous, to one value a row, or into one row: see the fields.
	RowsFunc = func(dst, x unsafe.Pointer, rows, cols int)
)

// Kernels are the kernels of one level; see the package's documentation for what all have in common.
type Kernels struct {
	// Level is what the kernels use: the level asked for, or less where the program was built without assembly.
	Level feature.Level

	// Unary, VV, VS and SV hold the instructions: nil where one has not that many operands. VS takes b, SV takes a from one value.
	Unary      [Count]UnaryFunc
	VV, VS, SV [Count]BinaryFunc

	// Select is mask ? a : b by lane, of any 32-bit kind. In the others a (first letter) or b is one value.
	Select, SelectVS, SelectSV, SelectSS func(dst, mask, a, b unsafe.Pointer, n int)

	// MulAdd is a*b+c of float32, rounded once. The letters say which of a, b and c are vectors.
	MulAddVVV, MulAddVSV, MulAddVVS, MulAddVSS TernaryFunc

	// SumRows, MaxRows, MinRows and ProdRows reduce each row of float32 to dst[r]. No columns give 0, -Inf, +Inf and 1. A NaN gives
	// NaN. Sums are of 64 interleaved partial sums within blocks of 4096 columns, added pairwise.
	SumRows, MaxRows, MinRows, ProdRows RowsFunc
	// DotRows is dst[r] = sum of a[r,c]*b[r,c], added as in SumRows, each product and addition rounded once together.
	DotRows func(dst, a, b unsafe.Pointer, rows, cols int)

	// AddColumns, MaxColumns and MinColumns are dst[c] = op(dst[c], x[r,c]) over the rows in order.
	AddColumns, MaxColumns, MinColumns RowsFunc
	// MulAddColumns is dst[c] = w[r]*x[r,c] + dst[c], rounded once, over the rows in order.
	MulAddColumns func(dst, w, x unsafe.Pointer, rows, cols int)

	// Fill sets n elements to the value at value.
	Fill func(dst, value unsafe.Pointer, n int)
	// Repeat writes src[r] cols times, for each of rows values: rows*cols elements.
	Repeat func(dst, src unsafe.Pointer, rows, cols int)
	// Tile writes the cols elements of src rows times.
	Tile func(dst, src unsafe.Pointer, rows, cols int)
	// Copy2D is dst[r*dstStride+c] = src[r*srcStride+c]. Strides are in elements, and may be negative.
	Copy2D func(dst, src unsafe.Pointer, rows, cols, dstStride, srcStride int)
	// Transpose2D is dst[c*dstStride+r] = src[r*srcStride+c], for src of rows x cols.
	Transpose2D func(dst, src unsafe.Pointer, rows, cols, dstStride, srcStride int)
	// Strided is dst[i] = src[i*srcStride]; the stride may be 0 or negative.
	Strided func(dst, src unsafe.Pointer, n, srcStride int)

	// The conversions, those of 32-bit lanes as the instructions of the same name.
	FloatFromInt, IntFromFloat, FloatFromMask, IntFromMask, MaskFromInt, MaskFromFloat UnaryFunc
	// FloatFromBF16 reads bfloat16; exact.
	FloatFromBF16 UnaryFunc
	// BF16FromFloat writes bfloat16, to nearest, ties to even; NaN stays NaN.
	BF16FromFloat UnaryFunc
	// MaskFromBool reads bytes: 0 is false, anything else true.
	MaskFromBool UnaryFunc
	// BoolFromMask writes bytes 0 and 1.
	BoolFromMask UnaryFunc

	words mover // of CopyStrided
}

// levels are the kernels of each level. Those with assembly change a copy of the level below.
var levels = func() (all [feature.AVX512 + 1]Kernels) {
	g := generic()
	all[feature.Generic] = g
	all[feature.AVX2] = avx2(g)
	all[feature.AVX512] = avx512(all[feature.AVX2])
	for i := range all {
		k := &all[i]
		k.FloatFromInt, k.IntFromFloat = k.Unary[FloatFromInt], k.Unary[IntFromFloat]
		k.FloatFromMask, k.IntFromMask = k.Unary[FloatFromMask], k.Unary[IntFromMask]
		k.MaskFromInt, k.MaskFromFloat = k.Unary[MaskFromInt], k.Unary[MaskFromFloat]
		k.words = moverOf[uint32]()
		k.words.copy2D, k.words.transpose2D, k.words.strided, k.words.fill = k.Copy2D, k.Transpose2D, k.Strided, k.Fill
	}
	return all
}()

// For returns the kernels of a level, which the processor must have (feature.Detected). They are shared: do not change them.
func For(level feature.Level) *Kernels { return &levels[level] }
