package gemm

import (
	"math"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
)

// panel is one call of a kernel: C (m x n) = A (m x k) B (k x n), or +=. The generator knows its layout.
type panel[T float32 | float64] struct {
	a, b, c    []T
	m, n, k    int
	aRow, aK   int // strides of A
	bK         int // stride of B from term to term; its columns are contiguous in a strip
	bStrip     int // distance of the strips of B
	cRow       int
	accumulate int // 1: add to C
	wide       int // 1: strips follow each other in B's rows, so that tiles may be wider
}

// strip is one call of a packer: column j of row k of src goes to
//
//	dst[j/width*dstStrip + k*dstRow + j%width] = src[k*rowStride + j*colStride], k < rows and j < cols;
//
// with pairs, dst holds terms 2k and 2k+1 as bfloat16, the missing last as 0. The generator knows its layout.
type strip[T float32 | float64] struct {
	dst, src             []T
	rows, cols           int
	dstRow               int
	rowStride, colStride int
	terms                int // rows of src: rows, or with pairs 2*rows or one less
	width, dstStrip      int
}

// kernels is what a level has for a type.
type kernels[T float32 | float64] struct {
	name    string
	mr, nr  int // most rows of a panel; columns of a strip
	panel   func(*panel[T])
	pairs   bool            // A and B are packed as pairs of bfloat16
	copy    func(*strip[T]) // colStride 1; nil: plain Go
	turn    func(*strip[T]) // rowStride 1, cols up to width; nil: plain Go
	dots    func(*dots[T])
	dotRows int             // most rows of dots
	round   func(*strip[T]) // pairs along rows: dst[i*dstRow+k/2] from src[i*rowStride+k], i < rows and k < cols
}

func (k *kernels[T]) terms() int {
	if k.pairs {
		return 2
	}
	return 1
}

// pack packs by the fastest packer for the strides.
func (p *Plan[T]) pack(s *strip[T]) {
	ker := &p.kernels
	if s.colStride == 1 && ker.copy != nil {
		ker.copy(s)
		if p.spec.BF16 && !ker.pairs {
			roundStrips(s)
		}
		return
	}
	all := *s
	for j := 0; j < all.cols; j += all.width {
		s.cols = min(all.width, all.cols-j)
		s.src, s.dst = all.src[j*all.colStride:], all.dst[j/all.width*all.dstStrip:]
		switch {
		case s.rowStride == 1 && ker.turn != nil:
			ker.turn(s)
		case ker.pairs:
			packPairs(s)
		default:
			packStrip(s)
		}
		if p.spec.BF16 && !ker.pairs {
			roundStrips(s)
		}
	}
}

// packStrip packs one strip in plain Go.
func packStrip[T float32 | float64](s *strip[T]) {
	for k := range s.rows {
		row := s.dst[k*s.dstRow : k*s.dstRow+s.cols]
		at := k * s.rowStride
		for j := range row {
			row[j] = s.src[at+j*s.colStride]
		}
	}
}

// roundStrips rounds what was packed to bfloat16.
func roundStrips[T float32 | float64](s *strip[T]) {
	for j := 0; j < s.cols; j += s.width {
		for k := range s.rows {
			row := s.dst[j/s.width*s.dstStrip+k*s.dstRow:][:min(s.width, s.cols-j)]
			for j, x := range row {
				row[j] = T(RoundBF16(float32(x)))
			}
		}
	}
}

// RoundBF16 is x rounded to bfloat16, to nearest even; NaN stays NaN.
func RoundBF16(x float32) float32 {
	if x != x {
		return x
	}
	u := math.Float32bits(x)
	u += 0x7fff + u>>16&1
	return math.Float32frombits(u &^ 0xffff)
}

// packPairs is the packer of pairs in plain Go.
func packPairs[T float32 | float64](s *strip[T]) {
	half := func(k, j int) uint32 {
		if k >= s.terms {
			return 0
		}
		return math.Float32bits(RoundBF16(float32(s.src[k*s.rowStride+j*s.colStride]))) >> 16
	}
	for k := range s.rows {
		for j := range s.cols {
			setBits(&s.dst[k*s.dstRow+j], half(2*k, j)|half(2*k+1, j)<<16)
		}
	}
}

func setBits[T float32 | float64](x *T, bits uint32) { *any(x).(*float32) = math.Float32frombits(bits) }

// kernelsOf returns the kernels of a level; what it lacks, the levels below give.
func kernelsOf[T float32 | float64](level feature.Level, bf16 bool) kernels[T] {
	if k, ok := assembled[T](level, bf16); ok {
		return k
	}
	name := "generic/f32"
	if _, double := any(T(0)).(float64); double {
		name = "generic/f64"
	}
	return kernels[T]{name: name, mr: 4, nr: 8, panel: panelGeneric[T], dots: dotsGeneric[T], dotRows: 3}
}

// panelGeneric is the kernel in plain Go: tiles of 2 x 4.
func panelGeneric[T float32 | float64](x *panel[T]) {
	const nr = 8
	for j := 0; j < x.n; j += 4 {
		b := x.b[j/nr*x.bStrip+j%nr:]
		cols := min(4, x.n-j)
		for i := 0; i < x.m; i += 2 {
			rows := min(2, x.m-i)
			var t [2][4]T
			if rows == 2 && cols == 4 {
				tileGeneric(x, &t, x.a[i*x.aRow:], b)
			} else {
				for k := range x.k {
					for ii := range rows {
						a := x.a[(i+ii)*x.aRow+k*x.aK]
						for jj := range cols {
							t[ii][jj] += a * b[k*x.bK+jj]
						}
					}
				}
			}
			for ii := range rows {
				c := x.c[(i+ii)*x.cRow+j:]
				for jj := range cols {
					if x.accumulate != 0 {
						c[jj] += t[ii][jj]
					} else {
						c[jj] = t[ii][jj]
					}
				}
			}
		}
	}
}

func tileGeneric[T float32 | float64](x *panel[T], t *[2][4]T, a, b []T) {
	var t00, t01, t02, t03, t10, t11, t12, t13 T
	second := a[x.aRow:]
	for k := range x.k {
		r := b[k*x.bK:][:4]
		a0, a1 := a[k*x.aK], second[k*x.aK]
		t00 += a0 * r[0]
		t01 += a0 * r[1]
		t02 += a0 * r[2]
		t03 += a0 * r[3]
		t10 += a1 * r[0]
		t11 += a1 * r[1]
		t12 += a1 * r[2]
		t13 += a1 * r[3]
	}
	*t = [2][4]T{{t00, t01, t02, t03}, {t10, t11, t12, t13}}
}
