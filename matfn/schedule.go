package matfn

import (
	"fmt"
	"math"
)

// Step holds the coefficients of one step X <- A·X + (B·G + C·G²)·X with G = X Xᵀ: on a singular value s it is the odd
// polynomial A·s + B·s³ + C·s⁵.
type Step struct{ A, B, C float64 }

// At returns what the step makes of a singular value s.
func (p Step) At(s float64) float64 { return s * (p.A + s*s*(p.B+s*s*p.C)) }

// Schedule is a sequence of steps. It starts from singular values in [0, 1], since Msign divides by the Frobenius norm.
type Schedule []Step

// At returns what the whole schedule makes of a singular value s.
func (s Schedule) At(sigma float64) float64 {
	for _, step := range s {
		sigma = step.At(sigma)
	}
	return sigma
}

// Validate returns an error for a schedule without steps or with a coefficient that is not finite.
func (s Schedule) Validate() error {
	if len(s) == 0 {
		return fmt.Errorf("msign schedule has no steps: give at least one")
	}
	for i, step := range s {
		for _, c := range [...]float64{step.A, step.B, step.C} {
			if math.IsNaN(c) || math.IsInf(c, 0) {
				return fmt.Errorf("msign schedule: step %d of %d is %v: coefficients must be finite", i+1, len(s), step)
			}
		}
	}
	return nil
}

// PolarExpress8 is the default schedule: singular values in [8.8e-5, 1] end in [0.9900, 1.0004], those above 1e-4 in
// [0.9990, 1.0004] and smaller ones at about 20000 times themselves (TestScheduleRanges).
// Ref: Amsel et al. 2025, arXiv 2505.16932; rounded as in LoRA-Muon.
var PolarExpress8 = Schedule{
	{7.2086, -15.5131, 9.0178},
	{3.9623, -2.5813, 0.4542},
	{3.9466, -2.5765, 0.4544},
	{3.8991, -2.5671, 0.4566},
	{3.7186, -2.5308, 0.4653},
	{3.1390, -2.3073, 0.4733},
	{2.1715, -1.5246, 0.3885},
	{1.8648, -1.2224, 0.3577},
}

// JordanQuintic5 is Muon's original schedule. It does not converge: singular values in [0.01, 1] end anywhere in
// [0.68, 1.135], those near 0.004 at up to 1.21 and smaller ones at about 485 times themselves (TestScheduleRanges).
// Ref: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
var JordanQuintic5 = repeat(Step{3.4445, -4.7750, 2.0315}, 5)

// YouCesista6 is the 6-step schedule of You and Cesista, numerators over 1024: singular values in [3e-3, 1] end in
// [0.9955, 0.9994], but those below 1.5e-3 stay below 0.99, smaller ones at about 1140 times themselves (TestScheduleRanges).
// Ref: Cesista, You, Jordan 2025, "Squeezing 1-2% efficiency gains out of Muon".
var YouCesista6 = Schedule{
	{3955. / 1024, -8306. / 1024, 5008. / 1024},
	{3735. / 1024, -6681. / 1024, 3463. / 1024},
	{3799. / 1024, -6499. / 1024, 3211. / 1024},
	{4019. / 1024, -6385. / 1024, 2906. / 1024},
	{2677. / 1024, -3029. / 1024, 1162. / 1024},
	{2172. / 1024, -1833. / 1024, 682. / 1024},
}

// newtonSchulz is the quintic Newton-Schulz step: error e becomes about 2.5·e³, and it leaves 1 where it is.
var newtonSchulz = Step{1.875, -1.25, 0.375}

// finishSteps is the number of Newton-Schulz steps of WithExactFinish: from 0.1, where the 8 steps leave a singular value
// of 5e-6·‖x‖_F, they reach 1 to 1e-5. A fixed number, since a loop that watches the residual has no gradient.
const finishSteps = 6

func repeat(step Step, times int) Schedule {
	out := make(Schedule, times)
	for i := range out {
		out[i] = step
	}
	return out
}
