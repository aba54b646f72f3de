package run

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/model"
	"github.com/polargo/polar/model/hf"
	"github.com/polargo/polar/tokenizer"
)

const alphabet = "abcdefghijklmnopqrstuvwxyz .,:\n"

// words writes n words of a small vocabulary, the same for a seed: text that a tiny model learns something of.
func words(n int, seed uint64) string {
	rng := rand.New(rand.NewPCG(seed, 1))
	list := strings.Fields("the quick brown fox jumps over a lazy dog while seven wizards box with jugs of liquor and ink")
	var text strings.Builder
	for i := range n {
		text.WriteString(list[rng.IntN(len(list))])
		text.WriteString(map[bool]string{true: ".\n", false: " "}[i%9 == 8])
	}
	return text.String()
}

// writeFile writes a file of the test's folder and returns its path.
func writeFile(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// tinyModel writes an untrained one-block model of width 16 with a character vocabulary and returns its folder.
func tinyModel(t testing.TB) string { return tinyModelOf(t, 1) }

func tinyModelOf(t testing.TB, seed int64) string {
	t.Helper()
	tok, err := tokenizer.NewChar([]rune(alphabet))
	if err != nil {
		t.Fatal(err)
	}
	decoder, err := model.New(model.Lab(tok.VocabSize(), 16, 1, 2, 64))
	if err != nil {
		t.Fatal(err)
	}
	store := mlmodel.NewStore()
	if err := decoder.Init(store, seed); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "model")
	if err := hf.Save(dir, decoder, store, hf.SaveOptions{Tokenizer: tok}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// rows writes prompt and completion rows of unequal lengths.
func rows(t testing.TB, n int) string {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, 3))
	var text strings.Builder
	for i := range n {
		_, _ = fmt.Fprintf(&text, `{"prompt": "%s: ", "completion": "%s"}`+"\n", oneLine(words(1+rng.IntN(2), uint64(i))), oneLine(words(1+rng.IntN(3), uint64(100+i))))
	}
	return writeFile(t, "rows.jsonl", text.String())
}

func oneLine(text string) string { return strings.TrimSpace(strings.ReplaceAll(text, "\n", " ")) }

// tune is a short fine-tuning of base, with the defaults of the command line.
func tune(t testing.TB, base, data string) Config {
	t.Helper()
	return Config{
		Model: base, Data: data, ValidationFraction: 0.2, Length: 16, Packing: true, Sampling: "epochs",
		Rank: 2, Init: "balanced", Targets: []string{"all-linear"},
		Optimizer: "lora-muon", WeightDecay: 0.01, Momentum: -1, Beta2: -1, WidthScale: "rms", Guard: true, LoRAPlusRatio: 1,
		Schedule: "linear", DecayFraction: 0.4, Steps: 6, Epochs: 1, Batch: 4, Accumulate: 1, EvalEvery: 3, EvalBatches: 2, SaveEvery: 2, Export: "last",
		Out: filepath.Join(t.TempDir(), "run"), Offline: true,
	}
}

// scratch is a short training of a small model from scratch.
func scratch(t testing.TB, data string) Config {
	t.Helper()
	cfg := tune(t, "", data)
	cfg.Lab = &Lab{Layers: 1, Hidden: 16, Heads: 2, Activation: "relu2", Positions: "rotary", QKNorm: true, PairScale: 1}
	cfg.Optimizer, cfg.Sampling = "muon", "windows"
	return cfg
}

// log is what a run told.
type log struct {
	notes []string
	steps []StepDone
	evals []EvalDone
	saved []Saved
	texts []Sampled
}

func (l *log) sink(event Event) {
	switch e := event.(type) {
	case Note:
		l.notes = append(l.notes, e.Text)
	case StepDone:
		l.steps = append(l.steps, e)
	case EvalDone:
		l.evals = append(l.evals, e)
	case Saved:
		l.saved = append(l.saved, e)
	case Sampled:
		l.texts = append(l.texts, e)
	}
}

func (l *log) losses() []float64 {
	out := make([]float64, len(l.steps))
	for i, step := range l.steps {
		out[i] = step.Loss
	}
	return out
}

// execute prepares and runs, and returns what came of it. after, if not nil, is called before every event is recorded.
func execute(ctx context.Context, cfg Config, before func(Event)) (*Result, *log, error) {
	told := &log{}
	session, err := Prepare(ctx, cfg, func(event Event) {
		if before != nil {
			before(event)
		}
		told.sink(event)
	})
	if err != nil {
		return nil, told, err
	}
	result, err := session.Run(ctx)
	return result, told, errors.Join(err, session.Close())
}

// mustRun is execute for runs that must succeed.
func mustRun(t testing.TB, cfg Config) (*Result, *log) {
	t.Helper()
	result, told, err := execute(context.Background(), cfg, nil)
	if err != nil {
		t.Fatalf("run: %v", err)
	}
	return result, told
}

// mustPrepare returns a prepared session that the test's end closes.
func mustPrepare(t testing.TB, cfg Config) *Session {
	t.Helper()
	session, err := Prepare(context.Background(), cfg, nil)
	if err != nil {
		t.Fatalf("prepare: %v", err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

// newest returns the newest checkpoint's state.
func newest(t testing.TB, folder string) state {
	t.Helper()
	path, st, err := newestCheckpoint(folder, -1, func(note string) { t.Error(note) })
	if err != nil || path == "" {
		t.Fatalf("no checkpoint in %s: %v", folder, err)
	}
	return st
}

// mustSay fails the test unless the error's one line holds each part.
func mustSay(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that says %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error has several lines: %q", err)
	}
}
