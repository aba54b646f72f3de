package optimizer

import (
	"fmt"
	"math"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
)

// Schedule is the factor in [0, 1] by which every learning rate is multiplied in each step.
type Schedule struct {
	// Kind is "constant" (also ""), "linear", "cosine" or "wsd" (warm-up, stable, decay).
	Kind string
	// Steps is the length of the run; needed by every kind but constant. Past it the factor stays at FinalFraction.
	Steps int
	// WarmupSteps raises the factor linearly over the first steps: step i is multiplied by min(1, (i+1)/WarmupSteps).
	WarmupSteps int
	// DecayFraction is the share of the run, at its end, over which wsd decays linearly.
	DecayFraction float64
	// FinalFraction is the factor at the end of the run.
	FinalFraction float64
}

// ScheduleKinds lists the kinds of schedule.
func ScheduleKinds() []string { return []string{"constant", "linear", "cosine", "wsd"} }

// Validate returns an error when the schedule's kind is unknown or its numbers cannot work.
func (s Schedule) Validate() error {
	switch s.Kind {
	case "", "constant":
		if s.WarmupSteps < 0 {
			return fmt.Errorf("warm-up steps must be 0 or more, got %d", s.WarmupSteps)
		}
		return nil
	case "linear", "cosine", "wsd":
	default:
		return fmt.Errorf("unknown schedule %q; known: constant, linear, cosine, wsd", s.Kind)
	}
	if s.Steps <= 0 {
		return fmt.Errorf("schedule %s needs the number of steps, got %d", s.Kind, s.Steps)
	}
	if s.WarmupSteps < 0 || s.WarmupSteps > s.Steps {
		return fmt.Errorf("warm-up steps must be between 0 and the %d steps of the run, got %d", s.Steps, s.WarmupSteps)
	}
	if !(s.FinalFraction >= 0 && s.FinalFraction <= 1) {
		return fmt.Errorf("final fraction must be in [0, 1], got %g", s.FinalFraction)
	}
	if s.Kind == "wsd" && !(s.DecayFraction > 0 && s.DecayFraction <= 1) {
		return fmt.Errorf("decay fraction must be in (0, 1], got %g", s.DecayFraction)
	}
	return nil
}

// At returns the factor of the update that follows step completed updates: the first update has step 0, and factor 1
// when there is no warm-up.
func (s Schedule) At(step int) float64 {
	factor := 1.0
	if s.Kind != "" && s.Kind != "constant" {
		done := min(1, float64(step)/float64(s.Steps))
		shape := 1.0
		switch s.Kind {
		case "linear":
			shape = 1 - done
		case "cosine":
			shape = 0.5 * (1 + math.Cos(math.Pi*done))
		case "wsd":
			shape = min(1, (1-done)/s.DecayFraction)
		}
		factor = s.FinalFraction + (1-s.FinalFraction)*shape
	}
	if s.WarmupSteps > 0 {
		factor *= min(1, float64(step+1)/float64(s.WarmupSteps))
	}
	return factor
}

// AtNode is At in a graph: step is the number of completed updates, an integer scalar; the result a float32 scalar.
func (s Schedule) AtNode(step *Node) *Node {
	step = ConvertDType(step, dtypes.Float32)
	one := OnesLike(step)
	factor := one
	if s.Kind != "" && s.Kind != "constant" {
		done := Min(one, DivScalar(step, float64(s.Steps)))
		shape := one
		switch s.Kind {
		case "linear":
			shape = OneMinus(done)
		case "cosine":
			shape = MulScalar(OnePlus(Cos(MulScalar(done, math.Pi))), 0.5)
		case "wsd":
			shape = Min(one, DivScalar(OneMinus(done), s.DecayFraction))
		}
		factor = AddScalar(MulScalar(shape, 1-s.FinalFraction), s.FinalFraction)
	}
	if s.WarmupSteps > 0 {
		factor = Mul(factor, Min(one, DivScalar(OnePlus(step), float64(s.WarmupSteps))))
	}
	return factor
}
