package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/polargo/polar/optimizer"
)

// cases are the kinds of runs whose state differs: every start of an adapter, all weights, low-rank weights from scratch.
func cases(t *testing.T) map[string]Config {
	base, text := tinyModel(t), writeFile(t, "text.txt", words(300, 1))
	out := map[string]Config{}
	for _, init := range []string{"balanced", "pissa", "gradient", "lora"} {
		cfg := tune(t, base, text)
		cfg.Init = init
		out[init] = cfg
	}
	full := tune(t, base, text)
	full.Rank, full.Optimizer, full.Accumulate = 0, "adamw", 2
	out["all weights"] = full
	dense := scratch(t, text)
	out["scratch"] = dense
	inSet := scratch(t, text)
	inSet.Manifold = optimizer.Manifold{Set: "ball", Radius: 1, Solver: "pdhg", Steps: 3} // with state of its own
	out["scratch in a ball"] = inSet
	pairs := scratch(t, text)
	lab := *pairs.Lab
	lab.PairRank, pairs.Lab, pairs.Optimizer = 2, &lab, "lora-muon"
	out["scratch pairs"] = pairs
	return out
}

// cancelAfter returns a context and an event handler that cancels it when the step is done.
func cancelAfter(step int) (context.Context, func(Event)) {
	ctx, cancel := context.WithCancel(context.Background())
	return ctx, func(event Event) {
		if done, ok := event.(StepDone); ok && done.Step == step {
			cancel()
		}
	}
}

// TestResumeIsTheUninterruptedRun compares losses and hashes bit by bit, for runs cut twice: at step 3, where an
// evaluation is due that the cancelled context prevents, and at step 5, where nothing is due.
func TestResumeIsTheUninterruptedRun(t *testing.T) {
	for name, cfg := range cases(t) {
		t.Run(name, func(t *testing.T) {
			want, whole := mustRun(t, cfg)
			cut := cfg
			cut.Out = filepath.Join(t.TempDir(), "cut")
			var losses []float64
			for i, step := range []int{3, 5} {
				ctx, before := cancelAfter(step)
				_, told, err := execute(ctx, cut, before)
				if !errors.Is(err, ErrInterrupted) {
					t.Fatalf("cut at step %d: %v, want ErrInterrupted", step, err)
				}
				losses = append(losses, told.losses()...)
				if st := newest(t, cut.Out); st.Step != step {
					t.Fatalf("state saved at step %d, want %d", st.Step, step)
				}
				cut = Config{Resume: true, Out: cut.Out, Lab: map[bool]*Lab{true: {}, false: nil}[cfg.Lab != nil && i == 0]}
			}
			result, told := mustRun(t, cut)
			losses = append(losses, told.losses()...)
			if !slices.Equal(losses, whole.losses()) || !slices.Equal(result.Losses, want.Losses) {
				t.Errorf("losses %v and %v, want %v", losses, result.Losses, whole.losses())
			}
			if result.FinalLoss != want.FinalLoss || result.StartLoss != want.StartLoss || result.BestStep != want.BestStep || result.ProbeChange != want.ProbeChange {
				t.Errorf("%+v, want %+v", result, want)
			}
			a, b := newest(t, cfg.Out), newest(t, cut.Out)
			if a.Weights != b.Weights || a.Optimizer != b.Optimizer || a.DataHash != b.DataHash || a.Weights == "" {
				t.Errorf("state %+v, want %+v", b, a)
			}
		})
	}
}

