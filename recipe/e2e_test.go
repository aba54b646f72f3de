package recipe

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/manifold"
)

// tinySettings are experiments of a second, with every set, solver and choice that the real ones have.
var tinySettings = map[string]string{
	"xor": `quick:
  steps: 8
  seeds: 2
  rates: [0.01, 0.1, 1]
  cases:
    - {set: psd, solver: alternating, loss: square, widths: [4, 8], max_seeds: {8: 1}, only_rates: {8: [0.1, 1]}}
    - {set: spectrahedron, solver: pdhg, loss: square, widths: [4], solver_steps: 4}
    - {set: ball, solver: pdhg, loss: cross-entropy, widths: [4]}
    - {set: ball, solver: alternating, loss: square, momentum: 0.9, widths: [4]}
    - {set: none, solver: adamw, loss: square, widths: [4]}
`,
	"mod31": `quick:
  seeds: 1
  steps: 6
  after: 2
  threshold: 0.02
  radius: 2
  methods:
    - {name: decay, solver: decay}
    - {name: oracle, solver: oracle}
    - {name: alternating-1, solver: alternating, solver_steps: 1}
    - {name: pdhg, solver: pdhg, solver_steps: 4}
  settings:
    - {name: base, inputs: one-hot, width: 16, hidden: 1, momentum: 0.9, rates: [1]}
    - {name: table, inputs: embedding, width: 8, hidden: 2, momentum: 0, batch: 48, rates: [0.3], methods: [decay, alternating-1]}
`,
}

func tinyOptions(t *testing.T, name, dir string) Options {
	t.Helper()
	r, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	r.settings = []byte(tinySettings[name])
	return Options{Recipe: r, Size: Quick, Out: dir, Command: "polar reproduce " + name}
}

// TestTinyExperiments runs both experiments from beginning to end, and again with an interruption after each third trial: trials
// must agree bit for bit, though they then run in other sessions, after other trials.
func TestTinyExperiments(t *testing.T) {
	for name := range tinySettings {
		t.Run(name, func(t *testing.T) {
			whole := t.TempDir()
			s, _ := mustRun(t, tinyOptions(t, name, whole))
			want := trials(t, whole)
			if s.Trials != len(want) || len(s.Claims) < 4 {
				t.Errorf("%d trials, %d kept, claims %+v", s.Trials, len(want), s.Claims)
			}
			figures, err := filepath.Glob(filepath.Join(whole, "*.png"))
			if err != nil || len(figures) < 2 {
				t.Errorf("figures %v, %v", figures, err)
			}
			report, err := os.ReadFile(s.Report)
			if err != nil {
				t.Fatal(err)
			}
			for _, figure := range figures {
				if !strings.Contains(string(report), "]("+filepath.Base(figure)+")") {
					t.Errorf("the report does not show %s", figure)
				}
			}
			stopped := t.TempDir()
			for runs := 0; ; runs++ {
				if runs > len(want) {
					t.Fatal("does not get on")
				}
				ctx, cancel := context.WithCancel(t.Context())
				_, err := Run(ctx, tinyOptions(t, name, stopped), func(e Event) {
					if e.Done-e.Kept == 3 {
						cancel()
					}
				})
				cancel()
				if err == nil {
					break
				}
				if !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
			}
			if got := trials(t, stopped); !reflect.DeepEqual(got, want) {
				for key := range want {
					if got[key] != want[key] {
						t.Errorf("%s: with interruptions %s, without %s", key, got[key], want[key])
					}
				}
			}
		})
	}
}

