package run

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/polargo/polar/adapter"
	"github.com/polargo/polar/adapter/peft"
	"github.com/polargo/polar/model"
	"github.com/polargo/polar/model/hf"
	"github.com/polargo/polar/tokenizer"
)

// exportTolerance bounds the difference between the trainer's logits and those of the reloaded export: float32 products
// in another order and grouping, W - s·A₀B₀ᵀ + s·A₀B₀ᵀ included, on logits of the order of 10.
const exportTolerance = 2e-3

// finish samples, exports, reloads the export and compares, and writes result.json.
func (t *trainer) finish(ctx context.Context, early bool) (*Result, error) {
	result := &Result{
		Folder: t.Config.Out, Steps: t.state.Step, StartLoss: t.state.StartLoss, FinalLoss: t.state.LastLoss, BestLoss: t.state.BestLoss,
		BestStep: t.state.BestStep, Losses: t.allLosses(), StoppedEarly: early, Seconds: time.Since(t.started).Seconds(),
	}
	if result.Seconds > 0 {
		result.TokensPerSecond = float64(t.tokens) / result.Seconds
	}
	if err := t.sample(ctx, t.state.Step); err != nil {
		return nil, err
	}
	result.Samples = t.samples
	var err error
	if result.Layers, err = t.layerChanges(); err != nil {
		return nil, err
	}
	trained, err := t.probe.logits(t.Session)
	if err != nil {
		return nil, err
	}
	result.ProbeChange = maxDifference(trained, t.probe.start)
	if result.ProbeChange == 0 && t.state.Step > 0 {
		return nil, fmt.Errorf("training changed nothing: the logits of the probe prompt are those of the start; check the learning rate and the targets")
	}
	if err := t.export(result); err != nil {
		return nil, err
	}
	if result.ExportDifference, err = t.checkExport(ctx, result, trained); err != nil {
		return nil, err
	}
	return result, writeJSON(filepath.Join(t.Config.Out, resultFile), result)
}

// allLosses returns the training loss of every step, those before a resume included.
func (t *trainer) allLosses() []float64 {
	lines, err := readMetrics(t.Config.Out)
	if err != nil {
		return t.losses
	}
	var losses []float64
	for _, line := range lines {
		if line.Loss != nil {
			losses = append(losses, *line.Loss)
		}
	}
	return losses
}

// layerChanges measures how far each adapted layer moved; a layer that did not move at all is an error.
func (t *trainer) layerChanges() ([]LayerChange, error) {
	if t.adapter == nil || t.base == nil || t.state.Step == 0 {
		return nil, nil
	}
	norms, err := t.adapter.Norms()
	if err != nil {
		return nil, err
	}
	changes := make([]LayerChange, len(norms))
	for i, n := range norms {
		changes[i] = LayerChange{Layer: n.Layer, Norm: n.Delta, Balance: n.Balance}
		if n.Delta == 0 {
			return nil, fmt.Errorf("training did not change layer %s: its gradient may not reach it", n.Layer)
		}
	}
	return changes, nil
}

// export writes the adapter, or the model when all weights trained, with its tokenizer and chat template.
func (t *trainer) export(result *Result) error {
	files := t.tokenizer.Files()
	if t.adapter == nil || t.base == nil {
		if t.adapter != nil {
			if err := t.adapter.Merge(); err != nil {
				return err
			}
		}
		result.Model = filepath.Join(t.Config.Out, "model")
		return hf.Save(result.Model, t.decoder, t.store, hf.SaveOptions{Tokenizer: t.tokenizer, ChatTemplate: t.chatSource()})
	}
	exported, err := t.adapter.Adapter(t.base.NameOrPath)
	if err != nil {
		return err
	}
	if source := t.chatSource(); source != "" {
		files["chat_template.jinja"] = []byte(source)
	}
	files["README.md"] = []byte(t.card(result))
	result.Adapter = filepath.Join(t.Config.Out, "adapter")
	return peft.Save(result.Adapter, exported, files)
}

func (t *trainer) chatSource() string {
	if t.chat == nil {
		return ""
	}
	return t.chat.Source()
}

