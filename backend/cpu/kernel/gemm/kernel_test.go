package gemm

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
)

// everyKernels runs f for the kernels of every level, type and precision.
func everyKernels(t *testing.T, single func(t *testing.T, k kernels[float32]), double func(t *testing.T, k kernels[float64])) {
	for _, level := range levels() {
		f32, bf16, f64 := kernelsOf[float32](level, false), kernelsOf[float32](level, true), kernelsOf[float64](level, false)
		t.Run(f32.name, func(t *testing.T) { single(t, f32) })
		t.Run(f64.name, func(t *testing.T) { double(t, f64) })
		if bf16.pairs {
			t.Run(bf16.name, func(t *testing.T) { single(t, bf16) })
		}
	}
}

// around are sizes at, before and after the multiples of a vector's lanes that kernels treat differently.
func around(lanes int) (sizes []int) {
	for _, n := range []int{lanes, 2 * lanes, 3 * lanes, 4 * lanes, 6 * lanes, 8 * lanes, 11 * lanes} {
		sizes = append(sizes, n-1, n, n+1)
	}
	return append(sizes, 1)
}

func TestPanel(t *testing.T) { everyKernels(t, panelCases[float32], panelCases[float64]) }

func panelCases[T float32 | float64](t *testing.T, ker kernels[T]) {
	r := rand.New(rand.NewPCG(1, 3))
	for m := 1; m <= ker.mr; m++ {
		for _, n := range around(ker.nr / 2) {
			for _, k := range []int{1, 2, 7} {
				for flags := range 8 {
					x := panel[T]{m: m, n: n, k: k, aRow: k + 3, aK: 1, bK: ker.nr, bStrip: k * ker.nr, cRow: n + 2, accumulate: flags & 1,
						wide: flags >> 1 & 1}
					if x.wide != 0 {
						x.bK, x.bStrip = n+1, ker.nr
					}
					if flags&4 != 0 {
						x.aRow, x.aK = 1, m+1
					}
					scoped(t, func(t testing.TB) { panelCase(t, r, &ker, &x) })
				}
			}
		}
	}
}

// panelCase runs a kernel on memory with guards and compares with sums in float64.
func panelCase[T float32 | float64](t testing.TB, r *rand.Rand, ker *kernels[T], x *panel[T]) {
	terms := ker.terms()
	lastStrip := (x.n - 1) / ker.nr
	x.a = guarded[T](t, (x.m-1)*x.aRow+(x.k-1)*x.aK+1, true)
	x.b = guarded[T](t, (x.k-1)*x.bK+lastStrip*x.bStrip+x.n-lastStrip*ker.nr, true)
	x.c = guarded[T](t, (x.m-1)*x.cRow+x.n, true)
	for _, v := range [][]T{x.a, x.b} {
		if ker.pairs {
			raw := make([]T, 2*len(v))
			fill(r, raw)
			packPairs(&strip[T]{dst: v, src: raw, rows: 1, cols: len(v), rowStride: len(v), colStride: 1, terms: 2})
		} else {
			fill(r, v)
		}
	}
	for i := range x.c {
		x.c[i] = canary
	}
	value := func(v T, term int) float64 {
		if !ker.pairs {
			return float64(v)
		}
		return float64(math.Float32frombits(math.Float32bits(float32(v)) >> (16 * term) << 16))
	}
	ker.panel(x)
	const tol = 1e-5 // 14 terms of size 1, and -12345 to which they are added in float32: half a unit there is 5e-4
	for i := range x.m {
		for j := range x.cRow {
			if at := i*x.cRow + j; at < len(x.c) {
				want, tol := 0.0, tol
				if x.accumulate != 0 || j >= x.n {
					want, tol = canary, 1e-3
				}
				for k := range x.k {
					for term := range terms {
						if j < x.n {
							want += value(x.a[i*x.aRow+k*x.aK], term) * value(x.b[k*x.bK+j/ker.nr*x.bStrip+j%ker.nr], term)
						}
					}
				}
				if got := float64(x.c[at]); !(math.Abs(got-want) <= tol) || j >= x.n && got != canary {
					t.Fatalf("%dx%dx%d, wide %d, accumulate %d: c[%d,%d] = %v, want %v", x.m, x.k, x.n, x.wide, x.accumulate, i, j, got, want)
				}
			}
		}
	}
}

// TestStrip compares the packers with those in plain Go, bit for bit, for values that round up, down and to even.
func TestStrip(t *testing.T) { everyKernels(t, stripCases[float32], stripCases[float64]) }

func stripCases[T float32 | float64](t *testing.T, ker kernels[T]) {
	if ker.copy == nil {
		t.Skip("packs in plain Go")
	}
	r := rand.New(rand.NewPCG(2, 3))
	for _, width := range []int{ker.nr, ker.mr, 1, 5, ker.nr / 2} {
		for _, cols := range []int{1, width - 1, width, width + 1, 3*width + 2} {
			for _, rows := range []int{1, 3, 4, 15, 16, 17, 35} {
				for odd := range ker.terms() {
					for turned := range 2 {
						if cols == 0 || turned == 1 && cols > width {
							continue
						}
						x := strip[T]{rows: rows, cols: cols, dstRow: width, width: width, dstStrip: rows * width, terms: rows*ker.terms() - odd}
						x.rowStride, x.colStride = cols+1, 1
						if turned == 1 {
							x.rowStride, x.colStride = 1, x.terms+2
						}
						scoped(t, func(t testing.TB) { stripCase(t, r, &ker, x) })
					}
				}
			}
		}
	}
}

