package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/polargo/polar/run"
)

// fake is a program whose runs are played, with what it was asked for and what it wrote.
type fake struct {
	*program
	out, err bytes.Buffer
	configs  []run.Config
	signals  chan<- os.Signal
	play     func(ctx context.Context, cfg run.Config, sink run.Sink) (*run.Result, error)
}

// newFake returns a program that trains nothing and reports fakeResult.
func newFake(t *testing.T) *fake {
	t.Helper()
	t.Setenv("NO_COLOR", "1")
	f := &fake{play: func(context.Context, run.Config, run.Sink) (*run.Result, error) { return fakeResult(), nil }}
	f.program = &program{stdin: strings.NewReader(""), stdout: &f.out, stderr: &f.err, recipe: quickstartRecipe}
	f.notify = func(signals chan<- os.Signal) func() { f.signals = signals; return func() {} }
	f.prepare = func(_ context.Context, cfg run.Config, sink run.Sink) (*trainer, error) {
		f.configs = append(f.configs, cfg)
		if cfg.Out == "" {
			cfg.Out = "runs/fake"
		}
		return &trainer{
			config: cfg, plan: fakePlan(),
			run:   func(ctx context.Context) (*run.Result, error) { return f.play(ctx, cfg, sink) },
			close: func() error { return nil },
		}, nil
	}
	return f
}

func fakePlan() run.Plan {
	plan := run.Plan{
		Model: "tiny", Backend: "go", Parameters: 134_515_008, Trainable: 4_884_480, Steps: 100, StepsPerEpoch: 50, TokensPerStep: 1024,
		Memory: 1_900_000_000, Time: 200 * time.Second, Data: []string{"200 rows"}, Notes: []string{"truncated 3 rows"},
		Routes:  []run.RouteLine{{Rule: "lora-muon", Tensors: 420, Parameters: 4_884_480, LearningRate: 0.03, StateBytes: 19_537_920, Examples: []string{"a", "b", "c"}}},
		Preview: []run.PreviewSegment{{Text: "What is 2+2?"}, {Text: "It is 4.", Trained: true}},
	}
	for layer := range 30 {
		for _, name := range []string{"self_attn.q_proj", "self_attn.k_proj", "mlp.down_proj"} {
			plan.Targets = append(plan.Targets, strings.Replace("model.layers.N.", "N", itoa(layer), 1)+name)
		}
	}
	return plan
}

func fakeResult() *run.Result {
	return &run.Result{
		Folder: "runs/fake", Adapter: "runs/fake/adapter", Model: "", Steps: 100, StartLoss: 2.5, FinalLoss: 2.01, BestLoss: 2.0, BestStep: 90, ExportedStep: 90,
		Losses: []float64{3, 2.5, 2.2, 2}, Layers: []run.LayerChange{{Layer: "small", Norm: 0.1}, {Layer: "large", Norm: 0.4}, {Layer: "middle", Norm: 0.2}},
		ProbeChange: 1.5, ExportDifference: 2e-6, Seconds: 65, TokensPerSecond: 800, Samples: []run.Sampled{{Step: 100, Prompt: "Say it's", Text: " so"}},
	}
}

func itoa(n int) string { return string(mustJSON(n)) }

func mustJSON(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

// mustSay fails the test unless text holds each part.
func mustSay(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("missing %q in:\n%s", part, text)
		}
	}
}