// card describes an adapter for the people who find it.
func (t *trainer) card(result *Result) string {
	c := t.Config
	return fmt.Sprintf(`---
base_model: %s
library_name: peft
---
# LoRA adapter trained with Polar

Trained with %s at learning rate %g (rank %d, init %s) for %d steps of %d rows of %d tokens, seed %d.
Validation loss: %.4f before training, %.4f after.

Load it with PEFT: PeftModel.from_pretrained(base, "this folder").
`, t.base.NameOrPath, c.Optimizer, c.LearningRate, c.Rank, c.Init, result.Steps, c.Batch, c.Length, c.Seed, result.StartLoss, result.FinalLoss)
}

// checkExport frees the training state, loads what was written as anyone else would, and compares its logits on the
// probe with the trainer's.
func (t *trainer) checkExport(ctx context.Context, result *Result, trained []float32) (float64, error) {
	t.engine.close()
	t.engine = nil
	t.store.Finalize()
	t.store, t.adapter = nil, nil
	path := result.Model
	if path == "" {
		path = t.Config.Model
	}
	loaded, err := hf.Load(ctx, path, hf.LoadOptions{Offline: t.Config.Offline, Revision: t.Config.Revision})
	if err != nil {
		return 0, fmt.Errorf("reload the export: %w", err)
	}
	t.store, t.decoder = loaded.Store, loaded.Decoder
	var options model.Options
	if result.Adapter != "" {
		saved, err := peft.Load(result.Adapter)
		if err != nil {
			return 0, fmt.Errorf("reload the export: %w", err)
		}
		set, err := adapter.FromPEFT(t.store, t.decoder.Layers(), saved)
		if err != nil {
			return 0, fmt.Errorf("reload the export: %w", err)
		}
		options.Linear = set.Linear(t.store)
	}
	again, err := t.probe.run(t.backend, t.store, t.decoder, options)
	if err != nil {
		return 0, err
	}
	difference := maxDifference(trained, again)
	if !(difference <= exportTolerance*max(1, maxAbs(trained))) {
		return difference, fmt.Errorf("the export in %s does not give the trainer's logits: they differ by up to %.3g", result.Folder, difference)
	}
	return difference, nil
}

// sample writes text from the model as it is at a step.
func (t *trainer) sample(ctx context.Context, step int) error {
	if t.Config.SampleTokens == 0 {
		return nil
	}
	prompt, ids, err := t.samplePrompt()
	if err != nil {
		return err
	}
	room := min(t.decoder.Config().MaxPositions, len(ids)+t.Config.SampleTokens)
	generator, err := model.NewGenerator(t.backend, t.store, t.decoder, t.modelOptions(), room)
	if err != nil {
		return fmt.Errorf("sample text: %w", err)
	}
	defer generator.Close()
	settings := model.SampleConfig{Temperature: 0.8, TopP: 0.95, MaxTokens: room - len(ids), Seed: t.Config.Seed, Stop: tokenizer.Stops(t.tokenizer)}
	out, err := generator.Generate(ctx, ids, settings, nil)
	if err != nil {
		return fmt.Errorf("sample text: %w", err)
	}
	sampled := Sampled{Step: step, Prompt: prompt, Text: t.tokenizer.Decode(out)}
	t.samples = append(t.samples, sampled)
	t.sink(sampled)
	return nil
}

// samplePrompt is the configured prompt (as a user's message when the model has a chat template), else the beginning of
// the validation data.
func (t *trainer) samplePrompt() (string, []int, error) {
	if text := t.Config.SamplePrompt; text != "" {
		rendered := text
		if t.chat != nil {
			var err error
			if rendered, err = t.chat.Render([]tokenizer.Message{{Role: "user", Content: text}}, true); err != nil {
				return "", nil, err
			}
		}
		ids, err := t.tokenizer.Encode(rendered, t.chat == nil)
		if err != nil {
			return "", nil, fmt.Errorf("sample prompt: %w", err)
		}
		if len(ids) == 0 || len(ids) >= t.decoder.Config().MaxPositions {
			return "", nil, fmt.Errorf("sample prompt has %d tokens; the model takes 1 to %d", len(ids), t.decoder.Config().MaxPositions-1)
		}
		return text, ids, nil
	}
	ids, err := t.probe.tokens(t.Session)
	if err != nil {
		return "", nil, err
	}
	ids = ids[:min(len(ids), 32)]
	return t.tokenizer.Decode(ids), ids, nil
}
