package run

import (
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polargo/polar/optimizer"
)

// setting is a change of one field, from a run on which it has an effect.
type setting struct {
	base   func(*Config) // what the field needs to matter; nil is the run of tune
	change func(*Config)
}

func adamw(c *Config) { c.Optimizer, c.LearningRate = "adamw", 0.05 }

func allWeights(c *Config) { c.Rank, c.Optimizer, c.LearningRate = 0, "adamw", 0.01 }

func dense(c *Config) { c.Rank, c.Optimizer, c.LearningRate = 0, "muon", 0.02 }

func fromZero(c *Config) { c.Init = "lora" }

func bounded(c *Config) { c.Init, c.SpectralBudget = "lora", 0.1 }

func overshooting(c *Config) {
	c.Rank, c.Optimizer, c.LearningRate, c.Steps, c.WarmupSteps, c.Schedule, c.EvalEvery, c.SaveEvery = 0, "adamw", 0.3, 9, 9, "constant", 1, 1
}

// notObserved are the fields that this test cannot see, each with what shows its effect.
var notObserved = map[string]string{
	"Revision": "only hub models have one: model/hf's tests of the hub",
	"Offline":  "no test uses the network: model/hf's and data's tests with servers of their own",
	"Backend":  "one backend is compiled in: TestBackendIsOpened",
	"Lab":      "TestEveryLabFieldHasAnEffect",
}

