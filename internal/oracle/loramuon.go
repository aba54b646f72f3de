package oracle

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// Pair is the state of one low-rank layer W = W_pre + s·A Bᵀ: factors A [m, r] and B [n, r] and their first moments.
type Pair struct {
	A, B, MomentA, MomentB *mat.Dense
}

// LoRAMuon holds the constants of a LoRA-Muon step.
type LoRAMuon struct {
	LearningRate float64 // eta: the length of the step in W, in the spectral norm
	Momentum     float64 // beta
	WeightDecay  float64 // lambda, of the product A Bᵀ; lambda·eta < 1
	S            float64 // s of W_pre + s·A Bᵀ; gradients are those that backpropagation gives, so s·G B and s·Gᵀ A
	Scale        float64 // what eta is multiplied by for this layer, such as sqrt(m/n); 0 means 1
}

// Step returns the pair after one exact step without a guard, from gradients gA [m, r] and gB [n, r], and the two
// increments ΔA and ΔB before decay. Polar factors and inverse roots come from SVDs.
func (o LoRAMuon) Step(p Pair, gA, gB mat.Matrix) (next Pair, dA, dB *mat.Dense, err error) {
	return o.step(p, gA, gB, increment)
}

// step is Step with increments factor·msign(moment·R)·Rᵀ by another root R of (otherᵀ other)^{-1}.
func (o LoRAMuon) step(p Pair, gA, gB mat.Matrix, increment func(moment, other *mat.Dense, factor float64) (*mat.Dense, error)) (next Pair, dA, dB *mat.Dense, err error) {
	scale, err := stepScale(o.LearningRate, o.WeightDecay, o.S, o.Scale)
	if err != nil {
		return Pair{}, nil, nil, err
	}
	next.MomentA, next.MomentB = blend(o.Momentum, p.MomentA, gA), blend(o.Momentum, p.MomentB, gB)
	half := -o.LearningRate * scale / (2 * o.S)
	if dA, err = increment(next.MomentA, p.B, half); err != nil {
		return Pair{}, nil, nil, err
	}
	if dB, err = increment(next.MomentB, p.A, half); err != nil {
		return Pair{}, nil, nil, err
	}
	k := math.Sqrt(1 - o.WeightDecay*o.LearningRate)
	next.A, next.B = combine(k, p.A, 1/k, dA), combine(k, p.B, 1/k, dB)
	return next, dA, dB, nil
}

// increment returns factor·msign(moment·R)·R with R = (otherᵀ other)^{-1/2}.
func increment(moment, other *mat.Dense, factor float64) (*mat.Dense, error) {
	root, err := GramInvSqrt(other)
	if err != nil {
		return nil, err
	}
	var inner mat.Dense
	inner.Mul(moment, root)
	polar, err := Msign(&inner)
	if err != nil {
		return nil, err
	}
	out := new(mat.Dense)
	out.Mul(polar, root)
	out.Scale(factor, out)
	return out, nil
}

// stepScale checks the constants of a step and returns what eta is multiplied by for the layer: scale, 1 for 0.
func stepScale(learningRate, weightDecay, s, scale float64) (float64, error) {
	if !(weightDecay*learningRate < 1) || !(s > 0) {
		return 0, fmt.Errorf("oracle: lambda·eta = %v must be below 1 and s = %v positive", weightDecay*learningRate, s)
	}
	if scale == 0 {
		return 1, nil
	}
	return scale, nil
}

// blend returns beta·m + (1-beta)·g; a nil m counts as zero.
func blend(beta float64, m *mat.Dense, g mat.Matrix) *mat.Dense {
	if m == nil {
		rows, cols := g.Dims()
		m = mat.NewDense(rows, cols, nil)
	}
	return combine(beta, m, 1-beta, g)
}

// combine returns a·x + b·y.
func combine(a float64, x mat.Matrix, b float64, y mat.Matrix) *mat.Dense {
	var left, right mat.Dense
	left.Scale(a, x)
	right.Scale(b, y)
	left.Add(&left, &right)
	return &left
}
