package recipe

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

// xorResults returns results of a case from a function of width, rate and seed.
func xorResults(x *xor, seeds []int64, loss func(width int, rate float64, seed int64) float64) Results {
	r := Results{Seeds: seeds, byKey: map[string]Result{}}
	for _, g := range x.plan(seeds) {
		for _, t := range g.trials {
			var width int
			if _, err := fmt.Sscanf(t.Key[strings.Index(t.Key, "-w"):], "-w%d-", &width); err != nil {
				panic(err)
			}
			r.byKey[t.Key] = Result{Key: t.Key, Values: map[string]Number{"loss": Number(loss(width, t.Rate, t.Seed))}}
		}
	}
	return r
}

// bowl is a loss with its minimum at a rate.
func bowl(rate, at float64) float64 { return 0.1 + math.Pow(math.Log10(rate/at), 2) }

// TestTransferVerdicts reaches every verdict from results that are made for it.
func TestTransferVerdicts(t *testing.T) {
	x := &xor{Steps: 1, Seeds: 3, Rates: []float64{0.001, 0.01, 0.1, 1, 10}, Cases: []xorCase{{Set: "ball", Solver: "oracle", Loss: "square", Widths: []int{8, 32, 128}}}}
	noise := []float64{0.01, -0.02, 0.015}
	for name, test := range map[string]struct {
		loss   func(width int, rate float64, seed int64) float64
		want   Verdict
		reason string
	}{
		"the same":     {func(_ int, rate float64, _ int64) float64 { return bowl(rate, 0.1) }, Reproduced, "within 0 steps"},
		"noise on top": {func(_ int, rate float64, s int64) float64 { return bowl(rate, 0.1) + noise[s] }, Reproduced, "as good as the best at every width: 0.1."},
		"a step apart, flat": {func(w int, rate float64, s int64) float64 {
			loss := bowl(rate, 0.316)
			if w == 8 && rate == 0.1 {
				return loss + noise[s] - 0.001
			}
			return loss
		}, Reproduced, "within 1 steps"},
		"a step apart": {func(w int, rate float64, _ int64) float64 {
			return bowl(rate, map[int]float64{8: 0.1, 32: 0.1, 128: 1}[w])
		}, Partly, "no rate is as good"},
		"two steps apart": {func(w int, rate float64, _ int64) float64 {
			return bowl(rate, map[int]float64{8: 1, 32: 0.1, 128: 0.01}[w])
		}, NotReproduced, "within 2 steps"},
		"at the grid's end": {func(_ int, rate float64, _ int64) float64 { return bowl(rate, 10) }, Partly, "end of the grid"},
		"apart, to the end": {func(w int, rate float64, _ int64) float64 {
			return bowl(rate, map[int]float64{8: 10, 32: 0.1, 128: 0.1}[w])
		}, NotReproduced, "end of the grid"},
		"far apart, all flat": {func(w int, rate float64, s int64) float64 {
			if rate == 10 || rate == 0.001 {
				return 9
			}
			if rate == map[int]float64{8: 0.01, 32: 0.1, 128: 1}[w] {
				return 0.999
			}
			return 1 + noise[s]
		}, Partly, "within 2 steps"},
		"the best diverges sometimes": {func(w int, rate float64, s int64) float64 {
			if rate == 0.1 && s == 1 {
				return math.NaN()
			}
			return bowl(rate, 0.1) + 0.01*rate
		}, Reproduced, "every width: 0.01."},
	} {
		f := x.judge(xorResults(x, []int64{0, 1, 2}, test.loss))
		if c := f.Claims[0]; c.Verdict != test.want || !strings.Contains(c.Reason, test.reason) {
			t.Errorf("%s: %s, %s, want %s with %q", name, c.Verdict, c.Reason, test.want, test.reason)
		}
	}
}