func stripCase[T float32 | float64](t testing.TB, r *rand.Rand, ker *kernels[T], x strip[T]) {
	x.src = guarded[T](t, (x.terms-1)*x.rowStride+(x.cols-1)*x.colStride+1, true)
	for i := range x.src {
		x.src[i] = T(float32(r.IntN(1<<11)-1<<10) / 8)
	}
	x.src[0] = T(math.Inf(-1))
	last := (x.cols - 1) / x.width
	length := last*x.dstStrip + (x.rows-1)*x.dstRow + x.cols - last*x.width
	x.dst = guarded[T](t, length, true)
	want := make([]T, length)
	for j := 0; j < x.cols; j += x.width {
		y := x
		y.src, y.dst, y.cols = x.src[j*x.colStride:], want[j/x.width*x.dstStrip:], min(x.width, x.cols-j)
		if ker.pairs {
			packPairs(&y)
		} else {
			packStrip(&y)
		}
	}
	if x.colStride == 1 {
		ker.copy(&x)
	} else {
		ker.turn(&x)
	}
	for i := range want {
		if bits(x.dst[i]) != bits(want[i]) {
			t.Fatalf("%d rows, %d columns, width %d, strides %d, %d: dst[%d] = %v, want %v", x.rows, x.cols, x.width, x.rowStride, x.colStride,
				i, x.dst[i], want[i])
		}
	}
}

func bits[T float32 | float64](x T) uint64 {
	if f, ok := any(x).(float32); ok {
		return uint64(math.Float32bits(f))
	}
	return math.Float64bits(float64(x))
}

// TestRound: rows rounded to pairs are those of the packer in plain Go.
func TestRound(t *testing.T) {
	ker := kernelsOf[float32](feature.Detected(), true)
	if ker.round == nil {
		t.Skip("no bfloat16 on this processor")
	}
	r := rand.New(rand.NewPCG(4, 3))
	for _, rows := range []int{1, 2, 12} {
		for cols := 1; cols < 100; cols++ {
			scoped(t, func(t testing.TB) {
				x := strip[float32]{rows: rows, cols: cols, rowStride: cols + 1, dstRow: (cols+1)/2 + 3}
				x.src = guarded[float32](t, (rows-1)*x.rowStride+cols, true)
				x.dst = guarded[float32](t, (rows-1)*x.dstRow+(cols+1)/2, true)
				fill(r, x.src)
				ker.round(&x)
				for i := range rows {
					want := make([]float32, (cols+1)/2)
					packPairs(&strip[float32]{dst: want, src: x.src[i*x.rowStride:], rows: len(want), cols: 1, dstRow: 1, rowStride: 1,
						colStride: 1, terms: cols})
					for k := range want {
						if bits(x.dst[i*x.dstRow+k]) != bits(want[k]) {
							t.Fatalf("%d columns: row %d, pair %d: %v, want %v", cols, i, k, x.dst[i*x.dstRow+k], want[k])
						}
					}
				}
			})
		}
	}
}

// TestRoundBF16 checks ties, carries and what is not finite.
func TestRoundBF16(t *testing.T) {
	for _, c := range []struct{ in, want uint32 }{
		{0x3f800000, 0x3f800000}, {0x3f807fff, 0x3f800000}, {0x3f808000, 0x3f800000}, {0x3f808001, 0x3f810000}, {0x3f818000, 0x3f820000},
		{0x3fffffff, 0x40000000}, {0x7f7fffff, 0x7f800000}, {0x7f800000, 0x7f800000}, {0xff800000, 0xff800000}, {0x80000000, 0x80000000},
	} {
		if got := math.Float32bits(RoundBF16(math.Float32frombits(c.in))); got != c.want {
			t.Errorf("%#x: %#x, want %#x", c.in, got, c.want)
		}
	}
	if x := RoundBF16(math.Float32frombits(0x7f800001)); x == x {
		t.Errorf("NaN became %v", x)
	}
}

func TestDots(t *testing.T) { everyKernels(t, dotsCases[float32], dotsCases[float64]) }

func dotsCases[T float32 | float64](t *testing.T, ker kernels[T]) {
	r := rand.New(rand.NewPCG(5, 3))
	for m := 1; m <= ker.dotRows; m++ {
		for n := 1; n <= 9; n++ {
			for _, k := range []int{1, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 100} {
				scoped(t, func(t testing.TB) {
					x := dots[T]{m: m, n: n, k: k, aRow: k + 1, bCol: k + 2, cRow: n + 1}
					x.a, x.b = guarded[T](t, (m-1)*x.aRow+k, true), guarded[T](t, (n-1)*x.bCol+k, true)
					x.c = guarded[T](t, (m-1)*x.cRow+n, true)
					for _, v := range [][]T{x.a, x.b} {
						for i := range v {
							v[i] = T(r.IntN(33)-16) / 4 // exact in bfloat16, and so are the sums in float32
						}
					}
					ker.dots(&x)
					for i := range m {
						for j := range n {
							var want T
							for l := range k {
								want += x.a[i*x.aRow+l] * x.b[j*x.bCol+l]
							}
							if got := x.c[i*x.cRow+j]; got != want {
								t.Fatalf("%dx%dx%d: c[%d,%d] = %v, want %v", m, k, n, i, j, got, want)
							}
						}
					}
				})
			}
		}
	}
}
