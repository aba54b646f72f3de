package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polargo/polar/run"
)

// TestQuickstartChoosesTheBestRate plays a quickstart in which rate 0.3 is best on the proxy and 1 diverges.
func TestQuickstartChoosesTheBestRate(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.txt")
	if err := os.WriteFile(text, []byte(strings.Repeat("note: a girl h\n", 300)+strings.Repeat("another line #\n", 300)), 0o644); err != nil {
		t.Fatal(err)
	}
	f := newFake(t)
	losses := map[float64]float64{0.01: 2.4, 0.03: 2.3, 0.1: 2.2, 0.3: 2.1}
	f.play = func(_ context.Context, cfg run.Config, sink run.Sink) (*run.Result, error) {
		result := fakeResult()
		sink(run.StepDone{Step: 1, Steps: cfg.Steps, Loss: 2})
		if cfg.Lab != nil {
			result.Adapter, result.Model = "", filepath.Join(cfg.Out, "model")
			return result, nil
		}
		if cfg.Rank == 2 {
			if cfg.LearningRate == 1 {
				return nil, fmt.Errorf("run: %w", &run.NonFiniteError{Step: 3, What: "loss"})
			}
			result.FinalLoss = losses[cfg.LearningRate]
		}
		return result, nil
	}
	out := filepath.Join(dir, "quick")
	if status := f.main(t.Context(), []string{"quickstart", "--data", text, "--offline", "-o", out}); status != statusOK {
		t.Fatal(f.err.String())
	}
	if len(f.configs) != 1+5+2 {
		t.Fatalf("%d runs, want a base, five trials and two fine-tunings", len(f.configs))
	}
	muon, adamw := f.configs[6], f.configs[7]
	if muon.Optimizer != "lora-muon" || muon.LearningRate != 0.3 || muon.Rank != 16 || muon.Model != filepath.Join(out, "base", "model") {
		t.Errorf("LoRA-Muon's run: %+v", muon)
	}
	if adamw.Optimizer != "adamw" || adamw.LearningRate != 1e-3 || adamw.Init != "lora" || adamw.Data != muon.Data || adamw.Steps != muon.Steps {
		t.Errorf("AdamW's run: %+v", adamw)
	}
	mustSay(t, f.out.String(), "0.3     2.1000  <- chosen", "1     diverged", "LoRA-Muon    0.3", "AdamW", "LoRA-Muon writes:", "try       polar generate --model "+shellWord(muon.Model))
	mustSay(t, f.err.String(), "1/4  base", "rate 0.03: step 1", "300 characters of the second half are not in the base's vocabulary")
	for name, want := range map[string]string{"first-half.txt": "note: a girl h\n", "second-half.txt": "another line \n"} {
		content, err := os.ReadFile(filepath.Join(out, name))
		if err != nil || !strings.HasPrefix(string(content), want) {
			t.Errorf("%s: %v, begins %.20q, want %q", name, err, content, want)
		}
	}
	seen := map[string]bool{}
	for _, cfg := range f.configs {
		if seen[cfg.Out] || !strings.HasPrefix(cfg.Out, out) {
			t.Errorf("folder %s is used twice or lies outside %s", cfg.Out, out)
		}
		seen[cfg.Out] = true
	}
}

func TestQuickstartInterruptedSaysSo(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.txt")
	if err := os.WriteFile(text, []byte(strings.Repeat("a line of text\n", 600)), 0o644); err != nil {
		t.Fatal(err)
	}
	f := newFake(t)
	f.play = func(ctx context.Context, _ run.Config, _ run.Sink) (*run.Result, error) {
		f.signals <- os.Interrupt
		<-ctx.Done()
		return nil, run.ErrInterrupted
	}
	if status := f.main(t.Context(), []string{"quickstart", "--data", text, "-o", filepath.Join(dir, "q")}); status != statusInterrupted {
		t.Errorf("status %d, want %d", status, statusInterrupted)
	}
	mustSay(t, f.err.String(), "polar: interrupted; what was done is in")
}

func TestQuickstartRefusesAFolderThatExistsAndTooLittleText(t *testing.T) {
	dir := t.TempDir()
	f := newFake(t)
	if status := f.main(t.Context(), []string{"quickstart", "-o", dir}); status != statusUsage {
		t.Errorf("status %d, want %d", status, statusUsage)
	}
	mustSay(t, f.err.String(), dir+" exists already")
	short := filepath.Join(dir, "short.txt")
	if err := os.WriteFile(short, []byte("short\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f = newFake(t)
	if status := f.main(t.Context(), []string{"quickstart", "--data", short, "-o", filepath.Join(dir, "q")}); status != statusFailed {
		t.Errorf("status %d, want %d", status, statusFailed)
	}
	mustSay(t, f.err.String(), "has 6 bytes of text")
}
