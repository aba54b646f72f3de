package run

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/polargo/polar/adapter/peft"
	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/model/hf"
	"github.com/polargo/polar/tokenizer"
)

// worsening is a run whose validation loss falls and rises again: all weights, at a rate that overshoots.
func worsening(t *testing.T) Config {
	cfg := tune(t, tinyModel(t), writeFile(t, "text.txt", words(300, 1)))
	cfg.Optimizer, cfg.Rank, cfg.LearningRate, cfg.WeightDecay, cfg.Schedule = "adamw", 0, 0.3, 0, "constant"
	cfg.WarmupSteps, cfg.Steps, cfg.EvalEvery, cfg.SaveEvery = 9, 9, 1, 1
	return cfg
}

func TestBestIsExportedAndKept(t *testing.T) {
	cfg := worsening(t)
	cfg.Export = "best"
	result, told := mustRun(t, cfg)
	best := result.BestStep
	if best < 1 || best > 6 || result.ExportedStep != best {
		t.Fatalf("best step %d, exported %d of %d: %+v; want a run that gets worse", best, result.ExportedStep, result.Steps, told.evals)
	}
	if !strings.Contains(strings.Join(told.notes, "\n"), fmt.Sprintf("exporting the weights of step %d", best)) {
		t.Errorf("notes %q", told.notes)
	}
	paths, err := listCheckpoints(cfg.Out)
	if err != nil || len(paths) != 3 || filepath.Base(paths[2]) != checkpointName(best) || filepath.Base(paths[0]) != checkpointName(9) {
		t.Errorf("checkpoints %v, want the two newest and the best (%v)", paths, err)
	}
	if loss := validationLoss(t, cfg, result.Model); loss != result.BestLoss {
		t.Errorf("the export's validation loss is %v, the best was %v and the last %v", loss, result.BestLoss, result.FinalLoss)
	}

	last := worsening(t)
	result, _ = mustRun(t, last)
	if loss := validationLoss(t, last, result.Model); result.ExportedStep != 9 || loss != result.FinalLoss {
		t.Errorf("export last: step %d, validation loss %v, want %v", result.ExportedStep, loss, result.FinalLoss)
	}
}

// validationLoss is the loss that a run on the saved model starts with.
func validationLoss(t *testing.T, cfg Config, folder string) float64 {
	t.Helper()
	cfg.Model, cfg.Out, cfg.Steps, cfg.WarmupSteps = folder, filepath.Join(t.TempDir(), "again"), 1, 0
	result, _ := mustRun(t, cfg)
	return result.StartLoss
}

func TestPatience(t *testing.T) {
	cfg := worsening(t)
	cfg.Patience, cfg.Export = 2, "best"
	result, told := mustRun(t, cfg)
	if !result.StoppedEarly || result.Steps != result.BestStep+2 || result.ExportedStep != result.BestStep {
		t.Errorf("stopped early %v at step %d, best %d, exported %d; want two evaluations after the best", result.StoppedEarly, result.Steps, result.BestStep, result.ExportedStep)
	}
	if last := told.evals[len(told.evals)-1]; last.Step != result.Steps || last.ValidationLoss != result.FinalLoss {
		t.Errorf("last evaluation %+v, result %+v", last, result)
	}
	again, told := mustRun(t, Config{Resume: true, Out: cfg.Out}) // it stays stopped
	if len(told.steps) != 0 || again.Steps != result.Steps || !again.StoppedEarly {
		t.Errorf("resumed: %d steps more, %+v", len(told.steps), again)
	}
	_, _, err := execute(context.Background(), func() Config {
		cfg := worsening(t)
		cfg.Patience, cfg.ValidationFraction = 2, 0
		return cfg
	}(), nil)
	mustSay(t, err, "patience needs validation data")
}