// TestXORControlsAreNoClaims judges a case without a set for comparison only.
func TestXORControlsAreNoClaims(t *testing.T) {
	x := &xor{Steps: 1, Seeds: 1, Rates: []float64{0.1, 1, 10}, Cases: []xorCase{
		{Set: "none", Solver: "adamw", Loss: "square", Widths: []int{8}},
		{Set: "ball", Solver: "alternating", Loss: "square", Widths: []int{8, 1024}, MaxSeeds: map[int]int{1024: 1}},
	}}
	f := x.judge(xorResults(x, []int64{0, 1}, func(_ int, rate float64, _ int64) float64 { return bowl(rate, 1) }))
	if len(f.Claims) != 1 || len(f.Tables) != 2 || len(f.Figures) != 2 || !strings.Contains(f.Tables[0].Note, "no claim is tested") {
		t.Errorf("%+v", f)
	}
	limits := strings.Join(f.Limits, "\n")
	for _, want := range []string{"2 seeds: standard errors mean little", "The solver pdhg was not run", "width 1024: 1 seeds only"} {
		if !strings.Contains(limits, want) {
			t.Errorf("limits lack %q: %s", want, limits)
		}
	}
}

// mod31Results makes trials from steps to the threshold (by method and seed; 0 for never) and sizes of updates.
func mod31Results(m *mod31, seeds []int64, steps func(method string, seed int64) float64, moved map[string]float64) Results {
	r := Results{Seeds: seeds, byKey: map[string]Result{}}
	for _, s := range m.Settings {
		for _, method := range m.Methods {
			for _, rate := range s.Rates {
				for _, seed := range seeds {
					n := steps(method.Name, seed)
					reached := Number(n)
					if n == 0 {
						n, reached = float64(m.Steps), Number(math.Inf(1))
					}
					updates := make([]float64, int(n))
					for i := range updates {
						updates[i] = moved[method.Name] * (1 + 0.01*float64(seed))
					}
					key := s.key(method.Name, rate, seed)
					r.byKey[key] = Result{
						Key: key, Values: map[string]Number{"steps": reached, "largest_norm": 4},
						Series: map[string][]Number{"moved": numbers(updates), "test_accuracy": numbers(updates)},
					}
				}
			}
		}
	}
	return r
}

// TestMod31Verdicts reaches every verdict of every claim.
func TestMod31Verdicts(t *testing.T) {
	m := &mod31{Steps: 100, Threshold: 0.95, Seeds: 3, Radius: 4, Settings: []mod31Setting{{Name: "base", Rates: []float64{0.1}}}, Methods: []mod31Method{
		{Name: "decay", Solver: "decay"}, {Name: "oracle", Solver: "oracle"}, {Name: "alternating-1", Solver: "alternating"}, {Name: "pdhg", Solver: "pdhg"},
	}}
	const updates, sooner, soonerDecay, pdhgUpdates, asGood = 0, 1, 2, 3, 4
	steady := map[string]float64{"decay": 80, "oracle": 60, "alternating-1": 40, "pdhg": 39}
	moved := map[string]float64{"decay": 1, "oracle": 1, "alternating-1": 2, "pdhg": 2.1}
	for name, test := range map[string]struct {
		steps func(method string, seed int64) float64
		moved map[string]float64
		want  map[int]Verdict
	}{
		"as published": {
			func(method string, seed int64) float64 { return steady[method] + float64(seed) }, moved,
			map[int]Verdict{updates: Reproduced, sooner: Reproduced, soonerDecay: Reproduced, pdhgUpdates: Reproduced, asGood: Reproduced},
		},
		"the other way": {
			func(method string, seed int64) float64 {
				return map[string]float64{"decay": 30, "oracle": 40, "alternating-1": 60, "pdhg": 20}[method] + float64(seed)
			},
			map[string]float64{"decay": 1, "oracle": 1, "alternating-1": 1.05, "pdhg": 0.9},
			map[int]Verdict{updates: NotReproduced, sooner: NotReproduced, soonerDecay: NotReproduced, pdhgUpdates: NotReproduced, asGood: NotReproduced},
		},
		"in part": {
			func(method string, seed int64) float64 {
				if method == "alternating-1" {
					return []float64{90, 20, 30}[seed]
				}
				return map[string]float64{"decay": 50, "oracle": 50, "pdhg": 40}[method]
			},
			map[string]float64{"decay": 1, "oracle": 1, "alternating-1": 3, "pdhg": 1.2},
			map[int]Verdict{updates: Partly, sooner: Partly, soonerDecay: Partly, pdhgUpdates: Partly, asGood: Partly},
		},
		"nothing learns": {
			func(string, int64) float64 { return 0 }, moved,
			map[int]Verdict{updates: Reproduced, sooner: NotReproduced, soonerDecay: NotReproduced, asGood: NotReproduced},
		},
		"the baseline never learns": {
			func(method string, seed int64) float64 {
				return map[string]float64{"alternating-1": 50, "pdhg": 50}[method]
			}, moved,
			map[int]Verdict{sooner: Reproduced, soonerDecay: Reproduced, asGood: Reproduced},
		},
	} {
		f := m.judge(mod31Results(m, []int64{0, 1, 2}, test.steps, test.moved))
		for claim, want := range test.want {
			if c := f.Claims[claim]; c.Verdict != want {
				t.Errorf("%s: %s: %s (%s; %s), want %s", name, c.Statement, c.Verdict, c.Measured, c.Reason, want)
			}
		}
	}
}

