package oracle

import (
	"math"

	"gonum.org/v1/gonum/mat"
)

// SMuon holds the constants of an sMuon step, which are LoRA-Muon's.
type SMuon LoRAMuon

// Step returns the pair after one exact step without a guard, from gradients gA [m, r] and gB [n, r], its moments carried to
// the new factors, and the two increments ΔA and ΔB before decay. The momentum and its polar factor are dense, from SVDs.
func (o SMuon) Step(p Pair, gA, gB mat.Matrix) (next Pair, dA, dB *mat.Dense, err error) {
	scale, err := stepScale(o.LearningRate, o.WeightDecay, o.S, o.Scale)
	if err != nil {
		return Pair{}, nil, nil, err
	}
	inverseA, err := PseudoInverse(p.A)
	if err != nil {
		return Pair{}, nil, nil, err
	}
	inverseB, err := PseudoInverse(p.B)
	if err != nil {
		return Pair{}, nil, nil, err
	}
	// outside removes the part of x [m, n] that A reaches.
	outside := func(x *mat.Dense) *mat.Dense {
		var reached mat.Dense
		reached.Product(p.A, inverseA, x)
		return combine(1, x, -1, &reached)
	}
	var inside, byRows, dense, stepA, stepB mat.Dense
	inside.Mul(inverseA.T(), blend(o.Momentum, p.MomentB, gB).T())
	byRows.Mul(blend(o.Momentum, p.MomentA, gA), inverseB)
	dense.Add(&inside, outside(&byRows))
	polar, err := Msign(&dense)
	if err != nil {
		return Pair{}, nil, nil, err
	}
	stepA.Mul(outside(polar), inverseB.T())
	stepB.Mul(polar.T(), inverseA.T())
	eta := -o.LearningRate * scale / o.S
	dA, dB = &stepA, &stepB
	dA.Scale(eta, dA)
	dB.Scale(eta, dB)
	k := math.Sqrt(1 - o.WeightDecay*o.LearningRate)
	next = Pair{A: combine(k, p.A, 1/k, dA), B: combine(k, p.B, 1/k, dB), MomentA: new(mat.Dense), MomentB: new(mat.Dense)}
	next.MomentA.Mul(&dense, next.B)
	next.MomentB.Mul(dense.T(), next.A)
	return next, dA, dB, nil
}

// PseudoInverse returns the Moore-Penrose inverse of x [m, n] as [n, m], from its SVD.
func PseudoInverse(x mat.Matrix) (*mat.Dense, error) {
	inverse, err := Apply(x, func(sigma float64) float64 { return 1 / sigma })
	if err != nil {
		return nil, err
	}
	return mat.DenseCopyOf(inverse.T()), nil
}