func settings(t *testing.T, texts map[string]string) map[string]setting {
	fromRows := func(c *Config) { c.Data, c.Length = texts["rows"], 48 }
	return map[string]setting{
		"Model":              {nil, func(c *Config) { c.Model = tinyModelOf(t, 2) }},
		"Data":               {nil, func(c *Config) { c.Data = texts["other"] }},
		"ValidationData":     {nil, func(c *Config) { c.ValidationData = texts["other"] }},
		"ValidationFraction": {nil, func(c *Config) { c.ValidationFraction = 0.4 }},
		"Length":             {nil, func(c *Config) { c.Length = 12 }},
		"Packing":            {fromRows, func(c *Config) { c.Packing = false }},
		"TrainOnPrompt":      {fromRows, func(c *Config) { c.TrainOnPrompt = true }},
		"Sampling":           {nil, func(c *Config) { c.Sampling = "windows" }},
		"Rank":               {nil, func(c *Config) { c.Rank = 3 }},
		"Alpha":              {nil, func(c *Config) { c.Alpha = 8 }},
		"RSLoRA":             {func(c *Config) { c.Alpha = 8 }, func(c *Config) { c.RSLoRA = true }},
		"Init":               {nil, func(c *Config) { c.Init = "lora" }},
		"InitScale":          {nil, func(c *Config) { c.InitScale = 0.2 }},
		"Targets":            {nil, func(c *Config) { c.Targets = []string{"q_proj"} }},

		"Optimizer":            {nil, func(c *Config) { c.Optimizer = "factor-muon" }},
		"LearningRate":         {nil, func(c *Config) { c.LearningRate = 0.2 }},
		"WeightDecay":          {nil, func(c *Config) { c.WeightDecay = 0.5 }},
		"Momentum":             {nil, func(c *Config) { c.Momentum = 0.5 }},
		"Beta2":                {adamw, func(c *Config) { c.Beta2 = 0.9 }},
		"Nesterov":             {nil, func(c *Config) { c.Nesterov = true }},
		"WidthScale":           {nil, func(c *Config) { c.WidthScale = "none" }},
		"Guard":                {func(c *Config) { c.LearningRate = 5 }, func(c *Config) { c.Guard = false }},
		"RebalanceEvery":       {func(c *Config) { c.Init = "lora" }, func(c *Config) { c.RebalanceEvery = 1 }},
		"LoRAPlusRatio":        {adamw, func(c *Config) { c.LoRAPlusRatio = 4 }},
		"MaxPreconditioned":    {func(c *Config) { c.Optimizer = "soap" }, func(c *Config) { c.MaxPreconditioned = 1 }},
		"ClipNorm":             {func(c *Config) { c.Optimizer = "sgd" }, func(c *Config) { c.ClipNorm = 1e-3 }},
		"Schedule":             {nil, func(c *Config) { c.Schedule = "cosine" }},
		"WarmupSteps":          {nil, func(c *Config) { c.WarmupSteps = 3 }},
		"WarmupFraction":       {nil, func(c *Config) { c.WarmupFraction = 0.5 }},
		"DecayFraction":        {func(c *Config) { c.Schedule = "wsd" }, func(c *Config) { c.DecayFraction = 1 }},
		"Manifold":             {dense, func(c *Config) { c.Manifold = optimizer.Manifold{Set: "ball", Radius: 1} }},
		"Protect":              {protecting, func(c *Config) { c.Protect = []string{pastAdapter(t, c.Model, 2)} }},
		"FallbackLearningRate": {allWeights, func(c *Config) { c.FallbackLearningRate = 1e-3 }},

		"SpectralBudget":      {fromZero, func(c *Config) { c.SpectralBudget = 0.1 }},
		"SpectralBudgetMode":  {bounded, func(c *Config) { c.SpectralBudgetMode = "clipped-decay" }},
		"SpectralBudgetDecay": {func(c *Config) { bounded(c); c.SpectralBudgetMode = "clipped-decay" }, func(c *Config) { c.SpectralBudgetDecay = 0.5 }},
		"CertifyInvariance":   {nil, func(c *Config) { c.CertifyInvariance = true }},

		"Steps":        {nil, func(c *Config) { c.Steps = 5 }},
		"Epochs":       {func(c *Config) { c.Steps, c.Epochs, c.EvalEvery, c.Data = 0, 0.5, 9, texts["short"] }, func(c *Config) { c.Epochs = 1 }},
		"Batch":        {nil, func(c *Config) { c.Batch = 2 }},
		"Accumulate":   {nil, func(c *Config) { c.Accumulate = 2 }},
		"EvalEvery":    {nil, func(c *Config) { c.EvalEvery = 2 }},
		"EvalBatches":  {nil, func(c *Config) { c.EvalBatches = 1 }},
		"SaveEvery":    {nil, func(c *Config) { c.SaveEvery = 2 }},
		"SampleEvery":  {func(c *Config) { c.SampleTokens = 3 }, func(c *Config) { c.SampleEvery = 2 }},
		"SamplePrompt": {func(c *Config) { c.SampleTokens = 3 }, func(c *Config) { c.SamplePrompt = "the fox" }},
		"SampleTokens": {nil, func(c *Config) { c.SampleTokens = 3 }},
		"Patience":     {overshooting, func(c *Config) { c.Patience = 1 }},
		"Export":       {overshooting, func(c *Config) { c.Export = "best" }},
		"Seed":         {nil, func(c *Config) { c.Seed = 5 }},

		"Out":                     {nil, func(c *Config) { c.Out = filepath.Join(t.TempDir(), "elsewhere") }},
		"Resume":                  {nil, func(c *Config) { c.Resume = true }}, // refused: there is nothing to resume
		"Verify":                  {nil, func(c *Config) { c.Verify = 1 }},    // refused without --resume
		"ActivationCheckpointing": {nil, func(c *Config) { c.ActivationCheckpointing = true }},
	}
}

// observe runs cfg and returns all that can be seen of it but times and where the test put it.
func observe(t *testing.T, cfg Config) string {
	t.Helper()
	var text strings.Builder
	say := func(values ...any) { _, _ = fmt.Fprintln(&text, values...) }
	session, err := Prepare(context.Background(), cfg, nil)
	if err != nil {
		return err.Error()
	}
	told := &log{}
	session.sink = told.sink
	defer func() { _ = session.Close() }()
	plan := session.Plan
	plan.Time, plan.Model = 0, ""
	say(plan, session.settings)
	result, err := session.Run(context.Background())
	if err != nil {
		return err.Error()
	}
	for _, saved := range told.saved {
		say("saved", saved.Step)
	}
	for _, eval := range told.evals {
		eval.Seconds = 0
		say(eval)
	}
	st := newest(t, result.Folder)
	st.Identity, st.StateHash = "", "" // every setting changes them, which proves nothing
	say(told.losses(), told.texts, result.ExportedStep, result.ExportDifference, st, filepath.Base(result.Folder))
	return text.String()
}

