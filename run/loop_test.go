package run

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestFinetune(t *testing.T) {
	t.Parallel()
	base := tinyModel(t)
	for _, init := range []string{"balanced", "pissa", "gradient", "lora"} {
		t.Run(init, func(t *testing.T) {
			cfg := tune(t, base, writeFile(t, "text.txt", words(400, 1)))
			cfg.Init, cfg.Steps, cfg.Rank, cfg.Alpha, cfg.LearningRate = init, 20, 4, 8, 0.3
			result, told := mustRun(t, cfg)
			if !(result.FinalLoss < result.StartLoss-0.1) || len(result.Losses) != 20 || len(told.steps) != 20 {
				t.Errorf("validation loss %v -> %v in %d steps, want it to fall by 0.1", result.StartLoss, result.FinalLoss, len(result.Losses))
			}
			if len(result.Layers) != 6 || result.ProbeChange <= 0 || result.ExportDifference > 1e-4 {
				t.Errorf("%d layers changed, probe by %v, export differs by %v", len(result.Layers), result.ProbeChange, result.ExportDifference)
			}
			for _, name := range []string{"adapter/adapter_config.json", "adapter/README.md", metricsFile, configFile, runFile, resultFile} {
				if _, err := os.Stat(filepath.Join(result.Folder, name)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestSamples: sample text at its steps and at the end, from the opening of an example or the given prompt.
func TestSamples(t *testing.T) {
	cfg := tune(t, tinyModel(t), rows(t, 40))
	cfg.Length, cfg.SampleEvery, cfg.SampleTokens = 60, 2, 5
	result, told := mustRun(t, cfg)
	var steps []int
	for _, sample := range told.texts {
		steps = append(steps, sample.Step)
		if !strings.HasSuffix(sample.Prompt, ": ") || len(sample.Text) != 5 {
			t.Errorf("%q continued by %q, want a row's prompt and 5 characters", sample.Prompt, sample.Text)
		}
	}
	if !slices.Equal(steps, []int{2, 4, 6}) || len(result.Samples) != 3 {
		t.Errorf("samples at %v, %d in the result", steps, len(result.Samples))
	}
	cfg.SamplePrompt, cfg.Out = "the fox", filepath.Join(t.TempDir(), "run")
	if result, _ := mustRun(t, cfg); result.Samples[0].Prompt != "the fox" {
		t.Errorf("prompt %q", result.Samples[0].Prompt)
	}
	cfg.SamplePrompt, cfg.Out = "日本", filepath.Join(t.TempDir(), "run")
	_, err := Prepare(context.Background(), cfg, nil)
	mustSay(t, err, "sample prompt")
}

// TestEvaluationSeesTheSameRows: splitting rows into micro-batches changes neither the loss nor the tokens of an evaluation.
func TestEvaluationSeesTheSameRows(t *testing.T) {
	base, text := tinyModel(t), rows(t, 60)
	var want EvalDone
	for i, parts := range []int{1, 2, 4} {
		cfg := tune(t, base, text)
		cfg.Length, cfg.Packing, cfg.Accumulate, cfg.EvalBatches, cfg.Steps = 48, false, parts, 2, 1
		_, told := mustRun(t, cfg)
		got := told.evals[0]
		if i == 0 {
			want = got
		}
		const tol = 1e-6 // of a sum of a hundred float32 losses
		if got.Tokens != want.Tokens || math.Abs(got.ValidationLoss-want.ValidationLoss) > tol*want.ValidationLoss {
			t.Errorf("%d micro-batches: loss %v over %d tokens, want %v over %d", parts, got.ValidationLoss, got.Tokens, want.ValidationLoss, want.Tokens)
		}
	}
}

// TestPlan holds what is shown before anything is trained, and that nothing is written by then.
func TestPlan(t *testing.T) {
	cfg := tune(t, tinyModel(t), rows(t, 40))
	cfg.Length, cfg.Targets, cfg.ClipNorm = 48, []string{"*.mlp.*"}, 1
	session := mustPrepare(t, cfg)
	p := session.Plan
	if p.Trainable != 2*2*(64+16) || len(p.Targets) != 2 || len(p.Routes) != 1 || p.Routes[0].Tensors != 4 || p.Routes[0].Rule != "lora-muon" {
		t.Errorf("%d numbers train in %v under %+v", p.Trainable, p.Targets, p.Routes)
	}
	if p.Steps != 6 || p.TokensPerStep != 4*48 || p.Memory <= 0 || p.Time <= 0 || len(p.Data) == 0 {
		t.Errorf("%+v", p)
	}
	masked, trained := "", ""
	for _, segment := range p.Preview {
		if segment.Trained {
			trained += segment.Text
		} else {
			masked += segment.Text
		}
	}
	if !strings.HasSuffix(strings.TrimRight(masked, " "), ":") || trained == "" || strings.Contains(trained, ":") {
		t.Errorf("masked %q, trained %q", masked, trained)
	}
	if notes := strings.Join(p.Notes, "\n"); !strings.Contains(notes, "gradient clipping has no effect on lora-muon") || strings.Contains(notes, "lowest validation loss") {
		t.Errorf("notes %q", p.Notes)
	}
	if _, err := os.Stat(cfg.Out); err == nil {
		t.Error("preparing wrote the run folder")
	}
}

// TestClippingFollowsTheNorm: with SGD a clipped step has the length of the limit.
func TestClippingFollowsTheNorm(t *testing.T) {
	const limit = 1e-3
	cfg := tune(t, tinyModel(t), writeFile(t, "text.txt", words(200, 1)))
	cfg.Optimizer, cfg.LearningRate, cfg.Momentum, cfg.WeightDecay, cfg.ClipNorm = "sgd", 1, 0, 0, limit
	session := mustPrepare(t, cfg)
	batch, err := session.corpus.Train().Batch(0, cfg.Batch)
	if err != nil {
		t.Fatal(err)
	}
	before := trained(t, session)
	result, err := session.engine.step(batch, 1)
	if err != nil {
		t.Fatal(err)
	}
	var moved float64
	for i, after := range trained(t, session) {
		moved = math.Hypot(moved, float64(after)-float64(before[i]))
	}
	const tol = 2e-3 // weights near 1 that move by 1e-4 each, in float32
	if result.gradientNorm < 2*limit || math.Abs(moved-limit) > tol*limit {
		t.Errorf("moved by %v with a gradient of %v, want %v", moved, result.gradientNorm, limit)
	}
}

// TestSchedule: the reported rates are the schedule's, and a rate of 0 moves nothing.
func TestSchedule(t *testing.T) {
	cfg := tune(t, tinyModel(t), writeFile(t, "text.txt", words(200, 1)))
	cfg.Schedule, cfg.WarmupSteps, cfg.LearningRate, cfg.DecayFraction = "wsd", 2, 0.1, 0.5
	_, told := mustRun(t, cfg)
	for i, want := range []float64{0.05, 0.1, 0.1, 0.1, 0.1 * 2 / 3, 0.1 / 3} {
		if got := told.steps[i].LearningRate; math.Abs(got-want) > 1e-12 {
			t.Errorf("step %d: rate %v, want %v", i+1, got, want)
		}
	}
}
