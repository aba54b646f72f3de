package attention

import "math"

// product is C[i][lane] = Σ_k a[i·am + k·ak]·b[k·ldb + lane], or C += that, for i below m, k below depth and width lanes.
type product struct {
	c                []float32
	a                []float32
	b                []float32
	ldc, am, ak, ldb int
	m, depth, width  int
	add              bool
}

func (x *product) generic() {
	for i := range x.m {
		row := x.c[i*x.ldc:][:x.width]
		if !x.add {
			clear(row)
		}
		for k := range x.depth {
			f := x.a[i*x.am+k*x.ak]
			b := x.b[k*x.ldb:][:len(row)]
			for j := range row {
				row[j] += f * b[j]
			}
		}
	}
}

// check panics where the kernel would leave a slice.
func (x *product) check() {
	if x.m > 0 {
		_ = x.c[(x.m-1)*x.ldc+x.width-1]
		if x.depth > 0 {
			_ = x.a[(x.m-1)*x.am+(x.depth-1)*x.ak]
			_ = x.b[(x.depth-1)*x.ldb+x.width-1]
		}
	}
}

// The kernels of a column take the first of its lanes in the first row, rows panelWidth apart.

// maxGeneric raises m to the largest of each lane. NaN is passed over: the sum of exponentials will be NaN.
func maxGeneric(s []float32, rows int, m []float32) {
	for r := range rows {
		for i, x := range s[r*panelWidth:][:lanes] {
			if x > m[i] {
				m[i] = x
			}
		}
	}
}

// expGeneric sets s = 2^(s-m) and adds the sum of each lane to l.
func expGeneric(s []float32, rows int, m, l []float32) {
	for r := range rows {
		row := s[r*panelWidth:][:lanes]
		for i, x := range row {
			e := exp2(x - m[i])
			row[i] = e
			l[i] += e
		}
	}
}

// gradGeneric sets s = 2^(s-m), the probabilities, and d = s·(d-delta), the gradient of the scores.
func gradGeneric(s, d []float32, rows int, m, delta []float32) {
	for r := range rows {
		row, dr := s[r*panelWidth:][:lanes], d[r*panelWidth:][:lanes]
		for i, x := range row {
			e := exp2(x - m[i])
			row[i] = e
			dr[i] = e * (dr[i] - delta[i])
		}
	}
}

// scaleGeneric multiplies each lane by its factor.
func scaleGeneric(s []float32, rows int, factors []float32) {
	for r := range rows {
		row := s[r*panelWidth:][:lanes]
		for i := range row {
			row[i] *= factors[i]
		}
	}
}

// hideGeneric sets lanes to -Inf where the row's bit is 0: bit shift+i of bits[row] for lane i.
func hideGeneric(s []float32, rows int, bits []uint32, shift int) {
	hidden := float32(math.Inf(-1))
	for r := range rows {
		b := bits[r] >> shift
		if uint16(b) == 0xffff {
			continue
		}
		for i := range lanes {
			if b>>i&1 == 0 {
				s[r*panelWidth+i] = hidden
			}
		}
	}
}

// dotsGeneric sets sums to those of the products of two columns. They are added up as product does it: the gradient of a
// probability that is 1 then cancels to exactly 0.
func dotsGeneric(x, y []float32, rows int, sums []float32) {
	clear(sums[:lanes])
	for r := range rows {
		xr, yr := x[r*panelWidth:][:lanes], y[r*panelWidth:][:lanes]
		for i, v := range xr {
			sums[i] += v * yr[i]
		}
	}
}

// exp2Poly are the coefficients of 2^f for |f| <= 1/2, highest first: the interpolation at the Chebyshev nodes of degree 6,
// relative error 2e-8 with the coefficients rounded to float32.
var exp2Poly = [7]float32{0.00015461445, 0.0013400428, 0.009618057, 0.05550327, 0.2402265, 0.6931472, 1}

// exp2 is 2^x, with a relative error below 2^-22 for results that are not denormal; smaller results are 0. 2^NaN is NaN.
func exp2(x float32) float32 {
	if x < -126 {
		return 0
	}
	if !(x < 128) {
		if x >= 128 {
			return float32(math.Inf(1))
		}
		return x // NaN
	}
	n := float32(math.RoundToEven(float64(x)))
	f := x - n
	y := exp2Poly[0]
	for _, c := range exp2Poly[1:] {
		y = y*f + c
	}
	if n == 128 { // 2^128 is not a float32, y below 1 times it is
		y, n = y*2, 127
	}
	return y * math.Float32frombits(uint32(int32(n)+127)<<23)
}

// log2 is the logarithm of a positive finite x, within 1e-8.
func log2(x float32) float64 {
	bits := math.Float32bits(x)
	const half = 0x3f3504f3 // √½: the fraction is between it and twice it
	e := int32(bits-half) >> 23
	f := float64(math.Float32frombits(bits - uint32(e)<<23))
	s := (f - 1) / (f + 1)
	t := s * s
	return float64(e) + 2*log2e*s*(1+t*(1./3+t*(1./5+t*(1./7+t*(1./9)))))
}