func TestUsageErrors(t *testing.T) {
	for _, test := range []struct {
		args string
		want []string // first line, then hint
	}{
		{"fintune", []string{"polar: unknown command fintune\n", "hint: did you mean 'polar finetune'?\n"}},
		{"xyzzy", []string{"polar: unknown command xyzzy\n", "finetune, train, generate"}},
		{"finetune --learing-rate 1", []string{"polar: unknown flag --learing-rate\n", "did you mean --learning-rate?"}},
		{"finetune --model m --data d --optimizer lora-moun", []string{`--optimizer: unknown value "lora-moun", want one of lora-muon, muon`, "did you mean lora-muon?"}},
		{"finetune --model m --data d --schedule cosin", []string{`--schedule: unknown value "cosin"`, "did you mean cosine?"}},
		{"finetune --model m --data d --learning-rate fast", []string{"--learning-rate", "fast", "polar finetune --help"}},
		{"finetune --model m --data d --learning-rate nan", []string{"--learning-rate is NaN, want a finite number"}},
		{"finetune --data d", []string{"finetune has no model\n", "hint: give --model"}},
		{"finetune --model m", []string{"finetune has no data\n", "hint: give --data"}},
		{"finetune --resume -o d --steps 9", []string{"--steps has no effect with --resume"}},
		{"train --model m", []string{"train has no --model: it starts from scratch"}},
		{"generate --temperature=-1 x", []string{"polar: --temperature is -1"}},
		{"generate --top-p 0 x", []string{"polar: --top-p is 0"}},
		{"generate x", []string{"polar: no model\n", "hint: give --model"}},
		{"generate --model m --no-adapter x", []string{"--no-adapter needs --adapter"}},
		{"merge --model m -o out", []string{"merge has no adapter"}},
		{"merge --adapter a", []string{"missing flags: --out"}},
		{"merge --adapter a -o .", []string{". exists already"}},
		{"finetune --config nowhere.yaml", []string{"nowhere.yaml"}},
	} {
		t.Run(test.args, func(t *testing.T) {
			f := newFake(t)
			if status := f.main(t.Context(), strings.Fields(test.args)); status != statusUsage {
				t.Errorf("status %d, want %d", status, statusUsage)
			}
			mustSay(t, f.err.String(), test.want...)
			lines := strings.Count(f.err.String(), "\n")
			if lines > 2 || f.out.Len() > 0 || len(f.configs) > 0 {
				t.Errorf("want one line and a hint, no output and no run; got:\n%s\n%s", f.err.String(), f.out.String())
			}
		})
	}
}

func TestMainReportsWithBuffers(t *testing.T) {
	var out, errs bytes.Buffer
	if status := Main(t.Context(), []string{"optimizers"}, strings.NewReader(""), &out, &errs); status != statusOK {
		t.Fatalf("status %d: %s", status, errs.String())
	}
	mustSay(t, out.String(), "lora-muon  ", "adamw")
	out.Reset()
	if status := Main(t.Context(), []string{"version"}, strings.NewReader(""), &out, &errs); status != statusOK {
		t.Fatalf("status %d: %s", status, errs.String())
	}
	mustSay(t, out.String(), "polar ", "go1.", "instructions")
	out.Reset()
	missing := filepath.Join(t.TempDir(), "none")
	if status := Main(t.Context(), []string{"generate", "--offline", "--model", missing, "x"}, strings.NewReader(""), &out, &errs); status != statusFailed {
		t.Fatalf("status %d for a model that is not there: %s", status, errs.String())
	}
}

func TestHelpOfEveryCommandHasExamples(t *testing.T) {
	for _, command := range []string{"quickstart", "finetune", "train", "generate", "merge", "matrix", "step", "optimizers", "doctor"} {
		f := newFake(t)
		if status := f.main(t.Context(), []string{command, "--help"}); status != statusOK {
			t.Errorf("%s --help: status %d", command, status)
		}
		mustSay(t, f.out.String(), "Usage: polar "+command, "Examples:", "polar "+command)
	}
	f := newFake(t)
	if status := f.main(t.Context(), nil); status != statusOK {
		t.Errorf("no arguments: status %d", status)
	}
	mustSay(t, f.out.String(), "quickstart", "finetune", "generate")
}

