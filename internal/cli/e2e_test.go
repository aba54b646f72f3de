package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polargo/polar/run"
)

// real is a program that really trains, with buffers.
func real(t *testing.T, args ...string) (status int, out, errs string) {
	t.Helper()
	t.Setenv("NO_COLOR", "1")
	var stdout, stderr bytes.Buffer
	p := &program{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, prepare: prepareRun, notify: notifyInterrupts, recipe: tinyRecipe}
	status = p.main(t.Context(), args)
	return status, stdout.String(), stderr.String()
}

// must runs a command that has to succeed and returns its output.
func must(t *testing.T, args ...string) string {
	t.Helper()
	status, out, errs := real(t, args...)
	if status != statusOK {
		t.Fatalf("polar %s: status %d\n%s", strings.Join(args, " "), status, errs)
	}
	return out
}

// tinyRecipe is a quickstart of seconds.
var tinyRecipe = recipe{
	lab:       run.Lab{Layers: 1, Hidden: 16, Heads: 2, Activation: "relu2", Positions: "rotary", QKNorm: true, PairScale: 1},
	baseSteps: 6, proxySteps: 2, runSteps: 3, batch: 2, length: 16, proxyRank: 2, rank: 4,
	rates: []float64{0.03, 0.1}, adamwRate: 1e-3, sampleTokens: 8,
}

func textFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "text.txt")
	text := strings.Repeat("The quick brown fox jumps over the lazy dog, and the dog sleeps on.\nPack my box with five dozen jugs.\n", 80)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestTrainFinetuneGenerateMerge goes the whole way with a tiny model.
func TestTrainFinetuneGenerateMerge(t *testing.T) {
	text, dir := textFile(t), t.TempDir()
	base, tuned, merged := filepath.Join(dir, "base"), filepath.Join(dir, "tuned"), filepath.Join(dir, "merged")
	out := must(t, "train", "--offline", "--data", text, "--layers=1", "--hidden=16", "--heads=2", "--steps=6", "--batch=2", "--length=16", "--sample-tokens=5", "-o", base)
	mustSay(t, out, "from scratch", "validation loss", "model     "+filepath.Join(base, "model"), "try       polar generate")

	out = must(t, "finetune", "--offline", "--model", filepath.Join(base, "model"), "--data", text, "--sampling=windows", "--rank=2", "--steps=4", "--batch=2", "--length=16", "--sample-tokens=5", "--json", "-o", tuned)
	var result run.Result
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if result.Steps != 4 || len(result.Losses) != 4 || len(result.Layers) == 0 || result.ProbeChange <= 0 {
		t.Errorf("%+v", result)
	}

	generate := func(extra ...string) string {
		return must(t, append(append([]string{"generate", "--offline", "--temperature=0", "--max-tokens=8"}, extra...), "The quick")...)
	}
	plain := generate("--model", filepath.Join(base, "model"))
	if !strings.HasPrefix(plain, "The quick") || len(plain) < len("The quick")+9 {
		t.Errorf("generated %q", plain)
	}
	if off := generate("--adapter", result.Adapter, "--no-adapter"); off != plain {
		t.Errorf("without the adapter %q, the base writes %q", off, plain)
	}
	on := generate("--adapter", result.Adapter)
	must(t, "merge", "--offline", "--adapter", result.Adapter, "-o", merged)
	if got := generate("--model", merged); got != on {
		t.Errorf("merged %q, with the adapter %q", got, on)
	}
	if status, _, errs := real(t, "generate", "--offline", "--model", merged, "--chat", "hello"); status != statusUsage || !strings.Contains(errs, "has no chat template") {
		t.Errorf("--chat without a template: status %d: %s", status, errs)
	}
}

// TestInterruptResumeVerify stops a training with a signal, resumes it, and replays its end.
func TestInterruptResumeVerify(t *testing.T) {
	text, out := textFile(t), filepath.Join(t.TempDir(), "run")
	var stdout, stderr bytes.Buffer
	var signals chan<- os.Signal
	p := &program{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr}
	p.notify = func(to chan<- os.Signal) func() { signals = to; return func() {} }
	p.prepare = func(ctx context.Context, cfg run.Config, sink run.Sink) (*trainer, error) {
		return prepareRun(ctx, cfg, func(event run.Event) {
			if step, ok := event.(run.StepDone); ok && step.Step == 3 {
				signals <- os.Interrupt
				<-ctx.Done()
			}
			sink(event)
		})
	}
	args := []string{"train", "--offline", "--data", text, "--layers=1", "--hidden=16", "--heads=2", "--steps=8", "--save-every=2", "--batch=2", "--length=16", "--sample-tokens=0", "-o", out}
	if status := p.main(t.Context(), args); status != statusInterrupted {
		t.Fatalf("status %d: %s", status, stderr.String())
	}
	mustSay(t, stderr.String(), "polar: interrupted; the state is saved in "+out, "hint: continue with: polar train --resume -o "+out)
	mustSay(t, must(t, "train", "--resume", "-o", out), "done: 8 steps")
	mustSay(t, must(t, "train", "--resume", "--verify=2", "-o", out), "verified: replaying the last steps of "+out)
	status, _, errs := real(t, append(args, "--resume", "--lr=0.5")...)
	if status != statusFailed {
		t.Errorf("status %d of a run resumed at another rate", status)
	}
	mustSay(t, errs, "cannot resume", "learning_rate (0.5, was ")
}

// TestQuickstartTiny runs all parts of a quickstart for real.
func TestQuickstartTiny(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "quick")
	out := must(t, "quickstart", "--offline", "--data", textFile(t), "-o", dir)
	mustSay(t, out, "<- chosen", "LoRA-Muon", "AdamW", "adapter   "+dir, "try       polar generate")
}
