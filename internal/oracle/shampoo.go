package oracle

import (
	"math"

	"gonum.org/v1/gonum/mat"
)

// Shampoo holds the constants of the direction of a Shampoo step on a matrix.
type Shampoo struct {
	Momentum    float64 // beta
	Beta2       float64 // of L and R; 1 sums
	Nesterov    bool    // look one step ahead along the momentum
	Left, Right bool    // the sides with a preconditioner
	Ridge       float64 // added to L and R, relative to their Frobenius norms
}

// Averages are what Shampoo keeps of an m x n matrix: L [m, m], R [n, n] and the momentum M; nil is zero.
type Averages struct{ L, R, M *mat.Dense }

// Direction returns L̂^{-1/4} d R̂^{-1/4} (the inverse square root if there is only one side) after taking in grad as the
// count-th gradient, and the new averages: d is the momentum divided by what its weights add up to, L and R are averages of
// d dᵀ and dᵀ d. Roots come from eigendecompositions; eigenvalues that count as zero give zero.
func (o Shampoo) Direction(old Averages, grad mat.Matrix, count int) (*mat.Dense, Averages, error) {
	if err := Finite(grad); err != nil {
		return nil, Averages{}, err
	}
	next := Averages{M: blend(o.Momentum, old.M, grad)}
	direction, t := next.M, float64(count)
	if o.Nesterov {
		direction, t = blend(o.Momentum, next.M, grad), t+1
	}
	direction = combine(1/(1-math.Pow(o.Momentum, t)), direction, 0, direction)
	d := direction
	power, correction := -0.5, 1-math.Pow(o.Beta2, float64(count))
	if o.Left && o.Right {
		power = -0.25
	}
	if o.Beta2 == 1 {
		correction = 1
	}
	root := func(average *mat.Dense) (*mat.Dense, error) {
		shift := o.Ridge * mat.Norm(average, 2)
		largest, err := SpectralNorm(average)
		if err != nil {
			return nil, err
		}
		return ApplyEigen(average, func(v float64) float64 {
			if v+shift <= rankTol*largest {
				return 0
			}
			return math.Pow((v+shift)/correction, power)
		})
	}
	if o.Left {
		next.L = accumulate(o.Beta2, old.L, product2(d, d.T()))
		side, err := root(next.L)
		if err != nil {
			return nil, Averages{}, err
		}
		direction = product2(side, direction)
	}
	if o.Right {
		next.R = accumulate(o.Beta2, old.R, product2(d.T(), d))
		side, err := root(next.R)
		if err != nil {
			return nil, Averages{}, err
		}
		direction = product2(direction, side)
	}
	return direction, next, nil
}

// accumulate returns beta·old + (1-beta)·x, or old + x for beta 1; a nil old counts as zero.
func accumulate(beta float64, old *mat.Dense, x *mat.Dense) *mat.Dense {
	if beta < 1 {
		return blend(beta, old, x)
	}
	if old == nil {
		return mat.DenseCopyOf(x)
	}
	return combine(1, old, 1, x)
}