// TestNoValidation: no loss is measured, and everything that writes numbers can live with that.
func TestNoValidation(t *testing.T) {
	cfg := tune(t, tinyModel(t), writeFile(t, "text.txt", words(200, 1)))
	cfg.ValidationFraction, cfg.Export = 0, "best"
	ctx, before := cancelAfter(2)
	if _, _, err := execute(ctx, cfg, before); err == nil {
		t.Fatal("not interrupted")
	}
	result, told := mustRun(t, Config{Resume: true, Out: cfg.Out})
	if result.FinalLoss == result.FinalLoss || len(told.evals) > 0 || result.ExportedStep != 6 {
		t.Errorf("%+v", result)
	}
	content, err := os.ReadFile(filepath.Join(cfg.Out, resultFile))
	if err != nil || !strings.Contains(string(content), `"FinalLoss": null`) {
		t.Errorf("%v: %s", err, content)
	}
	card, err := os.ReadFile(filepath.Join(result.Adapter, "README.md"))
	if err != nil || strings.Contains(string(card), "NaN") {
		t.Errorf("%v: %s", err, card)
	}
}

func TestTrainingThatChangesNothingIsAnError(t *testing.T) {
	base, text := tinyModel(t), writeFile(t, "text.txt", words(200, 1))
	for _, init := range []string{"balanced", "lora"} {
		cfg := tune(t, base, text)
		cfg.Init, cfg.Optimizer, cfg.LearningRate, cfg.WeightDecay = init, "sgd", 1e-30, 0
		_, _, err := execute(context.Background(), cfg, nil)
		mustSay(t, err, "training changed nothing")
		if _, err := os.Stat(filepath.Join(cfg.Out, "adapter")); err == nil {
			t.Error("it was exported all the same")
		}
	}
	mustSay(t, checkMoved([]LayerChange{{Layer: "a", Norm: 1}, {Layer: "b"}}), "did not change layer b")
}

// TestDenseChanges holds the reported norms against the update's size: one step of muon at rate eta moves a weight of
// fan-out m and fan-in n by eta·sqrt(m/n), from a model, from scratch and from scratch as pairs.
func TestDenseChanges(t *testing.T) {
	cfg := tune(t, tinyModel(t), writeFile(t, "text.txt", words(200, 1)))
	cfg.Rank, cfg.Optimizer, cfg.LearningRate, cfg.Steps, cfg.WeightDecay = 0, "muon", 0.1, 1, 0
	small := scratch(t, cfg.Data)
	small.Optimizer, small.LearningRate, small.Steps, small.WeightDecay = "muon", 0.1, 1, 0
	for name, cfg := range map[string]Config{"model": cfg, "scratch": small} {
		result, _ := mustRun(t, cfg)
		scales := map[string]float64{"up_proj": 2, "down_proj": 0.5} // 64 x 16 and 16 x 64; the others are square
		for _, change := range result.Layers {
			scale, ok := scales[change.Layer[strings.LastIndex(change.Layer, ".")+1:]]
			if !ok {
				scale = 1
			}
			const tol = 0.02 // msign's own accuracy
			if want := 0.1 * scale; change.Norm < want*(1-tol) || change.Norm > want*(1+tol) {
				t.Errorf("%s: %s moved by %v, want %v", name, change.Layer, change.Norm, want)
			}
		}
		if len(result.Layers) != 6 {
			t.Errorf("%s: %d layers", name, len(result.Layers))
		}
	}
	pairs := scratch(t, cfg.Data)
	pairs.Lab.PairRank, pairs.Optimizer = 2, "lora-muon"
	if result, _ := mustRun(t, pairs); len(result.Layers) != 6 || result.Layers[0].Norm <= 0 || result.Model == "" {
		t.Errorf("pairs: %+v", result)
	}
}

