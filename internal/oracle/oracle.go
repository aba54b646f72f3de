package oracle

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/mat"
)

// ErrNonFinite is wrapped by the error for an input with NaN or Inf.
var ErrNonFinite = errors.New("not finite")

// rankTol is the largest ratio of a singular value to the largest one at which it counts as zero; SVD in float64 leaves
// about n·1e-16.
const rankTol = 1e-13

// Finite returns an error naming the first element of x that is NaN or Inf.
func Finite(x mat.Matrix) error {
	m, n := x.Dims()
	for i := range m {
		for j := range n {
			if v := x.At(i, j); math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("oracle: element [%d, %d] of a %d x %d matrix is %v: %w", i, j, m, n, v, ErrNonFinite)
			}
		}
	}
	return nil
}

// SVD returns the thin SVD of x [m, n]: u [m, k], sigma descending, v [n, k], k = min(m, n).
func SVD(x mat.Matrix) (u *mat.Dense, sigma []float64, v *mat.Dense, err error) {
	if err := Finite(x); err != nil {
		return nil, nil, nil, err
	}
	var f mat.SVD
	if !f.Factorize(x, mat.SVDThin) {
		return nil, nil, nil, errors.New("oracle: the SVD did not converge")
	}
	u, v = new(mat.Dense), new(mat.Dense)
	f.UTo(u)
	f.VTo(v)
	return u, f.Values(nil), v, nil
}

// Apply returns U f(Σ) Vᵀ for the thin SVD of x. Singular values below 1e-13 of the largest count as zero and give zero.
func Apply(x mat.Matrix, f func(sigma float64) float64) (*mat.Dense, error) {
	return applyAbove(x, rankTol, f)
}

// applyAbove is Apply with another ratio to the largest singular value up to which one counts as zero.
func applyAbove(x mat.Matrix, zero float64, f func(sigma float64) float64) (*mat.Dense, error) {
	u, sigma, v, err := SVD(x)
	if err != nil {
		return nil, err
	}
	scaleColumns(u, sigma, zero, f)
	out := new(mat.Dense)
	out.Mul(u, v.T())
	return out, nil
}

// scaleColumns multiplies column j of u by f(sigma[j]), or by zero if sigma[j] is at most zero·sigma[0].
func scaleColumns(u *mat.Dense, sigma []float64, zero float64, f func(float64) float64) {
	m, _ := u.Dims()
	for j, s := range sigma {
		factor := 0.0
		if s > zero*sigma[0] {
			factor = f(s)
		}
		for i := range m {
			u.Set(i, j, u.At(i, j)*factor)
		}
	}
}

// Msign returns the polar factor U Vᵀ of x [m, n]; zero singular values stay zero.
func Msign(x mat.Matrix) (*mat.Dense, error) {
	return Apply(x, func(float64) float64 { return 1 })
}

// SingularValues returns the min(m, n) singular values of x, descending.
func SingularValues(x mat.Matrix) ([]float64, error) {
	if err := Finite(x); err != nil {
		return nil, err
	}
	var f mat.SVD
	if !f.Factorize(x, mat.SVDNone) { // an order faster than with vectors
		return nil, errors.New("oracle: the SVD did not converge")
	}
	return f.Values(nil), nil
}

// SpectralNorm returns the largest singular value of x.
func SpectralNorm(x mat.Matrix) (float64, error) {
	sigma, err := SingularValues(x)
	if err != nil {
		return 0, err
	}
	return sigma[0], nil
}

// InvSqrt returns (p + ridge·‖p‖_F·I)^{-1/2} of a symmetric positive semidefinite p [r, r], from the eigenvalues of its
// symmetric part. ridge 0 gives the pseudo-inverse root: eigenvalues below 1e-13 of the largest give zero. Zero gives zero.
func InvSqrt(p mat.Matrix, ridge float64) (*mat.Dense, error) {
	values, vectors, err := Eigen(p)
	if err != nil {
		return nil, fmt.Errorf("inverse root: %w", err)
	}
	shift, largest := ridge*norm(values), values[len(values)-1]
	for i, value := range values {
		values[i] = 0
		if value+shift > rankTol*largest && largest > 0 {
			values[i] = 1 / math.Sqrt(value+shift)
		}
	}
	return recompose(vectors, values), nil
}

// norm returns the Euclidean norm of values.
func norm(values []float64) (n float64) {
	for _, v := range values {
		n = math.Hypot(n, v)
	}
	return n
}

// GramInvSqrt returns (xᵀx)^{-1/2} [n, n] of x [m, n], from the SVD of x itself, so that the condition number is not
// squared; singular values that count as zero give zero.
func GramInvSqrt(x mat.Matrix) (*mat.Dense, error) {
	_, sigma, v, err := SVD(x)
	if err != nil {
		return nil, err
	}
	scaled := mat.DenseCopyOf(v)
	scaleColumns(scaled, sigma, rankTol, func(s float64) float64 { return 1 / s })
	out := new(mat.Dense)
	out.Mul(scaled, v.T())
	return out, nil
}

// Gaussian returns an m x n matrix of independent standard normal numbers.
func Gaussian(seed uint64, m, n int) *mat.Dense {
	rng := rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))
	x := mat.NewDense(m, n, nil)
	for i := range m {
		for j := range n {
			x.Set(i, j, rng.NormFloat64())
		}
	}
	return x
}

// WithSingularValues returns an m x n matrix with the given min(m, n) singular values and random singular vectors.
func WithSingularValues(seed uint64, m, n int, sigma []float64) (*mat.Dense, error) {
	if len(sigma) != min(m, n) {
		return nil, fmt.Errorf("oracle: %d singular values for a %d x %d matrix, want %d", len(sigma), m, n, min(m, n))
	}
	u, _, v, err := SVD(Gaussian(seed, m, n))
	if err != nil {
		return nil, err
	}
	for j, s := range sigma {
		for i := range m {
			u.Set(i, j, u.At(i, j)*s)
		}
	}
	out := new(mat.Dense)
	out.Mul(u, v.T())
	return out, nil
}

// RandomMatrix returns an m x n matrix with random singular vectors and singular values spaced evenly in the logarithm
// from 1 down to 1/cond.
func RandomMatrix(seed uint64, m, n int, cond float64) (*mat.Dense, error) {
	k := min(m, n)
	sigma := make([]float64, k)
	for i := range sigma {
		sigma[i] = 1
		if k > 1 {
			sigma[i] = math.Pow(cond, -float64(i)/float64(k-1))
		}
	}
	return WithSingularValues(seed, m, n, sigma)
}

// FromFloat32 returns the m x n matrix with the row-major elements of data.
func FromFloat32(data []float32, m, n int) (*mat.Dense, error) {
	if len(data) != m*n {
		return nil, fmt.Errorf("oracle: %d elements for a %d x %d matrix", len(data), m, n)
	}
	wide := make([]float64, len(data))
	for i, v := range data {
		wide[i] = float64(v)
	}
	return mat.NewDense(m, n, wide), nil
}

// Float32 returns the elements of x in row-major order, rounded.
func Float32(x mat.Matrix) []float32 {
	m, n := x.Dims()
	data := make([]float32, 0, m*n)
	for i := range m {
		for j := range n {
			data = append(data, float32(x.At(i, j)))
		}
	}
	return data
}
