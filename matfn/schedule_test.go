package matfn

import (
	"math"
	"strings"
	"testing"
)

// image returns the smallest and largest value that s takes on singular values in [from, 1].
func image(s Schedule, from float64) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	const points = 200_000
	for i := range points + 1 {
		y := s.At(math.Pow(from, float64(i)/points))
		low, high = min(low, y), max(high, y)
	}
	return low, high
}

// TestScheduleRanges holds the documentation of the schedules against exact arithmetic. The spec asks for [0.99, 1.01]
// above 1e-4 of PolarExpress8 only: the two shorter schedules do not reach it, and this test says where they stand.
func TestScheduleRanges(t *testing.T) {
	for _, c := range []struct {
		name            string
		schedule        Schedule
		from, low, high float64
	}{
		{"PolarExpress8 above 1e-4", PolarExpress8, 1e-4, 0.9990, 1.0004},
		{"PolarExpress8 above 8.8e-5", PolarExpress8, 8.8e-5, 0.9900, 1.0004},
		{"YouCesista6 above 3e-3", YouCesista6, 3e-3, 0.9955, 0.9994},
		{"JordanQuintic5 above 0.01", JordanQuintic5, 0.01, 0.68, 1.135},
		{"JordanQuintic5 above 0.0025", JordanQuintic5, 0.0025, 0.68, 1.21},
	} {
		low, high := image(c.schedule, c.from)
		if low < c.low || high > c.high || low > c.low+0.01 || high < c.high-0.01 {
			t.Errorf("%s: [%.5f, %.5f], documented [%g, %g]", c.name, low, high, c.low, c.high)
		}
	}
	for _, c := range []struct {
		schedule Schedule
		gain     float64
	}{{PolarExpress8, 20770}, {YouCesista6, 1137}, {JordanQuintic5, 485}} {
		if gain := c.schedule.At(1e-9) / 1e-9; math.Abs(gain/c.gain-1) > 0.01 {
			t.Errorf("small singular values grow by %.0f, documented about %.0f", gain, c.gain)
		}
	}
	if y := YouCesista6.At(1.5e-3); y > 0.99 {
		t.Errorf("YouCesista6 takes 1.5e-3 to %v, documented below 0.99", y)
	}
	finished := append(append(Schedule{}, PolarExpress8...), repeat(newtonSchulz, finishSteps)...)
	if low, high := image(finished, 5e-6); low < 1-1e-5 || high > 1+1e-5 {
		t.Errorf("exact finish: [%.6f, %.6f] above 5e-6, documented within 1e-5 of one", low, high)
	}
}

func TestScheduleValidate(t *testing.T) {
	if err := PolarExpress8.Validate(); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		schedule Schedule
		want     string
	}{
		{nil, "no steps"},
		{Schedule{{1, 2, 3}, {1, math.NaN(), 3}}, "step 2 of 2"},
		{Schedule{{math.Inf(1), 0, 0}}, "step 1 of 1"},
	} {
		if err := c.schedule.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: got error %v, want one with %q", c.schedule, err, c.want)
		}
	}
}

// TestSegments: concatenated segments are the schedule, and none amplifies by more than maxGain before its last step.
func TestSegments(t *testing.T) {
	long := append(append(append(Schedule{}, PolarExpress8...), PolarExpress8...), repeat(newtonSchulz, 30)...)
	for _, schedule := range []Schedule{PolarExpress8, JordanQuintic5, YouCesista6, long, {{1e6, 0, 0}, {1, 0, 0}}} {
		var joined Schedule
		for _, segment := range segments(schedule) {
			gain := 1.0
			for _, p := range segment[:len(segment)-1] {
				gain *= p.A
			}
			if gain > maxGain {
				t.Errorf("%v: a segment of %d steps amplifies by %g before its last", schedule, len(segment), gain)
			}
			joined = append(joined, segment...)
		}
		if len(joined) != len(schedule) {
			t.Errorf("segments hold %d steps, the schedule %d", len(joined), len(schedule))
		}
		for i := range joined {
			if joined[i] != schedule[i] {
				t.Errorf("step %d is %v, want %v", i, joined[i], schedule[i])
			}
		}
	}
}
