package oracle

import (
	"math"

	"gonum.org/v1/gonum/mat"
)

// LoRARITE is LoRA-RITE on one pair W = W_pre + s·A Bᵀ, with its state. Decompositions are SVDs and eigendecompositions.
type LoRARITE struct {
	LearningRate float64 // eta
	Momentum     float64 // beta
	Beta2        float64 // of the moving average of second moments; 1 sums them
	WeightDecay  float64 // lambda, of the product A Bᵀ; lambda·eta < 1
	S            float64 // s
	Scale        float64 // what eta is multiplied by for this layer; 0 means 1

	// A [m, r] and B [n, r] are the factors.
	A, B *mat.Dense
	// Count is the number of steps taken.
	Count        int
	sideA, sideB riteSide
}

// riteSide is the state of one factor: moments in the basis of the other one's columns.
type riteSide struct {
	basis, first, second *mat.Dense
	escaped              float64
}

// Step takes one exact step without a guard from gradients gA [m, r] and gB [n, r]. Rho returns the escaped masses after it.
func (o *LoRARITE) Step(gA, gB mat.Matrix) error {
	scale, err := stepScale(o.LearningRate, o.WeightDecay, o.S, o.Scale)
	if err != nil {
		return err
	}
	o.Count++
	dA, err := o.side(&o.sideA, o.B, gA)
	if err != nil {
		return err
	}
	dB, err := o.side(&o.sideB, o.A, gB)
	if err != nil {
		return err
	}
	k := math.Sqrt(1 - o.WeightDecay*o.LearningRate)
	rate := -o.LearningRate * scale / (o.S * k)
	o.A, o.B = combine(k, o.A, rate, dA), combine(k, o.B, rate, dB)
	return nil
}

// Rho returns the escaped masses of A's and B's second moments.
func (o *LoRARITE) Rho() (a, b float64) { return o.sideA.escaped, o.sideB.escaped }

// side updates the moments of a factor with gradient g and returns M·R⁻ᵀ, for the other factor U R.
func (o *LoRARITE) side(s *riteSide, other *mat.Dense, g mat.Matrix) (*mat.Dense, error) {
	rows, r := g.Dims()
	if s.basis == nil {
		otherRows, _ := other.Dims()
		s.basis, s.first, s.second = mat.NewDense(otherRows, r, nil), mat.NewDense(rows, r, nil), mat.NewDense(r, r, nil)
	}
	basis, err := Msign(other)
	if err != nil {
		return nil, err
	}
	root, err := GramInvSqrt(other)
	if err != nil {
		return nil, err
	}
	var gradient, turn, square, moved mat.Dense
	gradient.Mul(g, root)
	turn.Mul(basis.T(), s.basis)
	square.Mul(gradient.T(), &gradient)
	moved.Product(&turn, s.second, turn.T())
	lost, err := EscapedMass(&turn, s.second)
	if err != nil {
		return nil, err
	}
	s.basis, s.escaped = basis, s.escaped+lost
	over := 1.0
	if o.Beta2 < 1 {
		s.second = combine(o.Beta2, &moved, 1-o.Beta2, &square)
		s.escaped *= o.Beta2
		over = 1 - math.Pow(o.Beta2, float64(o.Count))
	} else {
		s.second = combine(1, &moved, 1, &square)
	}
	shifted := mat.DenseCopyOf(s.second)
	for i := range r {
		shifted.Set(i, i, shifted.At(i, i)+s.escaped)
	}
	shifted.Scale(1/over, shifted)
	inverse, err := InvSqrt(shifted, 0)
	if err != nil {
		return nil, err
	}
	var direction, carried mat.Dense
	direction.Mul(&gradient, inverse)
	carried.Mul(s.first, turn.T())
	s.first = combine(o.Momentum, &carried, 1-o.Momentum, &direction)
	out := new(mat.Dense)
	out.Mul(s.first, root)
	return out, nil
}

// EscapedMass returns the largest eigenvalue of (I - PᵀP)V for P [r, r] of norm at most one and symmetric positive semidefinite
// V [r, r]: that of V^{1/2} (I - PᵀP) V^{1/2}.
func EscapedMass(p, v mat.Matrix) (float64, error) {
	half, err := ApplyEigen(v, func(lambda float64) float64 { return math.Sqrt(max(lambda, 0)) })
	if err != nil {
		return 0, err
	}
	var gram, inner mat.Dense
	gram.Mul(p.T(), p)
	r, _ := gram.Dims()
	lost := mat.NewDense(r, r, nil)
	for i := range r {
		lost.Set(i, i, 1)
	}
	lost.Sub(lost, &gram)
	inner.Product(half, lost, half)
	values, _, err := Eigen(&inner)
	if err != nil {
		return 0, err
	}
	return max(values[r-1], 0), nil
}

// EigenvalueShift returns the largest difference between an eigenvalue of x and that of y in the same place, both symmetric.
func EigenvalueShift(x, y mat.Matrix) (float64, error) {
	first, _, err := Eigen(x)
	if err != nil {
		return 0, err
	}
	second, _, err := Eigen(y)
	if err != nil {
		return 0, err
	}
	largest := 0.0
	for i := range first {
		largest = max(largest, math.Abs(first[i]-second[i]))
	}
	return largest, nil
}
