package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/polargo/polar/optimizer"
	"github.com/polargo/polar/run"
)

// fakeInvariance is what a check of n layers found, whose first drifts most.
func fakeInvariance(verdict string, n int) *run.Invariance {
	found := &run.Invariance{
		Optimizer: "lora-muon", Verdict: verdict, Bound: 1e-3, Condition: 10, Scalar: 10, Steps: []int{1, 2, 25},
		WorstDrift: 3.1e-5, WorstFloat64: 2e-7, WorstLayer: "layers.0.q", WorstStep: 25, Notes: []string{"adamw: a note"},
	}
	for i := range n {
		drift := optimizer.PairDrift{Layer: fmt.Sprintf("layers.%d.q", i), General: 3.1e-5 / float64(i+1), Scalar: 1e-6, GeneralWide: 2e-7}
		found.Layers = append(found.Layers, run.LayerDrift{PairDrift: drift, AtStep: 25})
	}
	return found
}

func TestInvarianceIsPrinted(t *testing.T) {
	for verdict, want := range map[string]string{
		run.Invariant:             "invariance: worst drift 3.1e-05 over 7 layers at steps 1, 2, 25: certified (bound 0.001)\n",
		run.InvariantUpToRounding: "certified in float64, 2.0e-07 (bound 0.001); in float32 the rounding of small steps is more\n",
		run.NotInvariant:          "at steps 1, 2, 25: not invariant (bound 0.001)\n",
	} {
		var out strings.Builder
		printInvariance(&out, fakeInvariance(verdict, 7))
		mustSay(t, out.String(), want, "layers.0.q  3.1e-05  1.0e-06  2.0e-07       25\n", "and 2 layers of at most 5.2e-06\n", "    adamw: a note\n")
		if strings.Contains(out.String(), "layers.5.q") {
			t.Errorf("more than %d layers:\n%s", invarianceLayers, out.String())
		}
	}
	var out strings.Builder
	printInvariance(&out, nil)
	printInvariance(&out, fakeInvariance(run.Invariant, 2))
	if strings.Contains(out.String(), "and ") || strings.Count(out.String(), "invariance:") != 1 {
		t.Errorf("printed\n%s", out.String())
	}
}

// TestInvarianceInTheResult: the flag reaches the run, a check is told of on standard error, and --json holds the summary.
func TestInvarianceInTheResult(t *testing.T) {
	f := newFake(t)
	f.play = func(_ context.Context, _ run.Config, sink run.Sink) (*run.Result, error) {
		sink(run.InvarianceChecked{Step: 25, Layers: 7, Drift: 3.1e-5, DriftFloat64: 2e-7, Layer: "layers.0.q", Seconds: 0.5})
		result := fakeResult()
		result.Invariance = fakeInvariance(run.Invariant, 7)
		return result, nil
	}
	args := []string{"finetune", "--model", "m", "--data", "d", "--certify-invariance", "--spectral-budget", "2", "--json"}
	if status := f.main(t.Context(), args); status != statusOK {
		t.Fatal(f.err.String())
	}
	if cfg := f.configs[0]; !cfg.CertifyInvariance || cfg.SpectralBudget != 2 || cfg.SpectralBudgetMode != "hardcap" {
		t.Errorf("%+v", cfg)
	}
	mustSay(t, f.err.String(), "step 25  invariance: worst drift 3.1e-05 of 7 layers, 2.0e-07 in float64  (500 ms)")
	var result struct{ Invariance run.Invariance }
	if err := json.Unmarshal(f.out.Bytes(), &result); err != nil {
		t.Fatal(err)
	}
	if got := result.Invariance; got.Verdict != run.Invariant || len(got.Layers) != 7 || got.Layers[0].AtStep != 25 || got.Layers[0].General != 3.1e-5 {
		t.Errorf("%+v", got)
	}
}
