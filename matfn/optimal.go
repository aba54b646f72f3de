package matfn

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"

	"github.com/gomlx/gomlx/support/exceptions"
)

const (
	// optimalSafety shrinks what every step but the last gets, so that rounding cannot push a singular value past the end of
	// the interval, where the polynomials are steep and the error would grow with every step.
	optimalSafety = 1.01
	// optimalCushion bounds from below what a step makes of large singular values, relative to the end of its interval. The best
	// polynomial for [1e-6, 1] takes some of them to 1e-5, and rounding of 6e-8 is then 1 % of what is left.
	// Ref: Amsel et al. 2025, section 3.4 and implementation 2.
	optimalCushion = 0.02407327424182761
)

// Optimal returns the schedule of the given number of steps that brings singular values in [floor, 1] closest to one, each
// step the best odd quintic polynomial for what the steps before it leave, kept stable under rounding by a safety factor and
// a cushion as published. Smaller floors need more steps: about one for every factor of 4. Panics for a floor outside
// (0, 1) or without steps.
// Ref: Polar Express, Amsel et al. 2025, arXiv 2505.16932, theorem 3.1, algorithm 1 and section 3.4; without the safety factor and
// for a floor of 1e-3 it is their table (TestOptimalPublished).
func Optimal(floor float64, steps int) Schedule {
	return optimal(floor, steps, optimalSafety, optimalCushion)
}

// optimal is Optimal with another safety factor and cushion.
func optimal(floor float64, steps int, safety, cushion float64) Schedule {
	if !(floor > 0 && floor < 1) || steps < 1 {
		exceptions.Panicf("matfn.Optimal: got floor %g and %d steps, want a floor between 0 and 1 and at least one step", floor, steps)
	}
	out := make(Schedule, steps)
	low, high := floor, 1.0
	for i := range out {
		step, err := bestQuintic(max(low, cushion*high), high)
		if err != nil {
			exceptions.Panicf("matfn.Optimal(%g, %d): step %d: %v", floor, steps, i+1, err)
		}
		if low < cushion*high { // made for a shorter interval: centre what it makes of this one around one
			step = step.times(2 / (step.At(low) + step.At(high)))
		}
		if i+1 < steps {
			g := safety
			step = Step{step.A / g, step.B / (g * g * g), step.C / (g * g * g * g * g)}
		}
		out[i] = step
		low, high = step.At(low), highest(step, low, high)
	}
	return out
}

// times returns the step whose result is c times as large.
func (p Step) times(c float64) Step { return Step{c * p.A, c * p.B, c * p.C} }

// highest bounds what a step makes of values in [low, high]: the polynomial is at most as far above one as low is below.
func highest(step Step, low, high float64) float64 {
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