func TestFinetunePrintsPlanAndResult(t *testing.T) {
	f := newFake(t)
	if status := f.main(t.Context(), strings.Fields("finetune --model m --data d")); status != statusOK {
		t.Fatalf("status %d: %s", status, f.err.String())
	}
	mustSay(t, f.out.String(),
		"134.52 M parameters, 4.88 M train", "90 layers at rank 16", "model.layers.{0..29}.self_attn.{q,k}_proj", "model.layers.{0..29}.mlp.down_proj",
		"lora-muon      420", "19.5 MB", "⟦What is 2+2?⟧It is 4.", "100 (2 epochs)", "1.90 GB", "3 min 20 s", "truncated 3 rows",
		"validation loss  2.5000  2.0000 (step 90)  2.0100", "exported are the weights of step 90", "█", "smallest 0.1, median 0.2, largest 0.4", "moved by up to 1.5", "at most 2e-06",
		"adapter   runs/fake/adapter", `polar generate --model m --adapter runs/fake/adapter 'Say it'\''s'`)
}

func TestDryRunStopsBeforeTraining(t *testing.T) {
	f := newFake(t)
	f.play = func(context.Context, run.Config, run.Sink) (*run.Result, error) { return nil, errors.New("trained") }
	if status := f.main(t.Context(), strings.Fields("train --dry-run")); status != statusOK {
		t.Fatalf("status %d: %s", status, f.err.String())
	}
	mustSay(t, f.out.String(), "rules", "steps")
}

func TestJSONIsAloneOnStandardOutput(t *testing.T) {
	f := newFake(t)
	if status := f.main(t.Context(), strings.Fields("finetune --model m --data d --json")); status != statusOK {
		t.Fatalf("status %d: %s", status, f.err.String())
	}
	var result run.Result
	if err := json.Unmarshal(f.out.Bytes(), &result); err != nil || result.BestStep != 90 {
		t.Errorf("%v, best step %d in %s", err, result.BestStep, f.out.String())
	}
	mustSay(t, f.err.String(), "rules")
}

func TestQuietPrintsOnlyTheResult(t *testing.T) {
	f := newFake(t)
	f.play = func(_ context.Context, _ run.Config, sink run.Sink) (*run.Result, error) {
		sink(run.StepDone{Step: 1, Steps: 2})
		sink(run.Note{Text: "careful", Warning: true})
		return fakeResult(), nil
	}
	if status := f.main(t.Context(), strings.Fields("finetune --model m --data d --quiet")); status != statusOK {
		t.Fatalf("status %d: %s", status, f.err.String())
	}
	if strings.Contains(f.out.String(), "rules") || strings.Contains(f.err.String(), "step 1") {
		t.Errorf("not quiet:\n%s%s", f.out.String(), f.err.String())
	}
	mustSay(t, f.err.String(), "warning: careful")
	mustSay(t, f.out.String(), "adapter   runs/fake/adapter")
}

func TestFailuresAreOneLine(t *testing.T) {
	f := newFake(t)
	f.play = func(context.Context, run.Config, run.Sink) (*run.Result, error) {
		return nil, errors.New("load it: the header\nclaims too much\n")
	}
	if status := f.main(t.Context(), strings.Fields("finetune --model m --data d --quiet")); status != statusFailed {
		t.Errorf("status %d, want %d", status, statusFailed)
	}
	mustSay(t, f.err.String(), "polar: load it: the header; claims too much\n")
}

func TestPanicIsOneLine(t *testing.T) {
	for _, debugging := range []bool{false, true} {
		f := newFake(t)
		f.play = func(context.Context, run.Config, run.Sink) (*run.Result, error) { panic("index out of range") }
		args := strings.Fields("finetune --model m --data d --quiet")
		if debugging {
			args = append(args, "--debug")
		}
		if status := f.main(t.Context(), args); status != statusFailed {
			t.Errorf("status %d, want %d", status, statusFailed)
		}
		mustSay(t, f.err.String(), "polar: internal error: index out of range\n")
		if got := strings.Contains(f.err.String(), "goroutine"); got != debugging {
			t.Errorf("stack printed: %v with debug %v", got, debugging)
		}
	}
}