// TestWeightsStayInTheirSets trains a step of each case and looks at the norms: what the experiment is about.
func TestWeightsStayInTheirSets(t *testing.T) {
	x := &xor{Steps: 6, Seeds: 1, Rates: []float64{0.3, 1}}
	for _, c := range []xorCase{
		{Set: manifold.Ball, Solver: manifold.Alternating, Loss: "square"}, {Set: manifold.Ball, Solver: manifold.Oracle, Loss: "square"},
		{Set: manifold.Spectrahedron, Solver: manifold.Alternating, Loss: "square"}, {Set: manifold.PSD, Solver: manifold.Alternating, Loss: "square"},
	} {
		s, err := x.open(check.Backend(t), c, 8)
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.run(t.Context(), Trial{Rate: 0.3})
		s.close()
		if err != nil {
			t.Fatal(err)
		}
		first, square, last := r.Values["norm_first"], r.Values["norm_square"], r.Values["norm_last"]
		const tol = 1e-4 // of the retraction in float32
		if first > 1+tol || last > 1+tol || c.Set != manifold.PSD && square > 1+tol {
			t.Errorf("%s: norms %v, %v, %v left the set", c.name(), first, square, last)
		}
		if c.Set != manifold.Ball && (first < 1-tol || last < 1-tol) {
			t.Errorf("%s: norms %v and %v of weights on the Stiefel manifold", c.name(), first, last)
		}
		if c.Set == manifold.PSD && square < 1.2 {
			t.Errorf("the cone is not bounded, but the norm is %v", square)
		}
	}
}

// TestSettings opens all real settings, and wants an error for each way of getting them wrong.
func TestSettings(t *testing.T) {
	for _, r := range Known() {
		for _, size := range []Size{Quick, Full} {
			section, err := r.section(size)
			if err != nil {
				t.Fatal(err)
			}
			e, err := r.open(section)
			if err != nil {
				t.Fatalf("%s %s: %v", r.Name, size, err)
			}
			w := &worker{folder: &folder{dir: t.TempDir()}, sink: func(Event) {}}
			if _, err := w.load(e.plan([]int64{0, 1, 2, 3, 4, 5})); err != nil {
				t.Errorf("%s %s: %v", r.Name, size, err)
			}
		}
		if _, err := r.open([]byte("stepz: 3\n")); err == nil || !strings.Contains(err.Error(), "stepz") {
			t.Errorf("%s: an unknown key gives %v", r.Name, err)
		}
	}
	for change, want := range map[[2]string]string{
		{"set: psd", "set: cone"}:                               "unknown set",
		{"solver: adamw", "solver: adamw2"}:                     "unknown optimizer",
		{"solver: alternating", "solver: guess"}:                "unknown solver",
		{"loss: square", "loss: hinge"}:                         "a loss that is known",
		{"rates: [0.01, 0.1, 1]", "rates: [0.1]"}:               "two rates",
		{"only_rates: {8: [0.1, 1]}", "only_rates: {8: [0.2]}"}: "not on the grid",
		{"inputs: one-hot", "inputs: text"}:                     "inputs one-hot or embedding",
		{"batch: 48", "batch: 481"}:                             "batch of at most 480",
		{"methods: [decay, alternating-1]", "methods: [adam]"}:  `unknown method "adam"`,
		{"radius: 2", "radius: 0"}:                              "a radius",
		{"threshold: 0.02", "threshold: 2"}:                     "threshold",
	} {
		var err error
		for name, settings := range tinySettings {
			if !strings.Contains(settings, change[0]) {
				continue
			}
			o := tinyOptions(t, name, t.TempDir())
			o.Recipe.settings = []byte(strings.Replace(settings, change[0], change[1], 1))
			_, err = Run(t.Context(), o, func(Event) {})
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s for %s: %v, want %q", change[1], change[0], err, want)
		}
	}
}

// TestFind suggests the nearest name.
func TestFind(t *testing.T) {
	if _, err := Find("mod13"); err == nil || err.Error() != `unknown experiment "mod13"; known: xor, mod31; did you mean mod31?` {
		t.Error(err)
	}
	if r, err := Find("xor"); err != nil || r.Name != "xor" {
		t.Error(r.Name, err)
	}
}
