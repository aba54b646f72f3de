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
	switch {
	case level == feature.AVX512 && double:
		return kernels[T]{name: "avx512/f64", mr: 12, nr: 16, panel: onPanel[T](panelsF64x512), copy: onStrip[T](copyF64x512),
			turn: onStrip[T](turnF64x512), dots: onDots[T](dotsF64x512), dotRows: 6}, true
	case level == feature.AVX512 && bf16 && feature.BF16(level):
		return kernels[T]{name: "avx512/bf16", mr: 12, nr: 32, pairs: true, panel: onPanel[T](panelsBF16x512),
			copy: onStrip[T](copyBF16x512), turn: onStrip[T](turnBF16x512), round: onStrip[T](roundBF16x512),
			dots: onDots[T](dotsBF16x512), dotRows: 6}, true
	case level == feature.AVX512:
		return kernels[T]{name: "avx512/f32", mr: 12, nr: 32, panel: onPanel[T](panelsF32x512), copy: onStrip[T](copyF32x512),
			turn: onStrip[T](turnF32x512), dots: onDots[T](dotsF32x512), dotRows: 6}, true
	case level == feature.AVX2 && double:
		return kernels[T]{name: "avx2/f64", mr: 6, nr: 8, panel: onPanel[T](panelsF64x256), copy: onStrip[T](copyF64x256),
			turn: onStrip[T](turnF64x256), dots: onDots[T](dotsF64x256), dotRows: 2}, true
	case level == feature.AVX2:
		return kernels[T]{name: "avx2/f32", mr: 6, nr: 16, panel: onPanel[T](panelsF32x256), copy: onStrip[T](copyF32x256),
			turn: onStrip[T](turnF32x256), dots: onDots[T](dotsF32x256), dotRows: 2}, true
	}
	return kernels[T]{}, false
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
	dotsF32x512   = []func(*byte){nil, dotsF32x512m1, dotsF32x512m2, dotsF32x512m3, dotsF32x512m4, dotsF32x512m5, dotsF32x512m6}
	dotsF64x512   = []func(*byte){nil, dotsF64x512m1, dotsF64x512m2, dotsF64x512m3, dotsF64x512m4, dotsF64x512m5, dotsF64x512m6}
	dotsBF16x512  = []func(*byte){nil, dotsBF16x512m1, dotsBF16x512m2, dotsBF16x512m3, dotsBF16x512m4, dotsBF16x512m5,
		dotsBF16x512m6}
	dotsF32x256 = []func(*byte){nil, dotsF32x256m1, dotsF32x256m2}
	dotsF64x256 = []func(*byte){nil, dotsF64x256m1, dotsF64x256m2}
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
