package recipe

import (
	"math"
	"testing"
)

func TestEstimate(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for name, test := range map[string]struct {
		sample          []float64
		mean, deviation float64
		text            string
	}{
		// 1, 2, 6: deviations -2, -1, 3, squares 14, variance 7, standard error sqrt(7/3).
		"three":    {[]float64{1, 2, 6}, 3, math.Sqrt(7.0 / 3), "3.0 ± 1.5"},
		"equal":    {[]float64{0.25, 0.25}, 0.25, 0, "0.25 ± 0"},
		"one":      {[]float64{0.5}, 0.5, nan, "0.5"},
		"none":     {nil, nan, nan, "NaN"},
		"with NaN": {[]float64{1, nan}, nan, nan, "NaN"},
		"with Inf": {[]float64{1, inf}, inf, nan, "+Inf"},
		"small":    {[]float64{0.00010, 0.00012}, 0.00011, 0.00001, "0.000110 ± 0.000010"},
		"large":    {[]float64{300, 500}, 400, 100, "400 ± 100"},
	} {
		got := estimate(test.sample)
		same := func(a, b float64) bool { return a == b || math.Abs(a-b) < 1e-15 || math.IsNaN(a) && math.IsNaN(b) }
		if !same(float64(got.Mean), test.mean) || !same(float64(got.StandardError), test.deviation) || got.N != len(test.sample) {
			t.Errorf("%s: %+v, want mean %g, standard error %g", name, got, test.mean, test.deviation)
		}
		if got.String() != test.text {
			t.Errorf("%s: %q, want %q", name, got.String(), test.text)
		}
	}
}

// TestPaired checks that what seeds share cancels: samples that overlap differ distinctly when every seed says so.
func TestPaired(t *testing.T) {
	a, b := []float64{1.1, 5.2, 9.1}, []float64{1, 5, 9}
	if d := paired(a, b); !d.above() || d.below() || !paired(b, a).below() {
		t.Errorf("%v is not distinct", d)
	}
	for name, d := range map[string]Estimate{
		"noise": paired([]float64{1, 5, 9}, []float64{2, 4, 9}), "one seed": paired([]float64{2}, []float64{1}), "nothing": paired(b, b),
		"not finite": paired([]float64{math.Inf(1), 1}, []float64{1, 1}),
	} {
		if d.above() || d.below() {
			t.Errorf("%s: %v is called distinct", name, d)
		}
	}
}

func TestOverall(t *testing.T) {
	claims := func(verdicts ...Verdict) (out []Claim) {
		for _, v := range verdicts {
			out = append(out, Claim{Verdict: v})
		}
		return out
	}
	for _, test := range []struct {
		claims []Claim
		want   Verdict
	}{
		{claims(Reproduced, Reproduced), Reproduced}, {claims(NotReproduced, NotReproduced), NotReproduced}, {claims(Reproduced, NotReproduced), Partly},
		{claims(Partly, Partly), Partly}, {claims(Reproduced, Partly), Partly}, {claims(), NotReproduced},
	} {
		if got := overall(test.claims); got != test.want {
			t.Errorf("%v: %s, want %s", test.claims, got, test.want)
		}
	}
}
