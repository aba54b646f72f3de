package oracle

import (
	"fmt"

	"gonum.org/v1/gonum/mat"
)

// The functions here project x onto the tangent cone at w of a set of matrices, in bases U and V of the singular vectors
// (eigenvectors) of w that are at a bound: x less U S Vᵀ, with S the part of sym(Uᵀ x V) that would leave the set.

// TangentPSD projects onto the tangent cone of the positive semidefinite cone; eigenvalues of w up to tol are at the bound.
func TangentPSD(w, x mat.Matrix, tol float64) (*mat.Dense, error) {
	return tangentSymmetric(w, x, []bound{{at: func(v float64) bool { return v <= tol }, keeps: ProjPSD}})
}

// TangentSpectrahedron projects onto the tangent cone of the symmetric matrices with eigenvalues in [lo, hi].
func TangentSpectrahedron(w, x mat.Matrix, lo, hi, tol float64) (*mat.Dense, error) {
	return tangentSymmetric(w, x, []bound{
		{at: func(v float64) bool { return v <= lo+tol }, keeps: ProjPSD},
		{at: func(v float64) bool { return v > hi-tol }, keeps: ProjNSD},
	})
}

// TangentBall projects onto the tangent cone of the matrices of spectral norm at most radius; singular values s with
// (s/radius)² > 1 - tol are at the bound.
func TangentBall(w, x mat.Matrix, radius, tol float64) (*mat.Dense, error) {
	return tangentSingular(w, x, []bound{upper(radius, tol)})
}

// TangentBand projects onto the tangent cone of the matrices with singular values in [lo, hi], 0 < lo < hi; at the lower bound
// are those with (s/lo)² <= 1 + tol. For lo = hi use TangentStiefel.
func TangentBand(w, x mat.Matrix, lo, hi, tol float64) (*mat.Dense, error) {
	if !(0 < lo && lo < hi) {
		return nil, fmt.Errorf("oracle: tangent cone of singular values in [%v, %v]", lo, hi)
	}
	return tangentSingular(w, x, []bound{
		upper(hi, tol),
		{at: func(s float64) bool { return (s/lo)*(s/lo) <= 1+tol }, keeps: ProjPSD},
	})
}

// TangentStiefel projects onto the tangent space of the matrices with singular values one: S is all of sym(Uᵀ x V), and every
// singular vector is at the bound.
func TangentStiefel(w, x mat.Matrix) (*mat.Dense, error) {
	nothing := func(b mat.Matrix) (*mat.Dense, error) {
		n, _ := b.Dims()
		return mat.NewDense(n, n, nil), nil
	}
	return tangentSingular(w, x, []bound{{at: func(float64) bool { return true }, keeps: nothing}})
}

// bound is one end of an interval: which values are at it, and the projection onto the symmetric matrices S that move them
// inward.
type bound struct {
	at    func(value float64) bool
	keeps func(mat.Matrix) (*mat.Dense, error)
}

func upper(radius, tol float64) bound {
	return bound{at: func(s float64) bool { return (s/radius)*(s/radius) > 1-tol }, keeps: ProjNSD}
}

func tangentSymmetric(w, x mat.Matrix, bounds []bound) (*mat.Dense, error) {
	values, vectors, err := Eigen(w)
	if err != nil {
		return nil, err
	}
	if err := Finite(x); err != nil {
		return nil, err
	}
	half := new(mat.Dense)
	half.Add(x, x.T())
	half.Scale(0.5, half)
	return tangentIn(half, vectors, values, vectors, bounds)
}

func tangentSingular(w, x mat.Matrix, bounds []bound) (*mat.Dense, error) {
	u, sigma, v, err := SVD(w)
	if err != nil {
		return nil, err
	}
	if err := Finite(x); err != nil {
		return nil, err
	}
	return tangentIn(mat.DenseCopyOf(x), u, sigma, v, bounds)
}

// tangentIn subtracts from x what each bound does not keep, in the columns of u and v whose value is at it.
func tangentIn(x, u *mat.Dense, values []float64, v *mat.Dense, bounds []bound) (*mat.Dense, error) {
	out := mat.DenseCopyOf(x)
	for _, b := range bounds {
		var at []int
		for i, value := range values {
			if b.at(value) {
				at = append(at, i)
			}
		}
		if len(at) == 0 {
			continue
		}
		left, right := columns(u, at), columns(v, at)
		var xv, block, lost, lifted mat.Dense
		xv.Mul(x, right)
		block.Mul(left.T(), &xv)
		kept, err := b.keeps(&block)
		if err != nil {
			return nil, err
		}
		lost.Add(&block, block.T())
		lost.Scale(0.5, &lost)
		lost.Sub(&lost, kept)
		lifted.Mul(left, &lost)
		lost.Reset()
		lost.Mul(&lifted, right.T())
		out.Sub(out, &lost)
	}
	return out, nil
}

// columns returns the columns of x with the given indices.
func columns(x *mat.Dense, indices []int) *mat.Dense {
	m, _ := x.Dims()
	out := mat.NewDense(m, len(indices), nil)
	for j, index := range indices {
		for i := range m {
			out.Set(i, j, x.At(i, index))
		}
	}
	return out
}

// WithEigenvalues returns a symmetric matrix with the given eigenvalues and random eigenvectors.
func WithEigenvalues(seed uint64, values []float64) (*mat.Dense, error) {
	n := len(values)
	u, _, _, err := SVD(Gaussian(seed, n, n))
	if err != nil {
		return nil, err
	}
	return recompose(u, values), nil
}
