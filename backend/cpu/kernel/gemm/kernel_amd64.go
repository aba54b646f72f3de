//go:build amd64 && !noasm

package gemm

import (
	"unsafe"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
)

//go:generate go -C _gen run . -out ../kernels_amd64.s -stubs ../kernels_amd64.go -pkg gemm

// assembled returns the kernels in assembly of a level for a type.
func assembled[T float32 | float64](level feature.Level, bf16 bool) (kernels[T], bool) {
	_, double := any(T(0)).(float64)
	k := kernels[T]{dots: dotsGeneric[T]}
	switch {
	case level == feature.AVX512 && double:
		k.name, k.mr, k.nr = "avx512/f64", 12, 16
		k.panel, k.copy, k.turn = onPanel[T](panelsF64x512), onStrip[T](copyF64x512), onStrip[T](turnF64x512)
		k.dots = onDots[T](dotsF64x512)
	case level == feature.AVX512 && bf16 && feature.BF16(level):
		k.name, k.mr, k.nr, k.pairs = "avx512/bf16", 12, 32, true
		k.panel, k.copy, k.turn = onPanel[T](panelsBF16x512), onStrip[T](copyBF16x512), onStrip[T](turnBF16x512)
	case level == feature.AVX512:
		k.name, k.mr, k.nr = "avx512/f32", 12, 32
		k.panel, k.copy, k.turn = onPanel[T](panelsF32x512), onStrip[T](copyF32x512), onStrip[T](turnF32x512)
		k.dots = onDots[T](dotsF32x512)
	case level == feature.AVX2 && double:
		k.name, k.mr, k.nr, k.panel = "avx2/f64", 6, 8, onPanel[T](panelsF64x256)
	case level == feature.AVX2:
		k.name, k.mr, k.nr, k.panel = "avx2/f32", 6, 16, onPanel[T](panelsF32x256)
	default:
		return k, false
	}
	return k, true
}

func onPanel[T float32 | float64](kernels []func(*byte)) func(*panel[T]) {
	return func(x *panel[T]) { kernels[x.m]((*byte)(unsafe.Pointer(x))) }
}

func onStrip[T float32 | float64](kernel func(*byte)) func(*strip[T]) {
	return func(x *strip[T]) { kernel((*byte)(unsafe.Pointer(x))) }
}

func onDots[T float32 | float64](kernels []func(*byte)) func(*dots[T]) {
	return func(x *dots[T]) { kernels[x.m]((*byte)(unsafe.Pointer(x))) }
}

// The kernels by number of rows.
var (
	panelsF32x512 = []func(*byte){nil, panelF32x512m1, panelF32x512m2, panelF32x512m3, panelF32x512m4, panelF32x512m5, panelF32x512m6,
		panelF32x512m7, panelF32x512m8, panelF32x512m9, panelF32x512m10, panelF32x512m11, panelF32x512m12}
	panelsF64x512 = []func(*byte){nil, panelF64x512m1, panelF64x512m2, panelF64x512m3, panelF64x512m4, panelF64x512m5, panelF64x512m6,
		panelF64x512m7, panelF64x512m8, panelF64x512m9, panelF64x512m10, panelF64x512m11, panelF64x512m12}
	panelsBF16x512 = []func(*byte){nil, panelBF16x512m1, panelBF16x512m2, panelBF16x512m3, panelBF16x512m4, panelBF16x512m5,
		panelBF16x512m6, panelBF16x512m7, panelBF16x512m8, panelBF16x512m9, panelBF16x512m10, panelBF16x512m11, panelBF16x512m12}
	panelsF32x256 = []func(*byte){nil, panelF32x256m1, panelF32x256m2, panelF32x256m3, panelF32x256m4, panelF32x256m5, panelF32x256m6}
	panelsF64x256 = []func(*byte){nil, panelF64x256m1, panelF64x256m2, panelF64x256m3, panelF64x256m4, panelF64x256m5, panelF64x256m6}
	dotsF32x512   = []func(*byte){nil, dotsF32x512m1, dotsF32x512m2, dotsF32x512m3}
	dotsF64x512   = []func(*byte){nil, dotsF64x512m1, dotsF64x512m2, dotsF64x512m3}
)

// peakLoop is a loop of multiply-adds and its operations in a turn: 12 vectors, of which every lane counts two (four for pairs).
func peakLoop(level feature.Level, bf16 bool) (func(turns int), float64) {
	switch {
	case level == feature.AVX512 && bf16 && feature.BF16(level):
		return peakBF16x512, 12 * 16 * 4
	case level == feature.AVX512:
		return peakF32x512, 12 * 16 * 2
	case level == feature.AVX2:
		return peakF32x256, 12 * 8 * 2
	}
	return peakLoopGeneric()
}
