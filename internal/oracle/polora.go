package oracle

import (
	"math"

	"gonum.org/v1/gonum/mat"
)

// PoLoRA holds the constants of a PoLoRA step on a low-rank pair W_pre + s·A Bᵀ. Ref: arXiv 2607.17620, algorithm 1.
type PoLoRA struct {
	LearningRate float64 // eta: the bound of the first-order move of W, in the spectral norm
	Momentum     float64 // beta1
	Beta2        float64 // of the diagonals
	Nesterov     bool
	WeightDecay  float64 // lambda, of the product A Bᵀ
	Damping      float64 // δ, relative to the largest entry of the diagonals and the largest eigenvalue of C_A and C_B
	S            float64 // s
	Scale        float64 // what eta is multiplied by for this layer
}

// Diagonals are the second moments of a pair: of the rows of A and of those of B; nil is zero.
type Diagonals struct{ A, B []float64 }

// Step returns the pair and the diagonals after one step from the gradients gA and gB. Polar factors, roots and norms come from
// SVDs and eigendecompositions.
func (o PoLoRA) Step(p Pair, old Diagonals, gA, gB *mat.Dense) (Pair, Diagonals, error) {
	if _, err := stepScale(o.LearningRate, o.WeightDecay, o.S, o.Scale); err != nil {
		return Pair{}, Diagonals{}, err
	}
	next := Pair{MomentA: blend(o.Momentum, p.MomentA, gA), MomentB: blend(o.Momentum, p.MomentB, gB)}
	followA, followB := next.MomentA, next.MomentB
	if o.Nesterov {
		followA, followB = blend(o.Momentum, followA, gA), blend(o.Momentum, followB, gB)
	}
	norm := 0.0
	for _, x := range []*mat.Dense{p.A, p.B} {
		length, err := SpectralNorm(x)
		if err != nil {
			return Pair{}, Diagonals{}, err
		}
		norm += length
	}
	rho := o.LearningRate * o.Scale / (o.S * norm)
	sideA, whiteA, err := o.side(followA, gA, old.A, p.B, old.B)
	if err != nil {
		return Pair{}, Diagonals{}, err
	}
	sideB, whiteB, err := o.side(followB, gB, old.B, p.A, old.A)
	if err != nil {
		return Pair{}, Diagonals{}, err
	}
	k := math.Sqrt(1 - o.WeightDecay*o.LearningRate)
	next.A, next.B = combine(k, p.A, -rho/k, sideA), combine(k, p.B, -rho/k, sideB)
	return next, Diagonals{o.diagonal(old.A, whiteA), o.diagonal(old.B, whiteB)}, nil
}

// side returns D/‖D‖₂ of one factor from its direction and diagonal and the other factor's, and its gradient whitened by the
// other one's curvature.
func (o PoLoRA) side(follow, grad *mat.Dense, diagonal []float64, other *mat.Dense, otherDiagonal []float64) (
	step, white *mat.Dense, err error) {
	rows, _ := other.Dims()
	scaled := scaleRows(other, o.metric(otherDiagonal, rows), 0.5)
	values, vectors, err := Eigen(product2(scaled.T(), scaled))
	if err != nil {
		return nil, nil, err
	}
	largest := values[len(values)-1]
	for i, v := range values {
		if values[i] = 0; largest > 0 {
			values[i] = 1 / math.Sqrt(max(v, 0)+o.Damping*largest)
		}
	}
	root := recompose(vectors, values)
	rows, _ = follow.Dims()
	metric := o.metric(diagonal, rows)
	polar, err := Msign(scaleRows(product2(follow, root), metric, -0.5))
	if err != nil {
		return nil, nil, err
	}
	step = scaleRows(product2(polar, root), metric, -0.5)
	length, err := SpectralNorm(step)
	if err != nil {
		return nil, nil, err
	}
	if length > 0 {
		step.Scale(1/length, step)
	}
	return step, product2(grad, root), nil
}

// metric returns diagonal/max + δ, ones for a zero diagonal.
func (o PoLoRA) metric(diagonal []float64, n int) []float64 {
	out, largest := make([]float64, n), 0.0
	for _, v := range diagonal {
		largest = max(largest, v)
	}
	for i := range out {
		if out[i] = 1 + o.Damping; largest > 0 {
			out[i] = diagonal[i]/largest + o.Damping
		}
	}
	return out
}

// diagonal returns beta2·old + (1-beta2)·(the mean of the squares of white's rows).
func (o PoLoRA) diagonal(old []float64, white *mat.Dense) []float64 {
	m, r := white.Dims()
	out := make([]float64, m)
	for i := range out {
		row := white.RawRowView(i)
		for _, v := range row {
			out[i] += (1 - o.Beta2) * v * v / float64(r)
		}
		if old != nil {
			out[i] += o.Beta2 * old[i]
		}
	}
	return out
}

// scaleRows returns x with row i multiplied by factors[i]^power.
func scaleRows(x *mat.Dense, factors []float64, power float64) *mat.Dense {
	out := mat.DenseCopyOf(x)
	out.Apply(func(i, _ int, v float64) float64 { return v * math.Pow(factors[i], power) }, out)
	return out
}