// TestVerdictOfMixedOutcomes is the verdict when settings disagree.
func TestVerdictOfMixedOutcomes(t *testing.T) {
	v, measured, reason := verdictOf([]outcome{{"a", "2", 1}, {"b", "0.5", -1}, {"c", "1.2", 0}}, testTwice.words)
	if v != Partly || measured != "2 (a); 0.5 (b); 1.2 (c)" || reason != "About twice in: a; larger, but not about twice in: c; not larger in: b." {
		t.Errorf("%s, %s, %s", v, measured, reason)
	}
}

// TestMod31Limits names what was not run and what did not get there.
func TestMod31Limits(t *testing.T) {
	m := &mod31{Steps: 100, Threshold: 0.95, Radius: 4, Settings: []mod31Setting{{Name: "base", Rates: []float64{0.1}}}, Methods: []mod31Method{{Name: "oracle", Solver: "oracle"}}}
	r := mod31Results(m, []int64{0, 1}, func(_ string, seed int64) float64 { return 50 * float64(seed) }, map[string]float64{"oracle": 1})
	limits := strings.Join(m.judge(r).Limits, "\n")
	for _, want := range []string{"2 seeds", "method pdhg was not run", "base, rate 0.1, oracle: 1 of 2 seeds reached"} {
		if !strings.Contains(limits, want) {
			t.Errorf("limits lack %q: %s", want, limits)
		}
	}
}

func TestMeanCurve(t *testing.T) {
	r := Results{byKey: map[string]Result{"a": {Series: map[string][]Number{"y": {1, 2, 3}}}, "b": {Series: map[string][]Number{"y": {3}}}}}
	held, cut := meanCurve(r, []string{"a", "b"}, "y", "", 0, true), meanCurve(r, []string{"a", "b"}, "y", "", 0, false)
	if fmt.Sprint(held.Y, cut.Y) != "[2 2.5 3] [2]" {
		t.Errorf("held %v, cut %v", held.Y, cut.Y)
	}
	if held, cut = meanCurve(r, []string{"b", "a"}, "y", "", 0, true), meanCurve(r, []string{"b", "a"}, "y", "", 0, false); fmt.Sprint(held.Y, cut.Y) != "[2 2.5 3] [2]" {
		t.Errorf("in the other order held %v, cut %v", held.Y, cut.Y)
	}
}
