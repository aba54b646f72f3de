package run

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
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
		Folder: t.Config.Out, Steps: t.state.Step, ExportedStep: t.state.Step, StartLoss: float64(t.state.StartLoss),
		FinalLoss: float64(t.state.LastLoss), BestLoss: float64(t.state.BestLoss), BestStep: t.state.BestStep, Losses: t.allLosses(),
		StoppedEarly: early, TokensPerSecond: t.tokensPerSecond(),
	}
	t.endCertificate(result)
	if err := t.takeBest(result); err != nil {
		return nil, err
	}
	if err := t.sample(ctx, result.ExportedStep); err != nil {
		return nil, err
	}
	result.Samples = t.samples
	trained, err := t.probe.logits(t.Session)
	if err != nil {
		return nil, err
	}
	result.ProbeChange = maxDifference(trained, t.probe.start)
	if result.ProbeChange == 0 {
		return nil, fmt.Errorf("training changed nothing: the logits of the probe prompt are those of the start; check the learning rate and the targets")
	}
	if result.Layers, err = t.adapterChanges(); err != nil {
		return nil, err
	}
	if err := t.export(result); err != nil {
		return nil, err
	}
	if result.ExportDifference, err = t.checkExport(ctx, result, trained); err != nil {
		return nil, err
	}
	if result.Layers == nil {
		if result.Layers, err = t.denseChanges(ctx); err != nil {
			return nil, err
		}
	}
	result.Seconds = time.Since(t.started).Seconds()
	return result, writeJSON(filepath.Join(t.Config.Out, resultFile), result)
}

// takeBest puts the weights of the best evaluation into the store, where they are wanted and are not the last ones. The
// state on disk is saved before and not touched.
func (t *trainer) takeBest(result *Result) error {
	measured := finite(result.BestLoss)
	switch {
	case t.Config.Export != "best" || !measured || result.BestStep == result.Steps:
		return nil
	case result.BestStep == 0:
		t.note(true, "no evaluation was better than the start (%.4f); the weights of the last step are exported", result.StartLoss)
		return nil
	}
	path := filepath.Join(t.Config.Out, checkpointsName, checkpointName(result.BestStep))
	if _, err := readState(path); err != nil {
		t.note(true, "the best checkpoint cannot be read (%v); the weights of the last step are exported", err)
		return nil
	}
	t.note(false, "exporting the weights of step %d, whose validation loss was the lowest (%.4f; the last step's is %.4f)", result.BestStep, result.BestLoss, result.FinalLoss)
	result.ExportedStep = result.BestStep
	return loadVariables(path, t.store, sameName)
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

// export writes the adapter, or the model when all weights trained, with its tokenizer and chat template.
func (t *trainer) export(result *Result) error {
	if t.adapter == nil || t.base == nil {
		return t.exportModel(result)
	}
	exported, err := t.adapter.Adapter(t.baseName())
	if err != nil {
		return err
	}
	files := t.tokenizer.Files()
	if source := t.chatSource(); source != "" {
		files["chat_template.jinja"] = []byte(source)
	}
	files["README.md"] = []byte(t.card(result))
	invariance, err := t.certificate.file()
	if err != nil {
		return err
	}
	if invariance != nil {
		files[invarianceFile] = invariance
	}
	result.Adapter = filepath.Join(t.Config.Out, "adapter")
	return peft.Save(result.Adapter, exported, files)
}

func (t *trainer) exportModel(result *Result) error {
	if t.adapter != nil {
		if err := t.adapter.Merge(); err != nil {
			return err
		}
	}
	options := hf.SaveOptions{Tokenizer: t.tokenizer}
	if t.base != nil {
		options = t.base.Extra()
	}
	result.Model = filepath.Join(t.Config.Out, "model")
	return hf.Save(result.Model, t.decoder, t.store, options)
}

// baseName is how the adapter names its base: a hub name as it is, a path from the root, so that it holds anywhere.
func (t *trainer) baseName() string {
	name := t.base.NameOrPath
	if _, err := os.Stat(name); err == nil {
		if path, err := filepath.Abs(name); err == nil {
			return path
		}
	}
	return name
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
	losses := "It was not validated."
	if finite(result.BestLoss) {
		losses = fmt.Sprintf("Validation loss: %.4f before training, %.4f at the last step, %.4f at its lowest (step %d).", result.StartLoss, result.FinalLoss, result.BestLoss, result.BestStep)
	}
	return fmt.Sprintf(`---
base_model: %s
library_name: peft
---
# LoRA adapter trained with Polar

Trained with %s at learning rate %g (rank %d, init %s) for %d steps of %d rows of %d tokens, seed %d. The weights are those
after step %d. %s%s

Load it with PEFT: PeftModel.from_pretrained(base, "this folder").
`, t.baseName(), c.Optimizer, c.LearningRate, c.Rank, c.Init, result.Steps, c.Batch, c.Length, c.Seed, result.ExportedStep, losses, pairsCard(c, result.Invariance))
}

// checkExport frees the training state, loads what was written as anyone else would, and compares its logits on the
// probe with the trainer's.
func (t *trainer) checkExport(ctx context.Context, result *Result, trained []float32) (float64, error) {
	t.engine.close()
	t.engine = nil
	t.store.Finalize()
	t.store, t.adapter = nil, nil
	debug.FreeOSMemory() // before the same weights are loaded again
	path := result.Model
	if path == "" {
		path = t.Config.Model
	}
	loaded, err := hf.Load(ctx, path, hf.LoadOptions{Offline: t.Config.Offline, Revision: t.Config.Revision, Backend: t.backend})
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
// the validation data. Prepare calls it too, so that a prompt that cannot be used fails before anything is trained.
func (s *Session) samplePrompt() (string, []int, error) {
	most := s.decoder.Config().MaxPositions - 1
	text := s.Config.SamplePrompt
	if text == "" {
		if _, err := s.probe.tokens(s); err != nil {
			return "", nil, err
		}
		ids := widen(s.probe.sample)
		ids = ids[:min(len(ids), max(1, most/2))]
		return s.tokenizer.Decode(ids), ids, nil
	}
	rendered := text
	if s.chat != nil {
		var err error
		if rendered, err = s.chat.Render([]tokenizer.Message{{Role: "user", Content: text}}, true); err != nil {
			return "", nil, err
		}
	}
	ids, err := s.tokenizer.Encode(rendered, s.chat == nil)
	if err != nil {
		return "", nil, fmt.Errorf("sample prompt: %w", err)
	}
	if len(ids) == 0 || len(ids) > most {
		return "", nil, fmt.Errorf("sample prompt has %d tokens; the model takes 1 to %d", len(ids), most)
	}
	return text, ids, nil
}