// TestMetricsOfAResumedRun holds one line for every step and evaluation, in order, whatever a kill left behind.
func TestMetricsOfAResumedRun(t *testing.T) {
	cfg := tune(t, tinyModel(t), writeFile(t, "text.txt", words(200, 1)))
	ctx, before := cancelAfter(3)
	if _, _, err := execute(ctx, cfg, before); !errors.Is(err, ErrInterrupted) {
		t.Fatal(err)
	}
	file, err := os.OpenFile(filepath.Join(cfg.Out, metricsFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteString(`{"step":4,"loss":9}` + "\n" + `{"step":5,"lo`) // steps after the checkpoint, the last cut short
	if err = errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	mustRun(t, Config{Resume: true, Out: cfg.Out})
	lines, err := readMetrics(cfg.Out)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, line := range lines {
		kind := "step"
		if line.ValidationLoss != nil {
			kind = "eval"
		}
		if line.Loss != nil && *line.Loss == 9 {
			t.Error("a line from after the checkpoint survived")
		}
		got = append(got, fmt.Sprint(kind, line.Step))
	}
	want := strings.Fields("eval0 step1 step2 step3 eval3 step4 step5 step6 eval6")
	if !slices.Equal(got, want) {
		t.Errorf("lines %v, want %v", got, want)
	}
}

func TestVerify(t *testing.T) {
	text := writeFile(t, "text.txt", words(300, 1))
	cfg := tune(t, tinyModel(t), text)
	mustRun(t, cfg)
	verify := Config{Resume: true, Verify: 1, Out: cfg.Out}
	before, err := os.ReadFile(filepath.Join(cfg.Out, metricsFile))
	if err != nil {
		t.Fatal(err)
	}
	check := func(want string) {
		t.Helper()
		result, told, err := execute(context.Background(), verify, nil)
		switch {
		case want == "" && (err != nil || result != nil || !strings.Contains(strings.Join(told.notes, "\n"), "replayed steps 5 to 6")):
			t.Errorf("result %v, error %v, notes %q", result, err, told.notes)
		case want != "":
			mustSay(t, err, "verify", want)
		}
	}
	check("")

	after, err := os.ReadFile(filepath.Join(cfg.Out, metricsFile))
	if err != nil || string(before) != string(after) {
		t.Errorf("verifying changed the metrics (%v)", err)
	}
	t.Run("all from the start", func(t *testing.T) {
		all := verify
		all.Verify = 6
		if _, told, err := execute(context.Background(), all, nil); err != nil || !strings.Contains(strings.Join(told.notes, "\n"), "replayed steps 1 to 6") {
			t.Errorf("%v, notes %q", err, told.notes)
		}
	})
	// Each change below is one that checksums alone do not show.
	t.Run("other loss recorded", func(t *testing.T) {
		changed := strings.Replace(string(before), `{"step":6,"steps":6,"loss":`, `{"step":6,"steps":6,"loss":1`, 1)
		if changed == string(before) {
			t.Fatal("no line of step 6")
		}
		write(t, filepath.Join(cfg.Out, metricsFile), changed)
		defer write(t, filepath.Join(cfg.Out, metricsFile), string(before))
		check("step 6 gave loss")
	})
	t.Run("other weights", func(t *testing.T) {
		session := mustPrepare(t, Config{Resume: true, Out: cfg.Out})
		tr := &trainer{Session: session, state: *session.resumed, saved: [2]int{-1, -1}}
		weights, _ := session.savedVariables()
		value, err := weights[0].Value()
		if err != nil {
			t.Fatal(err)
		}
		if err := value.MutableBytes(func(data []byte) { data[0]++ }); err != nil { // the last bit of one weight
			t.Fatal(err)
		}
		if err := tr.save(); err != nil {
			t.Fatal(err)
		}
		if err := session.Close(); err != nil { // it holds the folder
			t.Fatal(err)
		}
		check("weights")
	})
	t.Run("other data", func(t *testing.T) {
		write(t, text, words(300, 2))
		defer write(t, text, words(300, 1))
		_, _, err := execute(context.Background(), verify, nil)
		mustSay(t, err, "cannot resume", "the data")
	})
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestResumeRefusesOtherSettings names each setting that differs, and lets those change that do not decide the weights.
func TestResumeRefusesOtherSettings(t *testing.T) {
	cfg := tune(t, tinyModel(t), writeFile(t, "text.txt", words(200, 1)))
	ctx, before := cancelAfter(2)
	if _, _, err := execute(ctx, cfg, before); !errors.Is(err, ErrInterrupted) {
		t.Fatal(err)
	}
	again := cfg
	again.Resume, again.LearningRate, again.Seed = true, 0.5, 7
	_, _, err := execute(context.Background(), again, nil)
	mustSay(t, err, "cannot resume", "learning_rate (0.5, was 0.1)", "seed (7, was 0)")
	if strings.Contains(err.Error(), "rank") {
		t.Errorf("%v names a setting that is the same", err)
	}
	again = cfg
	again.Model, again.Resume = tinyModelOf(t, 2), true
	_, _, err = execute(context.Background(), again, nil)
	mustSay(t, err, "cannot resume", "the base model")
	again = cfg
	again.Resume, again.EvalEvery, again.SaveEvery, again.Patience, again.ActivationCheckpointing = true, 2, 1, 9, true
	if result, _ := mustRun(t, again); len(result.Losses) != 6 {
		t.Errorf("%d losses, want 6", len(result.Losses))
	}
	_, _, err = execute(context.Background(), cfg, nil)
	mustSay(t, err, "already holds a run")
	if got := otherVersions(map[string]string{"go": "go1.1", "gone": "x"}, map[string]string{"go": "go1.2", "simd": "true"}); !slices.Equal(got, []string{"go go1.2, was go1.1"}) {
		t.Errorf("other versions: %q", got)
	}
	_, _, err = execute(context.Background(), Config{Resume: true, Out: t.TempDir()}, nil)
	mustSay(t, err, "nothing to resume")
}

// TestDamagedCheckpoint passes over the newest checkpoint when it cannot be read, and replays from the one before.
func TestDamagedCheckpoint(t *testing.T) {
	base, text := tinyModel(t), writeFile(t, "text.txt", words(200, 1))
	want, _ := mustRun(t, tune(t, base, text))
	for name, damage := range map[string]func(path string) error{
		"cut short": func(path string) error { return os.Truncate(filepath.Join(path, variablesFile), 100) },
		"one bit": func(path string) error {
			content, err := os.ReadFile(filepath.Join(path, variablesFile))
			if err != nil {
				return err
			}
			content[len(content)-1] ^= 1
			return os.WriteFile(filepath.Join(path, variablesFile), content, 0o644)
		},
		"no state":  func(path string) error { return os.Remove(filepath.Join(path, stateFile)) },
		"bad state": func(path string) error { return os.WriteFile(filepath.Join(path, stateFile), []byte("{"), 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := tune(t, base, text)
			ctx, before := cancelAfter(5)
			if _, _, err := execute(ctx, cfg, before); !errors.Is(err, ErrInterrupted) {
				t.Fatal(err)
			}
			if err := damage(filepath.Join(cfg.Out, checkpointsName, checkpointName(5))); err != nil {
				t.Fatal(err)
			}
			result, told := mustRun(t, Config{Resume: true, Out: cfg.Out})
			notes := strings.Join(told.notes, "\n")
			if !strings.Contains(notes, "passing over") || !strings.Contains(notes, "from step 4") || !slices.Equal(result.Losses, want.Losses) {
				t.Errorf("notes %q\nlosses %v, want %v", notes, result.Losses, want.Losses)
			}
		})
	}
}
