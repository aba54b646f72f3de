package adapter

import (
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/lapack/lapack64"
	"gonum.org/v1/gonum/mat"
)

// Everything here is float64 on the host, row-major, and returns the same bits for the same arguments.

func newMatrix(rows, cols int) blas64.General {
	return blas64.General{Rows: rows, Cols: cols, Stride: cols, Data: make([]float64, rows*cols)}
}

// widen returns a float64 copy of a row-major float32 matrix.
func widen(data []float32, rows, cols int) blas64.General {
	out := newMatrix(rows, cols)
	for i, value := range data {
		out.Data[i] = float64(value)
	}
	return out
}

func narrow(data []float64) []float32 {
	out := make([]float32, len(data))
	for i, value := range data {
		out[i] = float32(value)
	}
	return out
}

func gaussian(rows, cols int, rng *rand.Rand) blas64.General {
	out := newMatrix(rows, cols)
	for i := range out.Data {
		out.Data[i] = rng.NormFloat64()
	}
	return out
}

// product returns a·b, each transposed where its flag says so.
func product(a blas64.General, aT bool, b blas64.General, bT bool) blas64.General {
	rows, cols := a.Rows, b.Cols
	transA, transB := blas.NoTrans, blas.NoTrans
	if aT {
		rows, transA = a.Cols, blas.Trans
	}
	if bT {
		cols, transB = b.Rows, blas.Trans
	}
	out := newMatrix(rows, cols)
	blas64.Gemm(transA, transB, 1, a, b, 0, out)
	return out
}

// thinQR returns a = q·r with q [m, k] orthonormal columns and r [k, n] upper trapezoidal, k = min(m, n); it destroys a.
// Signs are chosen so that r's diagonal is not negative, which makes q of a Gaussian matrix uniformly distributed
// (Mezzadri 2007, Notices AMS 54(5)), as its polar factor is. Cost: about 4 m n² operations.
func thinQR(a blas64.General) (q, r blas64.General) {
	k := min(a.Rows, a.Cols)
	tau := make([]float64, k)
	var size [1]float64
	lapack64.Geqrf(a, tau, size[:], -1)
	work := make([]float64, max(int(size[0]), a.Cols))
	lapack64.Geqrf(a, tau, work, len(work))
	r = newMatrix(k, a.Cols)
	for i := range k {
		copy(r.Data[i*r.Stride+i:(i+1)*r.Stride], a.Data[i*a.Stride+i:i*a.Stride+a.Cols])
	}
	q = blas64.General{Rows: a.Rows, Cols: k, Stride: a.Stride, Data: a.Data}
	lapack64.Orgqr(q, tau, work, len(work))
	q = compact(q)
	for j := range k {
		if r.Data[j*r.Stride+j] >= 0 {
			continue
		}
		for c := j; c < r.Cols; c++ {
			r.Data[j*r.Stride+c] *= -1
		}
		for i := range q.Rows {
			q.Data[i*q.Stride+j] *= -1
		}
	}
	return q, r
}

func compact(a blas64.General) blas64.General {
	if a.Stride == a.Cols {
		return a
	}
	out := newMatrix(a.Rows, a.Cols)
	for i := range a.Rows {
		copy(out.Data[i*a.Cols:(i+1)*a.Cols], a.Data[i*a.Stride:i*a.Stride+a.Cols])
	}
	return out
}

// orthonormal returns a uniformly random m x k matrix with orthonormal columns, k ≤ m.
func orthonormal(m, k int, rng *rand.Rand) blas64.General {
	q, _ := thinQR(gaussian(m, k, rng))
	return q
}

// The randomised SVD's parameters. On spectra that decay as slowly as 1/sqrt(k), the worst of 20 seeds at rank 16 of
// 160 x 96 had its 16th singular value 1.4e-4 too small and a residual 6e-6 above the best; 8 and 4 gave 1.5e-2 and 1e-3
// in 0.7 of the time (TestTopSVD).
const (
	oversample      = 16
	powerIterations = 6
)