// TestExportIsChecked damages the export between writing and checking, where the check is the last thing to notice.
func TestExportIsChecked(t *testing.T) {
	cfg := tune(t, tinyModel(t), writeFile(t, "text.txt", words(200, 1)))
	session := mustPrepare(t, cfg)
	tr := &trainer{Session: session, state: newState("x"), saved: [2]int{-1, -1}}
	for step := range int64(2) {
		batch, err := session.corpus.Train().Batch(step, cfg.Batch)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := session.engine.step(batch, 1); err != nil {
			t.Fatal(err)
		}
	}
	logits, err := session.probe.logits(session)
	if err != nil {
		t.Fatal(err)
	}
	result := &Result{Folder: cfg.Out}
	if err := tr.export(result); err != nil {
		t.Fatal(err)
	}
	saved, err := peft.Load(result.Adapter)
	if err != nil {
		t.Fatal(err)
	}
	for i := range saved.Pairs[0].A {
		saved.Pairs[0].A[i] *= 1.5
	}
	if err := peft.Save(result.Adapter, saved, nil); err != nil {
		t.Fatal(err)
	}
	_, err = tr.checkExport(context.Background(), result, logits)
	mustSay(t, err, "does not give the trainer's logits")
}

// TestExportTravels: scales folded into the factors, the absolute path of the base, tokenizer and chat template beside.
func TestExportTravels(t *testing.T) {
	base := tinyModel(t)
	const template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
	write(t, filepath.Join(base, "chat_template.jinja"), template)
	var text strings.Builder
	for i := range 30 {
		_, _ = fmt.Fprintf(&text, `{"messages": [{"role": "user", "content": "%s"}, {"role": "assistant", "content": "%s"}]}`+"\n", oneLine(words(3, uint64(i))), oneLine(words(3, uint64(90+i))))
	}
	cfg := tune(t, base, writeFile(t, "chat.jsonl", text.String()))
	cfg.Length, cfg.RSLoRA, cfg.Alpha = 64, true, 7
	t.Chdir(filepath.Dir(base))
	cfg.Model = filepath.Base(base) // relative, as a person types it
	result, _ := mustRun(t, cfg)
	saved, err := peft.Load(result.Adapter)
	if err != nil {
		t.Fatal(err)
	}
	if saved.Base != base || saved.Alpha != float64(saved.Rank) || saved.Rank != 2*cfg.Rank {
		t.Errorf("base %s, alpha %v, rank %d; want %s and alpha = rank = %d", saved.Base, saved.Alpha, saved.Rank, base, 2*cfg.Rank)
	}
	config, err := os.ReadFile(filepath.Join(result.Adapter, "adapter_config.json"))
	if err != nil || !strings.Contains(string(config), `"use_rslora": false`) {
		t.Errorf("%v: %s", err, config)
	}
	if got, err := tokenizer.TemplateFromFolder(result.Adapter); err != nil || got != template {
		t.Errorf("chat template %q, %v", got, err)
	}
	if _, err := tokenizer.FromFolder(result.Adapter); err != nil {
		t.Error(err)
	}
}

// TestAllWeightsExport: the exported model loads with what lay beside the base, and its weights are the trainer's.
func TestAllWeightsExport(t *testing.T) {
	base := tinyModel(t)
	write(t, filepath.Join(base, "generation_config.json"), `{"max_length": 9}`)
	cfg := tune(t, base, writeFile(t, "text.txt", words(200, 1)))
	cfg.Rank, cfg.Optimizer = 0, "adamw"
	session := mustPrepare(t, cfg)
	result, err := session.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := hf.Load(context.Background(), result.Model, hf.LoadOptions{Offline: true, NeedTokenizer: true})
	if err != nil {
		t.Fatal(err)
	}
	if string(loaded.GenerationConfig) != `{"max_length": 9}` {
		t.Errorf("generation config %s", loaded.GenerationConfig)
	}
	if err := session.Close(); err != nil { // it holds the folder
		t.Fatal(err)
	}
	last := mustPrepare(t, Config{Resume: true, Out: cfg.Out})
	for _, v := range last.engine.trainable {
		want, err := v.Value()
		if err != nil {
			t.Fatal(err)
		}
		got := loaded.Store.GetVariable(v.Path()).MustValue()
		check.Close(t, v.Path(), flatOf(t, got), flatOf(t, want), 0)
	}
}

func flatOf(t *testing.T, tensor *tensors.Tensor) []float32 {
	t.Helper()
	flat, err := tensors.CopyFlatData[float32](tensor)
	if err != nil {
		t.Fatal(err)
	}
	return flat
}
