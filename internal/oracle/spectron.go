package oracle

import (
	"math"

	"gonum.org/v1/gonum/mat"
)

// Spectron holds the constants of a Spectron step.
type Spectron struct {
	LearningRate float64 // eta: a bound of the step in W, in the spectral norm
	Momentum     float64 // beta
	WeightDecay  float64 // lambda, of each factor; lambda·eta < 1
	S            float64 // s of W_pre + s·A Bᵀ; the rule is that of the factors √s·A and √s·B
	Scale        float64 // what eta is multiplied by for this layer, such as sqrt(m/n); 0 means 1
}

// Step returns the pair after one exact step from gradients gA [m, r] and gB [n, r]. Polar factors and norms come from SVDs;
// the norms are those of the factors before the step.
func (o Spectron) Step(p Pair, gA, gB mat.Matrix) (next Pair, err error) {
	scale, err := stepScale(o.LearningRate, o.WeightDecay, o.S, o.Scale)
	if err != nil {
		return Pair{}, err
	}
	root, total := math.Sqrt(o.S), 1.0
	for _, factor := range []*mat.Dense{p.A, p.B} {
		norm, err := SpectralNorm(factor)
		if err != nil {
			return Pair{}, err
		}
		total += root * norm
	}
	next.MomentA, next.MomentB = blend(o.Momentum, p.MomentA, gA), blend(o.Momentum, p.MomentB, gB)
	polarA, err := Msign(next.MomentA)
	if err != nil {
		return Pair{}, err
	}
	polarB, err := Msign(next.MomentB)
	if err != nil {
		return Pair{}, err
	}
	rho, keep := o.LearningRate*scale/(total*root), 1-o.WeightDecay*o.LearningRate
	next.A, next.B = combine(keep, p.A, -rho, polarA), combine(keep, p.B, -rho, polarB)
	return next, nil
}