// TestEveryFieldHasAnEffect changes each field of Config and demands that something else comes out, and that the same
// settings give the same.
func TestEveryFieldHasAnEffect(t *testing.T) {
	base := tinyModel(t)
	texts := map[string]string{
		"text": writeFile(t, "text.txt", words(300, 1)), "other": writeFile(t, "other.txt", words(300, 2)),
		"short": writeFile(t, "short.txt", words(90, 1)), "rows": rows(t, 40),
	}
	all := settings(t, texts)
	start := func(s setting) Config {
		cfg := tune(t, base, texts["text"])
		cfg.Steps, cfg.EvalEvery, cfg.EvalBatches, cfg.SaveEvery = 3, 3, 2, 3
		if s.base != nil {
			s.base(&cfg)
		}
		return cfg
	}
	plain := observe(t, start(setting{}))
	if again := observe(t, start(setting{})); again != plain {
		t.Fatalf("the same settings give\n%s\nand\n%s", plain, again)
	}
	for i := range reflect.TypeFor[Config]().NumField() {
		name := reflect.TypeFor[Config]().Field(i).Name
		if notObserved[name] != "" {
			continue
		}
		s, ok := all[name]
		if !ok {
			t.Errorf("field %s has no case: add one, or say in notObserved what shows its effect", name)
			continue
		}
		before := plain
		if s.base != nil {
			before = observe(t, start(s))
		}
		changed := start(s)
		s.change(&changed)
		if observe(t, changed) == before {
			t.Errorf("field %s has no effect:\n%s", name, before)
		}
	}
}

func TestEveryLabFieldHasAnEffect(t *testing.T) {
	text := writeFile(t, "text.txt", words(300, 1))
	changes := map[string]func(*Lab){
		"Layers": func(l *Lab) { l.Layers = 2 }, "Hidden": func(l *Lab) { l.Hidden = 24 }, "Heads": func(l *Lab) { l.Heads = 1 },
		"Activation": func(l *Lab) { l.Activation = "gelu" }, "Positions": func(l *Lab) { l.Positions = "learned" },
		"QKNorm": func(l *Lab) { l.QKNorm = false }, "PairRank": func(l *Lab) { l.PairRank = 4 }, "PairScale": func(l *Lab) { l.PairScale = 3 },
	}
	start := func() Config {
		cfg := scratch(t, text)
		cfg.Lab.PairRank, cfg.Optimizer = 2, "lora-muon"
		cfg.Steps, cfg.EvalEvery, cfg.EvalBatches, cfg.SaveEvery = 3, 3, 2, 3
		return cfg
	}
	plain := observe(t, start())
	for i := range reflect.TypeFor[Lab]().NumField() {
		name := reflect.TypeFor[Lab]().Field(i).Name
		changed := start()
		change, ok := changes[name]
		if !ok {
			t.Errorf("field %s has no case", name)
			continue
		}
		if change(changed.Lab); observe(t, changed) == plain {
			t.Errorf("field %s has no effect", name)
		}
	}
}

func TestBackendIsOpened(t *testing.T) {
	cfg := tune(t, "anything", "anything")
	cfg.Backend = "abacus"
	_, err := Prepare(context.Background(), cfg, nil)
	mustSay(t, err, "abacus", "go")
}

