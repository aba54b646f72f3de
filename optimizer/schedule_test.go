package optimizer

import (
	"fmt"
	"math"
	"slices"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/polargo/polar/internal/check"
)

var schedules = []Schedule{
	{}, {Kind: "constant", WarmupSteps: 5}, {Kind: "linear", Steps: 40}, {Kind: "linear", Steps: 40, WarmupSteps: 7, FinalFraction: 0.1},
	{Kind: "cosine", Steps: 40}, {Kind: "cosine", Steps: 40, WarmupSteps: 40, FinalFraction: 0.5}, {Kind: "wsd", Steps: 40, DecayFraction: 0.25},
	{Kind: "wsd", Steps: 40, WarmupSteps: 3, DecayFraction: 1, FinalFraction: 0.2}, {Kind: "linear", Steps: 1},
}

// TestScheduleNode: the graph's factor is At's, in float32, before, at and after the end of every kind.
func TestScheduleNode(t *testing.T) {
	const tol = 4e-7 // a few roundings of factors up to 1
	kinds := map[string]bool{}
	for _, s := range schedules {
		kinds[s.Kind] = true
		exec, err := NewExec(check.Backend(t), func(step *Node) *Node { return s.AtNode(step) })
		if err != nil {
			t.Fatal(err)
		}
		for step := range 50 {
			out, err := exec.Call(int64(step))
			if err != nil {
				t.Fatal(err)
			}
			got, want := float64(tensors.ToScalar[float32](out[0])), s.At(step)
			if !(math.Abs(got-want) <= tol) {
				t.Errorf("%+v at step %d: %g in the graph, %g outside", s, step, got, want)
			}
			if !(want >= 0 && want <= 1) {
				t.Errorf("%+v at step %d: factor %g", s, step, want)
			}
		}
		exec.Finalize()
	}
	for _, kind := range ScheduleKinds() {
		if !kinds[kind] {
			t.Errorf("no case for kind %s", kind)
		}
	}
}

// TestScheduleValues holds the factors to numbers worked out by hand.
func TestScheduleValues(t *testing.T) {
	for _, c := range []struct {
		s    Schedule
		at   []int
		want []float64
	}{
		{Schedule{}, []int{0, 1000}, []float64{1, 1}},
		{Schedule{WarmupSteps: 4}, []int{0, 1, 3, 4}, []float64{0.25, 0.5, 1, 1}},
		{Schedule{Kind: "linear", Steps: 10}, []int{0, 5, 9, 10, 99}, []float64{1, 0.5, 0.1, 0, 0}},
		{Schedule{Kind: "linear", Steps: 10, FinalFraction: 0.2}, []int{0, 5, 10}, []float64{1, 0.6, 0.2}},
		{Schedule{Kind: "linear", Steps: 10, WarmupSteps: 2}, []int{0, 1, 2}, []float64{0.5, 0.9, 0.8}},
		{Schedule{Kind: "cosine", Steps: 6}, []int{0, 2, 3, 4, 6}, []float64{1, 0.75, 0.5, 0.25, 0}},
		{Schedule{Kind: "wsd", Steps: 10, DecayFraction: 0.5}, []int{0, 5, 6, 8, 10}, []float64{1, 1, 0.8, 0.4, 0}},
	} {
		var got []float64
		for _, step := range c.at {
			got = append(got, math.Round(c.s.At(step)*1e12)/1e12)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v at %v: %v, want %v", c.s, c.at, got, c.want)
		}
	}
}

func TestScheduleValidate(t *testing.T) {
	for _, s := range schedules {
		if err := s.Validate(); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
	for name, s := range map[string]Schedule{
		"kind": {Kind: "step", Steps: 3}, "no steps": {Kind: "linear"}, "negative warm-up": {WarmupSteps: -1}, "long warm-up": {Kind: "cosine", Steps: 3, WarmupSteps: 4},
		"final": {Kind: "linear", Steps: 3, FinalFraction: 1.1}, "final NaN": {Kind: "linear", Steps: 3, FinalFraction: math.NaN()},
		"no decay": {Kind: "wsd", Steps: 3}, "long decay": {Kind: "wsd", Steps: 3, DecayFraction: 2},
	} {
		if err := s.Validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
		cfg := setting(t, "sgd", func(c *Config) { c.Schedule = s })
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: New accepted %s", name, fmt.Sprintf("%+v", s))
		}
	}
}
