package run

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polargo/polar/adapter"
	"github.com/polargo/polar/adapter/peft"
	"github.com/polargo/polar/model/hf"
)

// budgetTol is what float32 factors add to a bound on their product.
const budgetTol = 1e-5

// TestSpectralBudgetHolds: s·‖A Bᵀ‖ is at most the budget in every layer after every step, also after a resume, which a run
// without it exceeds; what is exported obeys it as well.
func TestSpectralBudgetHolds(t *testing.T) {
	const beta = 0.05
	base, text := tinyModel(t), writeFile(t, "text.txt", words(300, 1))
	for _, name := range []string{"lora-muon", "adamw"} {
		t.Run(name, func(t *testing.T) {
			cfg := tune(t, base, text)
			cfg.Optimizer, cfg.Init, cfg.Alpha, cfg.SpectralBudget, cfg.LearningRate = name, "lora", 5, beta, 0.02
			ctx, cancel := cancelAfter(3)
			session := mustPrepare(t, cfg)
			if notes := strings.Join(session.Plan.Notes, "\n"); !strings.Contains(notes, "spectral norm of s·A·Bᵀ is at most 0.05") {
				t.Errorf("the plan does not mention the budget: %q", notes)
			}
			worst, reached := 0.0, 0
			watch := func(s *Session) Sink {
				return func(event Event) {
					done, ok := event.(StepDone)
					if !ok {
						return
					}
					norms, err := s.adapter.Norms()
					if err != nil {
						t.Error(err)
					}
					for _, n := range norms {
						worst = max(worst, n.Delta)
						if n.Delta > 0.99*beta {
							reached++
						}
						if !(n.Delta <= beta*(1+budgetTol)) {
							t.Errorf("step %d: layer %s has norm %g, the budget is %g", done.Step, n.Layer, n.Delta, beta)
						}
					}
					cancel(event)
				}
			}
			session.sink = watch(session)
			if _, err := session.Run(ctx); !errors.Is(err, ErrInterrupted) {
				t.Fatal(err)
			}
			if err := session.Close(); err != nil {
				t.Fatal(err)
			}
			again := mustPrepare(t, Config{Resume: true, Out: cfg.Out})
			again.sink = watch(again)
			result, err := again.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if reached == 0 {
				t.Errorf("the largest norm was %g, so that the budget of %g did nothing", worst, beta)
			}
			for _, n := range exportedNorms(t, cfg.Model, result.Adapter) {
				if !(n.Delta <= beta*(1+budgetTol)) {
					t.Errorf("exported layer %s has norm %g, the budget is %g", n.Layer, n.Delta, beta)
				}
			}
			card, err := os.ReadFile(filepath.Join(result.Adapter, "README.md"))
			if err != nil || !strings.Contains(string(card), "at most 0.05 in every layer") {
				t.Errorf("the card (%v):\n%s", err, card)
			}
			free := cfg
			free.SpectralBudget, free.Out = 0, filepath.Join(t.TempDir(), "free")
			plain, _ := mustRun(t, free)
			if largest := largestNorm(plain); !(largest > 2*beta) {
				t.Errorf("without a budget the largest norm is %g only", largest)
			}
		})
	}
}

func largestNorm(result *Result) (largest float64) {
	for _, layer := range result.Layers {
		largest = max(largest, layer.Norm)
	}
	return largest
}

// exportedNorms returns the norms of an adapter on disk.
func exportedNorms(t *testing.T, model, folder string) []adapter.Norm {
	t.Helper()
	loaded, err := hf.Load(t.Context(), model, hf.LoadOptions{Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	defer loaded.Store.Finalize()
	saved, err := peft.Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	set, err := adapter.FromPEFT(loaded.Store, loaded.Decoder.Layers(), saved)
	if err != nil {
		t.Fatal(err)
	}
	norms, err := set.Norms()
	if err != nil {
		t.Fatal(err)
	}
	return norms
}

// TestClippedDecay: the softer mode bounds less, but does bound.
func TestClippedDecay(t *testing.T) {
	cfg := tune(t, tinyModel(t), writeFile(t, "text.txt", words(300, 1)))
	cfg.Init, cfg.SpectralBudget, cfg.SpectralBudgetMode, cfg.SpectralBudgetDecay = "lora", 0.05, "clipped-decay", 0.3
	if notes := strings.Join(mustPrepare(t, cfg).Plan.Notes, "\n"); !strings.Contains(notes, "takes 0.3 of what exceeds 0.05") {
		t.Errorf("notes %q", notes)
	}
	soft, _ := mustRun(t, cfg)
	cfg.Out, cfg.SpectralBudget, cfg.SpectralBudgetMode, cfg.SpectralBudgetDecay = filepath.Join(t.TempDir(), "free"), 0, "", 0
	free, _ := mustRun(t, cfg)
	if low, high := largestNorm(soft), largestNorm(free); !(low > 0.05*(1+budgetTol)) || !(low < 0.7*high) {
		t.Errorf("largest norm %g, without a budget %g", low, high)
	}
}
