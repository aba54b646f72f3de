package oracle

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// ZeroTol is the ratio of a singular value to the largest one up to which the functions of this file that lift small
// singular values (SpectralClip, SpectralReLU) take it for zero, and the same for the distance of an eigenvalue from the
// bound of EigStep.
const ZeroTol = 1e-10

// SpectralClip clips the singular values of x [m, n] to [lo, hi]; zero singular values stay zero, also for lo > 0.
func SpectralClip(x mat.Matrix, lo, hi float64) (*mat.Dense, error) {
	if !(lo <= hi) || !(hi >= 0) {
		return nil, fmt.Errorf("oracle: clip of singular values to [%v, %v]", lo, hi)
	}
	return applyAbove(x, ZeroTol, func(s float64) float64 { return min(max(s, lo), hi) })
}

// SpectralHardcap replaces singular values above beta by beta.
func SpectralHardcap(x mat.Matrix, beta float64) (*mat.Dense, error) {
	if !(beta >= 0) {
		return nil, fmt.Errorf("oracle: cap of singular values at %v", beta)
	}
	return Apply(x, func(s float64) float64 { return min(s, beta) })
}

// SpectralReLU replaces singular values below alpha by alpha; zero singular values stay zero.
func SpectralReLU(x mat.Matrix, alpha float64) (*mat.Dense, error) {
	return SpectralClip(x, alpha, math.Inf(1))
}

// SpectralClippedWeightDecay takes a singular value s above beta to (1-lambda)·s + lambda·beta.
func SpectralClippedWeightDecay(x mat.Matrix, beta, lambda float64) (*mat.Dense, error) {
	if !(beta >= 0) {
		return nil, fmt.Errorf("oracle: decay of singular values above %v", beta)
	}
	return Apply(x, func(s float64) float64 {
		if s <= beta {
			return s
		}
		return (1-lambda)*s + lambda*beta
	})
}

// Eigen returns the eigenvalues of the symmetric part of x [n, n], ascending, and its eigenvectors as columns.
func Eigen(x mat.Matrix) (values []float64, vectors *mat.Dense, err error) {
	if err := Finite(x); err != nil {
		return nil, nil, err
	}
	n, c := x.Dims()
	if n != c {
		return nil, nil, fmt.Errorf("oracle: eigenvalues of a %d x %d matrix, which is not square", n, c)
	}
	symmetric := mat.NewSymDense(n, nil)
	for i := range n {
		for j := i; j < n; j++ {
			symmetric.SetSym(i, j, x.At(i, j)/2+x.At(j, i)/2)
		}
	}
	var e mat.EigenSym
	if !e.Factorize(symmetric, true) {
		return nil, nil, errors.New("oracle: the eigendecomposition did not converge")
	}
	vectors = new(mat.Dense)
	e.VectorsTo(vectors)
	return e.Values(nil), vectors, nil
}

// ApplyEigen returns V f(Λ) Vᵀ for the eigendecomposition of the symmetric part of x.
func ApplyEigen(x mat.Matrix, f func(lambda float64) float64) (*mat.Dense, error) {
	values, vectors, err := Eigen(x)
	if err != nil {
		return nil, err
	}
	for i, v := range values {
		values[i] = f(v)
	}
	return recompose(vectors, values), nil
}

// recompose returns V diag(values) Vᵀ.
func recompose(vectors *mat.Dense, values []float64) *mat.Dense {
	scaled := mat.DenseCopyOf(vectors)
	scaled.Apply(func(_, j int, v float64) float64 { return v * values[j] }, scaled)
	out := new(mat.Dense)
	out.Mul(scaled, vectors.T())
	return out
}

// EigClip clips the eigenvalues of x to [lo, hi].
func EigClip(x mat.Matrix, lo, hi float64) (*mat.Dense, error) {
	if !(lo <= hi) {
		return nil, fmt.Errorf("oracle: clip of eigenvalues to [%v, %v]", lo, hi)
	}
	return ApplyEigen(x, func(v float64) float64 { return min(max(v, lo), hi) })
}

// EigReLU replaces eigenvalues below alpha by alpha.
func EigReLU(x mat.Matrix, alpha float64) (*mat.Dense, error) {
	return ApplyEigen(x, func(v float64) float64 { return max(v, alpha) })
}

// EigHardcap replaces eigenvalues above beta by beta.
func EigHardcap(x mat.Matrix, beta float64) (*mat.Dense, error) {
	return ApplyEigen(x, func(v float64) float64 { return min(v, beta) })
}

// EigStep returns the orthogonal projector onto the eigenvectors of x whose eigenvalue is above alpha, strictly: an eigenvalue
// within ZeroTol of alpha, relative to the largest distance of any, is at alpha and does not count.
func EigStep(x mat.Matrix, alpha float64) (*mat.Dense, error) {
	values, vectors, err := Eigen(x)
	if err != nil {
		return nil, err
	}
	largest := 0.0
	for _, v := range values {
		largest = max(largest, math.Abs(v-alpha))
	}
	for i, v := range values {
		values[i] = 0
		if v-alpha > ZeroTol*largest {
			values[i] = 1
		}
	}
	return recompose(vectors, values), nil
}

// ProjPSD replaces negative eigenvalues by zero.
func ProjPSD(x mat.Matrix) (*mat.Dense, error) { return EigReLU(x, 0) }

// ProjNSD replaces positive eigenvalues by zero.
func ProjNSD(x mat.Matrix) (*mat.Dense, error) { return EigHardcap(x, 0) }
