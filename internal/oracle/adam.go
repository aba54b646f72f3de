package oracle

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// Adam holds the constants of an AdamW step.
type Adam struct {
	LearningRate float64 // eta
	Beta1, Beta2 float64 // of the averages of the gradient and of its square
	Epsilon      float64 // added to the root of the second moment
	WeightDecay  float64 // lambda: x ← (1 - lambda·eta) x
}

// Moments are the averages that Adam keeps of a matrix: M of the gradient and V of its elements' squares; nil is zero.
type Moments struct{ M, V *mat.Dense }

// Direction returns m̂/(√v̂ + epsilon) after taking in grad as the count-th gradient, and the new moments. Ref: Loshchilov and
// Hutter 2019, arXiv 1711.05101, algorithm 2.
func (o Adam) Direction(old Moments, grad mat.Matrix, count int) (*mat.Dense, Moments, error) {
	if err := Finite(grad); err != nil {
		return nil, Moments{}, err
	}
	if count < 1 {
		return nil, Moments{}, fmt.Errorf("oracle: Adam's step %d, they count from 1", count)
	}
	squares := mat.DenseCopyOf(grad)
	squares.MulElem(squares, squares)
	next := Moments{blend(o.Beta1, old.M, grad), blend(o.Beta2, old.V, squares)}
	return o.quotient(next.M, next.V, count), next, nil
}

// quotient returns m̂/(√v̂ + epsilon) in the count-th step.
func (o Adam) quotient(m, v *mat.Dense, count int) *mat.Dense {
	c1, c2 := 1-math.Pow(o.Beta1, float64(count)), 1-math.Pow(o.Beta2, float64(count))
	out := mat.DenseCopyOf(m)
	out.Apply(func(i, j int, m float64) float64 {
		return m / c1 / (math.Sqrt(v.At(i, j)/c2) + o.Epsilon)
	}, out)
	return out
}

// Apply returns (1 - lambda·eta) x - eta·direction.
func (o Adam) Apply(x, direction *mat.Dense) *mat.Dense {
	return combine(1-o.WeightDecay*o.LearningRate, x, -o.LearningRate, direction)
}

// RPrecAdamW is AdamW on the gradients of a low-rank pair, each preconditioned by the other factor:
// ∇_A (BᵀB + δI)⁻¹ and ∇_B (AᵀA + δI)⁻¹. Ref: Zhang and Pilanci 2024, arXiv 2402.02347.
type RPrecAdamW struct {
	Adam
	Ridge float64 // δ
}

// Step returns the factors after the count-th step from gradients gA and gB, and the new moments of A and B. A factor whose
// partner is zero only decays.
func (o RPrecAdamW) Step(a, b *mat.Dense, oldA, oldB Moments, gA, gB mat.Matrix, count int) (
	nextA, nextB *mat.Dense, mA, mB Moments, err error) {
	side := func(x, other *mat.Dense, old Moments, grad mat.Matrix) (*mat.Dense, Moments, error) {
		inverse, err := ApplyEigen(product2(other.T(), other), func(v float64) float64 { return 1 / (max(v, 0) + o.Ridge) })
		if err != nil {
			return nil, Moments{}, err
		}
		direction, moments, err := o.Direction(old, product2(grad, inverse), count)
		if err != nil {
			return nil, Moments{}, err
		}
		if mat.Norm(other, 2) == 0 {
			direction.Zero()
		}
		return o.Apply(x, direction), moments, nil
	}
	if nextA, mA, err = side(a, b, oldA, gA); err != nil {
		return nil, nil, Moments{}, Moments{}, err
	}
	if nextB, mB, err = side(b, a, oldB, gB); err != nil {
		return nil, nil, Moments{}, Moments{}, err
	}
	return nextA, nextB, mA, mB, nil
}

// product2 returns x·y.
func product2(x, y mat.Matrix) *mat.Dense {
	out := new(mat.Dense)
	out.Mul(x, y)
	return out
}
