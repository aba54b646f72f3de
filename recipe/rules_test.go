package recipe

import (
	"testing"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/manifold"
	"github.com/polargo/polar/optimizer"
)

// TestRules holds the settings of the optimizers against the experiments' descriptions.
func TestRules(t *testing.T) {
	x := &xor{}
	for set, want := range map[string][2]optimizer.Manifold{ // square weight, ends
		manifold.PSD:           {{Set: "psd", Solver: "pdhg", Steps: 5}, {Set: "stiefel", Solver: "pdhg", Steps: 5}},
		manifold.Spectrahedron: {{Set: "spectrahedron", Lo: -1, Hi: 1, Solver: "pdhg", Steps: 5}, {Set: "stiefel", Solver: "pdhg", Steps: 5}},
		manifold.Ball:          {{Set: "ball", Radius: 1, Solver: "pdhg", Steps: 5}, {Set: "ball", Radius: 1, Solver: "pdhg", Steps: 5}},
	} {
		rules, err := x.rules(xorCase{Set: set, Solver: "pdhg", SolverSteps: 5, Momentum: 0.5})
		if err != nil {
			t.Fatal(err)
		}
		for i, name := range []string{"square", "ends"} {
			cfg := rules[name]
			if cfg.Manifold != want[i] || cfg.Name != "muon" || cfg.Scale != "rms" || cfg.WeightDecay != 0 || cfg.Momentum != 0.5 {
				t.Errorf("%s: %s is %+v, want the manifold %v", set, name, cfg, want[i])
			}
		}
	}
	m := &mod31{Radius: 4}
	decay, err := m.rule(mod31Setting{Momentum: 0.9}, mod31Method{Solver: "decay"})
	if err != nil || decay.WeightDecay != 0.25 || decay.Manifold.On() || decay.Momentum != 0.9 || decay.Name != "muon" {
		t.Errorf("decay is %+v, %v", decay, err)
	}
	ball, err := m.rule(mod31Setting{Momentum: 0.9}, mod31Method{Solver: "alternating", SolverSteps: 4})
	if want := (optimizer.Manifold{Set: "ball", Radius: 4, Solver: "alternating", Steps: 4}); err != nil || ball.WeightDecay != 0 || ball.Manifold != want {
		t.Errorf("on the ball: %+v, %v", ball, err)
	}
}

// TestMod31Ends ends a trial a while after the threshold, counts the updates made until then, and runs to the last step where it
// is not reached.
func TestMod31Ends(t *testing.T) {
	s := mod31Setting{Name: "base", Inputs: "one-hot", Width: 16, Hidden: 1, Rates: []float64{0.3}}
	for _, test := range []struct {
		threshold float64
		reaches   bool
	}{{1.0 / 481, true}, {1, false}} {
		m := &mod31{Steps: 20, After: 4, Threshold: test.threshold, Seeds: 1, Radius: 4}
		open, err := m.open(check.Backend(t), s, mod31Method{Name: "decay", Solver: "decay"})
		if err != nil {
			t.Fatal(err)
		}
		r, err := open.run(t.Context(), Trial{Rate: 0.3})
		open.close()
		if err != nil {
			t.Fatal(err)
		}
		first, accuracies := -1, r.Series["test_accuracy"]
		for i, a := range accuracies {
			if float64(a) >= test.threshold {
				first = i
				break
			}
		}
		if (first >= 0) != test.reaches {
			t.Fatalf("threshold %g: test accuracies %v", test.threshold, accuracies)
		}
		if test.reaches && (float64(r.Values["steps"]) != float64(first) || len(accuracies) != first+m.After+1) {
			t.Errorf("at the threshold after %d updates, counted %v, ended after %d steps", first, r.Values["steps"], len(accuracies))
		}
		if !test.reaches && (len(accuracies) != m.Steps || r.Values["steps"] <= Number(m.Steps)) {
			t.Errorf("never at the threshold, counted %v, ended after %d steps", r.Values["steps"], len(accuracies))
		}
	}
}
