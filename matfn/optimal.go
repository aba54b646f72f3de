package matfn

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"

	"github.com/gomlx/gomlx/support/exceptions"
)

// optimalSafety shrinks what every step but the last gets, so that rounding cannot push a singular value past the end of the
// interval, where the polynomials are steep and the error would grow with every step.
const optimalSafety = 1.01

// Optimal returns the schedule of the given number of steps that brings singular values in [floor, 1] closest to one, each
// step the best odd quintic polynomial for what the steps before it leave. Smaller floors need more steps: about one for
// every factor of 4.2. Panics for a floor outside (0, 1) or without steps.
// Ref: Polar Express, Amsel et al. 2025, arXiv 2505.16932, theorem 3.1 and algorithm 1.
func Optimal(floor float64, steps int) Schedule {
	if !(floor > 0 && floor < 1) || steps < 1 {
		exceptions.Panicf("matfn.Optimal: got floor %g and %d steps, want a floor between 0 and 1 and at least one step", floor, steps)
	}
	out := make(Schedule, steps)
	low, high := floor, 1.0
	for i := range out {
		step, err := bestQuintic(low, high)
		if err != nil {
			exceptions.Panicf("matfn.Optimal(%g, %d): step %d: %v", floor, steps, i+1, err)
		}
		if i+1 < steps {
			g := optimalSafety
			step = Step{step.A / g, step.B / (g * g * g), step.C / (g * g * g * g * g)}
		}
		out[i] = step
		low, high = step.At(low), high0(step, low, high)
	}
	return out
}

// high0 bounds what a step makes of values in [low, high]: the polynomial is at most as far above one as low is below.
func high0(step Step, low, high float64) float64 {
	return max(2-step.At(low), step.At(high), 1+1e-12)
}

// bestQuintic returns the odd quintic that minimises the largest distance from one on [low, high], by Remez exchange: the
// error has equal size and alternating sign at low, two points inside and high.
func bestQuintic(low, high float64) (Step, error) {
	if 1-low/high < 1e-6 {
		// In the limit of a short interval around c it is the Newton-Schulz step of s/c, below what float64 can solve for.
		c := (low + high) / 2
		return Step{newtonSchulz.A / c, newtonSchulz.B / (c * c * c), newtonSchulz.C / (c * c * c * c * c)}, nil
	}
	inner, outer := (3*low+high)/4, (low+3*high)/4
	var step Step
	for last := math.Inf(1); ; {
		system, ones := mat.NewDense(4, 4, nil), mat.NewVecDense(4, []float64{1, 1, 1, 1})
		for i, x := range []float64{low, inner, outer, high} {
			system.SetRow(i, []float64{x, x * x * x, x * x * x * x * x, float64(1 - 2*(i%2))})
		}
		var solution mat.VecDense
		if err := solution.SolveVec(system, ones); err != nil {
			if _, illConditioned := err.(mat.Condition); !illConditioned {
				return Step{}, fmt.Errorf("best quintic on [%g, %g]: %w", low, high, err)
			}
		}
		step = Step{solution.AtVec(0), solution.AtVec(1), solution.AtVec(2)}
		if e := solution.AtVec(3); math.Abs(e-last) <= 1e-14 || math.IsNaN(e) {
			return step, nil
		} else {
			last = e
		}
		root := math.Sqrt(max(9*step.B*step.B-20*step.A*step.C, 0))
		inner, outer = math.Sqrt((-3*step.B-root)/(10*step.C)), math.Sqrt((-3*step.B+root)/(10*step.C))
	}
}