// topSVD returns the leading singular triplets of w [m, n]: u [m, r], sigma [r], v [n, r], w ≈ u·diag(sigma)·vᵀ.
// It is exact to rounding when r+oversample ≥ min(m, n). Cost: 4(powerIterations+1) m n (r+oversample) operations.
// Ref: Halko, Martinsson, Tropp 2011, arXiv 0909.4061, algorithms 4.4 and 5.1.
func topSVD(w blas64.General, r int, rng *rand.Rand) (u blas64.General, sigma []float64, v blas64.General, err error) {
	k := min(r+oversample, min(w.Rows, w.Cols))
	q, _ := thinQR(product(w, false, gaussian(w.Cols, k, rng), false))
	for range powerIterations {
		z, _ := thinQR(product(w, true, q, false))
		q, _ = thinQR(product(w, false, z, false))
	}
	qb, rb := thinQR(product(w, true, q, false)) // wᵀ q = qb·rb, so w ≈ q·rbᵀ·qbᵀ
	var svd mat.SVD
	if !svd.Factorize(dense(rb).T(), mat.SVDThin) {
		return u, nil, v, fmt.Errorf("the singular value decomposition did not converge")
	}
	var left, right mat.Dense
	svd.UTo(&left)
	svd.VTo(&right)
	u = product(q, false, leading(&left, r), false)
	v = product(qb, false, leading(&right, r), false)
	return u, svd.Values(nil)[:r], v, nil
}

func dense(a blas64.General) *mat.Dense {
	a = compact(a)
	return mat.NewDense(a.Rows, a.Cols, a.Data)
}

// leading returns the first r columns of a.
func leading(a *mat.Dense, r int) blas64.General {
	raw := a.RawMatrix()
	return compact(blas64.General{Rows: raw.Rows, Cols: r, Stride: raw.Stride, Data: raw.Data})
}

// productNorm returns the spectral norm of left·rightᵀ for left [m, k] and right [n, k], and never forms the product: it
// is that of the k x k product of their triangular QR factors. Its error is rounding relative to ‖left‖·‖right‖.
func productNorm(left, right blas64.General) (float64, error) {
	_, r1 := thinQR(left)
	_, r2 := thinQR(right)
	return spectralNorm(product(r1, false, r2, true))
}

// spectralNorm returns the largest singular value of a small matrix.
func spectralNorm(a blas64.General) (float64, error) {
	for _, value := range a.Data {
		if math.IsNaN(value) || math.IsInf(value, 0) {
			return 0, fmt.Errorf("not finite")
		}
	}
	var svd mat.SVD
	if !svd.Factorize(dense(a), mat.SVDNone) {
		return 0, fmt.Errorf("the singular value decomposition did not converge")
	}
	return svd.Values(nil)[0], nil
}

// factorNorm returns the spectral norm of a tall factor [m, k].
func factorNorm(a blas64.General) (float64, error) {
	_, r := thinQR(a)
	return spectralNorm(r)
}

// besides returns [a, b], the columns of a followed by those of sign·b.
func besides(a, b []float32, rows int, sign float32) []float32 {
	ra, rb := len(a)/rows, len(b)/rows
	out := make([]float32, 0, len(a)+len(b))
	for i := range rows {
		out = append(out, a[i*ra:(i+1)*ra]...)
		for _, value := range b[i*rb : (i+1)*rb] {
			out = append(out, sign*value)
		}
	}
	return out
}

// addProduct adds scale·a·bᵀ to w [m, n] in place, a [m, r] and b [n, r]: each sum in float64, in a fixed order, rounded
// once. It returns an error naming the first entry that is not finite.
func addProduct(w []float32, a, b []float32, m, n, r int, scale float64) error {
	wide := widen(b, n, r).Data
	row := make([]float64, r)
	for i := range m {
		for k := range r {
			row[k] = scale * float64(a[i*r+k])
		}
		line := w[i*n : (i+1)*n]
		for j := range n {
			sum := float64(line[j])
			for k, value := range wide[j*r : (j+1)*r] {
				sum += row[k] * value
			}
			if sum-sum != 0 {
				return fmt.Errorf("the weight is %g at [%d, %d]", sum, i, j)
			}
			line[j] = float32(sum)
		}
	}
	return nil
}