// TestFreeToChangeAreSettings: a name that is no setting protects nothing.
func TestFreeToChangeAreSettings(t *testing.T) {
	var keys []string
	for _, item := range (Config{}).Settings() {
		keys = append(keys, fmt.Sprint(item.Key))
	}
	for key := range freeToChange {
		if !slices.Contains(keys, key) {
			t.Errorf("%s is no setting", key)
		}
	}
}

// TestRecordsDifferences: a record written before a setting existed is of another run.
func TestRecordsDifferences(t *testing.T) {
	cfg := tune(t, "m", "d")
	r := record{Config: cfg, Base: "b", Data: "d"}
	if got := r.differences(cfg, "b", "d"); len(got) != 0 {
		t.Errorf("the same run differs in %v", got)
	}
	lab := cfg
	lab.Lab = &Lab{Layers: 3}
	if got := strings.Join(r.differences(lab, "x", "y"), ", "); !strings.Contains(got, "the base model, the data") || !strings.Contains(got, "layers (3, was )") {
		t.Errorf("differences %s", got)
	}
	if identity(cfg, "b", "d") == identity(lab, "b", "d") || identity(cfg, "b", "d") == identity(cfg, "bd", "") {
		t.Error("two runs have one identity")
	}
}

// TestResolve holds what is chosen when nothing is given.
func TestResolve(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	cfg := tune(t, "models/Some.gguf", "d")
	cfg.Out = ""
	got := cfg.resolve(now)
	if got.Out != filepath.Join("runs", "Some-20260102-030405") || got.Alpha != 2 || got.Momentum != 0.9 || got.LearningRate != 0.1 {
		t.Errorf("%+v", got)
	}
	cfg.RSLoRA, cfg.Rank = true, 16
	if got := cfg.resolve(now); got.Alpha != 4 { // s = alpha/sqrt(rank) = 1
		t.Errorf("alpha %v with rslora, want 4", got.Alpha)
	}
	cfg.Rank, cfg.Optimizer, cfg.LearningRate = 0, "adamw", 1e-5
	if got := cfg.resolve(now); got.FallbackLearningRate != 0 {
		t.Errorf("embeddings train at %v when all weights train with adamw at 1e-5", got.FallbackLearningRate)
	}
	for _, want := range []struct {
		optimizer     string
		adapter, full float64
	}{{"lora-muon", 0.1, 0.1}, {"muon", 0, 0.02}, {"factor-muon", 0.01, 0.02}, {"adamw", 2e-4, 1e-3}, {"sgd", 0.1, 0.1}} {
		for rank, rate := range map[int]float64{4: want.adapter, 0: want.full} {
			cfg := tune(t, "m", "d")
			cfg.Optimizer, cfg.Rank, cfg.LearningRate = want.optimizer, rank, 0
			if got := cfg.resolve(now).LearningRate; rate != 0 && got != rate {
				t.Errorf("%s at rank %d learns at %g, want %g", want.optimizer, rank, got, rate)
			}
		}
	}
}

// TestResolveEvery: what is chosen for each optimizer passes check, on adapters, on all weights and from scratch.
func TestResolveEvery(t *testing.T) {
	for _, info := range optimizer.Known() {
		for _, kind := range []string{"adapter", "full", "scratch"} {
			cfg := tune(t, "m", "d")
			cfg.Optimizer, cfg.LearningRate, cfg.Beta2, cfg.FallbackLearningRate = info.Name, 0, -1, 0
			switch kind {
			case "full":
				cfg.Rank = 0
			case "scratch":
				cfg.Model, cfg.Lab = "", &Lab{Layers: 1, Hidden: 8, Heads: 2, PairScale: 1}
			}
			err := cfg.resolve(time.Now()).check()
			if want := info.Pairs || kind != "adapter"; (err == nil) != want {
				t.Errorf("%s, %s: %v", info.Name, kind, err)
			}
			cfg.Beta2 = 0.9
			if err := cfg.resolve(time.Now()).check(); (kind == "full") && (err == nil) != info.Beta2 {
				t.Errorf("%s with beta2: %v", info.Name, err)
			}
		}
	}
}