func TestFirstInterruptSavesAndTellsHowToResume(t *testing.T) {
	f := newFake(t)
	f.play = func(ctx context.Context, _ run.Config, _ run.Sink) (*run.Result, error) {
		f.signals <- os.Interrupt
		<-ctx.Done()
		return nil, run.ErrInterrupted
	}
	if status := f.main(t.Context(), strings.Fields("finetune --model m --data d -o out --quiet")); status != statusInterrupted {
		t.Errorf("status %d, want %d", status, statusInterrupted)
	}
	mustSay(t, f.err.String(), "polar: stopping", "polar: interrupted; the state is saved in out\n", "hint: continue with: polar finetune --resume -o out\n")
}

func TestSecondInterruptQuitsAtOnce(t *testing.T) {
	f := newFake(t)
	release := make(chan struct{})
	defer close(release)
	f.play = func(context.Context, run.Config, run.Sink) (*run.Result, error) {
		f.signals <- os.Interrupt
		f.signals <- syscall.SIGTERM
		<-release // deaf to the context
		return fakeResult(), nil
	}
	done := make(chan int)
	go func() { done <- f.main(context.Background(), strings.Fields("finetune --model m --data d --quiet")) }()
	select {
	case status := <-done:
		if status != statusInterrupted {
			t.Errorf("status %d, want %d", status, statusInterrupted)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the second interrupt did not end the program")
	}
}

func TestResumeTakesTheFoldersSettings(t *testing.T) {
	for _, args := range []string{"finetune --resume -o out", "train --resume -o out"} {
		f := newFake(t)
		if status := f.main(t.Context(), strings.Fields(args)); status != statusOK {
			t.Fatalf("%s: status %d: %s", args, status, f.err.String())
		}
		if cfg := f.configs[0]; !cfg.Resume || cfg.Out != "out" || cfg.Data != "" || cfg.Model != "" {
			t.Errorf("%s: %+v", args, cfg)
		}
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	t.Setenv("HF_TOKEN", "hf_secret")
	for _, debugging := range []string{"", " --debug"} {
		f := newFake(t)
		f.play = func(_ context.Context, _ run.Config, sink run.Sink) (*run.Result, error) {
			sink(run.Note{Text: "asking with hf_secret", Warning: true})
			return nil, errors.New("get https://hub?token=hf_secret: refused")
		}
		if status := f.main(t.Context(), strings.Fields("finetune --model m --data d"+debugging)); status != statusFailed {
			t.Errorf("status %d, want %d", status, statusFailed)
		}
		mustSay(t, f.err.String(), "token=$HF_TOKEN", "asking with $HF_TOKEN")
		if strings.Contains(f.out.String()+f.err.String(), "hf_secret") {
			t.Errorf("the token was printed:\n%s", f.err.String())
		}
	}
}

func TestRunWithoutValidationPrintsNoLoss(t *testing.T) {
	for _, args := range []string{"finetune --model m --data d", "finetune --model m --data d --json"} {
		f := newFake(t)
		f.play = func(context.Context, run.Config, run.Sink) (*run.Result, error) {
			result := fakeResult()
			result.StartLoss, result.FinalLoss, result.BestLoss = math.NaN(), math.NaN(), math.Inf(1)
			return result, nil
		}
		if status := f.main(t.Context(), strings.Fields(args)); status != statusOK {
			t.Errorf("%s: status %d: %s", args, status, f.err.String())
		}
		if strings.Contains(args, "json") {
			mustSay(t, f.out.String(), `"FinalLoss": null`, `"step": 100`)
		} else {
			mustSay(t, f.out.String(), "no validation data")
		}
	}
}

func TestVerifySaysThatItVerified(t *testing.T) {
	f := newFake(t)
	f.play = func(context.Context, run.Config, run.Sink) (*run.Result, error) { return nil, nil }
	if status := f.main(t.Context(), strings.Fields("finetune --resume --verify 5 -o out")); status != statusOK {
		t.Errorf("status %d: %s", status, f.err.String())
	}
	mustSay(t, f.out.String(), "verified: replaying the last steps of out")
}
