//go:build amd64 && !noasm

package attention

//go:generate sh -c "cd _gen && go run . -out ../kernels_amd64.s -stubs ../stubs_amd64.go -pkg attention"

import (
	"unsafe"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
)

func (p *Plan) mul(x *product) {
	x.check()
	switch {
	case x.m <= 0:
	case p.level == feature.AVX512:
		mulAVX512((*byte)(unsafe.Pointer(x)))
	case p.level == feature.AVX2:
		mulAVX2((*byte)(unsafe.Pointer(x)))
		if x.width > lanes {
			y := *x
			y.c, y.b = x.c[lanes:], x.b[lanes:]
			mulAVX2((*byte)(unsafe.Pointer(&y)))
		}
	default:
		x.generic()
	}
}

// column checks that a column of rows lies in s and returns where it begins.
func column(s []float32, rows int) *float32 {
	_ = s[(rows-1)*panelWidth+lanes-1]
	return &s[0]
}

func (p *Plan) max(s []float32, rows int, m []float32) {
	switch p.level {
	case feature.AVX512:
		maxAVX512(column(s, rows), rows, column(m, 1))
	case feature.AVX2:
		maxAVX2(column(s, rows), rows, column(m, 1))
	default:
		maxGeneric(s, rows, m)
	}
}

func (p *Plan) exp(s []float32, rows int, m, l []float32) {
	switch p.level {
	case feature.AVX512:
		expAVX512(column(s, rows), rows, column(m, 1), column(l, 1))
	case feature.AVX2:
		expAVX2(column(s, rows), rows, column(m, 1), column(l, 1))
	default:
		expGeneric(s, rows, m, l)
	}
}

func (p *Plan) grad(s, d []float32, rows int, m, delta []float32) {
	switch p.level {
	case feature.AVX512:
		gradAVX512(column(s, rows), column(d, rows), rows, column(m, 1), column(delta, 1))
	case feature.AVX2:
		gradAVX2(column(s, rows), column(d, rows), rows, column(m, 1), column(delta, 1))
	default:
		gradGeneric(s, d, rows, m, delta)
	}
}

func (p *Plan) scale(s []float32, rows int, factors []float32) {
	switch {
	case rows == 0:
	case p.level == feature.AVX512:
		scaleAVX512(column(s, rows), rows, column(factors, 1))
	case p.level == feature.AVX2:
		scaleAVX2(column(s, rows), rows, column(factors, 1))
	default:
		scaleGeneric(s, rows, factors)
	}
}

func (p *Plan) hide(s []float32, rows int, bits []uint32, shift int) {
	_ = bits[rows-1]
	first := (*uint16)(unsafe.Add(unsafe.Pointer(&bits[0]), shift/8))
	switch p.level {
	case feature.AVX512:
		hideAVX512(column(s, rows), rows, first)
	case feature.AVX2:
		hideAVX2(column(s, rows), rows, first)
	default:
		hideGeneric(s, rows, bits, shift)
	}
}

func (p *Plan) dots(x, y []float32, rows int, sums []float32) {
	switch {
	case rows == 0:
		clear(sums[:lanes])
	case p.level == feature.AVX512:
		dotsAVX512(column(x, rows), column(y, rows), rows, column(sums, 1))
	case p.level == feature.AVX2:
		dotsAVX2(column(x, rows), column(y, rows), rows, column(sums, 1))
	default:
		dotsGeneric(x, y, rows, sums)
	}
}

// tile is the size of a square that transposeTile turns, 0 if there is none.
func (p *Plan) tile() int {
	switch p.level {
	case feature.AVX512:
		return 16
	case feature.AVX2:
		return 8
	}
	return 0
}

func (p *Plan) transposeTile(dst []float32, ldd int, src []float32, lds int, factors []float32) {
	n := p.tile()
	_, _, _ = dst[(n-1)*ldd+n-1], src[(n-1)*lds+n-1], factors[n-1]
	if p.level == feature.AVX512 {
		transposeAVX512(&dst[0], ldd, &src[0], lds, &factors[0])
		return
	}
	transposeAVX2(&dst[0], ldd, &src[0], lds, &factors[0])
}
