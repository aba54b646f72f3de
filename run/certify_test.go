package run

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/polargo/polar/adapter/peft"
	"github.com/polargo/polar/optimizer"
)

// readInvariance returns the content of a folder's invariance.json.
func readInvariance(t *testing.T, folder string) (record invarianceRecord) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, invarianceFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &record); err != nil {
		t.Fatal(err)
	}
	return record
}

// TestCertifyInvariance: the checks of a run tell rules apart, are written beside the metrics and with the adapter, which
// still loads, and change no weight, loss or state.
func TestCertifyInvariance(t *testing.T) {
	base, text := tinyModel(t), writeFile(t, "text.txt", words(400, 1))
	for name, want := range map[string]string{"lora-muon": Invariant, "factor-muon": NotInvariant, "adamw": NotInvariant} {
		t.Run(name, func(t *testing.T) {
			cfg := tune(t, base, text)
			cfg.Optimizer, cfg.Init, cfg.Steps, cfg.Accumulate, cfg.LearningRate = name, "lora", 9, 2, 0.02
			plain, plainLog := mustRun(t, cfg)
			before := newest(t, cfg.Out)
			cfg.Out, cfg.CertifyInvariance = filepath.Join(t.TempDir(), "checked"), true
			var events []InvarianceChecked
			result, told, err := execute(context.Background(), cfg, func(event Event) {
				if e, ok := event.(InvarianceChecked); ok {
					events = append(events, e)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			after := newest(t, cfg.Out)
			if after.Weights != before.Weights || after.Optimizer != before.Optimizer || !slices.Equal(told.losses(), plainLog.losses()) {
				t.Error("a run with checks trains something else")
			}
			if plain.Invariance != nil || result.Invariance == nil {
				t.Fatalf("invariance %v without checks, %v with them", plain.Invariance, result.Invariance)
			}
			found := result.Invariance
			if found.Verdict != want || !slices.Equal(found.Steps, []int{1, 2, 3, 5, 7}) || len(found.Layers) != 6 || found.Optimizer != name {
				t.Errorf("%+v, want %s", found, want)
			}
			if found.WorstDrift != found.Layers[0].Worst() || found.WorstLayer != found.Layers[0].Layer || found.WorstStep != found.Layers[0].AtStep {
				t.Errorf("worst %g in %s at %d, first of the layers %+v", found.WorstDrift, found.WorstLayer, found.WorstStep, found.Layers[0])
			}
			if bound := optimizer.InvarianceBound; (want == Invariant) != (found.WorstDrift <= bound) || (want == NotInvariant) != (found.WorstFloat64 > bound) {
				t.Errorf("drift %g, in float64 %g, but %s", found.WorstDrift, found.WorstFloat64, found.Verdict)
			}
			if (name == "adamw") != (len(found.Notes) == 1) {
				t.Errorf("notes %q", found.Notes)
			}
			largest := 0.0
			for i, e := range events {
				largest = max(largest, e.Drift)
				if e.Step != found.Steps[i] || e.Layers != 6 || e.Seconds <= 0 || e.Layer == "" {
					t.Errorf("%+v", e)
				}
			}
			if largest != found.WorstDrift {
				t.Errorf("events report %g, the result %g", largest, found.WorstDrift)
			}
			inRun, inAdapter := readInvariance(t, cfg.Out), readInvariance(t, result.Adapter)
			if len(inAdapter.Checks) != 5 || len(inAdapter.Checks[4].Layers) != 6 || len(inRun.Checks) != 5 || inAdapter.Verdict != want {
				t.Errorf("invariance.json: %d and %d checks, %s", len(inRun.Checks), len(inAdapter.Checks), inAdapter.Verdict)
			}
			if saved, err := peft.Load(result.Adapter); err != nil || len(saved.Pairs) != 6 {
				t.Errorf("the adapter does not load: %v", err)
			}
			card, err := os.ReadFile(filepath.Join(result.Adapter, "README.md"))
			if err != nil || !strings.Contains(string(card), "("+want+", bound 0.001): see invariance.json") {
				t.Errorf("the card (%v):\n%s", err, card)
			}
			metrics, err := os.ReadFile(filepath.Join(cfg.Out, metricsFile))
			if err != nil || strings.Count(string(metrics), `"invariance_drift":`) != 5 {
				t.Errorf("metrics (%v):\n%s", err, metrics)
			}
		})
	}
}

// TestCertifyResumes: a run cut in two finds what an uninterrupted one does; checks after the checkpoint are made again.
func TestCertifyResumes(t *testing.T) {
	cfg := tune(t, tinyModel(t), writeFile(t, "text.txt", words(300, 1)))
	cfg.CertifyInvariance = true
	want, _ := mustRun(t, cfg)
	cut := cfg
	cut.Out = filepath.Join(t.TempDir(), "cut")
	ctx, before := cancelAfter(3)
	if _, _, err := execute(ctx, cut, before); !errors.Is(err, ErrInterrupted) {
		t.Fatal(err)
	}
	path := filepath.Join(cut.Out, invarianceFile)
	late := readInvariance(t, cut.Out)
	late.Checks = append(late.Checks, invarianceCheck{Step: 4, Layers: []optimizer.PairDrift{{Layer: "x", General: 9, GeneralWide: 9}}})
	if err := writeJSON(path, late); err != nil {
		t.Fatal(err)
	}
	result, _ := mustRun(t, Config{Resume: true, Out: cut.Out})
	got, wanted := string(mustMarshal(t, result.Invariance)), string(mustMarshal(t, want.Invariance))
	if got != wanted || len(result.Invariance.Steps) != 4 {
		t.Errorf("found\n%s\nwant\n%s", got, wanted)
	}
	if err := os.WriteFile(path, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, _, err := execute(context.Background(), Config{Resume: true, Out: cut.Out}, nil)
	mustSay(t, err, invarianceFile)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	again, told := mustRun(t, Config{Resume: true, Out: cut.Out}) // nothing is left to check
	if again.Invariance != nil || !strings.Contains(strings.Join(told.notes, "\n"), "no step that was due") {
		t.Errorf("%+v, notes %q", again.Invariance, told.notes)
	}
}

func mustMarshal(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestCertifyPairsFromScratch: low-rank weights from scratch are checked too, and their model is exported as ever.
func TestCertifyPairsFromScratch(t *testing.T) {
	cfg := scratch(t, writeFile(t, "text.txt", words(300, 1)))
	lab := *cfg.Lab
	lab.PairRank, cfg.Lab, cfg.Optimizer, cfg.CertifyInvariance = 4, &lab, "lora-muon", true
	result, _ := mustRun(t, cfg)
	if result.Invariance == nil || result.Invariance.Verdict != Invariant || result.Adapter != "" {
		t.Errorf("%+v", result.Invariance)
	}
}

func TestCertifySteps(t *testing.T) {
	for steps, want := range map[int][]int{1: {1}, 2: {1, 2}, 3: {1, 2, 3}, 6: {1, 2, 3, 5}, 100: {1, 2, 25, 50, 75}, 1000: {1, 2, 250, 500, 750}} {
		if got := certifySteps(steps); !slices.Equal(got, want) {
			t.Errorf("%d steps: checked %v, want %v", steps, got, want)
		}
	}
}

// TestVerdict: the verdict is about float64 where float32 says no.
func TestVerdict(t *testing.T) {
	for want, d := range map[string]optimizer.PairDrift{
		Invariant:             {General: 9e-4, Scalar: 1e-5, GeneralWide: 1e-7},
		InvariantUpToRounding: {General: 1e-5, Scalar: 2e-3, GeneralWide: 1e-7},
		NotInvariant:          {General: 1e-5, Scalar: 1e-5, ScalarWide: 2e-3},
	} {
		r := invarianceRecord{Invariance: Invariance{Bound: 1e-3}, Checks: []invarianceCheck{{1, []optimizer.PairDrift{{Layer: "a"}, d}}}}
		if got := r.summed(); got.Verdict != want || len(got.Layers) != 2 || got.Layers[0].PairDrift != d {
			t.Errorf("%+v: %s, want %s", d, got.Verdict, want)
		}
	}
}

// TestPairSettings: what needs pairs, or a start at zero, is refused where it would do nothing or less than it says.
func TestPairSettings(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"certify-invariance re-gauges low-rank pairs":           func(c *Config) { allWeights(c); c.CertifyInvariance = true },
		"spectral-budget bounds the product of low-rank pairs":  func(c *Config) { allWeights(c); c.SpectralBudget = 1 },
		"muon trains dense weights, not adapters":               func(c *Config) { c.Optimizer, c.CertifyInvariance = "muon", true },
		"spectral-budget needs init lora":                       func(c *Config) { c.Init, c.SpectralBudget = "pissa", 1 },
		"spectral-budget and protect cannot be kept together":   func(c *Config) { bounded(c); c.Optimizer, c.Protect = "lora-muon-ogd", []string{"d"} },
		"clipped-decay has no effect without spectral-budget":   func(c *Config) { c.SpectralBudgetMode = "clipped-decay" },
		"only for spectral-budget-mode clipped-decay":           func(c *Config) { bounded(c); c.SpectralBudgetDecay = 0.5 },
		"spectral budget must be 0 or more":                     func(c *Config) { c.Init, c.SpectralBudget = "lora", -1 },
		"decay of the spectral budget must be in (0, 1], got 2": func(c *Config) { bounded(c); c.SpectralBudgetMode, c.SpectralBudgetDecay = "clipped-decay", 2 },
	} {
		cfg := tune(t, "m", "d")
		change(&cfg)
		_, err := Prepare(context.Background(), cfg, nil)
		mustSay(t, err, want)
	}
}
